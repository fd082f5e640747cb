"""Holm's adjustment by hand, p-values against SciPy's paired test, and intervals that agree with both."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.errors import ConfigError
from headstart.evaluation import paired_difference
from headstart.evaluation.holm import holm, holm_differences


def test_adjusted_by_hand() -> None:
    """0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04 x 1 raised to what came before it."""
    found = holm([0.01, 0.04, 0.03, 0.005])
    assert [p for p, _ in found] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert [factor for _, factor in found] == [3, 2, 2, 4]  # 0.03 fails with factor 2, so 0.04 is not tested any more


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_rejects_what_holm_rejects(p_values: list[float]) -> None:
    """Holm (1979), section 3: go up the sorted p-values while the k-th is below alpha / (m - k + 1)."""
    m, rejected = len(p_values), set()
    for k, at in enumerate(sorted(range(m), key=lambda i: p_values[i]), start=1):
        if p_values[at] >= 0.05 / (m - k + 1):
            break
        rejected.add(at)
    found = holm(p_values)
    edge = any(abs(p * f - 0.05) < 1e-9 for p in p_values for f in range(1, m + 1))
    assert edge or {at for at, (p, _) in enumerate(found) if p < 0.05} == rejected
    assert edge or {at for at, (_, factor) in enumerate(found) if p_values[at] < 0.05 / factor} == rejected
    assert all(p_values[at] <= p <= 1 for at, (p, _) in enumerate(found))


def fits(skills: list[float], n: int = 400, seed: int = 0) -> tuple[np.ndarray, list[np.ndarray]]:
    """Labels (N,) and, per skill, probabilities (1, N, 2)."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    out = []
    for skill in skills:
        right = 1 / (1 + np.exp(-(skill + rng.normal(size=n))))
        proba = np.where(np.eye(2)[y] == 1, right[:, None], 1 - right[:, None])
        out.append(proba[None])
    return y, out


def test_p_values_are_near_those_of_scipys_paired_test() -> None:
    from scipy.stats import ttest_rel

    y, (base, *others) = fits([1.0, 1.05, 1.1, 0.8])
    found = holm_differences("log_loss", y, {str(i): o for i, o in enumerate(others)}, base)
    for i, other in enumerate(others):
        rows = np.arange(len(y))
        expected = ttest_rel(-np.log(other[0, rows, y]), -np.log(base[0, rows, y]))
        assert found[str(i)]["p"] == pytest.approx(float(expected.pvalue), abs=0.03)
        assert found[str(i)]["value"] == pytest.approx(float(np.mean(np.log(base[0, rows, y] / other[0, rows, y]))))


def test_intervals_are_wider_and_agree_with_the_adjusted_p_values() -> None:
    for seed in range(8):
        y, (base, *others) = fits([1.0, 1.4, 1.2, 1.1, 1.0], seed=seed)
        named = {f"s{i}": o for i, o in enumerate(others)}
        found = holm_differences("accuracy", y, named, base, resamples=2000)
        for name, one in found.items():
            excludes = one["low"] > 0 or one["high"] < 0
            if abs(one["p_holm"] - 0.05) > 0.01:
                assert excludes == (one["p_holm"] < 0.05)
            plain = paired_difference("accuracy", y, named[name], base, resamples=2000)
            assert one["value"] == plain["value"]
            assert one["low"] <= plain["low"] + 1e-12
            assert one["high"] >= plain["high"] - 1e-12
    alone = holm_differences("accuracy", y, {"a": others[0]}, base, resamples=1000)["a"]
    plain = paired_difference("accuracy", y, others[0], base)
    assert (alone["low"], alone["high"]) == (plain["low"], plain["high"])


def test_what_has_no_value_counts_for_nothing() -> None:
    y, (base, other) = fits([1.0, 2.0])
    found = holm_differences("roc_auc", np.zeros_like(y), {"a": other}, base, resamples=100)
    assert found["a"] == {"metric": "roc_auc", "value": None, "low": None, "high": None, "p": None, "p_holm": None}
    with pytest.raises(ConfigError, match="acuracy"):
        holm_differences("acuracy", y, {"a": other}, base)
