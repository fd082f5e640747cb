"""Several strategies against one, with intervals that allow for how many were compared (Holm 1979)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.evaluation.intervals import LEVEL, Interval, percentile_interval, replicated_difference
from headstart.evaluation.metrics import Floats

_ALPHA = 1 - LEVEL


def holm_differences(
    metric: str,
    y: npt.ArrayLike,
    proba_a: Mapping[str, npt.ArrayLike],
    proba_b: npt.ArrayLike,
    *,
    seed: int = 0,
    resamples: int = 10_000,
) -> dict[str, dict[str, Any]]:
    """Return how much better or worse each of m is than b; all m are tested at once at 5%.

    The bootstrap is that of `paired_difference`, with seeds as pairs where both sides have the same. A p-value is
    twice the smaller share of replicates on one side of 0, one more counted there so that none is 0 (Davison & Hinkley
    1997, equation 4.11). Holm tests the k-th smallest at
    0.05 / (m - k + 1), and its interval is that wide; once one fails, the others are as wide as it. So an interval
    excludes 0 where the adjusted p-value is below 0.05.

    Args:
        metric: a key of `METRICS`.
        y: class indices, shape (N,).
        proba_a: by name, shape (S, N, C).
        proba_b: what all are compared with, shape (T, N, C).
        seed: of the bootstrap.
        resamples: replicates; wide intervals need more of them.

    Returns:
        By name ``{"metric", "value": a - b, "low", "high", "p", "p_holm"}``; None where the metric is not defined.

    Raises:
        ConfigError: no metric has that name.
        DataError: shapes do not fit, or a value is out of range.
    """
    sides = {name: replicated_difference(metric, y, proba, proba_b, seed, resamples) for name, proba in proba_a.items()}
    p_values = {name: _p_value(replicates) for name, (value, replicates) in sides.items() if not np.isnan(value)}
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    found: dict[str, dict[str, Any]] = {}
    for name, (value, replicates) in sides.items():
        p_holm, factor = adjusted.get(name, (None, 1))
        interval = Interval(None, None, None)
        if p_holm is not None:
            interval = percentile_interval(value, replicates, 1 - _ALPHA / factor)
        found[name] = {"metric": metric, **interval.to_json(), "p": p_values.get(name), "p_holm": p_holm}
    return found


def holm(p_values: Sequence[float]) -> list[tuple[float, int]]:
    """Return each of m p-values adjusted by Holm's step-down method, and the factor that it was tested with.

    The k-th smallest is tested with the factor m - k + 1; after the first that fails, with the factor of that one.
    """
    m = len(p_values)
    found = [(1.0, 1)] * m
    highest, failed = 0.0, 0
    for step, at in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, p_values[at] * (m - step)))
        found[at] = (highest, failed or m - step)
        if not failed and highest >= _ALPHA:
            failed = m - step
    return found


def _p_value(replicates: Floats) -> float:
    known = replicates[~np.isnan(replicates)]
    fewer = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, 2 * (fewer + 1) / (len(known) + 1))
