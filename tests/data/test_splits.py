"""Splits: disjoint, exhaustive, of the size asked for, stratified, whole units, and only as random as the seed."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.data.splits import draw, quotas, rows_of_size, units

COUNTS = st.lists(st.integers(4, 60), min_size=2, max_size=6)


def classes_of(counts, seed=0):
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int64)


@given(COUNTS, st.data())
def test_quotas_sum_to_the_size_and_stay_within_one_row_of_the_proportion(counts, data):
    counts = np.asarray(counts, dtype=np.int64)
    size = data.draw(st.integers(1, int(counts.sum())))
    shared = quotas(counts, size, fewest=0)
    assert shared.sum() == size
    assert (shared <= counts).all()
    assert (np.abs(shared - counts * size / counts.sum()) < 1).all()


@given(COUNTS, st.data())
def test_quotas_give_every_class_its_fewest_where_there_is_room(counts, data):
    counts = np.asarray(counts, dtype=np.int64)
    size = data.draw(st.integers(2 * len(counts), int(counts.sum())))
    shared = quotas(counts, size, fewest=2)
    assert shared.sum() == size
    assert (shared >= 2).all()
    assert (shared <= counts).all()


@given(COUNTS, st.data())
def test_drawing_single_rows_is_exact_and_stratified(counts, data):
    y = classes_of(counts)
    size = data.draw(st.integers(len(counts), len(y)))
    mask = draw(y, np.arange(len(y)), size, np.random.default_rng(1))
    assert mask.sum() == size
    np.testing.assert_array_equal(np.bincount(y[mask], minlength=len(counts)), quotas(np.asarray(counts), size))


@given(COUNTS, st.integers(1, 12), st.data())
def test_units_are_never_parted_and_size_is_exact_with_enough_single_rows(counts, doubles, data):
    y = classes_of(counts)
    together = np.arange(len(y))
    doubles = min(doubles, len(y) // 4)
    together[doubles : 2 * doubles] = together[:doubles]  # pairs of the same text, whatever their labels
    size = data.draw(st.integers(2, len(y) // 2))
    mask = draw(y, together, size, np.random.default_rng(2))
    assert not set(together[mask]) & set(together[~mask])
    assert mask.sum() == size


@given(st.integers(0, 2**31))
def test_same_seed_same_rows_other_seed_other_rows(seed):
    y = classes_of([40, 60])
    first, again, other = (draw(y, np.arange(100), 20, np.random.default_rng(s)) for s in (seed, seed, seed + 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_every_row_has_the_same_chance():
    y = classes_of([20, 30])
    drawn = sum(draw(y, np.arange(50), 10, np.random.default_rng(s)).astype(int) for s in range(2000))
    # 2,000 draws of probability 0.2: standard deviation 18, so 400 +- 90 is five of them
    assert drawn.min() > 310
    assert drawn.max() < 490


@settings(max_examples=50)
@given(st.integers(3, 12), st.integers(0, 1000))
def test_big_groups_come_as_near_as_one_group(groups, seed):
    rng = np.random.default_rng(seed)
    group = np.sort(rng.integers(0, groups, 120))
    y = rng.integers(0, 2, 120)
    mask = draw(y, group, 40, np.random.default_rng(seed))
    assert not set(group[mask]) & set(group[~mask])
    assert 0 < mask.sum() < 120
    assert abs(int(mask.sum()) - 40) <= np.bincount(group).max()


def test_units_connect_texts_and_groups():
    keys = ["a", "b", "a", "c", "", ""]
    assert len(set(units(keys).tolist())) == 5  # blank texts are not the same text
    found = units(keys, [1, 2, None, 2, 1, None]).tolist()
    assert found[0] == found[2] == found[4]
    assert found[1] == found[3]
    assert len(set(found)) == 3


def test_sizes_are_rows_or_shares():
    assert rows_of_size(20, 1000) == 20
    assert rows_of_size(0.2, 1001) == 200
    assert rows_of_size(0.001, 10) == 1


def test_a_class_that_is_not_there_gets_nothing():
    y = np.asarray([0, 0, 0, 0, 2, 2, 2, 2])
    assert np.bincount(y[draw(y, np.arange(8), 4, np.random.default_rng(0))], minlength=3).tolist() == [2, 0, 2]
