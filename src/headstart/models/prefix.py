"""Frozen lower layers, computed once: the states that leave them are kept per text, and training starts from those.

What is frozen runs without dropout, so its states are the same in every epoch; they are kept as float16, whose
rounding (2^-11) is below the noise of a seed. A network is only cut where the rest, given the stored states, answers
as the whole one does.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from headstart.errors import ModelError
from headstart.models.batching import Tokens, collate, scoring_batches
from headstart.models.encoders import layer_list
from headstart.models.network import NetworkClassifier
from headstart.models.store import TextStore
from headstart.records import fingerprint

# Embeddings, then layers that are all alike and told nothing of their number: what is left out is not missed.
_STACKED = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert"})
_PROBED_TEXTS = 4
_SAME_LOGITS = 0.02


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


def frozen_depth(model: Any) -> int:
    """Return how many of the lower layers are frozen together with everything below them; 0 where none can be cut."""
    if model.config.model_type not in _STACKED:
        return 0
    body = model.base_model
    try:
        _, layers = layer_list(model)
    except ModelError:
        return 0
    embeddings = getattr(body, "embeddings", None)
    if embeddings is None or any(p.requires_grad for p in embeddings.parameters()):
        return 0
    depth = 0
    while depth < len(layers) - 1 and not any(p.requires_grad for p in layers[depth].parameters()):
        depth += 1
    return depth


class Prefix:
    """The lowest ``depth`` layers of a network and the states that leave them.

    Args:
        classifier: network whose lower layers are frozen.
        depth: how many, from `frozen_depth`.
        key: fingerprint of the weights that the lower layers have.
        cache: folder for the states; None keeps them in memory.
    """

    def __init__(self, classifier: NetworkClassifier, depth: int, *, key: str, cache: Path | None) -> None:
        self.classifier, self.depth = classifier, depth
        text, runtime = classifier.text, classifier.runtime
        about = f"{text.max_length} {text.truncate} {depth} {runtime.device} {runtime.precision}"
        folder = None
        if cache is not None:
            folder = cache / "states" / fingerprint([key, f"{about} {torch.get_num_threads()}"])
        self.store = TextStore(folder, int(classifier.model.config.hidden_size), np.float16)

    def with_states(self, tokens: Tokens, keys: Sequence[bytes]) -> Tokens:
        """Return N tokenized texts with their states; what is not stored is computed.

        To be called while the network is whole.

        Args:
            tokens: N texts.
            keys: of the N texts, from `content_keys`.
        """
        rows = self.store.missing(keys)
        if rows:
            start = time.perf_counter()
            found = self._compute(tokens.take(np.asarray(rows)))
            self.store.add([keys[r] for r in rows], found, time.perf_counter() - start)
        return replace(tokens, states=tuple(self.store[key] for key in keys))

    def _compute(self, tokens: Tokens) -> list[Any]:
        _, layers = layer_list(self.classifier.model)
        model = self.classifier.model.eval().to(self.classifier.runtime.device)
        left = self.classifier.tokenizer.padding_side == "left"
        out: list[Any] = [None] * len(tokens)
        hook = layers[self.depth].register_forward_pre_hook(_stop, with_kwargs=True)
        try:
            with torch.inference_mode(), self.classifier.runtime.autocast():
                for rows in scoring_batches(tokens.lengths):
                    batch = collate(tokens, rows, self.classifier.tokenizer, self.classifier.runtime.device)
                    states = _states_of(model, batch).to(torch.float16).cpu().numpy()  # (B, T, D)
                    for at, row in enumerate(rows):
                        n = len(tokens.ids[row])
                        out[row] = states[at, -n:].copy() if left else states[at, :n].copy()
        finally:
            hook.remove()
        return out

    @contextlib.contextmanager
    def left_out(self) -> Iterator[None]:
        """Take the lower layers out of the network inside the block; it then reads texts that have states."""
        model = self.classifier.model
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
            whole = self.classifier.logits(probe)
            with self.left_out():
                rest = self.classifier.logits(given)
        except (RuntimeError, ValueError, TypeError, AttributeError, StopIteration):
            return False  # an architecture that is put together in another way
        return bool(np.isfinite(rest).all() and np.abs(whole - rest).max() <= _SAME_LOGITS * (1 + np.abs(whole).max()))


def _stop(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
    raise _ReachedError(given[0] if given else named["hidden_states"])


def _states_of(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    try:
        model(**batch)
    except _ReachedError as reached:
        return reached.states
    raise RuntimeError("the layer was never reached")
