"""Texts to token ids, and token ids to batches with almost no padding."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from headstart.data.examples import Examples
from headstart.errors import ModelError
from headstart.records import fingerprint

Truncate = Literal["head", "tail", "head-tail"]
TRUNCATIONS: tuple[str, ...] = ("head", "tail", "head-tail")
Rows = npt.NDArray[np.int64]

# Larger batches fall out of the processor's cache: measured slower everywhere above this (docs/performance.md).
SCORING_TOKENS = 2048
# What a further call costs, as many tokens as take that time: MiniLM on one core 5.5 ms a call and 0.14 ms a token.
_CALL_TOKENS = 40
_TOKENIZE_AT_ONCE = 1000
_identities: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class TextSettings:
    """How a text is made to fit.

    Attributes:
        max_length: most tokens per text, special tokens included.
        truncate: which part of a longer text is kept: ``head``, ``tail``, or both ends in equal parts.
    """

    max_length: int = 256
    truncate: Truncate = "head"


@dataclass(frozen=True)
class Tokens:
    """Token ids of N texts, cut to the maximum length.

    Attributes:
        ids: N arrays of int32 ids, special tokens included.
        types: N arrays of segment ids (0 or 1), only where the encoder tells two texts of a pair apart.
        full_lengths: tokens before cutting, special tokens included, shape (N,).
        states: N arrays (tokens, D), where lower layers are left out: what the first of the others is given.
    """

    ids: tuple[npt.NDArray[np.int32], ...]
    types: tuple[npt.NDArray[np.int32], ...] | None
    full_lengths: npt.NDArray[np.int64]
    states: tuple[npt.NDArray[np.generic], ...] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens per text after cutting, shape (N,)."""
        return np.asarray([len(i) for i in self.ids], dtype=np.int64)

    def take(self, rows: Rows) -> Tokens:
        """Return the given rows, in the given order."""

        def picked(arrays: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
            return None if arrays is None else tuple(arrays[r] for r in rows)

        return Tokens(picked(self.ids) or (), picked(self.types), self.full_lengths[rows], picked(self.states))

    def concat(self, other: Tokens) -> Tokens:
        """Return these rows followed by ``other``'s; states are not kept."""
        types = None if self.types is None or other.types is None else self.types + other.types
        return Tokens(self.ids + other.ids, types, np.concatenate([self.full_lengths, other.full_lengths]))

    def cut_shares(self) -> tuple[float, float]:
        """Return (share of texts that were cut, share of tokens that were cut off), both 0-1."""
        lengths = self.lengths
        if not len(lengths):
            return 0.0, 0.0
        return float(np.mean(lengths < self.full_lengths)), float(1 - lengths.sum() / max(1, self.full_lengths.sum()))


def tokenize(tokenizer: Any, examples: Examples, settings: TextSettings) -> Tokens:
    """Tokenize, cut to ``settings.max_length``; the same examples are tokenized once per tokenizer.

    Within the limit the ids are exactly those of ``tokenizer(text)`` (or ``tokenizer(text, pair)``).

    Args:
        tokenizer: a fast transformers tokenizer.
        examples: N texts or pairs.
        settings: maximum length and which part to keep.
    """
    template = _template(tokenizer, paired=examples.pairs is not None)
    key = ("tokens", settings, _identity(tokenizer))
    if key not in examples.derived:
        examples.derived[key] = _tokenize(tokenizer, template, examples, settings)
    tokens: Tokens = examples.derived[key]
    return tokens


def _identity(tokenizer: Any) -> str:
    """Return a fingerprint of what a tokenizer does: fits load tokenizers of their own that are all the same."""
    if tokenizer not in _identities:
        _identities[tokenizer] = fingerprint([tokenizer.backend_tokenizer.to_str(), *tokenizer.model_input_names])
    return _identities[tokenizer]


def _tokenize(tokenizer: Any, template: Template, examples: Examples, settings: TextSettings) -> Tokens:
    room = settings.max_length - template.specials
    if room < 1:
        raise ModelError(f"a maximum length of {settings.max_length} leaves no room beside {template.specials} marks")
    ids: list[npt.NDArray[np.int32]] = []
    types: list[npt.NDArray[np.int32]] = []
    full = np.empty(len(examples), dtype=np.int64)
    for start in range(0, len(examples), _TOKENIZE_AT_ONCE):
        stop = min(start + _TOKENIZE_AT_ONCE, len(examples))
        first = _bodies(tokenizer, examples.texts[start:stop])
        second = None if examples.pairs is None else _bodies(tokenizer, examples.pairs[start:stop])
        for row in range(stop - start):
            parts = [first[row]] if second is None else [first[row], second[row]]
            full[start + row] = sum(map(len, parts)) + template.specials
            whole, kind = template.fill(_fit(parts, room, settings.truncate))
            ids.append(whole)
            types.append(kind)
    has_types = "token_type_ids" in tokenizer.model_input_names
    return Tokens(tuple(ids), tuple(types) if has_types else None, full)


def _template(tokenizer: Any, *, paired: bool) -> Template:
    """Return the marks around texts, found once per tokenizer: it takes longer than tokenizing one text."""
    known = _templates.setdefault(tokenizer, {})
    if paired not in known:
        known[paired] = Template.of(tokenizer, paired=paired)
    return known[paired]


def _bodies(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    encoded = tokenizer(
        list(texts),
        add_special_tokens=False,
        truncation=False,
        padding=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    return list(encoded["input_ids"])


def _fit(parts: list[list[int]], room: int, truncate: Truncate) -> list[list[int]]:
    """Cut one text to ``room``; of a pair, the longer text gives first (as transformers' ``longest_first``)."""
    if sum(map(len, parts)) <= room:
        return parts
    if len(parts) == 1:
        return [_cut(parts[0], room, truncate)]
    shorter = min(map(len, parts))
    share = min(shorter, room // 2)
    rooms = [share if len(p) == shorter else room - share for p in parts]
    if len(parts[0]) == len(parts[1]):
        rooms = [room // 2, room - room // 2]
    return [_cut(p, r, truncate) for p, r in zip(parts, rooms, strict=True)]


def _cut(ids: list[int], room: int, truncate: Truncate) -> list[int]:
    if len(ids) <= room:
        return ids
    if truncate == "head":
        return ids[:room]
    if truncate == "tail":
        return ids[len(ids) - room :]
    head = (room + 1) // 2
    return ids[:head] + ids[len(ids) - (room - head) :]


@dataclass(frozen=True)
class Template:
    """The special tokens around and between texts, learnt from the tokenizer itself."""

    around: tuple[npt.NDArray[np.int32], ...]  # before the first, between, after the last text
    kinds: tuple[npt.NDArray[np.int32], ...]
    text_kinds: tuple[int, ...]

    @property
    def specials(self) -> int:
        """How many special tokens there are."""
        return sum(map(len, self.around))

    @classmethod
    def of(cls, tokenizer: Any, *, paired: bool) -> Template:
        """Learn them from how a tokenizer treats one text, or two."""
        probe = ("a", "b") if paired else ("a",)
        bodies = _bodies(tokenizer, probe)
        whole = tokenizer(*probe, return_token_type_ids=True, verbose=False)
        ids, kinds = list(whole["input_ids"]), list(whole.get("token_type_ids") or [0] * len(whole["input_ids"]))
        around, around_kinds, text_kinds, start = [], [], [], 0
        for body in bodies:
            at = _find(ids, body, start)
            around.append(np.asarray(ids[start:at], dtype=np.int32))
            around_kinds.append(np.asarray(kinds[start:at], dtype=np.int32))
            text_kinds.append(kinds[at] if body else 0)
            start = at + len(body)
        around.append(np.asarray(ids[start:], dtype=np.int32))
        around_kinds.append(np.asarray(kinds[start:], dtype=np.int32))
        return cls(tuple(around), tuple(around_kinds), tuple(text_kinds))

    def fill(self, parts: Sequence[npt.ArrayLike]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Return ids (T,) and segment ids (T,) of texts with the special tokens in their places."""
        ids, kinds = [self.around[0]], [self.kinds[0]]
        for part, kind, after, after_kind in zip(parts, self.text_kinds, self.around[1:], self.kinds[1:], strict=True):
            ids += [np.asarray(part, dtype=np.int32), after]
            kinds += [np.full(np.size(part), kind, dtype=np.int32), after_kind]
        return np.concatenate(ids), np.concatenate(kinds)


_templates: weakref.WeakKeyDictionary[Any, dict[bool, Template]] = weakref.WeakKeyDictionary()


def _find(ids: list[int], body: list[int], start: int) -> int:
    for at in range(start, len(ids) - len(body) + 1):
        if ids[at : at + len(body)] == body:
            return at
    raise ModelError("this tokenizer changes a text when it adds its special tokens; it cannot be used")


def collate(
    tokens: Tokens, rows: Rows, tokenizer: Any, device: str = "cpu", *, multiple: int = 1
) -> dict[str, torch.Tensor]:
    """Pad the given rows to the longest of them: ``input_ids``, ``attention_mask`` (B, T), perhaps segment ids.

    Where the tokens have states, ``inputs_embeds`` (B, T, D) stands in place of the ids. ``multiple`` divides T.
    """
    width = max(1, max(len(tokens.ids[r]) for r in rows))
    width += -width % multiple
    left = tokenizer.padding_side == "left"
    states = None
    if tokens.states is not None:
        states = np.zeros((len(rows), width, tokens.states[0].shape[1]), dtype=np.float32)
    ids = np.full((len(rows), width), tokenizer.pad_token_id or 0, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    types = np.full((len(rows), width), getattr(tokenizer, "pad_token_type_id", 0), dtype=np.int64)
    for at, row in enumerate(rows):
        n = len(tokens.ids[row])
        span = slice(width - n, width) if left else slice(0, n)
        ids[at, span] = tokens.ids[row]
        mask[at, span] = 1
        if tokens.types is not None:
            types[at, span] = tokens.types[row]
        if states is not None and tokens.states is not None:
            states[at, span] = tokens.states[row]
    given = {"input_ids": torch.from_numpy(ids)} if states is None else {"inputs_embeds": torch.from_numpy(states)}
    batch = {**given, "attention_mask": torch.from_numpy(mask)}
    if tokens.types is not None:
        batch["token_type_ids"] = torch.from_numpy(types)
    return {name: tensor.to(device) for name, tensor in batch.items()}


def scoring_batches(
    lengths: npt.NDArray[np.int64], tokens: int = SCORING_TOKENS, *, call_tokens: int = _CALL_TOKENS
) -> Iterator[Rows]:
    """Yield all rows, longest first, in the batches that take the least time.

    Of a few texts of mixed lengths, as a server gathers them, one batch would be half padding, and one call per text
    would be half calls; the best cuts are found by dynamic programming over the sorted lengths.

    Args:
        lengths: tokens per text, shape (N,).
        tokens: most padded tokens of a batch (one long text goes alone).
        call_tokens: what a call costs beside its padded tokens, in tokens.
    """
    order = np.argsort(-lengths, kind="stable")
    widths = lengths[order].astype(np.float64)
    cost = np.zeros(len(order) + 1)  # of the first n rows, in tokens
    begin = np.zeros(len(order) + 1, dtype=np.int64)  # of the batch that ends before row n
    first = 0
    for end in range(1, len(order) + 1):
        while first < end - 1 and widths[first] * (end - first) > tokens:
            first += 1
        found = cost[first:end] + widths[first:end] * np.arange(end - first, 0, -1)
        best = int(found.argmin())
        begin[end], cost[end] = first + best, found[best] + call_tokens
    cuts = [len(order)]
    while cuts[-1]:
        cuts.append(int(begin[cuts[-1]]))
    for end, start in zip(cuts[-2::-1], cuts[:0:-1], strict=True):
        yield order[start:end]


def step_pieces(rows: Rows, lengths: npt.NDArray[np.int64], tokens: int) -> Iterator[Rows]:
    """Split the rows of one step into the pieces that take the least time, none over ``tokens`` padded tokens.

    Most steps hold texts of nearly one length and stay whole. Where the longest text of a set is far longer than the
    next, padding all others to it would cost more than a further call: on bank questions a tenth of all tokens.
    """
    for piece in scoring_batches(lengths[rows], tokens):
        yield rows[piece]


def split_by_tokens(rows: Rows, lengths: npt.NDArray[np.int64], tokens: int) -> Iterator[Rows]:
    """Split rows, kept in order, into pieces whose padded size is at most ``tokens``; none is empty."""
    start, width = 0, 0
    for at, row in enumerate(rows):
        grown = max(width, int(lengths[row]))
        if at > start and grown * (at - start + 1) > tokens:
            yield rows[start:at]
            start, grown = at, int(lengths[row])
        width = grown
    if start < len(rows):
        yield rows[start:]


def training_batches(
    lengths: npt.NDArray[np.int64], batch_size: int, generator: np.random.Generator, window: int = 50
) -> list[Rows]:
    """Return one epoch of batches of ``batch_size`` rows, each of nearly equal length.

    Rows are shuffled, cut into windows of ``window`` batches, sorted by length inside each window, cut into
    batches, and the batches are shuffled. A last batch of one row joins its neighbor (batch norm needs two).
    """
    order = generator.permutation(len(lengths))
    batches: list[Rows] = []
    for start in range(0, len(order), window * batch_size):
        part = order[start : start + window * batch_size]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    small = [b for b in batches if len(b) == 1]
    if small and len(batches) > len(small):
        batches = [b for b in batches if len(b) > 1]
        batches[-1] = np.concatenate([batches[-1], *small])
    return [batches[i] for i in generator.permutation(len(batches))]
