"""Dropout from bytes: the same law as torch's, deterministic by seed, nothing in evaluation mode."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from headstart.training.dropout import ByteDropout, use_byte_dropout


def layer(p: float, seed: int = 0) -> ByteDropout:
    return ByteDropout(p, np.random.SFC64(seed)).train()


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
def test_drop_rate_and_expectation(p: float) -> None:
    n = 200_003  # not a multiple of 8: the last random word is used in part
    rate = round(256 * p) / 256
    out = layer(p)(torch.ones(n))
    five_sigma = 5 * math.sqrt(rate * (1 - rate) / n)
    assert float((out == 0).float().mean()) == pytest.approx(rate, abs=five_sigma)
    assert float(out.double().mean()) == pytest.approx(1, abs=five_sigma / (1 - rate))
    np.testing.assert_allclose(out[out != 0].numpy(), 1 / (1 - rate), rtol=1e-6)


def test_neighbors_are_dropped_independently() -> None:
    kept = (layer(0.5)(torch.ones(200_000)) != 0).double()
    for lag in (1, 2, 7, 8):
        together = float((kept[lag:] * kept[:-lag]).mean())
        assert together == pytest.approx(0.25, abs=0.006)


@pytest.mark.parametrize(("p", "dropped_of_256"), [(0.0, 0), (0.001, 0), (0.1, 26), (0.5, 128), (0.999, 255)])
def test_rate_is_rounded_to_one_in_256(p: float, dropped_of_256: int) -> None:
    assert layer(p).threshold == dropped_of_256


@pytest.mark.parametrize("p", [0.0, 0.001])
def test_a_rate_that_rounds_to_zero_changes_nothing(p: float) -> None:
    x = torch.randn(5, 7)
    assert torch.equal(layer(p)(x), x)


@pytest.mark.parametrize("p", [0.998, 0.999, 0.9999])
def test_rates_close_to_one_stay_finite(p: float) -> None:
    x = torch.ones(50_000, requires_grad=True)
    out = layer(p)(x)
    out.sum().backward()
    assert x.grad is not None
    assert torch.isfinite(out).all()
    assert torch.isfinite(x.grad).all()


def test_gradient_is_mask_times_scale() -> None:
    x = torch.randn(6, 11, 3, requires_grad=True)
    upstream = torch.randn(6, 11, 3)
    out = layer(0.25)(x)
    out.backward(upstream)
    mask_times_scale = (out != 0) * (256 / 192)
    torch.testing.assert_close(x.grad, upstream * mask_times_scale)
    torch.testing.assert_close(out, x * mask_times_scale)


def test_numerical_gradient_agrees() -> None:
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: layer(0.5, seed=3)(t), (x,))


def test_input_is_not_changed_in_place() -> None:
    x = torch.ones(64)
    layer(0.5)(x)
    assert torch.equal(x, torch.ones(64))


def test_evaluation_mode_is_the_identity_and_draws_nothing() -> None:
    module, fresh = layer(0.5), layer(0.5)
    x = torch.randn(40)
    assert module.eval()(x) is x
    assert torch.equal(module.train()(x), fresh(x))


def test_deterministic_by_seed() -> None:
    x = torch.ones(1000)
    one, same, other = layer(0.5, 1), layer(0.5, 1), layer(0.5, 2)
    first = one(x)
    assert torch.equal(first, same(x))
    assert not torch.equal(first, other(x))
    assert not torch.equal(first, one(x))  # a second call draws anew


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (7, 9)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    assert layer(0.5)(torch.ones(shape)).shape == shape


def test_every_dropout_is_replaced_and_nothing_else() -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.3)
            self.list = nn.ModuleList([nn.Dropout(0.2), nn.Linear(3, 3)])
            self.certain = nn.Dropout(1.0)
            self.channels = nn.Dropout2d(0.5)

    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.1), Inner())
    weights = {name: p.clone() for name, p in model.named_parameters()}
    use_byte_dropout(model, seed=0)
    replaced = [m for m in model.modules() if isinstance(m, ByteDropout)]
    assert sorted(m.p for m in replaced) == [0.1, 0.2, 0.3]
    assert len({id(m.source) for m in replaced}) == 1  # one stream: no two layers drop alike
    left = [m for m in model.modules() if type(m) is nn.Dropout]
    assert [m.p for m in left] == [1.0]
    assert any(type(m) is nn.Dropout2d for m in model.modules())
    assert all(torch.equal(weights[name], p) for name, p in model.named_parameters())


def test_replaced_network_is_deterministic_and_reseeded() -> None:
    def outputs(seed: int) -> torch.Tensor:
        model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5))
        use_byte_dropout(model, seed)
        return model.train()(torch.ones(500))

    assert torch.equal(outputs(1), outputs(1))
    assert not torch.equal(outputs(1), outputs(2))


def test_replacing_again_starts_the_stream_again() -> None:
    """A network trained twice with one seed (a refit that keeps the object) must drop the same elements."""
    model = nn.Sequential(nn.Dropout(0.5))
    use_byte_dropout(model, 1)
    first = model.train()(torch.ones(500))
    use_byte_dropout(model, 1)
    assert torch.equal(first, model.train()(torch.ones(500)))
