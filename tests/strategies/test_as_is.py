"""The order of a source's classes against the target's: `as-is` and `source+full`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import ARCHITECTURES, fit_strategy, tiny_task
from headstart.data.labels import Labels
from headstart.errors import StrategyError
from headstart.models import folder as model_folder
from headstart.models.encoders import Encoder
from headstart.models.loading import load_classifier, load_tokenizer
from headstart.models.network import NetworkClassifier
from headstart.models.runtime import Runtime
from headstart.strategies.fine_tuning import order_head
from headstart.strategies.task import SourceModel


def task_with(source: SourceModel, order: tuple[int, ...] | None, **changes: Any) -> Any:
    """Return a task whose class c is the source's class order[c]."""
    names = ("a", "b", "c")[: len(source.labels)]
    mapped = dataclasses.replace(source, order=order, mismatch="" if order else "the labels do not match")
    return tiny_task(
        values=names, data_seed=7, encoder=source.encoder.folder, source=mapped, keep_head=order is not None, **changes
    )


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
def test_as_is_permutes_columns(order: tuple[int, ...], sources: Callable[[int], Any]) -> None:
    source = sources(len(order))
    plain = task_with(source, tuple(range(len(order))))
    ordered = task_with(source, order)
    first = fit_strategy("as-is", plain)
    second = fit_strategy("as-is", ordered)
    np.testing.assert_allclose(second.validation, first.validation[:, list(order)], atol=1e-7)
    assert second.parameters_trained == 0
    assert second.classifier.labels == ordered.labels


@pytest.mark.parametrize("strategy", ["full", "partial", "lora"])
def test_source_stage_starts_from_the_permuted_head(strategy: str, sources: Callable[[int], Any]) -> None:
    task = task_with(sources(3), (2, 0, 1))
    barely = fit_strategy(f"source+{strategy}", task, epochs=1, learning_rate=1e-12)
    np.testing.assert_allclose(barely.validation, fit_strategy("as-is", task).validation, atol=1e-5)


def test_permuted_head_is_saved_in_target_order(sources: Callable[[int], Any], tmp_path: Path) -> None:
    task = task_with(sources(3), (1, 2, 0))
    fitted = fit_strategy("as-is", task)
    model_folder.save(fitted.classifier, tmp_path / "m", text=task.text, check=task.train, card={"strategy": "as-is"})
    again = model_folder.load(tmp_path / "m", runtime=Runtime())
    np.testing.assert_array_equal(again.predict_proba(list(task.validation.texts)), fitted.validation)


def test_labels_that_do_not_match_mean_a_new_head(sources: Callable[[int], Any]) -> None:
    task = task_with(sources(2), None)
    with pytest.raises(StrategyError, match="do not match"):
        fit_strategy("as-is", task)
    source_head = load_classifier(task.start.folder, task.labels, seed=0, keep_head=True)[0].classifier.weight
    fitted = fit_strategy("source+full", task, epochs=1, learning_rate=1e-12)
    assert not np.allclose(fitted.classifier.model.classifier.weight.detach(), source_head.detach(), atol=1e-3)


def test_another_number_of_classes_means_a_new_head(sources: Callable[[int], Any]) -> None:
    source = dataclasses.replace(sources(2), order=None, mismatch="two is not three")
    task = tiny_task(values=("a", "b", "c"), encoder=source.encoder.folder, source=source)
    assert fit_strategy("source+full", task, epochs=1).validation.shape == (24, 3)


def test_without_a_source() -> None:
    with pytest.raises(StrategyError, match="needs a source classifier"):
        fit_strategy("as-is", tiny_task())


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_the_output_layer_is_found_in_every_architecture(architecture: str, checkpoint: Callable[[str], Path]) -> None:
    """Three classes, and a head as wide as the encoder (32): only the output layer's rows may be exchanged."""
    task = tiny_task(encoder=checkpoint(architecture))
    for classes in (3, 32):
        labels = Labels.of([f"{c:02d}" for c in range(classes)])
        model, _fresh = load_classifier(task.start.folder, labels, seed=0)
        tokenizer = load_tokenizer(task.start.folder)
        classifier = NetworkClassifier(model.eval(), tokenizer, labels, task.text, Runtime())
        tokens = classifier.tokenize(task.validation)
        before = classifier.logits(tokens)
        order = tuple(np.random.default_rng(0).permutation(classes).tolist())
        order_head(model, order)
        np.testing.assert_allclose(classifier.logits(tokens), before[:, list(order)], atol=1e-6)


def test_gru_as_a_source(tmp_path: Path) -> None:
    first = tiny_task(data_seed=5)
    fitted = fit_strategy("scratch-gru", first)
    folder = tmp_path / "gru"
    model_folder.save(fitted.classifier, folder, text=first.text, check=first.train, card={"strategy": "scratch-gru"})
    source = SourceModel(Encoder(str(folder), folder), first.labels, (1, 0))
    task = tiny_task(values=("bad", "good"), encoder=folder, source=source, keep_head=True)
    as_is = fit_strategy("as-is", task)
    np.testing.assert_allclose(as_is.validation[:, ::-1], fitted.classifier.predict_proba(task.validation), atol=1e-6)
    assert fit_strategy("source+linear-probe", task).validation.shape == (24, 2)
    barely = fit_strategy("source+full", task, epochs=1, learning_rate=1e-12)
    assert barely.validation.shape == (24, 2)
