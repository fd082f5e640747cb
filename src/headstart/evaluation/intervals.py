"""95% bootstrap intervals over rows and seeds, for one strategy and for the difference of two.

A replicate draws N rows with replacement, the same rows for every seed (all seeds were scored on one holdout, so
the luck of that holdout is shared), and draws S seeds with replacement. Its value is the mean over the drawn
seeds. The interval runs from the 2.5th to the 97.5th percentile of the replicates (Efron & Tibshirani 1993,
chapter 13). With one seed it covers the luck of the rows only; with two or three it still understates the luck
of the seeds. The rows drawn depend on ``seed`` and N alone, so two strategies are judged on the same draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.errors import DataError
from headstart.evaluation.metrics import METRICS, Floats, Ints, Scorer, checked, metric_named, precision_recall_f1

LEVEL = 0.95
_WEIGHTS_AT_ONCE = 2_000_000  # float64 each: 16 MB per array, whatever N is
_PER_CLASS = ("precision", "recall", "f1")


@dataclass(frozen=True)
class Interval:
    """A value with its 95% interval; all three are None where the metric is not defined."""

    value: float | None
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, float | None]:
        """Return ``{"value", "low", "high"}``."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Evaluation:
    """What a strategy scored, mean over seeds.

    Attributes:
        metrics: interval per key of `METRICS`.
        per_class: per label name, intervals of precision, recall and F1.
        support: rows of each label, in label order.
        confusion: counts as mean over seeds, with both ends of their intervals, each C rows (true) of C (predicted).
    """

    metrics: Mapping[str, Interval]
    per_class: Mapping[str, Mapping[str, Interval]]
    support: tuple[int, ...]
    confusion: Mapping[str, tuple[tuple[float, ...], ...]]

    def to_json(self) -> dict[str, Any]:
        """Return the form kept in records: ``metrics``, ``per_class`` and ``confusion``."""
        return {
            "metrics": {
                name: {**interval.to_json(), "higher_is_better": METRICS[name].higher_is_better}
                for name, interval in self.metrics.items()
            },
            "per_class": {
                label: {
                    **{name: {**i.to_json(), "higher_is_better": True} for name, i in intervals.items()},
                    "support": count,
                }
                for (label, intervals), count in zip(self.per_class.items(), self.support, strict=True)
            },
            "confusion": {
                "labels": list(self.per_class),
                **{name: [list(row) for row in rows] for name, rows in self.confusion.items()},
            },
        }


def evaluate(
    y: npt.ArrayLike, proba: npt.ArrayLike, label_names: Sequence[str], *, seed: int = 0, resamples: int = 1000
) -> Evaluation:
    """Score the fits of one strategy on the same rows.

    Args:
        y: class indices, shape (N,).
        proba: probability per class from each of S seeds, shape (S, N, C).
        label_names: C distinct names.
        seed: of the bootstrap; the same seed gives the same intervals.
        resamples: replicates; about ``16 MB * S`` are held at once, whatever N is.

    Raises:
        DataError: shapes do not fit, or a value is out of range.
    """
    labels, values = _checked_seeds(y, proba)
    if len(label_names) != values.shape[2] or len(set(label_names)) != len(label_names):
        raise DataError(f"{values.shape[2]} distinct label names are needed; got {list(label_names)}")
    scorers = [Scorer(labels, one) for one in values]
    point = _join([_tables(s, np.ones((len(labels), 1))) for s in scorers], np.ones((1, len(scorers))))
    parts = [
        _join([_tables(s, W) for s in scorers], V)
        for W, V in zip(
            _row_weights(len(labels), seed, resamples),
            _seed_weights(len(values), seed, resamples, len(labels)),
            strict=True,
        )
    ]
    return _evaluation(labels, label_names, point, {key: np.concatenate([p[key] for p in parts]) for key in point})


def paired_difference(
    metric: str,
    y: npt.ArrayLike,
    proba_a: npt.ArrayLike,
    proba_b: npt.ArrayLike,
    *,
    seed: int = 0,
    resamples: int = 1000,
) -> dict[str, Any]:
    """Return how much better or worse a is than b in one metric, with a 95% interval.

    Both sides are scored on the same drawn rows, which takes the luck of the holdout out of the difference. Sides with
    equally many seeds have the same ones, and these are drawn as pairs: seed 3 of ``X+self-train`` begins with the very
    model of seed 3 of ``X``, and strategies that share nothing lose nothing by it. Other numbers of seeds are drawn for
    each side by itself.

    Args:
        metric: a key of `METRICS`.
        y: class indices, shape (N,).
        proba_a: shape (S, N, C).
        proba_b: shape (T, N, C); where T = S, of the same seeds in the same order.
        seed: of the bootstrap.
        resamples: replicates.

    Returns:
        ``{"metric", "value": a - b, "low", "high"}``; the three are None where the metric is not defined.

    Raises:
        ConfigError: no metric has that name.
        DataError: shapes do not fit, or a value is out of range.
    """
    interval = percentile_interval(*replicated_difference(metric, y, proba_a, proba_b, seed, resamples))
    return {"metric": metric, **interval.to_json()}


def replicated_difference(
    metric: str, y: npt.ArrayLike, proba_a: npt.ArrayLike, proba_b: npt.ArrayLike, seed: int, resamples: int
) -> tuple[float, Floats]:
    """Return a - b and its bootstrap replicates, shape (R,); arguments and errors as in `paired_difference`."""
    metric_named(metric)
    labels, a = _checked_seeds(y, proba_a)
    _labels, b = _checked_seeds(y, proba_b)
    stream = 0 if len(a) == len(b) else 1  # the same seeds are drawn for both, or others
    point_a, replicates_a = _one_metric(metric, labels, a, seed, resamples, 0)
    point_b, replicates_b = _one_metric(metric, labels, b, seed, resamples, stream)
    return float(point_a[0] - point_b[0]), replicates_a - replicates_b


def is_tie(difference: Mapping[str, Any]) -> bool:
    """Tell whether the rows cannot tell the two apart: the interval holds 0, or is not defined."""
    low, high = difference["low"], difference["high"]
    return low is None or high is None or low <= 0 <= high


def _checked_seeds(y: npt.ArrayLike, proba: npt.ArrayLike) -> tuple[Ints, Floats]:
    labels, values = checked(y, proba)
    if values.ndim != 3:
        raise DataError(f"probabilities must have shape (seeds, rows, classes); got {values.shape}")
    return labels, values


def _one_metric(metric: str, y: Ints, proba: Floats, seed: int, resamples: int, stream: int) -> tuple[Floats, Floats]:
    """Return the point value, shape (1,), and the replicates, shape (R,), of one metric."""
    scorers = [Scorer(y, one) for one in proba]

    def scored(W: Floats, V: Floats) -> Floats:
        return _mean_over_seeds(np.stack([s.scores(W, (metric,))[metric] for s in scorers]), V)

    rows = _row_weights(len(y), seed, resamples)
    seeds = _seed_weights(len(proba), seed, resamples, len(y), stream)
    replicates = np.concatenate([scored(W, V) for W, V in zip(rows, seeds, strict=True)])
    return scored(np.ones((len(y), 1)), np.ones((1, len(proba)))), replicates


def _chunks(n: int, resamples: int) -> list[int]:
    size = max(1, min(resamples, _WEIGHTS_AT_ONCE // n))
    return [min(size, resamples - start) for start in range(0, resamples, size)]


def _row_weights(n: int, seed: int, resamples: int) -> Iterator[Floats]:
    """Yield how often each row was drawn, pieces of shape (N, r) whose r add up to ``resamples``."""
    rng = np.random.default_rng([seed, 0])
    for size in _chunks(n, resamples):
        drawn = rng.integers(0, n, size=(n, size))
        drawn *= size
        drawn += np.arange(size)
        yield np.bincount(drawn.ravel(), minlength=n * size).reshape(n, size).astype(np.float64)


def _seed_weights(seeds: int, seed: int, resamples: int, n: int, stream: int = 0) -> Iterator[Floats]:
    """Yield how often each fit was drawn, pieces of shape (r, S) that match `_row_weights`."""
    rng = np.random.default_rng([seed, 1, stream])
    for size in _chunks(n, resamples):
        yield rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=size).astype(np.float64)


def _tables(scorer: Scorer, W: Floats) -> dict[str, Floats]:
    """Return every number of one fit, first axis R: metrics (R,), per class (R, C), confusion (R, C, C)."""
    confusion = scorer.confusion(W)
    per_class = dict(zip(_PER_CLASS, precision_recall_f1(confusion), strict=True))
    return {**scorer.scores(W, confusion=confusion), **per_class, "confusion": confusion}


def _join(fits: Sequence[Mapping[str, Floats]], V: Floats) -> dict[str, Floats]:
    return {key: _mean_over_seeds(np.stack([fit[key] for fit in fits]), V) for key in fits[0]}


def _mean_over_seeds(values: Floats, V: Floats) -> Floats:
    """Return the mean of ``values`` (S, R, ...) with seed weights (R, S); fits where it is not defined are left out."""
    weight = V.T.reshape(*V.T.shape, *(1,) * (values.ndim - 2)) * ~np.isnan(values)  # (S, R, ...)
    total = weight.sum(axis=0)
    added = (weight * np.nan_to_num(values)).sum(axis=0)
    return np.asarray(np.divide(added, total, out=np.full_like(added, np.nan), where=total > 0))


def _percentiles(replicates: Floats, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Return both ends, shape (...), of ``replicates`` (R, ...); replicates without a value are left out."""
    tail = 50 * (1 - level)
    if np.isnan(replicates).any():
        none = np.isnan(replicates).all(axis=0)
        low, high = np.nanpercentile(np.where(none, 0.0, replicates), [tail, 100 - tail], axis=0)
        return np.where(none, np.nan, low), np.where(none, np.nan, high)
    low, high = np.percentile(replicates, [tail, 100 - tail], axis=0)
    return low, high


def percentile_interval(value: float, replicates: Floats, level: float = LEVEL) -> Interval:
    """Return a value with the interval that holds ``level`` (0-1) of its replicates, shape (R,)."""
    low, high = (float(end) for end in _percentiles(replicates, level))
    if np.isnan(value) or np.isnan(low):
        return Interval(None if np.isnan(value) else value, None, None)
    return Interval(value, low, high)


def _evaluation(
    y: Ints, label_names: Sequence[str], point: Mapping[str, Floats], replicates: Mapping[str, Floats]
) -> Evaluation:
    metrics = {name: percentile_interval(float(point[name][0]), replicates[name]) for name in METRICS}
    per_class = {
        label: {name: percentile_interval(float(point[name][0, c]), replicates[name][:, c]) for name in _PER_CLASS}
        for c, label in enumerate(label_names)
    }
    low, high = _percentiles(replicates["confusion"])
    confusion = {"counts": point["confusion"][0], "low": low, "high": high}
    return Evaluation(
        metrics=metrics,
        per_class=per_class,
        support=tuple(int(n) for n in np.bincount(y, minlength=len(label_names))),
        confusion={name: tuple(tuple(float(v) for v in row) for row in table) for name, table in confusion.items()},
    )
