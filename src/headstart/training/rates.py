"""Rates of training: how they rise and fall over the steps."""

from __future__ import annotations


def linear(done: int, planned: int, warmup: float) -> float:
    """Return the share of the peak rate at step ``done``: linear up over the warm-up, then linear down to zero."""
    rising = max(1, round(planned * warmup))
    if done < rising:
        return (done + 1) / rising
    return max(0.0, (planned - done) / max(1, planned - rising))


def slanted_triangle(done: int, planned: int, cut: float, ratio: float) -> float:
    """Return the share of the peak rate at step ``done`` of ``planned`` (Howard & Ruder 2018, equation 3).

    Linear up over the first ``cut`` (0-1) of the steps, then linear down, both between 1 / ``ratio`` and 1. The paper
    writes the falling part as ``1 - (t - cut) / (cut * (1 / cut_frac - 1))``, whose divisor is the number of falling
    steps where ``cut_frac * T`` is whole; here it is that number always, so that no rounding makes a rate negative.
    """
    rising = int(planned * cut)
    p = done / rising if done < rising else 1 - (done - rising) / max(1, planned - rising)
    return (1 + max(0.0, p) * (ratio - 1)) / ratio
