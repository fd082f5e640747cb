"""Texts with their labels: what every layer above hands around."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from headstart.data.labels import Labels
from headstart.records import fingerprint


@dataclass(frozen=True)
class Examples:
    """N texts of one split.

    Attributes:
        texts: N first texts.
        y: class indices, shape (N,), int64; -1 means "no label".
        ids: stable identifier per row, shape (N,), int64: the row number in the file it came from, from 0.
        pairs: N second texts, where the task is on pairs.
        columns: extra features, N rows, index 0..N-1.
        derived: what was computed from exactly these texts and will be asked for again (token ids, say), by key; it
            lives as long as they do. What has ``take`` and ``concat`` of its own follows the rows.
    """

    texts: tuple[str, ...]
    y: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64]
    pairs: tuple[str, ...] | None = None
    columns: pd.DataFrame | None = None
    derived: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        texts: Sequence[str],
        y: Sequence[int] | npt.NDArray[np.int64] | None = None,
        pairs: Sequence[str] | None = None,
        columns: pd.DataFrame | None = None,
    ) -> Examples:
        """Make examples numbered from 0; without ``y`` every label is -1."""
        n = len(texts)
        return cls(
            texts=tuple(texts),
            y=np.full(n, -1, dtype=np.int64) if y is None else np.asarray(y, dtype=np.int64),
            ids=np.arange(n, dtype=np.int64),
            pairs=None if pairs is None else tuple(pairs),
            columns=None if columns is None else columns.reset_index(drop=True),
        )

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> Examples:
        """Return the given rows, in the given order."""
        rows = np.asarray(rows, dtype=np.int64)
        taken = replace(
            self,
            texts=tuple(self.texts[i] for i in rows),
            y=self.y[rows],
            ids=self.ids[rows],
            pairs=None if self.pairs is None else tuple(self.pairs[i] for i in rows),
            columns=None if self.columns is None else self.columns.iloc[rows].reset_index(drop=True),
        )
        taken.derived.update({key: found.take(rows) for key, found in self.derived.items() if hasattr(found, "take")})
        return taken

    def concat(self, other: Examples) -> Examples:
        """Return these rows followed by ``other``'s."""
        both = Examples(
            texts=self.texts + other.texts,
            y=np.concatenate([self.y, other.y]),
            ids=np.concatenate([self.ids, other.ids]),
            pairs=None if self.pairs is None else self.pairs + (other.pairs or ()),
            columns=None
            if self.columns is None or other.columns is None
            else pd.concat([self.columns, other.columns], ignore_index=True),
        )
        for key, found in self.derived.items():
            if key in other.derived and hasattr(found, "concat"):
                both.derived[key] = found.concat(other.derived[key])
        return both

    def joined(self) -> list[str]:
        """Return one text per row; the two texts of a pair are joined by a line break."""
        if self.pairs is None:
            return list(self.texts)
        return [f"{a}\n{b}" for a, b in zip(self.texts, self.pairs, strict=True)]

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits over texts, pairs, labels and columns, in order (ids do not count)."""
        parts: list[str | bytes] = [*self.texts, "|", *(self.pairs or ()), "|", self.y.tobytes()]
        if self.columns is not None:
            parts.append(self.columns.to_json(orient="split"))
        return fingerprint(parts)


@dataclass(frozen=True)
class Splits:
    """One task: what is fitted on, chosen with, and what only qualifies the claim at the end.

    Attributes:
        labels: the label order of all three splits.
        train: fitted on; every label known.
        validation: early stopping and every choice see this and nothing else.
        holdout: opened once, at the end.
        unlabeled: rows with a blank label, and those of the file of unlabeled texts (``y`` = -1), or None.
    """

    labels: Labels
    train: Examples
    validation: Examples
    holdout: Examples
    unlabeled: Examples | None = None

    def fingerprints(self) -> dict[str, str]:
        """Return one fingerprint per split that is there."""
        named = {
            "train": self.train,
            "validation": self.validation,
            "holdout": self.holdout,
            "unlabeled": self.unlabeled,
        }
        return {name: split.fingerprint() for name, split in named.items() if split is not None}
