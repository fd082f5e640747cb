"""Drawing pairs of texts, as many of one class as of two, without ever listing all pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headstart.models.batching import Rows


@dataclass(frozen=True)
class Pairs:
    """P pairs among B texts.

    Attributes:
        rows: the texts, no two the same, shape (B,).
        first: place in ``rows`` of each pair's one text, shape (P,).
        second: place of the other, always the larger, shape (P,).
        same: whether both are of one class, shape (P,).
    """

    rows: Rows
    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    same: npt.NDArray[np.bool_]


class PairSampler:
    """Draws texts, classes in equal shares, and pairs among them; memory grows with the texts, not their pairs.

    A class's texts come in shuffled order, each once before any comes again. With more classes than half the texts
    of a step, some classes are drawn, two texts of each.

    Args:
        y: class of each text, shape (N,); at least two classes.
        texts: texts per step, at least 4.
        pairs: most pairs per step, half of them of one class, where there are as many.
        generator: the only source of chance.
    """

    def __init__(self, y: npt.NDArray[np.int64], *, texts: int, pairs: int, generator: np.random.Generator) -> None:
        self.y, self.texts, self.pairs, self.generator = y, texts, pairs, generator
        self.queues = [_Queue(np.flatnonzero(y == c), generator) for c in np.unique(y)]

    def __call__(self) -> Pairs:
        """Draw the pairs of one step."""
        rows = np.concatenate([self.queues[c].take(n) for c, n in self._shares()])
        first, second = np.triu_indices(len(rows), k=1)  # (B * (B - 1) / 2,)
        same = self.y[rows[first]] == self.y[rows[second]]
        kept = self._balanced(same)
        return Pairs(rows, first[kept], second[kept], same[kept])

    def _shares(self) -> list[tuple[int, int]]:
        """Return which classes give how many texts."""
        count = min(len(self.queues), self.texts // 2)
        chosen = self.generator.permutation(len(self.queues))[:count]
        return [(int(c), self.texts // count + (at < self.texts % count)) for at, c in enumerate(chosen)]

    def _balanced(self, same: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        kinds = [np.flatnonzero(same), np.flatnonzero(~same)]
        there = [len(kind) for kind in kinds if len(kind)]
        most = min([*there, self.pairs // 2])
        return np.sort(np.concatenate([self.generator.permutation(kind)[:most] for kind in kinds]))


class _Queue:
    """The rows of one class in shuffled order, again and again."""

    def __init__(self, rows: Rows, generator: np.random.Generator) -> None:
        self.rows, self.generator = rows, generator
        self.waiting = generator.permutation(rows)

    def take(self, count: int) -> Rows:
        """Return the next rows, no two the same; all there are where fewer than ``count`` are there."""
        count = min(count, len(self.rows))
        while len(self.waiting) < count:  # what is left comes first; the rest of the next round after it
            again = self.generator.permutation(self.rows)
            left = np.isin(again, self.waiting)
            self.waiting = np.concatenate([self.waiting, again[~left], again[left]])
        taken, self.waiting = self.waiting[:count], self.waiting[count:]
        return taken
