"""Rows of a corpus: every token of every text is in exactly one of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from conftest import NEUTRAL, make_tokenizer
from headstart.adaptation.corpus import read_rows, token_batches
from headstart.errors import ModelError

TOKENIZER = make_tokenizer()
WORDS = st.lists(st.sampled_from([*NEUTRAL, "walking", "unlovely"]), max_size=40).map(" ".join)


def inner(corpus) -> list[int]:
    """Return the tokens of all rows without the special ones, one after the other."""
    return [int(i) for ids in corpus.tokens.ids for i in ids if i not in TOKENIZER.all_special_ids]


@given(st.lists(WORDS, max_size=12), st.integers(8, 40))
@settings(max_examples=60, deadline=None)
def test_no_token_is_dropped(texts: list[str], max_length: int) -> None:
    expected = [i for text in texts for i in TOKENIZER(text, add_special_tokens=False)["input_ids"]]
    expected = [i for i in expected if i not in TOKENIZER.all_special_ids]
    for rows in ("texts", "blocks"):
        corpus = read_rows(TOKENIZER, texts, max_length=max_length, rows=rows)  # type: ignore[arg-type]
        assert inner(corpus) == expected
        assert all(3 <= len(ids) <= max_length for ids in corpus.tokens.ids)
        assert [len(w) for w in corpus.words] == corpus.tokens.lengths.tolist()
        for ids, words in zip(corpus.tokens.ids, corpus.words, strict=True):
            assert np.array_equal(words < 0, np.isin(ids, TOKENIZER.all_special_ids))
        assert corpus.empty == sum(not text for text in texts)


def test_a_short_text_is_what_the_tokenizer_makes_of_it() -> None:
    corpus = read_rows(TOKENIZER, ["the good film", "a day"], max_length=32, rows="texts")
    assert [ids.tolist() for ids in corpus.tokens.ids] == TOKENIZER(["the good film", "a day"])["input_ids"]


def test_a_long_text_goes_on_in_rows_of_nearly_equal_length() -> None:
    corpus = read_rows(TOKENIZER, [" ".join(["good"] * 31)], max_length=12, rows="texts")
    assert sorted(len(ids) - 2 for ids in corpus.tokens.ids) == [7, 8, 8, 8]


def test_blocks_are_full_but_for_the_last() -> None:
    corpus = read_rows(TOKENIZER, ["good film"] * 20, max_length=16, rows="blocks")
    assert [len(ids) for ids in corpus.tokens.ids[:-1]] == [16] * (len(corpus) - 1)
    assert sum(int((ids == TOKENIZER.sep_token_id).sum()) for ids in corpus.tokens.ids) == 19 + len(corpus)


def test_a_vocabulary_with_numbers_left_out(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(str(tmp_path))
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["model"]["vocab"]["film"] = 900
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(tmp_path))
    assert len(tokenizer) < 900
    corpus = read_rows(tokenizer, ["the film"], max_length=16, rows="texts")
    assert 900 in corpus.tokens.ids[0]
    assert corpus.words[0].tolist() == [-1, 1, 2, -1]


def test_no_room_is_said() -> None:
    with pytest.raises(ModelError, match="no room"):
        read_rows(TOKENIZER, ["a"], max_length=2, rows="texts")


@given(st.lists(st.integers(1, 60), max_size=80), st.integers(16, 128), st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_batches_hold_every_row_once_within_the_budget(lengths: list[int], tokens: int, seed: int) -> None:
    found = np.asarray(lengths, dtype=np.int64)
    batches = token_batches(found, tokens, np.random.default_rng(seed))
    assert sorted(int(r) for rows in batches for r in rows) == list(range(len(lengths)))
    for rows in batches:
        assert len(rows) == 1 or found[rows].max() * len(rows) <= tokens
