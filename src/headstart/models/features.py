"""Features of a frozen encoder: the mean of its states over real tokens, kept on disk and never computed twice."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from headstart.data.examples import Examples
from headstart.errors import ConfigError, StorageError
from headstart.models import batching
from headstart.models.batching import TextSettings
from headstart.models.classifier import Advance
from headstart.models.runtime import Runtime
from headstart.records import fingerprint, whole_file

Features = npt.NDArray[np.float32]


def cache_folder() -> Path:
    """Return where computed features and source classifiers lie: ``$HEADSTART_CACHE``, or the user's cache folder."""
    if chosen := os.environ.get("HEADSTART_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "headstart"


class FeatureExtractor:
    """A frozen encoder body that turns N texts into features (N, D).

    Args:
        body: transformers encoder without a head.
        tokenizer: its fast tokenizer.
        text: maximum length and which part of a longer text is kept.
        runtime: device and precision.
        layer: which hidden states are averaged: -1 the last layer, 0 the embeddings, 1 the first layer, ...
        key: fingerprint of the encoder's weights; with it and ``cache``, features are kept on disk.
        cache: folder for them, or None.
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

    @property
    def width(self) -> int:
        """Number of features D."""
        return int(self.body.config.hidden_size)

    def __call__(self, examples: Examples, advance: Advance | None = None) -> Features:
        """Return features (N, D), float32.

        A cold call computes, writes and reads back, so that it equals a warm one bit for bit.
        """
        file = self._file(examples)
        if file is not None and (stored := _read(file, (len(examples), self.width))) is not None:
            if advance is not None:
                advance(len(examples))
            return stored
        features = self._compute(examples, advance)
        if file is not None:
            # The cache only saves time: a disk that is full there is no reason to stop.
            with contextlib.suppress(StorageError), whole_file(file) as temporary, temporary.open("wb") as handle:
                np.save(handle, features, allow_pickle=False)
        return features

    def _file(self, examples: Examples) -> Path | None:
        if self.cache is None or self.key is None or not len(examples):
            return None
        texts = [*examples.texts, "|", *(examples.pairs or ())]
        arithmetic = f"{self.runtime.device} {self.runtime.precision} {torch.get_num_threads()}"
        settings = f"{self.text.max_length} {self.text.truncate} {self.layer} {arithmetic}"
        return self.cache / "features" / f"{fingerprint([self.key, settings, *texts])}.npy"

    def _compute(self, examples: Examples, advance: Advance | None) -> Features:
        tokens = batching.tokenize(self.tokenizer, examples, self.text)
        out = np.zeros((len(tokens), self.width), dtype=np.float32)
        self.body.eval().to(self.runtime.device)
        with torch.inference_mode(), self.runtime.autocast():
            for rows in batching.scoring_batches(tokens.lengths):
                batch = batching.collate(tokens, rows, self.tokenizer, self.runtime.device)
                out[rows] = self._pooled(batch).float().cpu().numpy()
                if advance is not None:
                    advance(len(rows))
        return out

    def _pooled(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        if self.layer == -1:
            states: torch.Tensor = self.body(**batch).last_hidden_state
        else:
            every = self.body(**batch, output_hidden_states=True).hidden_states
            if every is None or not -len(every) <= self.layer < len(every):
                known = 0 if every is None else len(every)
                raise ConfigError(f"layer {self.layer} is not there: this encoder has states 0 to {known - 1}")
            states = every[self.layer]
        mask = batch["attention_mask"].unsqueeze(-1)  # (B, T, 1)
        total: torch.Tensor = (states.float() * mask).sum(dim=1)  # (B, T, D) -> (B, D)
        return total / mask.sum(dim=1).clamp(min=1)

    def parameters(self) -> int:
        """Return the number of the encoder's parameters."""
        return sum(p.numel() for p in self.body.parameters())


def _read(file: Path, shape: tuple[int, int]) -> Features | None:
    """Return stored features, or None where there are none or the file is damaged.

    Head and size are compared with what `numpy.save` writes, for `numpy.load` takes a damaged file for whatever it
    looks like: an archive, say, or an array that no memory holds.
    """
    head = io.BytesIO()
    about = {"descr": np.dtype(np.float32).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(head, about)
    expected = head.getvalue()
    try:
        with file.open("rb") as handle:
            if handle.read(len(expected)) != expected:
                return None
        stored = np.fromfile(file, dtype=np.float32, offset=len(expected))
        size = file.stat().st_size
    except OSError:
        return None
    whole = stored.size == shape[0] * shape[1] and size == len(expected) + stored.nbytes
    return stored.reshape(shape) if whole else None
