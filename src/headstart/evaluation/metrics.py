"""The metrics of a classifier, each computed under many row weights at once.

Everything works on weights ``W`` of shape (N, R): column r says how often each row counts in replicate r. A
column of ones is the plain metric; multinomial counts are a bootstrap replicate. Rows come first so that sorting
and adding up rows moves whole stretches of memory. Without weights the values are scikit-learn's (tests compare).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from headstart.errors import ConfigError, DataError, unknown_name

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Probabilities are kept this far from 0 and 1, so that one confident mistake costs 36 nats and not infinity
# (scikit-learn clips at the same value for float64).
LOG_LOSS_CLIP = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Metric:
    """One way of judging a classifier.

    Attributes:
        name: key in records and in ``--metric``.
        title: heading in tables.
        higher_is_better: False for a loss.
        description: one sentence for ``--help`` and docs.
    """

    name: str
    title: str
    higher_is_better: bool
    description: str


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        m.name: m
        for m in (
            Metric("accuracy", "Accuracy", True, "share of texts given their own label"),
            Metric("macro_f1", "Macro-F1", True, "F1 per class, averaged with every class counting the same"),
            Metric(
                "roc_auc",
                "ROC AUC",
                True,
                "chance that a text of a class is ranked above one that is not (several classes: each against the "
                "rest, averaged)",
            ),
            Metric("log_loss", "Log loss", False, "mean of -log(probability of the true label), in nats"),
            Metric("matthews", "Matthews", True, "correlation of given and true labels, from -1 to 1; 0 is guessing"),
        )
    }
)


def metric_named(name: str, where: str = "") -> Metric:
    """Return the metric of that name.

    Raises:
        ConfigError: no metric has that name.
    """
    if name not in METRICS:
        raise ConfigError(unknown_name("metric", name, METRICS, where))
    return METRICS[name]


def score(metric: str, y: npt.ArrayLike, proba: npt.ArrayLike) -> float | None:
    """Return one metric.

    Args:
        metric: a key of `METRICS`.
        y: class indices, shape (N,).
        proba: probability per class, shape (N, C).

    Returns:
        The value, or None where it is not defined: ROC AUC when a class has no row, or when every row has it.

    Raises:
        ConfigError: no metric has that name.
        DataError: shapes do not fit, or a value is out of range.
    """
    metric_named(metric)
    y, proba = checked(y, proba)
    value = Scorer(y, proba).scores(np.ones((len(y), 1)), (metric,))[metric][0]
    return None if np.isnan(value) else float(value)


def checked(y: npt.ArrayLike, proba: npt.ArrayLike) -> tuple[Ints, Floats]:
    """Return ``y`` (N,) and ``proba`` (..., N, C) as int64 and float64.

    Raises:
        DataError: no rows, shapes that do not fit, a label outside 0..C-1, or a probability that is not finite.
    """
    labels = np.asarray(y)
    values = np.asarray(proba, dtype=np.float64)
    if labels.ndim != 1 or values.ndim < 2 or values.shape[-2] != len(labels):
        raise DataError(f"labels of shape {labels.shape} do not fit probabilities of shape {values.shape}")
    if len(labels) == 0 or values.size == 0:
        raise DataError("there are no rows to score: at least one labelled text is needed")
    if labels.min() < 0 or labels.max() >= values.shape[-1]:
        raise DataError(
            f"labels to score must be class indices from 0 to {values.shape[-1] - 1}; "
            f"got {labels.min()} to {labels.max()} (-1 is 'no label': leave such rows out)"
        )
    if not np.isfinite(values).all():
        raise DataError("some probabilities are not finite numbers: the model has diverged; lower the learning rate")
    return labels.astype(np.int64), values


def accuracy(confusion: Floats) -> Floats:
    """Return the share on the diagonal, shape (R,); ``confusion`` is (R, C, C), true class first."""
    return np.asarray(np.einsum("rcc->r", confusion) / confusion.sum(axis=(1, 2)))


def precision_recall_f1(confusion: Floats) -> tuple[Floats, Floats, Floats]:
    """Return precision, recall and F1 per class, each (R, C); NaN where nothing was predicted or nothing is there."""
    hit = np.einsum("rcc->rc", confusion)  # (R, C)
    there, given = confusion.sum(axis=2), confusion.sum(axis=1)  # (R, C) each
    return _ratio(hit, given), _ratio(hit, there), _ratio(2 * hit, there + given)


def macro_f1(confusion: Floats) -> Floats:
    """Return mean F1, shape (R,), over the classes that are there or were predicted (scikit-learn's default)."""
    f1 = precision_recall_f1(confusion)[2]
    return np.asarray(np.nanmean(f1, axis=1))  # no row is all NaN: every replicate has rows


def matthews(confusion: Floats) -> Floats:
    """Return Matthews' correlation for C classes (Gorodkin 2004), shape (R,); 0 where one side is constant."""
    there, given = confusion.sum(axis=2), confusion.sum(axis=1)  # (R, C)
    n = there.sum(axis=1)
    together = np.einsum("rcc->r", confusion) * n - (there * given).sum(axis=1)
    spread = (n**2 - (there**2).sum(axis=1)) * (n**2 - (given**2).sum(axis=1))
    return np.asarray(np.where(spread > 0, together / np.sqrt(np.where(spread > 0, spread, 1.0)), 0.0))


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.asarray(np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0))


@dataclass(frozen=True)
class _Ranking:
    """One class against the rest: for each row of the class, how many sorted other rows lie below and up to it."""

    inside: Ints  # (P,) rows of the class
    outside: Ints  # (Q,) other rows, by score ascending
    below: Ints  # (P,) how many of `outside` score less
    up_to: Ints  # (P,) how many of `outside` score less or the same

    @classmethod
    def of(cls, member: npt.NDArray[np.bool_], scores: Floats) -> _Ranking:
        inside, outside = np.flatnonzero(member), np.flatnonzero(~member)
        outside = outside[np.argsort(scores[outside], kind="stable")]
        ladder = scores[outside]
        return cls(
            inside,
            outside,
            np.searchsorted(ladder, scores[inside], side="left"),
            np.searchsorted(ladder, scores[inside], side="right"),
        )

    def auc(self, W: Floats) -> Floats:
        """Return the area under the curve per replicate, shape (R,); a tie counts half."""
        weight = W[self.inside]  # (P, R)
        ladder = np.zeros((len(self.outside) + 1, W.shape[1]))
        np.cumsum(W[self.outside], axis=0, out=ladder[1:])
        won = np.einsum("pr,pr->r", weight, ladder[self.below]) + np.einsum("pr,pr->r", weight, ladder[self.up_to])
        return _ratio(won / 2, weight.sum(axis=0) * ladder[-1])


class Scorer:
    """The predictions of one fit, sorted once, scored under any number of row weights.

    Args:
        y: class indices, shape (N,).
        proba: probability per class, shape (N, C).
    """

    def __init__(self, y: Ints, proba: Floats) -> None:
        self.classes = proba.shape[1]
        cell = y * self.classes + proba.argmax(axis=1)  # (N,) true class, then predicted
        self._by_cell = np.argsort(cell, kind="stable")
        self._cells, self._starts = np.unique(cell[self._by_cell], return_index=True)
        truth = np.clip(proba[np.arange(len(y)), y], LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP)
        self._loss = -np.log(truth)  # (N,)
        # With two classes the second against the first says it all; its mirror image has the same area.
        ranked = (1,) if self.classes == 2 else range(self.classes) if self.classes > 2 else ()
        self._rankings = [_Ranking.of(y == c, proba[:, c]) for c in ranked]

    def confusion(self, W: Floats) -> Floats:
        """Return weighted counts, shape (R, C, C), true class first, for weights (N, R)."""
        counts = np.zeros((self.classes**2, W.shape[1]))
        counts[self._cells] = np.add.reduceat(W[self._by_cell], self._starts, axis=0)
        return counts.T.reshape(-1, self.classes, self.classes)

    def log_loss(self, W: Floats) -> Floats:
        """Return the mean loss in nats, shape (R,), for weights (N, R)."""
        # Not `self._loss @ W`: BLAS may add in another order on another machine or thread count.
        return np.asarray(np.einsum("n,nr->r", self._loss, W) / W.sum(axis=0))

    def roc_auc(self, W: Floats) -> Floats:
        """Return the area under the curve, one against the rest averaged, shape (R,); NaN where not defined."""
        if not self._rankings:
            return np.full(W.shape[1], np.nan)
        return np.asarray(np.mean([ranking.auc(W) for ranking in self._rankings], axis=0))

    def scores(
        self, W: Floats, names: tuple[str, ...] = tuple(METRICS), confusion: Floats | None = None
    ) -> dict[str, Floats]:
        """Return the named metrics, each of shape (R,), for weights (N, R); NaN where not defined.

        Args:
            W: how often each row counts in each replicate, shape (N, R).
            names: keys of `METRICS`.
            confusion: what `confusion` gave for the same weights, to save counting twice.
        """
        counts = self.confusion(W) if confusion is None else confusion
        compute = {
            "accuracy": lambda: accuracy(counts),
            "macro_f1": lambda: macro_f1(counts),
            "roc_auc": lambda: self.roc_auc(W),
            "log_loss": lambda: self.log_loss(W),
            "matthews": lambda: matthews(counts),
        }
        return {name: compute[name]() for name in names}
