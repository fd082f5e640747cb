"""Tokens and batches: nothing lost, nothing doubled, cut where asked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import ARCHITECTURES, NEUTRAL, make_tokenizer
from headstart.data.examples import Examples
from headstart.errors import ModelError
from headstart.models.batching import (
    TextSettings,
    collate,
    scoring_batches,
    split_by_tokens,
    step_pieces,
    tokenize,
    training_batches,
)
from headstart.models.gru import build_tokenizer
from headstart.models.loading import load_tokenizer

lengths_of_texts = st.lists(st.integers(1, 300), min_size=1, max_size=300).map(np.array)


# --- batches -------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(lengths_of_texts, st.integers(2, 40), st.integers(0, 2**31), st.integers(1, 60))
def test_training_batches_hold_each_row_once(lengths: np.ndarray, size: int, seed: int, window: int) -> None:
    batches = training_batches(lengths, size, np.random.default_rng(seed), window)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert max(map(len, batches)) <= size + 1
    assert sum(len(b) != size for b in batches) <= 1, "only one batch may be short, or one row longer"
    assert all(len(b) > 1 for b in batches) or len(lengths) == 1


def test_training_batches_waste_little_on_padding() -> None:
    lengths = np.random.default_rng(0).integers(5, 200, size=1000)
    batches = training_batches(lengths, 16, np.random.default_rng(1))
    padded = sum(len(b) * lengths[b].max() for b in batches)
    shuffled = np.random.default_rng(2).permutation(1000)
    unsorted = sum(len(b) * lengths[b].max() for b in np.array_split(shuffled, 63))
    assert padded < 1.05 * lengths.sum()
    assert unsorted > 1.6 * lengths.sum(), "the bound would be easy otherwise"


def test_training_batches_differ_by_epoch_and_repeat_by_seed() -> None:
    lengths = np.arange(1, 101)
    generator = np.random.default_rng(0)
    first, second = training_batches(lengths, 8, generator), training_batches(lengths, 8, generator)
    again = training_batches(lengths, 8, np.random.default_rng(0))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@settings(max_examples=150, deadline=None)
@given(lengths_of_texts, st.integers(1, 2000))
def test_pieces_are_in_order_and_within_the_budget(lengths: np.ndarray, tokens: int) -> None:
    rows = np.random.default_rng(0).permutation(len(lengths))
    pieces = list(split_by_tokens(rows, lengths, tokens))
    assert np.concatenate(pieces).tolist() == rows.tolist()
    for piece in pieces:
        assert len(piece) == 1 or len(piece) * lengths[piece].max() <= tokens
    for piece, after in pairwise(pieces):
        grown = [*piece, after[0]]
        assert len(grown) * lengths[grown].max() > tokens, "a piece ends only where the next row does not fit"


@settings(max_examples=50, deadline=None)
@given(lengths_of_texts)
def test_scoring_batches_go_from_long_to_short(lengths: np.ndarray) -> None:
    order = np.concatenate(list(scoring_batches(lengths)))
    assert sorted(order.tolist()) == list(range(len(lengths)))
    assert (np.diff(lengths[order]) <= 0).all()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(60, 200), st.integers(0, 50))
def test_scoring_batches_are_the_cheapest_of_all_cuts(lengths: list[int], tokens: int, call: int) -> None:
    def padded(pieces: list[list[int]]) -> list[int]:
        return [len(piece) * max(piece) for piece in pieces]

    ordered = sorted(lengths, reverse=True)
    cheapest = math.inf
    for cuts in itertools.product([False, True], repeat=len(ordered) - 1):  # every way to cut the sorted lengths
        ends = [at for at, cut in enumerate(cuts, start=1) if cut]
        pieces = [ordered[a:b] for a, b in pairwise([0, *ends, len(ordered)])]
        if all(len(piece) == 1 or size <= tokens for piece, size in zip(pieces, padded(pieces), strict=True)):
            cheapest = min(cheapest, sum(padded(pieces)) + call * len(pieces))
    array = np.asarray(lengths)
    found = [array[rows].tolist() for rows in scoring_batches(array, tokens, call_tokens=call)]
    assert all(len(piece) == 1 or size <= tokens for piece, size in zip(found, padded(found), strict=True))
    assert sum(padded(found)) + call * len(found) == cheapest


@settings(max_examples=50, deadline=None)
@given(lengths_of_texts, st.integers(1, 300))
def test_pieces_of_a_step_hold_its_rows_and_less_padding(lengths: np.ndarray, tokens: int) -> None:
    rows = np.random.default_rng(0).permutation(len(lengths))[: 1 + len(lengths) // 2]
    pieces = list(step_pieces(rows, lengths, tokens))
    assert sorted(np.concatenate(pieces).tolist()) == sorted(rows.tolist())
    padded = [len(piece) * int(lengths[piece].max()) for piece in pieces]
    assert all(len(piece) == 1 or size <= tokens for piece, size in zip(pieces, padded, strict=True))
    assert sum(padded) <= len(rows) * lengths[rows].max()


def test_a_step_of_nearly_one_length_stays_whole() -> None:
    lengths = np.array([30] * 15 + [32, 128])
    assert [sorted(p.tolist()) for p in step_pieces(np.arange(16), lengths, 4096)] == [list(range(16))]
    assert [len(p) for p in step_pieces(np.arange(17), lengths, 4096)] == [1, 16]


def test_nothing_to_batch() -> None:
    assert list(scoring_batches(np.array([], dtype=np.int64))) == []
    assert training_batches(np.array([], dtype=np.int64), 8, np.random.default_rng(0)) == []


# --- tokens --------------------------------------------------------------------------------------------------

TOKENIZERS = [*ARCHITECTURES, "gru"]
TEXTS = ("good film", "a", "", "  ", "zzz qqq", "the film was not bad, but boring!", "Goods goods unBAD", "ы 😀 漢字")


@pytest.fixture(scope="module")
def tokenizer_of(checkpoint: Callable[[str], Path]) -> Callable[[str], Any]:
    def load(name: str) -> Any:
        return build_tokenizer(TEXTS, min_count=1) if name == "gru" else load_tokenizer(checkpoint(name))

    return load


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("paired", [False, True])
def test_ids_are_those_of_the_tokenizer(name: str, paired: bool, tokenizer_of: Callable[[str], Any]) -> None:
    tokenizer = tokenizer_of(name)
    seconds = TEXTS[::-1] if paired else None
    tokens = tokenize(tokenizer, Examples.of(TEXTS, pairs=seconds), TextSettings(max_length=64))
    # Lists, because transformers takes one text and an empty second one for a single text.
    theirs = tokenizer(list(TEXTS), list(seconds)) if seconds else tokenizer(list(TEXTS))
    assert [ids.tolist() for ids in tokens.ids] == theirs["input_ids"]
    assert tokens.full_lengths.tolist() == [len(ids) for ids in theirs["input_ids"]]
    if "token_type_ids" in tokenizer.model_input_names:
        assert [types.tolist() for types in tokens.types or ()] == theirs["token_type_ids"]
    else:
        assert tokens.types is None
    assert tokens.cut_shares() == (0.0, 0.0)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_collated_rows_are_those_of_the_tokenizers_own_padding(name: str, tokenizer_of: Callable[[str], Any]) -> None:
    tokenizer = tokenizer_of(name)
    tokens = tokenize(tokenizer, Examples.of(TEXTS), TextSettings(max_length=64))
    rows = np.array([5, 0, 2])
    ours = collate(tokens, rows, tokenizer)
    theirs = tokenizer([TEXTS[r] for r in rows], padding=True, return_tensors="pt")
    assert set(ours) == set(theirs)
    for key, tensor in ours.items():
        assert tensor.tolist() == theirs[key].tolist()


@pytest.mark.parametrize("length", [6, 9, 10, 30])
def test_head_is_what_transformers_truncation_keeps(length: int) -> None:
    tokenizer = make_tokenizer()
    texts = [" ".join(NEUTRAL[:n]) for n in (1, 5, 8, 20, 50)]
    tokens = tokenize(tokenizer, Examples.of(texts), TextSettings(max_length=length))
    theirs = tokenizer(texts, truncation=True, max_length=length)["input_ids"]
    assert [ids.tolist() for ids in tokens.ids] == theirs


@pytest.mark.parametrize("length", [7, 10, 11, 24])
def test_pairs_are_cut_as_transformers_longest_first(length: int) -> None:
    tokenizer = make_tokenizer()
    sizes = [(1, 30), (30, 1), (12, 12), (20, 15), (3, 4), (4, 40)]
    first, second = ([" ".join(NEUTRAL[:n]) for n in side] for side in zip(*sizes, strict=True))
    tokens = tokenize(tokenizer, Examples.of(first, pairs=second), TextSettings(max_length=length))
    theirs = tokenizer(first, second, truncation="longest_first", max_length=length)
    assert tokens.types is not None
    for row in range(len(sizes)):
        assert len(tokens.ids[row]) == len(theirs["input_ids"][row])
        ours_second, their_second = sum(tokens.types[row]), sum(theirs["token_type_ids"][row])
        assert abs(int(ours_second) - their_second) <= 1, "of two equally long texts either may give the odd token"


def cut(truncate: Any, words: int = 20, length: int = 9) -> list[str]:
    tokenizer = make_tokenizer()
    tokens = tokenize(tokenizer, Examples.of([" ".join(NEUTRAL[:words])]), TextSettings(length, truncate))
    kept = tokenizer.convert_ids_to_tokens(tokens.ids[0].tolist())
    assert kept[0] == "[CLS]"
    assert kept[-1] == "[SEP]"
    assert tokens.full_lengths.tolist() == [words + 2]
    return list(kept[1:-1])


def test_cuts() -> None:
    words = list(NEUTRAL[:20])
    assert cut("head") == words[:7]
    assert cut("tail") == words[-7:]
    assert cut("head-tail") == words[:4] + words[-3:]
    assert cut("head-tail", words=7) == words[:7]
    assert cut("tail", words=6) == words[:6]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 60), st.integers(3, 64), st.sampled_from(["head", "tail", "head-tail"]))
def test_cut_texts_fill_the_length_exactly(words: int, length: int, truncate: Any) -> None:
    tokens = tokenize(TOKENIZER, Examples.of([" ".join(NEUTRAL[:words])]), TextSettings(length, truncate))
    assert len(tokens.ids[0]) == min(words + 2, length)
    texts_cut, tokens_cut = tokens.cut_shares()
    assert texts_cut == float(words + 2 > length)
    assert tokens_cut == pytest.approx(max(0, words + 2 - length) / (words + 2))


TOKENIZER = make_tokenizer()


def test_no_room_is_said() -> None:
    with pytest.raises(ModelError, match="leaves no room"):
        tokenize(TOKENIZER, Examples.of(["a"], pairs=["b"]), TextSettings(max_length=3))


def test_many_texts_come_in_order() -> None:
    """More than are tokenized at once."""
    texts = [NEUTRAL[i % 7] * (1 + i % 3) for i in range(2500)]
    tokens = tokenize(TOKENIZER, Examples.of(texts), TextSettings())
    for row in (0, 999, 1000, 1999, 2000, 2499):
        assert tokens.ids[row].tolist() == TOKENIZER(texts[row])["input_ids"]


def test_tokens_follow_their_texts(checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows taken and joined of tokenized texts are not tokenized again, and are what they would be."""
    from headstart.models import batching

    tokenizer, about = load_tokenizer(checkpoint("bert")), TextSettings(max_length=12)
    some, others = Examples.of(TEXTS[:5]), Examples.of(TEXTS[5:])
    wanted = [tokenize(tokenizer, e, about) for e in (Examples.of([some.texts[i] for i in (4, 0)]), Examples.of(TEXTS))]
    tokenize(tokenizer, some, about)
    tokenize(tokenizer, others, about)
    monkeypatch.setattr(batching, "_tokenize", lambda *_: pytest.fail("tokenized again"))
    for found, theirs in zip((some.take([4, 0]), some.concat(others)), wanted, strict=True):
        tokens = tokenize(tokenizer, found, about)
        assert [ids.tolist() for ids in tokens.ids] == [ids.tolist() for ids in theirs.ids]
        np.testing.assert_array_equal(tokens.full_lengths, theirs.full_lengths)


def test_widths_are_multiples_where_that_is_asked(checkpoint: Callable[[str], Path]) -> None:
    tokenizer = load_tokenizer(checkpoint("bert"))
    tokens = tokenize(tokenizer, Examples.of(TEXTS), TextSettings(max_length=64))
    plain, wide = (collate(tokens, np.arange(len(tokens)), tokenizer, multiple=multiple) for multiple in (1, 8))
    longest = int(tokens.lengths.max())
    assert plain["input_ids"].shape[1] == longest
    assert wide["input_ids"].shape[1] == -(-longest // 8) * 8
    assert wide["attention_mask"].sum() == plain["attention_mask"].sum()
