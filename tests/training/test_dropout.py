"""Dropout from bytes: rate, expectation, gradient, repeatability."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from headstart.training.dropout import ByteDropout, use_byte_dropout


def layer(p: float, seed: int = 0) -> ByteDropout:
    return ByteDropout(p, np.random.SFC64(seed)).train()


@pytest.mark.parametrize("p", [0.05, 0.1, 0.3, 0.5, 0.9])
def test_rate_and_expectation(p: float) -> None:
    """Bounds are five standard errors of a binomial share over 400,000 elements."""
    n = 400_000
    x = torch.full((n,), 3.0)
    y = layer(p)(x)
    rate = round(256 * p) / 256
    error = 5 * np.sqrt(rate * (1 - rate) / n)
    assert float((y == 0).float().mean()) == pytest.approx(rate, abs=error)
    assert float(y.double().mean()) == pytest.approx(3.0, abs=3 * error / (1 - rate))
    kept = y[y != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 3.0 / (1 - rate)))


def test_gradient_is_the_mask_times_the_scale() -> None:
    x = torch.randn(7, 11, generator=torch.Generator().manual_seed(0), requires_grad=True)
    y = layer(0.3)(x)
    upstream = torch.randn(7, 11, generator=torch.Generator().manual_seed(1))
    y.backward(upstream)
    scale = 256 / (256 - round(256 * 0.3))
    assert x.grad is not None
    torch.testing.assert_close(x.grad, upstream * (y != 0) * scale)
    assert 0 < int((y == 0).sum()) < y.numel()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=0, max_size=4),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.float64]),
)
def test_any_shape_and_type(shape: list[int], p: float, kind: torch.dtype) -> None:
    x = torch.ones(shape, dtype=kind)
    y = layer(p)(x)
    assert y.shape == x.shape
    assert y.dtype == kind
    scale = 256 / (256 - min(round(256 * p), 255))
    assert all(value == 0 or value == pytest.approx(scale, rel=1e-2) for value in y.flatten().tolist())


def test_what_is_dropped_is_zero_whatever_it_was() -> None:
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), -1.0]).repeat(200)
    y = layer(0.5)(x)
    dropped = layer(0.5)(torch.ones(800)) == 0
    assert torch.equal(y[dropped], torch.zeros(int(dropped.sum())))
    torch.testing.assert_close(y[~dropped], 2 * x[~dropped], equal_nan=True)


def test_evaluation_mode_and_zero_rate_change_nothing() -> None:
    x = torch.randn(5, 5)
    assert layer(0.5).eval()(x) is x
    assert layer(0.0)(x) is x


def test_successive_masks_differ_and_seeds_repeat() -> None:
    x = torch.ones(1000)
    drop = layer(0.5)
    first, second = drop(x), drop(x)
    assert not torch.equal(first, second)
    assert torch.equal(layer(0.5)(x), first)
    assert not torch.equal(layer(0.5, seed=1)(x), first)


def test_masks_of_neighbors_are_independent() -> None:
    """One random word gives eight bytes: they may not go together."""
    kept = (layer(0.5)(torch.ones(8 * 40_000)) != 0).float().view(-1, 8)
    correlations = np.corrcoef(kept.T.numpy()) - np.eye(8)
    assert np.abs(correlations).max() < 5 / np.sqrt(40_000)


def test_every_dropout_of_a_network_is_replaced_once() -> None:
    inner = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.2))
    model = nn.Sequential(inner, nn.Dropout(0.1), nn.ReLU())
    use_byte_dropout(model, 0)
    assert [m.p for m in model.modules() if isinstance(m, ByteDropout)] == [0.2, 0.1]
    assert not any(type(m) is nn.Dropout for m in model.modules())
    model.train()
    first = model(torch.ones(64, 2))
    use_byte_dropout(model, 0)
    assert len([m for m in model.modules() if isinstance(m, ByteDropout)]) == 2
    assert torch.equal(model(torch.ones(64, 2)), first), "training again with the same seed drops the same"


def test_rates_close_to_one_leave_something() -> None:
    y = layer(0.999)(torch.ones(100_000))
    assert torch.isfinite(y).all()
    assert set(y.unique().tolist()) == {0.0, 256.0}
