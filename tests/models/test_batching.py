"""Texts to ids as the tokenizer has them, cuts of exactly the right ids, batches with almost no padding."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import ARCHITECTURES, NEUTRAL, make_tokenizer
from headstart import catalog
from headstart.data.examples import Examples
from headstart.errors import ModelError
from headstart.models.batching import (
    TextSettings,
    Tokens,
    collate,
    scoring_batches,
    split_by_tokens,
    tokenize,
    training_batches,
)
from headstart.models.encoders import load_tokenizer
from headstart.models.gru import build_tokenizer

TEXTS = (
    "a good film", "", "   ", "Good, BAD!", "café naïve", "\n\ttwo\nlines ", "hello [SEP] there [MASK]", "😀 film 😀",
    "bad\x00film", "电影很好看", "x" * 150, "the room was warm. the hotel was not!", "un##s goods",
)  # fmt: skip
SECOND = tuple(reversed(TEXTS))
lengths_of_texts = st.lists(st.integers(1, 200), min_size=1, max_size=300).map(np.array)


def words(n: int, start: int = 0) -> str:
    """Return N words that are one token each, no two neighbors alike."""
    return " ".join(NEUTRAL[(start + i) % len(NEUTRAL)] for i in range(n))


@pytest.fixture(scope="module", params=[*ARCHITECTURES, "gru", "minilm", "multilingual"])
def tokenizer(request: pytest.FixtureRequest, checkpoint: Callable[[str], Path]) -> Any:
    if request.param == "gru":
        return build_tokenizer([*TEXTS, *TEXTS])
    if request.param == "minilm":
        folder = catalog.packaged_folder("minilm")
        if folder is None or not folder.is_dir():
            pytest.skip("needs the packaged minilm (headstart[samples])")
        return load_tokenizer(folder)
    if request.param == "multilingual":
        return load_tokenizer(request.getfixturevalue("shared") / "models" / "e5-small-enpt")
    return load_tokenizer(checkpoint(request.param))


# --- within the limit: the tokenizer's own ids


@pytest.mark.parametrize("paired", [False, True], ids=["texts", "pairs"])
def test_within_the_limit_ids_are_the_tokenizers(tokenizer: Any, paired: bool) -> None:
    examples = Examples.of(TEXTS, pairs=SECOND if paired else None)
    tokens = tokenize(tokenizer, examples, TextSettings(5000))
    assert len(tokens) == len(TEXTS)
    for row, both in enumerate(zip(TEXTS, SECOND, strict=True)):
        # As a batch of one: alone, transformers takes an empty second text for none at all.
        expected = tokenizer(*([t] for t in both)) if paired else tokenizer([both[0]])
        assert tokens.ids[row].tolist() == expected["input_ids"][0]
        if tokens.types is not None:
            assert tokens.types[row].tolist() == expected["token_type_ids"][0]
    assert (tokens.types is not None) == ("token_type_ids" in tokenizer.model_input_names)
    np.testing.assert_array_equal(tokens.lengths, tokens.full_lengths)
    assert tokens.cut_shares() == (0.0, 0.0)


@pytest.mark.parametrize("paired", [False, True], ids=["texts", "pairs"])
def test_collate_pads_as_the_tokenizer_does(tokenizer: Any, paired: bool) -> None:
    examples = Examples.of(TEXTS, pairs=SECOND if paired else None)
    rows = np.array([3, 0, 11, 1])
    batch = collate(tokenize(tokenizer, examples, TextSettings(5000)), rows, tokenizer)
    given_texts = [[t[r] for r in rows] for t in ((TEXTS, SECOND) if paired else (TEXTS,))]
    expected = tokenizer(*given_texts, padding=True, return_tensors="pt")
    assert set(batch) == set(expected)
    for name, tensor in batch.items():
        assert tensor.tolist() == expected[name].tolist(), name


def test_more_texts_than_are_tokenized_at_once() -> None:
    tokenizer = make_tokenizer()
    texts = [words(1 + i % 5, i) for i in range(2003)]
    pairs = [words(1 + i % 3, i + 1) for i in range(2003)]
    tokens = tokenize(tokenizer, Examples.of(texts, pairs=pairs), TextSettings(64))
    assert len(tokens) == 2003
    for row in (0, 999, 1000, 1001, 1999, 2000, 2002):
        assert tokens.ids[row].tolist() == tokenizer(texts[row], pairs[row])["input_ids"]


# --- over the limit: exactly the right ids


@given(n=st.integers(0, 40), max_length=st.integers(3, 24), truncate=st.sampled_from(["head", "tail", "head-tail"]))
@settings(deadline=None, max_examples=60)
def test_cuts_keep_exactly_the_right_ids(n: int, max_length: int, truncate: Any) -> None:
    tokenizer = _bert_tokenizer()
    text = words(n)
    body = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(body) == n
    room = max_length - 2
    if n > room:
        head = {"head": room, "tail": 0, "head-tail": room - room // 2}[truncate]
        tail = room - head
        body = [t for i, t in enumerate(body) if i < head or i >= n - tail]
    tokens = tokenize(tokenizer, Examples.of([text]), TextSettings(max_length, truncate))
    assert tokens.ids[0].tolist() == [2, *body, 3]
    assert tokens.full_lengths.tolist() == [n + 2]


def _bert_tokenizer() -> Any:
    if not _MADE:
        _MADE.append(make_tokenizer())
    return _MADE[0]


_MADE: list[Any] = []


def test_head_cut_is_transformers_truncation(tokenizer: Any) -> None:
    texts = [words(n, n) for n in (1, 5, 9, 30)]
    tokens = tokenize(tokenizer, Examples.of(texts), TextSettings(10, "head"))
    assert tokens.lengths.max() == 10
    for row, text in enumerate(texts):
        assert tokens.ids[row].tolist() == tokenizer(text, truncation=True, max_length=10)["input_ids"]


@given(first=st.integers(0, 30), second=st.integers(0, 30), max_length=st.integers(5, 30))
@settings(deadline=None, max_examples=150)
def test_pairs_are_cut_longest_first(first: int, second: int, max_length: int) -> None:
    tokenizer = _bert_tokenizer()
    texts = words(first), words(second, 50)
    tokens = tokenize(tokenizer, Examples.of(texts[:1], pairs=texts[1:]), TextSettings(max_length, "head"))
    expected = tokenizer(*([t] for t in texts), truncation="longest_first", max_length=max_length)
    assert tokens.ids[0].tolist() == expected["input_ids"][0]
    assert tokens.types is not None
    assert tokens.types[0].tolist() == expected["token_type_ids"][0]


@pytest.mark.parametrize("truncate", ["tail", "head-tail"])
def test_each_text_of_a_pair_is_cut_by_itself(truncate: Any) -> None:
    tokenizer = _bert_tokenizer()
    texts = words(20), words(3, 50)
    first, second = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in texts)
    tokens = tokenize(tokenizer, Examples.of(texts[:1], pairs=texts[1:]), TextSettings(13, truncate))
    kept = {"tail": first[-7:], "head-tail": first[:4] + first[-3:]}[truncate]
    assert tokens.ids[0].tolist() == [2, *kept, 3, *second, 3]
    assert tokens.full_lengths.tolist() == [26]


def test_cut_shares_count_texts_and_tokens() -> None:
    texts = [words(n) for n in (3, 8, 20, 28)]  # 5, 10, 22, 30 with the marks
    tokens = tokenize(_bert_tokenizer(), Examples.of(texts), TextSettings(10))
    assert tokens.full_lengths.tolist() == [5, 10, 22, 30]
    assert tokens.lengths.tolist() == [5, 10, 10, 10]
    assert tokens.cut_shares() == (0.5, pytest.approx(1 - 35 / 67))


def test_no_texts() -> None:
    tokens = tokenize(_bert_tokenizer(), Examples.of([]), TextSettings(10))
    assert len(tokens) == 0
    assert tokens.cut_shares() == (0.0, 0.0)
    assert list(scoring_batches(tokens.lengths)) == []


def test_empty_texts_have_their_marks_only() -> None:
    tokens = tokenize(_bert_tokenizer(), Examples.of(["", " \n"]), TextSettings(10))
    assert [ids.tolist() for ids in tokens.ids] == [[2, 3], [2, 3]]


def test_empty_texts_of_a_tokenizer_without_marks_can_be_collated() -> None:
    tokenizer = build_tokenizer(["a film"], min_count=1)
    tokens = tokenize(tokenizer, Examples.of(["", ""]), TextSettings(10))
    assert tokens.lengths.tolist() == [0, 0]
    batch = collate(tokens, np.array([0, 1]), tokenizer)
    assert batch["input_ids"].tolist() == [[0], [0]]
    assert batch["attention_mask"].tolist() == [[0], [0]]


@pytest.mark.parametrize(("max_length", "pairs"), [(2, None), (0, None), (3, ["b"])])
def test_a_limit_without_room_for_text_is_refused(max_length: int, pairs: list[str] | None) -> None:
    with pytest.raises(ModelError, match=f"maximum length of {max_length} leaves no room"):
        tokenize(_bert_tokenizer(), Examples.of(["a"], pairs=pairs), TextSettings(max_length))


def test_a_tokenizer_that_alters_texts_beside_marks_is_refused() -> None:
    inner = make_tokenizer()

    class Altering:
        def __call__(self, *texts: Any, **options: Any) -> Any:
            encoded = inner(*texts, **options)
            if options.get("add_special_tokens", True):
                encoded["input_ids"] = [t + 1 for t in encoded["input_ids"]]
            return encoded

    with pytest.raises(ModelError, match="changes a text"):
        tokenize(Altering(), Examples.of(["a film"]), TextSettings(10))


# --- batches for training


@given(lengths=lengths_of_texts, batch_size=st.integers(2, 20), window=st.integers(1, 5), seed=st.integers(0, 99))
@settings(deadline=None)
def test_an_epoch_has_every_row_once(lengths: Any, batch_size: int, window: int, seed: int) -> None:
    batches = training_batches(lengths, batch_size, np.random.default_rng(seed), window)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    sizes = [len(b) for b in batches]
    assert max(sizes) <= batch_size + 1
    assert min(sizes) >= 2 or len(lengths) == 1
    windows = -(-len(lengths) // (batch_size * window))
    assert sum(size != batch_size for size in sizes) <= 2  # the last one, and the one that takes in a single row
    assert len(sizes) <= -(-len(lengths) // batch_size)
    assert windows <= len(sizes) or len(lengths) % (batch_size * window) == 1


@given(lengths=lengths_of_texts, seed=st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_order_depends_on_the_generator_alone(lengths: Any, seed: int) -> None:
    one, same = (training_batches(lengths, 8, np.random.default_rng(seed)) for _ in range(2))
    assert [b.tolist() for b in one] == [b.tolist() for b in same]


def test_epochs_and_seeds_differ() -> None:
    lengths, generator = np.arange(1, 101), np.random.default_rng(0)
    first, second = (training_batches(lengths, 8, generator, window=2) for _ in range(2))
    other = training_batches(lengths, 8, np.random.default_rng(1), window=2)
    flat = [np.concatenate(b).tolist() for b in (first, second, other)]
    assert flat[0] != flat[1]
    assert flat[0] != flat[2]


def test_short_texts_do_not_come_first() -> None:
    """Batches are shuffled: a training run must not see the texts in the order of their lengths."""
    lengths = np.arange(1, 801)
    widths = [int(lengths[b].max()) for b in training_batches(lengths, 16, np.random.default_rng(0))]
    assert abs(np.corrcoef(widths, np.arange(len(widths)))[0, 1]) < 0.5


@pytest.mark.parametrize(("batch_size", "most"), [(8, 1.05), (16, 1.05), (32, 1.08)])
def test_padding_is_small_on_lengths_as_reviews_have_them(batch_size: int, most: float) -> None:
    generator = np.random.default_rng(0)
    lengths = np.clip(np.exp(generator.normal(3.6, 0.7, 600)).astype(int) + 3, 4, 128)
    batches = training_batches(lengths, batch_size, generator)
    padded = sum(len(b) * int(lengths[b].max()) for b in batches)
    assert padded < most * lengths.sum()
    shuffled = generator.permutation(600).reshape(-1, 8)
    assert sum(8 * int(lengths[b].max()) for b in shuffled) > 1.5 * lengths.sum()  # what it saves


# --- batches for scoring


@given(lengths=lengths_of_texts, budget=st.integers(1, 500))
@settings(deadline=None)
def test_scoring_has_every_row_once_within_the_budget(lengths: Any, budget: int) -> None:
    batches = list(scoring_batches(lengths, budget))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= budget
    widths = [int(lengths[b].max()) for b in batches]
    assert widths == sorted(widths, reverse=True)  # the largest first: memory that suffices then suffices always


@given(lengths=lengths_of_texts, budget=st.integers(1, 500), seed=st.integers(0, 99))
@settings(deadline=None)
def test_pieces_keep_the_order_and_none_is_empty_or_needlessly_small(lengths: Any, budget: int, seed: int) -> None:
    rows = np.random.default_rng(seed).permutation(len(lengths))
    pieces = list(split_by_tokens(rows, lengths, budget))
    assert np.concatenate(pieces).tolist() == rows.tolist()
    assert all(len(p) for p in pieces)
    for piece, following in pairwise(pieces):
        assert len(piece) == 1 or len(piece) * lengths[piece].max() <= budget
        grown = np.append(piece, following[0])
        assert len(grown) * lengths[grown].max() > budget


def test_no_rows_no_pieces() -> None:
    assert list(split_by_tokens(np.array([], dtype=np.int64), np.array([3]), 10)) == []
    assert training_batches(np.array([], dtype=np.int64), 8, np.random.default_rng(0)) == []


def test_lengths_of_tokens() -> None:
    tokens = Tokens((np.zeros(3, dtype=np.int32), np.zeros(0, dtype=np.int32)), None, np.array([7, 0]))
    assert tokens.lengths.tolist() == [3, 0]
    assert tokens.cut_shares() == (0.5, pytest.approx(4 / 7))
