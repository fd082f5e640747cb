"""Temperature scaling: one number that makes probabilities as sure as they are right."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from headstart.evaluation.metrics import Floats, checked

_LOWEST, _HIGHEST = 1 / 20, 20.0
_HALVINGS = 60


def temperature(y: npt.ArrayLike, proba: npt.ArrayLike) -> float:
    """Return the temperature whose scaled probabilities have the least log loss (Guo et al. 2017, section 4.2).

    ``softmax(log p / T)`` is as sure as p at T = 1, less above, more below. The classes are counted as Platt (1999,
    section 2.2) does, the true one as (N + 1) / (N + 2) and not as 1: else N texts that happen to be all right would
    ask for a temperature of zero.

    Args:
        y: class indices, shape (N,).
        proba: probabilities, shape (N, C), by a model that has not seen these texts.

    Returns:
        T between 1/20 and 20.

    Raises:
        DataError: shapes do not fit, or a value is out of range.
    """
    classes, values = checked(y, proba)
    N, C = values.shape
    logs = _logs(values)  # (N, C)
    target = np.full((N, C), 1 / (N + 2) / max(1, C - 1))
    target[np.arange(N), classes] = (N + 1) / (N + 2)

    def slope(inverse: float) -> float:
        """Derivative of the log loss by 1 / T, in which it is convex."""
        return float(((_softmax(logs * inverse) - target) * logs).sum(axis=1).mean())

    low, high = 1 / _HIGHEST, 1 / _LOWEST
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / high


def scaled(proba: npt.ArrayLike, temperature: float) -> Floats:
    """Return probabilities (N, C) at a temperature."""
    return _softmax(_logs(np.asarray(proba, dtype=np.float64)) / temperature)


def _logs(proba: Floats) -> Floats:
    return np.asarray(np.log(np.clip(proba, 1e-12, None)))


def _softmax(logits: Floats) -> Floats:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))
