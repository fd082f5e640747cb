"""Texts as rows of tokens for a language model: none is cut off, none is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from headstart.errors import ModelError
from headstart.models.batching import Rows, Template, Tokens, split_by_tokens

Ints = npt.NDArray[np.int32]

_AT_ONCE = 1000
_WINDOW = 50  # batches that are sorted by length together
_WORD_MARKS = ("\u2581", "\u0120")  # how SentencePiece and byte-level BPE write the blank before a word


@dataclass(frozen=True)
class Corpus:
    """Rows of tokens.

    Attributes:
        tokens: N rows, special tokens included.
        words: for each row the word of each position; -1 for special tokens.
        empty: texts that have no token at all, which no row can be made of.
    """

    tokens: Tokens
    words: tuple[Ints, ...]
    empty: int

    def __len__(self) -> int:
        return len(self.words)

    def has_words(self, causal: bool) -> bool:
        """Whether there is something to predict: ordinary tokens, or of a causal model any token after a first."""
        return bool((self.tokens.lengths > 1).any()) if causal else any((row >= 0).any() for row in self.words)


def read_rows(tokenizer: Any, texts: Sequence[str], *, max_length: int, rows: Literal["texts", "blocks"]) -> Corpus:
    """Turn texts into rows of at most ``max_length`` tokens.

    A longer text goes on in further rows of nearly equal length. With ``blocks`` all texts are joined, a separator
    between, and cut into blocks of ``max_length``; the last one is shorter.

    Raises:
        ModelError: the length leaves no room beside the special tokens.
    """
    template = Template.of(tokenizer, paired=False)
    room = max_length - template.specials
    if room < 1:
        raise ModelError(f"a maximum length of {max_length} leaves no room beside {template.specials} marks")
    bodies = _bodies(tokenizer, texts)
    pieces: list[tuple[Ints, Ints]] = []
    if rows == "texts":
        for ids, words in bodies:
            count = -(-len(ids) // room)
            pieces += zip(np.array_split(ids, count), np.array_split(words, count), strict=True) if count else []
    else:
        ids, words = _joined(tokenizer, [body for body in bodies if len(body[0])])
        pieces = [(ids[i : i + room], words[i : i + room]) for i in range(0, len(ids), room)]
    filled = [template.fill([ids]) for ids, _ in pieces]
    marked = [template.fill([words])[0] for _, words in pieces]
    head, tail = len(template.around[0]), len(template.around[-1])
    for row in marked:  # what the template put around the words are ids of special tokens
        row[:head] = -1
        row[len(row) - tail :] = -1
    lengths = np.asarray([len(ids) for ids, _ in filled], dtype=np.int64)
    types = tuple(kind for _, kind in filled) if "token_type_ids" in tokenizer.model_input_names else None
    tokens = Tokens(tuple(ids for ids, _ in filled), types, lengths)
    return Corpus(tokens, tuple(marked), sum(not len(ids) for ids, _ in bodies))


def _bodies(tokenizer: Any, texts: Sequence[str]) -> list[tuple[Ints, Ints]]:
    """Return ids and words of each text, without the special tokens around it."""
    vocabulary = tokenizer.get_vocab()
    begins = np.zeros(max(vocabulary.values()) + 1, dtype=bool)  # numbers may be left out, so not its length
    begins[[i for token, i in vocabulary.items() if token.startswith(_WORD_MARKS)]] = True
    special = np.asarray(tokenizer.all_special_ids, dtype=np.int64)
    found = []
    for start in range(0, len(texts), _AT_ONCE):
        part = list(texts[start : start + _AT_ONCE])
        encoded = tokenizer(part, add_special_tokens=False, return_attention_mask=False, verbose=False)
        for row, raw in enumerate(encoded["input_ids"]):
            ids = np.asarray(raw, dtype=np.int32)
            words = np.asarray([-2 if w is None else w for w in encoded.word_ids(row)], dtype=np.int64)
            # Some tokenizers call a whole text one word; then its pieces say where words begin.
            fresh = np.concatenate([[1], (np.diff(words) != 0) | (words[1:] == -2) | begins[ids[1:]]])[: len(ids)]
            numbered = np.cumsum(fresh).astype(np.int32)
            numbered[np.isin(ids, special)] = -1
            found.append((ids, numbered))
    return found


def _joined(tokenizer: Any, bodies: Sequence[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    mark = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    between = np.asarray([] if mark is None else [mark], dtype=np.int32)
    ids: list[Ints] = []
    words: list[Ints] = []
    last = 0
    for body, own in bodies:
        ids += [body, between]
        words += [np.where(own < 0, own, own + last).astype(np.int32), np.full(len(between), -1, dtype=np.int32)]
        last += int(own.max(initial=0))
    if not ids:
        return between[:0], between[:0]
    end = len(ids) - 1  # nothing follows the last text
    return np.concatenate(ids[:end]), np.concatenate(words[:end])


def token_batches(lengths: npt.NDArray[np.int64], tokens: int, generator: np.random.Generator) -> list[Rows]:
    """Return one epoch of batches of at most ``tokens`` padded tokens, every row in exactly one.

    Rows are shuffled, cut into windows of about 50 batches, sorted by length inside each, cut into batches, and the
    batches are shuffled. A row longer than ``tokens`` goes alone.
    """
    order = generator.permutation(len(lengths))
    window = max(1, round(_WINDOW * tokens / max(1.0, float(lengths.mean())))) if len(lengths) else 1
    batches: list[Rows] = []
    for start in range(0, len(order), window):
        part = order[start : start + window]
        batches += split_by_tokens(part[np.argsort(lengths[part], kind="stable")], lengths, tokens)
    return [batches[i] for i in generator.permutation(len(batches))]
