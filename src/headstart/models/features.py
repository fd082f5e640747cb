"""Features of a frozen encoder: the mean of its states over real tokens, kept on disk and never computed twice."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from headstart.data.examples import Examples
from headstart.errors import ConfigError
from headstart.models import batching
from headstart.models.batching import TextSettings, Tokens
from headstart.models.classifier import Advance
from headstart.models.prefix import Prefix, most_layers, round_states, states_folder, usual_depth
from headstart.models.runtime import Runtime, ready_to_score
from headstart.models.store import TextStore, content_keys
from headstart.records import fingerprint

Features = npt.NDArray[np.float32]


class FeatureExtractor:
    """A frozen encoder body that turns N texts into features (N, D).

    In bfloat16 the states that leave the layers below the top third are rounded to float16, as they are where they are
    stored (`models.prefix`). While features start from stored states the body is cut: not for several threads at once.

    Args:
        body: transformers encoder without a head.
        tokenizer: its fast tokenizer.
        text: maximum length and which part of a longer text is kept.
        runtime: device and precision.
        layer: which hidden states are averaged: -1 the last layer, 0 the embeddings, 1 the first layer, ...
        key: fingerprint of the encoder's weights; with it and ``cache``, features are kept on disk.
        cache: folder for them, or None.

    Attributes:
        spared: seconds that the last call would have taken longer without what was stored.
    """

    def __init__(
        self,
        body: Any,
        tokenizer: Any,
        text: TextSettings,
        runtime: Runtime,
        *,
        layer: int = -1,
        key: str | None = None,
        cache: Path | None = None,
    ) -> None:
        self.body = body
        self.tokenizer = tokenizer
        self.text = text
        self.runtime = runtime
        self.layer = layer
        self.key = key
        self.cache = cache
        self.spared = 0.0
        self._ready: Any = None
        self._prefixes: dict[int, Prefix] = {}  # by depth; opened once, because opening reads every key

    @property
    def model(self) -> Any:
        """The encoder."""
        return self.body

    @property
    def width(self) -> int:
        """Number of features D."""
        return int(self.body.config.hidden_size)

    def __call__(self, examples: Examples, advance: Advance | None = None) -> Features:
        """Return features (N, D), float32.

        A text is computed once: what is stored is what a later call is given, bit for bit. With a cache this holds
        for every later process too.
        """
        store, keys = self._opened(), content_keys(examples)
        rows = store.missing(keys)
        new, spared = set(rows), 0.0
        done = len(examples) - len(rows)
        if advance is not None and done:
            advance(done)
        if rows:
            start = time.perf_counter()
            features, spared = self._compute(examples.take(rows), [keys[r] for r in rows], advance)
            store.add([keys[r] for r in rows], list(features[:, None]), time.perf_counter() - start + spared)
        self.spared = spared + store.seconds([key for row, key in enumerate(keys) if row not in new])
        if not keys:
            return np.zeros((0, self.width), dtype=np.float32)
        return np.concatenate([store[key] for key in keys]).astype(np.float32, copy=False)

    def _compute(self, examples: Examples, keys: Sequence[bytes], advance: Advance | None) -> tuple[Features, float]:
        """Return features (N, D) and the seconds that stored states saved."""
        tokens = self.tokenize(examples)
        prefix = self._stored_states(keys)
        if prefix is None or not prefix.holds(tokens, keys):
            return self.of_tokens(tokens, advance), 0.0
        given = prefix.with_states(tokens, keys)
        with prefix.left_out():
            return self.of_tokens(given, advance), prefix.store.seconds(keys)

    def _stored_states(self, keys: Sequence[bytes]) -> Prefix | None:
        """Return the most layers whose states are stored for every text: left there by a network partly frozen.

        In bfloat16 states are stored rounded, and only those count that are rounded without a store too.
        """
        if self.cache is None or self.key is None or self.layer != -1:
            return None
        exact, usual = self.runtime.precision == "float32", usual_depth(self.body)
        for depth in (d for d in range(most_layers(self.body), 0, -1) if exact or d == usual):
            if depth not in self._prefixes:
                if not states_folder(self, depth, key=self.key, cache=self.cache).is_dir():
                    continue
                self._prefixes[depth] = Prefix(self, depth, key=self.key, cache=self.cache)
            if not self._prefixes[depth].store.missing(keys):
                return self._prefixes[depth]
        return None

    def _opened(self) -> TextStore:
        folder = None
        if self.cache is not None and self.key is not None:
            folder = self.cache / "features" / self._settings(self.key)
        return TextStore(folder, self.width, np.float32)

    def _settings(self, key: str) -> str:
        about = f"{self.text.max_length} {self.text.truncate} {self.layer} {self.runtime.arithmetic()}"
        return fingerprint([key, about])

    def tokenize(self, examples: Examples) -> Tokens:
        """Tokenize and cut to the maximum length."""
        return batching.tokenize(self.tokenizer, examples, self.text)

    def of_tokens(self, tokens: Tokens, advance: Advance | None = None) -> Features:
        """Return features (N, D), float32, computed in batches of similar length; the cache is not asked."""
        out = np.zeros((len(tokens), self.width), dtype=np.float32)
        # A copy made before is whole: texts that have states are read by what is left of the encoder.
        body = self._ready_body() if self._ready is None or tokens.states is not None else self._ready
        with torch.inference_mode(), self.runtime.autocast():
            for rows in batching.scoring_batches(tokens.lengths):
                batch = batching.collate(tokens, rows, self.tokenizer, self.runtime.device)
                out[rows] = self._pooled(body, batch).float().cpu().numpy()
                if advance is not None:
                    advance(len(rows))
        return out

    def answers(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return features (B, D), float32, of one padded batch; no states are rounded.

        Raises:
            ConfigError: the encoder has no such layer.
        """
        return self._pooled(self.body, batch)

    def keep_weights(self) -> None:
        """Say that the weights change no more: what scoring needs is then made once, and one text alone is fast."""
        self._ready = self._ready_body()

    def _ready_body(self) -> Any:
        """Return what features are computed with: the body, or in bfloat16 a copy of it."""
        if self.layer != -1:  # transformers collects the states of its own layers only, which packing exchanges
            return ready_to_score(self.body, self.runtime)
        body = ready_to_score(self.body, self.runtime, laid_out=True)
        return round_states(body) if self.runtime.precision == "bfloat16" else body

    def _pooled(self, body: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        if self.layer == -1:
            states: torch.Tensor = body(**batch).last_hidden_state
        else:
            every = body(**batch, output_hidden_states=True).hidden_states
            if every is None or not -len(every) <= self.layer < len(every):
                known = 0 if every is None else len(every)
                raise ConfigError(f"layer {self.layer} is not there: this encoder has states 0 to {known - 1}")
            states = every[self.layer]
        mask = batch["attention_mask"].unsqueeze(-1)  # (B, T, 1)
        total: torch.Tensor = (states.float() * mask).sum(dim=1)  # (B, T, D) -> (B, D)
        return total / mask.sum(dim=1).clamp(min=1)

    def same_as(self, other: FeatureExtractor, examples: Examples) -> bool:
        """Whether another extractor has equal weights and settings and cuts the given texts alike."""
        mine, theirs = self.body.state_dict(), other.body.state_dict()
        if (self.text, self.layer, mine.keys()) != (other.text, other.layer, theirs.keys()):
            return False
        if not all(torch.equal(mine[name], theirs[name]) for name in mine):
            return False
        ours, others = (batching.tokenize(e.tokenizer, examples, e.text) for e in (self, other))
        return len(ours) == len(others) and all(map(np.array_equal, ours.ids, others.ids))

    def parameters(self) -> int:
        """Return the number of the encoder's parameters."""
        return sum(p.numel() for p in self.body.parameters())
