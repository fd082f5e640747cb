"""Masks: shares, whole words for every kind of tokenizer, special tokens left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import make_tokenizer, separable_texts
from headstart.adaptation.config import MASKINGS, Masking
from headstart.adaptation.corpus import read_rows
from headstart.adaptation.masking import _LONGEST_SPAN, Masker, choose

SPACED = separable_texts(60, seed=3, words=12)[0]
UNSPACED = [
    "这家酒店的房间非常干净服务员也很热情早餐种类丰富值得推荐",
    "房间很小隔音效果太差晚上根本睡不着觉不会再来了",
    "位置方便离地铁站只有五分钟周围有很多餐馆和商店价格也合理",
    "空调坏了前台态度恶劣要求换房被拒绝非常失望的一次体验",
] * 12


def train_tokenizer(kind: str, texts: list[str]) -> Any:
    """Return a tokenizer of a kind, trained on the texts: WordPiece, Unigram (SentencePiece) or byte-level BPE."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    common = {"vocab_size": 160, "special_tokens": specials, "show_progress": False}
    if kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer: Any = trainers.WordPieceTrainer(**common)
    elif kind == "byte-bpe":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            **common | {"vocab_size": 300, "initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}
        )
    else:
        tokenizer = Tokenizer(models.Unigram())
        # `sentencepiece-whole` (below) is what some checkpoints have: word_ids() calls the whole text one word.
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(unk_token="[UNK]", **common)
    tokenizer.train_from_iterator(texts, trainer)
    if kind == "sentencepiece-whole":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    ends = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]",
    )  # fmt: skip


KINDS = ("wordpiece", "sentencepiece", "sentencepiece-whole", "byte-bpe")
CASES = [(kind, script) for kind in KINDS for script in ("spaced", "unspaced")]


@pytest.fixture(scope="module")
def trained() -> Callable[[str, str], Any]:
    made: dict[tuple[str, str], Any] = {}

    def get(kind: str, script: str) -> Any:
        if (kind, script) not in made:
            made[kind, script] = train_tokenizer(kind, SPACED if script == "spaced" else UNSPACED)
        return made[kind, script]

    return get


def shares(tokenizer: Any, texts: list[str], masking: Masking, epochs: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Return for each draw the share of positions masked, and the number of positions that could be."""
    corpus = read_rows(tokenizer, texts, max_length=128, rows="texts")
    masker = Masker.of(tokenizer, masking=masking, share=0.15, seed=0, vocabulary=len(tokenizer))
    found, sizes = [], []
    for epoch in range(epochs):
        for row, (ids, words) in enumerate(zip(corpus.tokens.ids, corpus.words, strict=True)):
            _, chosen = masker(ids, words, epoch=epoch, row=row)
            n = int((words >= 0).sum())
            found.append(len(chosen) / n)
            sizes.append(n)
    return np.asarray(found), np.asarray(sizes)


@pytest.mark.parametrize("masking", MASKINGS)
@pytest.mark.parametrize("kind, script", CASES)
def test_no_draw_masks_nothing_or_nearly_everything(
    kind: str, script: str, masking: Masking, trained: Callable[[str, str], Any]
) -> None:
    tokenizer = trained(kind, script)
    found, sizes = shares(tokenizer, SPACED if script == "spaced" else UNSPACED, masking)
    assert (found == 0).mean() == 0
    assert (found[sizes >= 3] > 0.55).mean() == 0
    mean = float((found * sizes).sum() / sizes.sum())
    assert 0.13 < mean < 0.20, "at least one unit of a short row makes it a little more than 0.15"


@pytest.fixture
def real(request: pytest.FixtureRequest) -> Any:
    """The tokenizer of a real encoder: MiniLM's WordPiece or multilingual e5's SentencePiece."""
    from headstart.catalog import packaged_folder
    from headstart.models.loading import load_tokenizer

    if request.param == "e5":
        return load_tokenizer(request.getfixturevalue("shared") / "models" / "e5-small-enpt")
    folder = packaged_folder("minilm")
    if folder is None:
        pytest.skip("needs MiniLM: headstart[samples] is not installed")
    return load_tokenizer(folder)


@pytest.mark.parametrize("masking", MASKINGS)
@pytest.mark.parametrize("real", ["minilm", "e5"], indirect=True)
def test_real_tokenizers_mask_neither_nothing_nor_nearly_everything(real: Any, masking: Masking, shared: Path) -> None:
    import pandas as pd

    texts = pd.read_parquet(shared / "data" / "reviews_pt.parquet")["text"].head(300).tolist()
    found, sizes = shares(real, texts, masking, epochs=2)
    assert (found == 0).mean() == 0
    assert (found[sizes >= 3] > 0.55).mean() == 0
    assert 0.13 < float((found * sizes).sum() / sizes.sum()) < 0.18


@pytest.mark.parametrize("real", ["minilm", "e5"], indirect=True)
def test_whole_words_of_real_tokenizers_are_masked_whole(real: Any) -> None:
    check_whole_words(real)


@pytest.mark.parametrize("kind", KINDS)
def test_whole_words_are_masked_whole(kind: str, trained: Callable[[str, str], Any]) -> None:
    check_whole_words(trained(kind, "spaced"))


def check_whole_words(tokenizer: Any) -> None:
    """The reference is the text itself: its words stand between blanks."""
    text = "charming actors were quite dreadful on the first night of this brilliant long weekend in the old town"
    corpus = read_rows(tokenizer, [text], max_length=64, rows="texts")
    ids, words = corpus.tokens.ids[0], corpus.words[0]
    offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    numbers = [text[: offsets[at][1]].count(" ") for at in range(1, len(ids) - 1)]  # blanks before a piece's end
    same = np.diff(words[1:-1]) == 0
    assert same.tolist() == (np.diff(numbers) == 0).tolist()
    masker = Masker.of(tokenizer, masking="whole-word", share=0.15, seed=0, vocabulary=len(tokenizer))
    longest = max(1, min(8, int((words >= 0).sum()) // 3))
    for epoch in range(20):
        _, chosen = masker(ids, words, epoch=epoch, row=0)
        for word in set(words[chosen].tolist()):
            pieces = np.flatnonzero(words == word)
            if len(pieces) <= longest:
                assert set(pieces) <= set(chosen.tolist())


@given(
    st.lists(st.integers(-1, 6), min_size=1, max_size=40),
    st.sampled_from(MASKINGS),
    st.floats(0.05, 0.6),
    st.integers(0, 2**31),
)
@settings(max_examples=150, deadline=None)
def test_choice_is_within_what_may_be_chosen(steps: list[int], masking: Masking, share: float, seed: int) -> None:
    words = np.asarray(steps, dtype=np.int32)
    chosen = choose(words, share, masking, np.random.default_rng(seed))
    assert (words[chosen] >= 0).all()
    assert len(set(chosen.tolist())) == len(chosen)
    assert (np.diff(chosen) > 0).all()
    possible = int((words >= 0).sum())
    assert (len(chosen) > 0) == (possible > 0)
    span = min(_LONGEST_SPAN, int(share * possible)) if masking == "span" else 1
    assert len(chosen) <= max(1, share * possible + max(span, possible // 3))  # beyond the share by one unit at most


def test_expected_share_is_the_one_asked_for_where_rows_are_long() -> None:
    words = np.repeat(np.arange(40), np.tile([1, 2, 3, 4], 10)).astype(np.int32)  # 100 tokens in 40 words
    for masking in MASKINGS:
        counts = [len(choose(words, 0.15, masking, np.random.default_rng(seed))) for seed in range(1500)]
        error = 4 * np.std(counts) / np.sqrt(len(counts))  # four standard errors
        assert abs(np.mean(counts) - 15) < max(error, 0.05), masking


def test_replacements_are_those_of_the_reference_collator() -> None:
    """80% mask, 10% random, 10% kept: shares as transformers' own collator has them on the same tokens."""
    import torch
    from transformers import DataCollatorForLanguageModeling

    tokenizer = make_tokenizer()
    texts = separable_texts(400, seed=9, words=14)[0]
    corpus = read_rows(tokenizer, texts, max_length=64, rows="texts")
    masker = Masker.of(tokenizer, masking="token", share=0.15, seed=1, vocabulary=len(tokenizer))

    def counted(read: np.ndarray, true: np.ndarray) -> np.ndarray:
        masked, kept = read == tokenizer.mask_token_id, read == true
        return np.asarray([masked.mean(), kept.mean(), (~masked & ~kept).mean()])

    read, true = [], []
    for row, (ids, words) in enumerate(zip(corpus.tokens.ids, corpus.words, strict=True)):
        shown, chosen = masker(ids, words, epoch=1, row=row)
        assert np.array_equal(np.delete(shown, chosen), np.delete(ids, chosen)), "nothing else is changed"
        assert not set(chosen) & set(np.flatnonzero(np.isin(ids, tokenizer.all_special_ids)))
        read.append(shown[chosen])
        true.append(ids[chosen])
    ours = counted(np.concatenate(read), np.concatenate(true))
    assert not set(np.concatenate(read)) & (set(tokenizer.all_special_ids) - {tokenizer.mask_token_id})

    torch.manual_seed(0)
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    batch = collator([{"input_ids": list(map(int, ids))} for ids in corpus.tokens.ids])
    labels = batch["labels"].numpy()
    at = labels != -100
    theirs = counted(batch["input_ids"].numpy()[at], labels[at])
    np.testing.assert_allclose(ours, theirs, atol=0.06)
    np.testing.assert_allclose(ours, [0.8, 0.1, 0.1], atol=0.05)


def test_draws_depend_on_seed_epoch_and_row_alone() -> None:
    ids = np.arange(10, 40, dtype=np.int32)
    words = np.arange(30, dtype=np.int32)
    ordinary = np.arange(5, 100, dtype=np.int32)

    def draw(seed: int, epoch: int, row: int) -> list[int]:
        return Masker("token", 0.15, 4, ordinary, seed)(ids, words, epoch=epoch, row=row)[1].tolist()

    assert draw(0, 1, 2) == draw(0, 1, 2)
    assert len({tuple(draw(0, epoch, 2)) for epoch in range(20)}) > 15
    assert draw(0, 1, 2) != draw(1, 1, 2)
    assert draw(0, 1, 2) != draw(0, 1, 3)
