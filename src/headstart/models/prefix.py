"""Frozen lower layers, computed once: the states that leave them are kept per text, and training starts from those.

What is frozen runs without dropout, so its states are the same in every epoch, every fit and every strategy. They are
kept as exact as they were computed: float32 under float32, and as float16 under bfloat16, whose products round more.
There features, too, are computed from states rounded so (`round_states`), stored or not. A network is only cut where
the rest, given the stored states, answers as the whole one does.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from headstart.errors import ModelError
from headstart.models.batching import TextSettings, Tokens, collate, scoring_batches
from headstart.models.cache import cache_limit
from headstart.models.classifier import Advance
from headstart.models.layers import top_third
from headstart.models.loading import layer_list
from headstart.models.runtime import Runtime, ready_to_score
from headstart.models.store import TextStore
from headstart.records import fingerprint

# Embeddings, then layers that are all alike and told nothing of their number: what is left out is not missed.
_STACKED = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert"})
_PROBED_TEXTS = 4
# How far answers may be apart, as a share of the largest: in float32, and where states and products are rounded.
_SAME, _SAME_ROUNDED = 1e-4, 0.02
_MOST_BYTES = 256 << 20  # of states held in memory before they are written


class Network(Protocol):
    """What can be cut: a classifier or a feature extractor.

    Attributes:
        model: network of transformers.
        tokenizer: its tokenizer.
        text: maximum length and truncation.
        runtime: device and precision.
    """

    tokenizer: Any
    text: TextSettings
    runtime: Runtime

    @property
    def model(self) -> Any:
        """The network."""
        ...

    def answers(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return what it gives for a padded batch of B texts, (B, D)."""
        ...


class _Given(nn.Module):
    """Stands where the embeddings stood and hands on the states that it is given."""

    def forward(self, *given: Any, inputs_embeds: torch.Tensor | None = None, **_: Any) -> torch.Tensor:
        if inputs_embeds is not None:
            return inputs_embeds
        states: torch.Tensor = next(g for g in given if g is not None and g.is_floating_point())
        return states


class _PassedOver(nn.Module):
    """Stands where a layer stood, so that the others keep their names."""

    def forward(self, states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return states


class _ReachedError(Exception):
    """Carries states out of a forward pass that need not go on."""

    def __init__(self, states: torch.Tensor) -> None:
        self.states = states


def most_layers(model: Any) -> int:
    """Return how many lower layers could be left out: all but the top one; 0 where none can be cut."""
    if model.config.model_type not in _STACKED or getattr(model.base_model, "embeddings", None) is None:
        return 0
    try:
        return len(layer_list(model)[1]) - 1
    except ModelError:
        return 0


def usual_depth(model: Any) -> int:
    """Return how many lower layers are frozen where the top third is trained; 0 where none can be cut."""
    most = most_layers(model)
    return most + 1 - top_third(most + 1) if most else 0


def frozen_depth(model: Any) -> int:
    """Return how many of the lower layers are frozen together with everything below them; 0 where none can be cut."""
    most = most_layers(model)
    if not most or _is_trained(model.base_model.embeddings):
        return 0
    _, layers = layer_list(model)
    depth = 0
    while depth < most and not _is_trained(layers[depth]):
        depth += 1
    return depth


def cannot_be_cut(model: Any) -> bool:
    """Tell whether lower layers are frozen in a network of which none can be left out."""
    if most_layers(model):
        return False
    try:
        layers = layer_list(model)[1]
    except ModelError:
        return False
    return len(layers) > 1 and not _is_trained(layers[0])


def _is_trained(module: nn.Module) -> bool:
    return any(p.requires_grad for p in module.parameters())


class Prefix:
    """The lowest ``depth`` layers of a network and the states that leave them.

    Args:
        network: whose lower layers are frozen.
        depth: how many, from `frozen_depth`.
        key: fingerprint of the weights that the lower layers have.
        cache: folder for the states; None keeps them in memory.
    """

    def __init__(self, network: Network, depth: int, *, key: str, cache: Path | None) -> None:
        self.network, self.depth = network, depth
        self._type = np.float32 if network.runtime.precision == "float32" else np.float16
        folder = None if cache is None else states_folder(network, depth, key=key, cache=cache)
        self.store = TextStore(folder, int(network.model.config.hidden_size), self._type)

    def fits(self, *texts: Tokens) -> bool:
        """Whether the states of all these texts are within the size that the cache may have."""
        return self.size_of(*texts) <= cache_limit()

    def size_of(self, *texts: Tokens) -> int:
        """Return the bytes that the states of all these texts take."""
        count = sum(int(tokens.lengths.sum()) for tokens in texts)
        return count * self.store.width * np.dtype(self._type).itemsize

    def with_states(self, tokens: Tokens, keys: Sequence[bytes], advance: Advance | None = None) -> Tokens:
        """Return N tokenized texts with their states; what is not stored is computed.

        To be called while the network is whole.

        Args:
            tokens: N texts.
            keys: of the N texts, from `content_keys`.
            advance: told how many texts were computed.
        """
        for rows in self._parts(self.store.missing(keys), tokens.lengths):
            start = time.perf_counter()
            found = self._compute(tokens.take(rows), advance)
            self.store.add([keys[r] for r in rows], found, time.perf_counter() - start)
        return replace(tokens, states=tuple(self.store[key] for key in keys))

    def _parts(self, rows: Sequence[int], lengths: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
        """Cut rows into parts whose states fill a few hundred megabytes at most: each is written before the next."""
        found = np.asarray(rows, dtype=np.int64)
        size = np.cumsum(lengths[found]) * self.store.width * np.dtype(self._type).itemsize
        return [p for p in np.split(found, np.flatnonzero(np.diff(size // _MOST_BYTES)) + 1) if len(p)]

    def _compute(self, tokens: Tokens, advance: Advance | None) -> list[Any]:
        network = self.network
        left = network.tokenizer.padding_side == "left"
        out: list[Any] = [None] * len(tokens)
        model: Any = ready_to_score(network.model, network.runtime, laid_out=True)
        _, layers = layer_list(model)
        hook = layers[self.depth].register_forward_pre_hook(_stop, with_kwargs=True)
        try:
            with torch.inference_mode(), network.runtime.autocast():
                for rows in scoring_batches(tokens.lengths):
                    batch = collate(tokens, rows, network.tokenizer, network.runtime.device)
                    states = _states_of(model, batch).float().cpu().numpy().astype(self._type)  # (B, T, D)
                    for at, row in enumerate(rows):
                        n = len(tokens.ids[row])
                        out[row] = states[at, -n:].copy() if left else states[at, :n].copy()
                    if advance is not None:
                        advance(len(rows))
        finally:
            hook.remove()
        return out

    @contextlib.contextmanager
    def left_out(self) -> Iterator[None]:
        """Take the lower layers out of the network inside the block; it then reads texts that have states."""
        model = self.network.model
        name, layers = layer_list(model)
        parent_name, _, attribute = name.rpartition(".")
        parent, body = model.get_submodule(parent_name), model.base_model
        embeddings = body.embeddings
        setattr(parent, attribute, nn.ModuleList([*(_PassedOver() for _ in range(self.depth)), *layers[self.depth :]]))
        body.embeddings = _Given()
        try:
            yield
        finally:
            setattr(parent, attribute, layers)
            body.embeddings = embeddings

    def holds(self, tokens: Tokens, keys: Sequence[bytes]) -> bool:
        """Whether the network without its lower layers, given stored states, answers as the whole one does."""
        count = min(_PROBED_TEXTS, len(tokens))
        probe = tokens.take(np.arange(count))
        try:
            given = self.with_states(probe, keys[:count])
            whole = self._answers(probe)
            with self.left_out():
                rest = self._answers(given)
        except (RuntimeError, ValueError, TypeError, AttributeError, StopIteration):
            return False  # an architecture that is put together in another way
        share = _SAME if self.network.runtime.precision == "float32" else _SAME_ROUNDED
        return bool(rest.isfinite().all() and (whole - rest).abs().max() <= share * (1 + whole.abs().max()))

    def _answers(self, tokens: Tokens) -> torch.Tensor:
        network = self.network
        network.model.eval().to(network.runtime.device)
        with torch.inference_mode(), network.runtime.autocast():
            rows = np.arange(len(tokens))
            return network.answers(collate(tokens, rows, network.tokenizer, network.runtime.device)).float()


def round_states(model: Any) -> Any:
    """Round the states that leave the layers below the top third as stored ones are, in place; return the model."""
    depth = usual_depth(model)
    if depth:
        layer_list(model)[1][depth].register_forward_pre_hook(_rounded)
    return model


def _rounded(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    most = torch.finfo(torch.float16).max
    return given[0].clamp(-most, most).to(torch.float16).to(given[0].dtype), *given[1:]


def states_folder(network: Network, depth: int, *, key: str, cache: Path) -> Path:
    """Return where the states that leave the lowest ``depth`` layers of weights ``key`` are kept."""
    text = network.text
    about = f"{text.max_length} {text.truncate} {depth} {network.runtime.arithmetic()}"
    return cache / "states" / fingerprint([key, about])


def _stop(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
    raise _ReachedError(given[0] if given else named["hidden_states"])


def _states_of(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    try:
        model(**batch)
    except _ReachedError as reached:
        return reached.states
    raise RuntimeError("the layer was never reached")
