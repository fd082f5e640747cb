"""`lora`: merged equals unmerged, on every architecture; what is saved gives the same logits again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from conftest import ARCHITECTURES, fit_strategy, tiny_task
from headstart.errors import ConfigError
from headstart.models import folder as model_folder
from headstart.models.loading import load_classifier
from headstart.models.network import NetworkClassifier
from headstart.models.runtime import Runtime
from headstart.strategies.lora import LoraConfig, target_modules

SHORT = {"epochs": 1, "learning_rate": 1e-2, "batch_size": 8}
# What each architecture calls its query, key and value projections, per layer.
PROJECTIONS = {
    "bert": ("query", "key", "value"),
    "distilbert": ("q_lin", "k_lin", "v_lin"),
    "roberta": ("query", "key", "value"),
    "xlm-roberta": ("query", "key", "value"),
    "mpnet": ("q", "k", "v"),
    "albert": ("query", "key", "value"),
    "electra": ("query", "key", "value"),
    "deberta-v2": ("query_proj", "key_proj", "value_proj"),
    "modernbert": ("Wqkv",),
    "xlnet": ("layer_1", "layer_2"),  # projections are bare tensors: the feed-forward layers are adapted
}
every_architecture = pytest.mark.parametrize("architecture", list(ARCHITECTURES))


@every_architecture
def test_targets_are_found_by_architecture(architecture: str, checkpoint: Callable[[str], Path]) -> None:
    task = tiny_task(encoder=checkpoint(architecture))
    model, _fresh = load_classifier(task.start.folder, task.labels, seed=0)
    names = target_modules(model, None)
    assert {name.rpartition(".")[2] for name in names} == set(PROJECTIONS[architecture])
    layers = 1 if architecture == "albert" else 2  # ALBERT's layers are one
    assert len(names) == layers * len(PROJECTIONS[architecture])


@every_architecture
def test_fitted_saved_and_read_back_gives_the_same_logits(
    architecture: str, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """The trap: a pooler that the checkpoint lacks must be trained and saved, or a reloaded model differs."""
    task = tiny_task(n=16, n_validation=8, encoder=checkpoint(architecture))
    fitted = fit_strategy("lora", task, **SHORT)
    start, fresh = load_classifier(task.start.folder, task.labels, seed=task.seed)
    before = dict(start.named_parameters())
    after = dict(fitted.classifier.model.named_parameters())
    assert set(after) == set(before), "no adapter is left"
    unmoved = [n for n in fresh if torch.equal(after[n], before[n])]
    assert unmoved == []

    model_folder.save(fitted.classifier, tmp_path / "m", text=task.text, check=task.train, card={"strategy": "lora"})
    again = model_folder.load(tmp_path / "m", runtime=Runtime()).classifier
    assert isinstance(again, NetworkClassifier)
    tokens = fitted.classifier.tokenize(task.validation)
    np.testing.assert_allclose(again.logits(tokens), fitted.classifier.logits(tokens), atol=1e-6)

    plain = AutoModelForSequenceClassification.from_pretrained(str(tmp_path / "m")).eval()
    theirs = NetworkClassifier(plain, again.tokenizer, task.labels, task.text, Runtime())
    np.testing.assert_allclose(theirs.logits(tokens), fitted.classifier.logits(tokens), atol=1e-5)


MERGED = [(architecture, {}) for architecture in ARCHITECTURES]
MERGED += [(a, s) for a in ("bert", "deberta-v2", "modernbert", "xlnet") for s in ({"dora": True}, {"rslora": True})]


@pytest.mark.parametrize("architecture, switches", MERGED)
def test_merged_equals_unmerged(
    architecture: str, switches: dict[str, bool], checkpoint: Callable[[str], Path]
) -> None:
    """`Fitted.validation` was scored before the merge, the classifier scores after it."""
    task = tiny_task(n=16, n_validation=16, encoder=checkpoint(architecture))
    fitted = fit_strategy("lora", task, **SHORT, **switches)
    np.testing.assert_allclose(fitted.classifier.predict_proba(task.validation), fitted.validation, atol=1e-5)
    assert np.ptp(fitted.validation[:, 0]) > 1e-4


def test_switches_and_sizes_change_what_is_trained(tiny_encoder: Path) -> None:
    task = tiny_task(n=16, n_validation=8, encoder=tiny_encoder)
    counts = {
        name: fit_strategy("lora", task, **SHORT, **settings).parameters_trained
        for name, settings in {
            "plain": {},
            "rank 2": {"rank": 2},
            "dora": {"dora": True},
            "rslora": {"rslora": True},
            "query": {"targets": "query$"},
        }.items()
    }
    per_rank = 2 * 3 * (32 + 32)  # layers x projections x (in + out)
    assert counts["plain"] - counts["rank 2"] == 6 * per_rank
    assert counts["dora"] - counts["plain"] == 2 * 3 * 32  # a length per output
    assert counts["rslora"] == counts["plain"]
    assert counts["plain"] - counts["query"] == 8 * per_rank * 2 // 3


def test_rslora_scales_by_the_root_of_the_rank(tiny_encoder: Path) -> None:
    """Alpha / sqrt(rank) is alpha / rank with alpha sqrt(rank) times as large."""
    task = tiny_task(n=16, n_validation=8, encoder=tiny_encoder)
    by_root = fit_strategy("lora", task, **SHORT, rank=4, alpha=8.0, rslora=True)
    by_rank = fit_strategy("lora", task, **SHORT, rank=4, alpha=16.0)
    np.testing.assert_allclose(by_root.validation, by_rank.validation, atol=1e-6)


def test_base_weights_outside_the_targets_stay(tiny_encoder: Path) -> None:
    task = tiny_task(n=16, n_validation=8, encoder=tiny_encoder)
    before, fresh = load_classifier(task.start.folder, task.labels, seed=task.seed)
    start = dict(before.named_parameters())
    fitted = fit_strategy("lora", task, **SHORT)
    targets = {f"{name}.weight" for name in target_modules(before, None)}
    moved = {n for n, p in fitted.classifier.model.named_parameters() if not torch.equal(p, start[n])}
    assert moved == targets | fresh


def test_an_unknown_target_is_said(tiny_encoder: Path) -> None:
    with pytest.raises(ConfigError, match=r"names no linear layer.*bert\.encoder\.layer\.0"):
        fit_strategy("lora", tiny_task(encoder=tiny_encoder), targets="c_attn")


def test_an_encoder_that_knows_its_head_keeps_it(sources: Callable[[int], Any]) -> None:
    """`source+lora` starts from the source's probabilities: before the first step nothing has changed."""
    source = sources(2)
    task = tiny_task(encoder=source.encoder.folder, keep_head=True, source=source)
    as_is = fit_strategy("as-is", dataclasses.replace(task, keep_head=False)).validation
    barely = fit_strategy("lora", task, epochs=1, learning_rate=1e-12)
    np.testing.assert_allclose(barely.validation, as_is, atol=1e-5)
    assert LoraConfig().rank == 8
