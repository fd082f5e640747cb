"""Layers from the head down: every parameter in one group, rates per group, what is frozen stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conftest import ARCHITECTURES, fit_strategy, tiny_task
from headstart.models.layers import LayerGroup, layer_groups, merged
from headstart.models.loading import load_classifier
from headstart.strategies.full import FullConfig
from headstart.strategies.gradual import GradualConfig
from headstart.training.data import Data
from headstart.training.layered import Layered
from headstart.training.loop import TrainingConfig, _Step, set_modes, train
from headstart.training.rates import slanted_triangle

NETWORKS = [*ARCHITECTURES, "gru"]


def model_of(kind: str, checkpoint: Callable[[str], Path]) -> Any:
    task = tiny_task(encoder=checkpoint("bert"))
    if kind == "gru":
        return fit_strategy("scratch-gru", task, epochs=1).classifier.model
    return load_classifier(checkpoint(kind), task.labels, seed=0)[0]


@pytest.mark.parametrize("kind", NETWORKS)
def test_groups_partition_the_parameters(kind: str, checkpoint: Callable[[str], Path]) -> None:
    model = model_of(kind, checkpoint)
    groups = layer_groups(model)
    names = [name for group in groups for name in group.parameters]
    assert len(names) == len(set(names))
    assert set(names) == {name for name, _ in model.named_parameters()}
    stacked = ["layers"] if kind in ("albert", "gru") else ["layer 1", "layer 0"]
    assert [group.name for group in groups] == ["head", *stacked, "embeddings"]
    head, bottom = groups[0].parameters, groups[-1].parameters
    outside = {name for name in names if not name.startswith(model.base_model_prefix + ".")}
    assert outside <= set(head)
    assert all("pooler" in n or "norm" in n or n in outside for n in head)
    assert any("embedding" in name for name in bottom)
    words = ("embedding", "embd", "mask_emb", "relative_attention_bias", "encoder.LayerNorm")
    assert all(any(word in name for word in words) for name in bottom)


def test_layers_stand_in_their_own_group(checkpoint: Callable[[str], Path]) -> None:
    groups = {group.name: group.parameters for group in layer_groups(model_of("bert", checkpoint))}
    assert all(name.startswith("bert.encoder.layer.1.") for name in groups["layer 1"])
    assert all(name.startswith("bert.encoder.layer.0.") for name in groups["layer 0"])
    assert set(groups["head"]) == {
        f"{part}.{kind}" for part in ("bert.pooler.dense", "classifier") for kind in ("weight", "bias")
    }


@pytest.mark.parametrize(
    "layers, parts, expected",
    [
        (6, 2, ["layers 3-5", "layers 0-2"]),
        (5, 3, ["layers 3-4", "layers 1-2", "layer 0"]),
        (2, 2, ["layer 1", "layer 0"]),
        (2, 9, ["layer 1", "layer 0"]),
        (3, 1, ["layers 0-2"]),
    ],
)
def test_neighbors_are_put_together(layers: int, parts: int, expected: list[str]) -> None:
    names = ["head", *(f"layer {at}" for at in reversed(range(layers))), "embeddings"]
    groups = tuple(LayerGroup(name, (f"{name}.weight", f"{name}.bias")) for name in names)
    found = merged(groups, parts)
    assert [group.name for group in found] == ["head", *expected, "embeddings"]
    assert [name for group in found for name in group.parameters] == [n for g in groups for n in g.parameters]


def test_shared_layers_stay_as_they_are(checkpoint: Callable[[str], Path]) -> None:
    groups = layer_groups(model_of("albert", checkpoint))
    assert merged(groups, 2) == groups


def test_rates_fall_by_the_factor_from_layer_to_layer(tiny_encoder: Path) -> None:
    task = tiny_task(n=8, encoder=tiny_encoder)
    classifier = fit_strategy("full", task, epochs=1).classifier
    config = GradualConfig(learning_rate=1e-3, epochs=1, warmup=0)
    layered = Layered.of(classifier.model, factor=config.factor)
    data = Data(classifier.tokenize(task.train), task.train.y)
    step = _Step(classifier, data, config, None, layered)
    step.plan(1)
    step(np.arange(8), data)
    by_tensor = {id(p): group["lr"] for group in step.optimizer.groups for p in group["params"]}
    found = {name: by_tensor[id(p)] for name, p in classifier.model.named_parameters()}
    assert len(found) == len(by_tensor)
    for name, rate in found.items():
        # Howard & Ruder 2018, section 3.2: eta of layer l-1 is eta of layer l divided by 2.6.
        depth = 0 if "layer." not in name else 2 - int(name.split("layer.")[1][0])
        depth = 3 if ".embeddings." in name else depth
        assert rate == pytest.approx(1e-3 / 2.6**depth), name
        decayed = next(g["weight_decay"] for g in step.optimizer.groups if g["lr"] == rate and g["weight_decay"])
        assert decayed == config.weight_decay


@pytest.mark.parametrize(
    "done, expected", [(0, 0.03125), (5, 0.515625), (10, 1.0), (55, 0.515625), (99, 0.04201389), (100, 0.03125)]
)
def test_slanted_triangle_is_the_papers(done: int, expected: float) -> None:
    """Equation 3 by hand for T = 100, cut_frac = 0.1, ratio = 32: cut = 10, p(5) = 1/2, p(55) = 1 - 45/90, ..."""
    assert slanted_triangle(done, 100, 0.1, 32) == pytest.approx(expected, abs=1e-8)
    config = GradualConfig()
    assert config.slope(done, 100) == slanted_triangle(done, 100, config.warmup, config.ratio)


@given(st.integers(1, 500), st.floats(0, 0.9), st.floats(1, 100))
def test_slanted_triangle_stays_within_its_bounds(planned: int, cut: float, ratio: float) -> None:
    rates = [slanted_triangle(done, planned, cut, ratio) for done in range(planned)]
    top = int(planned * cut)
    assert max(rates) == pytest.approx(1.0)
    assert min(rates) >= 1 / ratio - 1e-9
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


@pytest.mark.parametrize("every, thawed", [(0, [4, 4, 4]), (1, [1, 2, 3, 4, 4]), (2, [1, 1, 2, 2, 3, 3, 4, 4])])
def test_groups_are_thawed_one_by_one(every: int, thawed: list[int], tiny_encoder: Path) -> None:
    model, _ = load_classifier(tiny_encoder, tiny_task().labels, seed=0)
    layered = Layered.of(model, factor=2.6, thaw_every=every)
    assert [layered.thawed(epoch) for epoch in range(1, len(thawed) + 1)] == thawed
    assert layered.thawed(layered.complete) == 4
    assert layered.complete == 1 or layered.thawed(layered.complete - 1) == 3


def test_what_is_frozen_is_bit_identical_has_no_gradient_and_drops_nothing(tiny_encoder: Path) -> None:
    task = tiny_task(n=16, encoder=tiny_encoder)
    start = dict(load_classifier(tiny_encoder, task.labels, seed=0)[0].named_parameters())
    groups = layer_groups(load_classifier(tiny_encoder, task.labels, seed=0)[0])
    for epochs in range(1, len(groups) + 1):
        fitted = fit_strategy("gradual", task, epochs=epochs, refit=True)
        at = fitted.notes["best_epoch"]
        assert fitted.notes["layers_trained"] == [group.name for group in groups[:at]]
        after = dict(fitted.classifier.model.named_parameters())
        for depth, group in enumerate(groups):
            moved = [name for name in group.parameters if not torch.equal(after[name], start[name])]
            assert bool(moved) == (depth < at), group.name
        assert fitted.trained is None or set(fitted.trained) == {n for g in groups[:at] for n in g.parameters}
    model = fitted.classifier.model
    Layered(groups, 2.6, 1).thaw(model, 2)
    set_modes(model)
    assert [model.classifier.training, model.bert.encoder.layer[1].training] == [True, True]
    below = [model.bert.embeddings, *model.bert.encoder.layer[0].modules()]
    assert not any(module.training for module in below)
    assert not model.bert.embeddings(torch.ones(1, 3, dtype=torch.long)).requires_grad


def test_patience_counts_from_the_epoch_in_which_all_is_trained(tiny_encoder: Path) -> None:
    """At a rate that moves nothing the first epoch is the best; training goes on until all four groups had a turn."""
    task = tiny_task(n=16, encoder=tiny_encoder)
    slow = {"learning_rate": 1e-30, "epochs": 20, "patience": 2}
    assert len(fit_strategy("gradual", task, **slow).epochs) == 3 + 2
    assert len(fit_strategy("gradual", task, thaw_every=0, **slow).epochs) == 1 + 2


def test_layer_decay_of_full(tiny_encoder: Path) -> None:
    task = tiny_task(n=16, encoder=tiny_encoder)
    plain, decayed = (fit_strategy("full", task, layer_decay=d, epochs=1) for d in (1.0, 0.01))
    assert "layers_trained" not in plain.notes
    assert decayed.notes["layers_trained"] == ["head", "layer 1", "layer 0", "embeddings"]
    start = dict(load_classifier(tiny_encoder, task.labels, seed=0)[0].named_parameters())

    def moved(fitted: Any, part: str) -> float:
        weights = {n: p for n, p in fitted.classifier.model.named_parameters() if part in n and n.endswith("weight")}
        return max(float((p - start[n]).detach().abs().max()) for n, p in weights.items())

    assert moved(decayed, "classifier") == pytest.approx(moved(plain, "classifier"), rel=0.5)
    assert moved(decayed, "layer.0.") < 0.01 * moved(plain, "layer.0.")
    with pytest.raises(ValueError, match="less than or equal to 1"):
        FullConfig(layer_decay=1.5)


def test_equal_rates_are_the_plain_loop(tiny_encoder: Path) -> None:
    task = tiny_task(n=16, encoder=tiny_encoder)
    config = TrainingConfig(epochs=2, learning_rate=1e-3)
    weights = []
    for layered in (False, True):
        classifier = fit_strategy("full", task, epochs=1).classifier
        data = Data(classifier.tokenize(task.train), task.train.y)
        layers = Layered.of(classifier.model, factor=1.0) if layered else None
        train(classifier, data, None, config, seed=0, layered=layers)
        weights.append(dict(classifier.model.named_parameters()))
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
