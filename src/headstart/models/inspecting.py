"""Looking into a model folder or an encoder without running it: its tensors, and how its tokenizer cuts a text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.errors import MissingExtraError, ModelError
from headstart.models import folder as model_folder
from headstart.models.checkpoint import check_safetensors
from headstart.models.encoders import Encoder, find_encoder
from headstart.models.loading import load_tokenizer
from headstart.models.predicting import winner_or_self
from headstart.records import read_json

_HEAD_FILE = "head.safetensors"
_TREES_FILE = "head.cbm"
_DEFAULT_LENGTH = 256
# Kept beside the weights but never trained: position numbers, batch norm's running averages.
_BUFFERS = re.compile(r"(^|\.)(position_ids|token_type_ids|running_mean|running_var|num_batches_tracked)$")


@dataclass(frozen=True)
class Tensor:
    """One stored tensor.

    Attributes:
        name: as in the file; parts of a head on frozen features begin with ``head.``.
        shape: its sizes.
        dtype: as safetensors names it (``F32``, ``BF16``, ``I64``).
        trained: whether the strategy trained it (a model), or would by default (an encoder).
        buffer: stored, but not a parameter.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    trained: bool
    buffer: bool = False

    @property
    def parameters(self) -> int:
        """Number of values; 0 for a buffer."""
        return 0 if self.buffer else math.prod(self.shape)


@dataclass(frozen=True)
class Inspected:
    """A model or encoder as found on disk.

    Attributes:
        name: what the user wrote.
        folder: where its files lie.
        card: content of ``headstart.json``, or None for an encoder or a foreign classifier.
        config: content of ``config.json``, or empty.
    """

    name: str
    folder: Path
    card: dict[str, Any] | None
    config: dict[str, Any]

    @property
    def kind(self) -> str:
        """``network``, ``frozen``, ``tfidf``, ``majority``, or ``encoder`` without a ``headstart.json``."""
        return "encoder" if self.card is None else str(self.card["kind"])

    @property
    def has_tokenizer(self) -> bool:
        """Whether it reads tokens of a transformers tokenizer."""
        return bool(self.config)

    def about(self) -> dict[str, Any]:
        """Return what one wants to know first: kind, strategy, architecture, labels, text settings."""
        card = self.card or {}
        found = {
            "name": self.name,
            "folder": str(self.folder),
            "kind": self.kind,
            "strategy": card.get("strategy"),
            "architecture": (self.config.get("architectures") or [self.config.get("model_type")])[0],
            "labels": (card.get("labels") or {}).get("names"),
            "text": card.get("text"),
            "head": (card.get("about") or {}).get("head"),
        }
        return {key: value for key, value in found.items() if value is not None}


def find(name: str, revision: str | None = None) -> Inspected:
    """Find a model folder, a comparison's winner, or an encoder by catalog name, folder or hub name.

    Raises:
        ModelError: there is none, or it is damaged.
    """
    path = winner_or_self(name)
    if (path / model_folder.CARD).is_file():
        card = model_folder.read_card(path)
        for file in path.glob("*.safetensors"):
            check_safetensors(file)
    else:
        path, card = find_encoder(name, revision, what="model or encoder", flag="headstart inspect").folder, None
    config = path / "config.json"
    try:
        return Inspected(name, path, card, dict(read_json(config)) if config.is_file() else {})
    except ValueError as problem:
        raise ModelError(f"{config} is not valid JSON ({problem}); fetch or save the model again") from problem


def tensors(found: Inspected) -> list[Tensor]:
    """Return all tensors in the order in which a text passes them: embeddings, layers by number, head."""
    made = [*_stored(found), *_head(found)]
    return sorted(made, key=lambda t: _place(t.name))


def weight_files(found: Inspected) -> list[Path]:
    """Return the safetensors files of the network itself, without a head on frozen features."""
    return sorted(p for p in found.folder.glob("*.safetensors") if p.name != _HEAD_FILE)


def _stored(found: Inspected) -> Iterator[Tensor]:
    patterns = None if found.card is None else found.card.get("trained")
    frozen = found.kind == "frozen" and patterns is None  # a head on features; `contrastive` trains the encoder too
    for file in weight_files(found):
        for name, shape, dtype in _headers(file):
            buffer = bool(_BUFFERS.search(name)) or (found.kind == "tfidf" and name == "idf")
            trained = not frozen and not buffer and (patterns is None or matches(name, patterns))
            yield Tensor(name, shape, dtype, trained, buffer)


def _headers(file: Path) -> Iterator[tuple[str, tuple[int, ...], str]]:
    """Yield name, shape and dtype of each tensor; only the file's header is read."""
    from safetensors import safe_open

    with safe_open(str(file), framework="np") as handle:
        for name in handle.keys():  # noqa: SIM118  # not a mapping
            piece = handle.get_slice(name)
            yield name, tuple(piece.get_shape()), str(piece.get_dtype())


def _head(found: Inspected) -> Iterator[Tensor]:
    """Yield what stands on frozen features, and the numbers of models that have no tensors."""
    if (found.folder / _HEAD_FILE).is_file():
        for name, shape, dtype in _headers(found.folder / _HEAD_FILE):
            buffer = name in ("mean", "scale")
            yield Tensor(f"head.{name}", shape, dtype, not buffer, buffer)
    about = {} if found.card is None else found.card["about"]
    if (found.folder / _TREES_FILE).is_file():
        yield _trees(found.folder)
    if found.kind == "majority":
        yield Tensor("shares", (len(about["shares"]),), "F64", True)


def _trees(folder: Path) -> Tensor:
    """Return CatBoost's leaf values; without CatBoost their number is not known."""
    from headstart.models.frozen import BoostedHead

    try:
        head = BoostedHead.read(folder, {"columns": (), "categorical": ()})
    except MissingExtraError:
        return Tensor(f"head ({_TREES_FILE}, of unknown size without CatBoost)", (), "F64", True, buffer=True)
    return Tensor("head.leaf_values", (head.parameters(),), "F64", True)


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a parameter is named by one of the patterns: its name, a prefix, or a regular expression in it."""
    return any(name.startswith(p) or re.search(p, name) for p in patterns)


def _place(name: str) -> tuple[Any, ...]:
    """Sort key: embeddings, then numbered layers, then the rest, then heads; numbers by value."""
    numbered = re.search(r"\.\d+\.", name)
    embedding = not numbered and re.search(r"(^|[._])(embed\w*|wte|wpe|word_embedding|mask_emb)([._]|$)", name)
    head = re.match(r"(head|classifier|score|logits_proj|classification_head|out_proj|shares)(\.|$)", name)
    after = 2 if "pooler" in name else 4 if head else 3
    rank = 0 if embedding else 1 if numbered and not head else after
    return (rank, *((0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)", name)))


def layer_of(name: str) -> str:
    """Return the layer a tensor belongs to: up to its first number, else its first component that says something."""
    numbered = re.match(r"(.*?\.\d+)\.", name)
    if numbered:
        return numbered.group(1)
    parts = name.split(".")
    for at, part in enumerate(parts[:-1]):
        if re.search(r"emb|pooler|classifier|head|gru|norm|pre_classifier|score|wte|wpe|summary", part, re.IGNORECASE):
            return ".".join(parts[: at + 1])
    return ".".join(parts[:-1]) or name


@dataclass(frozen=True)
class Piece:
    """One token of a text.

    Attributes:
        piece: the token as the vocabulary writes it.
        id: its number; -1 for a term outside a TF-IDF vocabulary.
        special: put there by the tokenizer, not by the text.
        unknown: the vocabulary has no such token.
        kept: still there after cutting to the maximum length.
    """

    piece: str
    id: int
    special: bool
    unknown: bool
    kept: bool


def pieces(found: Inspected, text: str, max_length: int | None = None) -> tuple[list[Piece], int | None]:
    """Return how a model's tokenizer cuts a text, and the most tokens it keeps (None: all).

    Args:
        found: a model or encoder.
        text: the text.
        max_length: instead of the model's own (an encoder's: its limit, at most 256).

    Raises:
        ModelError: the model reads no tokens.
    """
    if found.kind == "tfidf":
        return _terms(found, text), None
    if not found.has_tokenizer:
        raise ModelError(f"{found.name} is a '{found.kind}' model, which does not read the text: there are no tokens")
    return _tokens(found, text, max_length)


def _tokens(found: Inspected, text: str, max_length: int | None) -> tuple[list[Piece], int]:
    from headstart.data.examples import Examples
    from headstart.models import batching

    tokenizer = load_tokenizer(found.folder)
    own = {} if found.card is None else found.card["text"]
    limit = min(Encoder(found.name, found.folder).token_limit(), _DEFAULT_LENGTH)
    length = max_length or int(own.get("max_length", limit))
    settings = batching.TextSettings(length, own.get("truncate", "head"))
    full = [int(i) for i in tokenizer(text, verbose=False)["input_ids"]]
    cut = [int(i) for i in batching.tokenize(tokenizer, Examples.of([text]), settings).ids[0]]
    kept = _kept(full, cut)
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    words = tokenizer.convert_ids_to_tokens(full)
    made = [
        Piece(str(word), i, i in special, i == tokenizer.unk_token_id, at in kept)
        for at, (word, i) in enumerate(zip(words, full, strict=True))
    ]
    return made, length


def _kept(full: Sequence[int], cut: Sequence[int]) -> set[int]:
    """Return the places in ``full`` that ``cut`` kept: a beginning and an end, for every way of cutting."""
    start = 0
    while start < len(cut) and full[start] == cut[start]:
        start += 1
    end = len(cut) - start
    return {*range(start), *range(len(full) - end, len(full))}


def _terms(found: Inspected, text: str) -> list[Piece]:
    """Return the 1- and 2-grams a TF-IDF model sees."""
    from headstart.models.baselines import new_vectorizer

    try:
        vocabulary = {term: at for at, term in enumerate(read_json(found.folder / "vocabulary.json"))}
    except (OSError, json.JSONDecodeError) as problem:
        raise ModelError(f"{found.folder} is damaged: {problem}; fit the model again") from problem
    terms = new_vectorizer(sublinear=False).build_analyzer()(text)
    return [Piece(t, vocabulary.get(t, -1), False, t not in vocabulary, t in vocabulary) for t in terms]
