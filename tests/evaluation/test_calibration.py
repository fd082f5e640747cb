"""Temperature scaling against SciPy's minimizer, and where there is little to go by."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.evaluation.calibration import scaled, temperature


def drawn(n: int, classes: int, sharpness: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from probabilities p, and p made ``sharpness`` times as sure: the right temperature is that."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.normal(size=(n, classes))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = np.array([rng.choice(classes, p=p) for p in true])
    sharp = np.exp(sharpness * logits)
    return y, sharp / sharp.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_finds_how_much_too_sure_probabilities_are(classes: int, sharpness: float) -> None:
    y, proba = drawn(20_000, classes, sharpness, seed=classes)
    assert temperature(y, proba) == pytest.approx(sharpness, rel=0.05)


@given(st.integers(5, 200), st.integers(2, 5), st.floats(0.2, 5), st.integers(0, 99))
def test_equals_scipys_minimum(n: int, classes: int, sharpness: float, seed: int) -> None:
    """The loss is written anew here: cross entropy against Platt's targets."""
    from scipy.optimize import minimize_scalar

    y, proba = drawn(n, classes, sharpness, seed)
    target = np.full((n, classes), 1 / (n + 2) / (classes - 1))
    target[np.arange(n), y] = (n + 1) / (n + 2)

    def loss(log_temperature: float) -> float:
        z = np.log(np.clip(proba, 1e-12, None)) / np.exp(log_temperature)
        z -= z.max(axis=1, keepdims=True)
        return float(-(target * (z - np.log(np.exp(z).sum(axis=1, keepdims=True)))).sum(axis=1).mean())

    ends = (np.log(1 / 20), np.log(20))
    best = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-9})
    assert loss(np.log(temperature(y, proba))) <= best.fun + 1e-9


def test_texts_that_are_all_right_do_not_make_certain() -> None:
    y = np.arange(20) % 2
    proba = np.where(np.eye(2)[y] == 1, 0.8, 0.2)
    found = scaled(proba, temperature(y, proba))
    # Platt's target for 20 texts, all right: 21/22.
    assert found.max() == pytest.approx(21 / 22, abs=1e-6)


def test_scaled_keeps_order_and_sums() -> None:
    _, proba = drawn(50, 3, 1.0, 0)
    for heat in (0.3, 1.0, 5.0):
        found = scaled(proba, heat)
        np.testing.assert_allclose(found.sum(axis=1), 1)
        np.testing.assert_array_equal(found.argmax(axis=1), proba.argmax(axis=1))
    np.testing.assert_allclose(scaled(proba, 1.0), proba, atol=1e-9)
    assert scaled(proba, 5.0).max(axis=1).mean() < proba.max(axis=1).mean() < scaled(proba, 0.3).max(axis=1).mean()
