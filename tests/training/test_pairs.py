"""Pairs of texts: balanced, distinct, repeatable, and no text forgotten."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.training.pairs import PairSampler

classes = st.lists(st.integers(0, 4), min_size=4, max_size=60).filter(lambda y: len(set(y)) > 1)
sizes = st.tuples(st.integers(4, 24), st.integers(2, 200), st.integers(0, 5))


def sampler(y: list[int], texts: int, pairs: int, seed: int = 0) -> PairSampler:
    return PairSampler(np.asarray(y), texts=texts, pairs=pairs, generator=np.random.default_rng(seed))


@given(classes, sizes)
def test_pairs_are_distinct_true_and_balanced(y: list[int], size: tuple[int, int, int]) -> None:
    texts, pairs, seed = size
    draw = sampler(y, texts, pairs, seed)
    for _ in range(5):
        step = draw()
        assert len(set(step.rows)) == len(step.rows) <= texts
        assert (step.first < step.second).all()
        assert step.second.max() < len(step.rows)
        assert len(set(zip(step.first, step.second, strict=True))) == len(step.first)
        of_rows = np.asarray(y)[step.rows]
        np.testing.assert_array_equal(step.same, of_rows[step.first] == of_rows[step.second])
        one, two = int(step.same.sum()), int((~step.same).sum())
        assert 0 < one + two <= max(2, pairs)
        twice = max(Counter(of_rows.tolist()).values()) > 1
        if twice and pairs >= 2:
            assert one == two  # balanced wherever any class has two texts in the step


@given(classes, sizes)
def test_same_seed_same_pairs(y: list[int], size: tuple[int, int, int]) -> None:
    one, other = (sampler(y, *size) for _ in range(2))
    for _ in range(4):
        left, right = one(), other()
        for name in ("rows", "first", "second", "same"):
            np.testing.assert_array_equal(getattr(left, name), getattr(right, name))


def test_other_seed_other_pairs() -> None:
    y = [0, 1] * 20
    assert not np.array_equal(sampler(y, 8, 16, 0)().rows, sampler(y, 8, 16, 1)().rows)


@given(st.integers(2, 40), st.integers(2, 40), st.integers(4, 16))
def test_every_text_of_a_class_comes_once_before_any_comes_again(n: int, m: int, texts: int) -> None:
    draw = sampler([0] * n + [1] * m, texts, 16)
    seen: list[int] = []
    for _ in range(30):
        seen += [int(row) for row in draw().rows if row < n]
        counts = Counter(seen)
        most, least = max(counts.values()), min(counts[row] for row in range(n))
        assert most - least <= 1


def test_classes_have_equal_shares() -> None:
    y = [0] * 90 + [1] * 6 + [2] * 4
    draw = sampler(y, 12, 30)
    drawn = Counter(y[row] for _ in range(50) for row in draw().rows)
    assert drawn[0] == drawn[1] == drawn[2] == 200


def test_more_classes_than_fit_are_drawn_two_by_two() -> None:
    y = list(range(20)) * 3
    draw = sampler(y, 8, 100)
    seen = set()
    for _ in range(60):
        step = draw()
        counts = Counter(y[row] for row in step.rows)
        assert set(counts.values()) == {2}
        assert len(counts) == 4
        seen |= set(counts)
    assert seen == set(range(20))


def test_memory_does_not_grow_with_all_pairs() -> None:
    """20,000 texts have 200 million pairs; a step looks at those among its own texts only."""
    import tracemalloc

    draw = sampler([0, 1] * 10_000, 16, 128)
    tracemalloc.start()
    for _ in range(20):
        draw()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2e6


@pytest.mark.parametrize("y, kinds", [([0, 1, 2, 3], {False}), ([0, 0, 0, 1], {True, False})])
def test_classes_of_one_text(y: list[int], kinds: set[bool]) -> None:
    assert set(sampler(y, 4, 12)().same.tolist()) == kinds
