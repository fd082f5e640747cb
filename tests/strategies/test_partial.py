"""`partial`: what is frozen stays bit-identical, what is named moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import fit_strategy, tiny_task
from headstart.errors import ConfigError, ModelError
from headstart.models.loading import head_parameters, load_classifier
from headstart.strategies.partial import PartialConfig, train_only


def moved(fitted: Any, task: Any) -> set[str]:
    """Return names of parameters that differ from the checkpoint's (fresh ones: from their initial values)."""
    before, _fresh = load_classifier(task.start.folder, task.labels, seed=task.seed)
    start = dict(before.named_parameters())
    after = dict(fitted.classifier.model.named_parameters())
    assert set(start) == set(after)
    return {name for name, tensor in after.items() if not torch.equal(tensor, start[name])}


FRESH = {"bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias"}


@pytest.mark.parametrize("refit", [False, True])
def test_top_layers(tiny_encoder: Path, refit: bool) -> None:
    task = tiny_task(encoder=tiny_encoder)
    changed = moved(fit_strategy("partial", task, top_layers=1, epochs=2, refit=refit), task)
    assert changed >= FRESH
    assert all(name in FRESH or name.startswith("bert.encoder.layer.1.") for name in changed)
    assert any(name.startswith("bert.encoder.layer.1.") for name in changed)


def test_no_layers_is_the_head_alone(tiny_encoder: Path) -> None:
    task = tiny_task(encoder=tiny_encoder)
    assert moved(fit_strategy("partial", task, top_layers=0, epochs=2), task) == FRESH


def test_pattern(tiny_encoder: Path) -> None:
    task = tiny_task(encoder=tiny_encoder)
    changed = moved(fit_strategy("partial", task, pattern=r"layer\.0\..*LayerNorm", epochs=2), task)
    assert {n for n in changed if n not in FRESH} == {
        f"bert.encoder.layer.0.{part}.LayerNorm.{kind}"
        for part in ("attention.output", "output")
        for kind in ("weight", "bias")
    }


@pytest.mark.parametrize(
    "settings, words",
    [({"pattern": "transformer.h"}, "names no parameter"), ({"top_layers": 3}, "top_layers is 3.*has 2")],
)
def test_what_is_not_there_is_said(tiny_encoder: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        fit_strategy("partial", tiny_task(encoder=tiny_encoder), **settings)


def test_a_bad_pattern_is_a_fault_of_the_settings() -> None:
    with pytest.raises(ValueError, match="not a regular expression"):
        PartialConfig(pattern="layer(")


@pytest.mark.parametrize(
    "architecture",
    ["bert", "distilbert", "roberta", "electra", "deberta-v2", "mpnet", "xlm-roberta", "xlnet", "modernbert"],
)
def test_top_layer_is_found_in_every_architecture(architecture: str, checkpoint: Callable[[str], Path]) -> None:
    task = tiny_task(encoder=checkpoint(architecture))
    model, fresh = load_classifier(task.start.folder, task.labels, seed=0)
    train_only(model, set(), PartialConfig(top_layers=1))  # a source classifier brings all of its head: none is fresh
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert fresh < trained
    assert set(head_parameters(model)) < trained  # XLM-R registers its head before its layers
    assert not any(".0." in name for name in trained)
    assert not any("embedding" in name.lower() for name in trained)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) < sum(p.numel() for p in model.parameters())


def test_shared_layers_cannot_be_told_apart(checkpoint: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match="cannot tell the layers of a 'albert' apart"):
        fit_strategy("partial", tiny_task(encoder=checkpoint("albert")))


def test_gru_from_a_source_keeps_its_embedding(tmp_path: Path) -> None:
    from headstart.models import folder as model_folder
    from headstart.models.encoders import Encoder

    task = tiny_task()
    first = fit_strategy("scratch-gru", task, epochs=1)
    model_folder.save(first.classifier, tmp_path / "gru", text=task.text, check=task.train, card={"strategy": "x"})
    again = tiny_task(data_seed=3, encoder=tmp_path / "gru", keep_head=True)
    assert isinstance(again.encoder, Encoder)
    fitted = fit_strategy("partial", again, epochs=1)
    before = dict(first.classifier.model.named_parameters())
    changed = {n for n, p in fitted.classifier.model.named_parameters() if not torch.equal(p, before[n])}
    assert "body.embedding.weight" not in changed
    assert "body.gru.weight_ih_l0" in changed
