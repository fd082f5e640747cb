"""Logistic regression whose strength is chosen on validation: shared by ``tfidf`` and ``linear-probe``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.models.classifier import softmax

Weights = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]  # (C, D), (C,)


def logistic(
    X: Any, y: npt.NDArray[np.int64], classes: int, strength: float, class_weights: npt.NDArray[np.float64] | None
) -> Weights:
    """Fit softmax regression on X (N, D); return weights (C, D) and bias (C,).

    Args:
        X: features, dense or sparse.
        y: class indices (N,), at least two different.
        classes: C; a class absent from ``y`` gets a bias that makes it all but impossible.
        strength: inverse of the L2 penalty (scikit-learn's ``C``).
        class_weights: weight per class, or None.
    """
    from sklearn.linear_model import LogisticRegression

    weights = None if class_weights is None else dict(enumerate(class_weights))
    present = np.unique(y)
    weights = None if weights is None else {int(c): weights[int(c)] for c in present}
    model = LogisticRegression(C=strength, max_iter=2000, class_weight=weights).fit(X, y)
    coefficients, intercept = np.asarray(model.coef_), np.asarray(model.intercept_)
    if len(present) == 2:
        # scikit-learn keeps one row for two classes: the log odds of the second against the first.
        coefficients = np.concatenate([-coefficients / 2, coefficients / 2])
        intercept = np.concatenate([-intercept / 2, intercept / 2])
    W = np.zeros((classes, coefficients.shape[1]))
    b = np.full(classes, intercept.min() - 20.0)
    W[present], b[present] = coefficients, intercept
    return W, b


def choose_strength(
    X: Any,
    y: npt.NDArray[np.int64],
    X_validation: Any,
    y_validation: npt.NDArray[np.int64],
    classes: int,
    strengths: Sequence[float],
    class_weights: npt.NDArray[np.float64] | None,
) -> tuple[float, npt.NDArray[np.float64]]:
    """Return the strength with the least validation log loss, and its validation probabilities (N, C)."""
    best: tuple[float, float, npt.NDArray[np.float64]] | None = None
    for strength in strengths:
        W, b = logistic(X, y, classes, strength, class_weights)
        probabilities = softmax(np.asarray(X_validation @ W.T + b))
        loss = float(-np.log(np.clip(probabilities[np.arange(len(y_validation)), y_validation], 1e-12, None)).mean())
        if best is None or loss < best[0]:
            best = (loss, strength, probabilities)
    assert best is not None
    return best[1], best[2]
