"""The training loop: divided steps, early stopping, modes, schedule."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from conftest import fit_strategy, products, tiny_task
from headstart.errors import ConfigError
from headstart.models.batching import split_by_tokens, step_pieces, tokenize
from headstart.models.loading import load_classifier, load_tokenizer
from headstart.models.network import NetworkClassifier
from headstart.training.data import Data
from headstart.training.loop import History, TrainingConfig, set_modes, train


def network(task: Any, *, dropout: bool = False) -> NetworkClassifier:
    changes = {} if dropout else {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model, _fresh = load_classifier(task.start.folder, task.labels, seed=1, changes=changes)
    return NetworkClassifier(model, load_tokenizer(task.start.folder), task.labels, task.text, task.runtime)


def data_of(classifier: NetworkClassifier, examples: Any) -> Data:
    return Data(classifier.tokenize(examples), examples.y)


def fit(task: Any, config: TrainingConfig, *, held: bool = True, **options: Any) -> tuple[NetworkClassifier, History]:
    classifier = network(task, dropout=options.pop("dropout", False))
    validation = data_of(classifier, task.validation) if held else None
    return classifier, train(classifier, data_of(classifier, task.train), validation, config, seed=0, **options)


def weights_of(classifier: NetworkClassifier) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in classifier.model.named_parameters()}


@pytest.mark.parametrize("class_weights", [None, np.array([0.3, 2.0])], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("step_tokens", [1, 40, 97])
def test_a_divided_step_equals_the_undivided(
    class_weights: np.ndarray | None, step_tokens: int, tiny_encoder: Path
) -> None:
    task = tiny_task(n=12, encoder=tiny_encoder)
    whole = TrainingConfig(epochs=1, batch_size=12, step_tokens=1 << 20, learning_rate=1e-3)
    divided = whole.model_copy(update={"step_tokens": step_tokens})
    lengths = tokenize(load_tokenizer(tiny_encoder), task.train, task.text).lengths
    assert len(list(step_pieces(np.arange(12), lengths, step_tokens))) > 1
    first, history = fit(task, whole, held=False, class_weights=class_weights)
    second, divided_history = fit(task, divided, held=False, class_weights=class_weights)
    assert divided_history.epochs[0]["train_loss"] == pytest.approx(history.epochs[0]["train_loss"], abs=1e-5)
    start, divided_weights = weights_of(network(task)), weights_of(second)
    for name, tensor in weights_of(first).items():
        if name.endswith("key.bias"):
            continue  # its true gradient is zero (softmax ignores it), and AdamW's first step is the gradient's sign
        close = torch.isclose(tensor, divided_weights[name], atol=1e-5)
        assert close.float().mean() > 0.99, name
        assert not torch.equal(tensor, start[name]), name


@pytest.mark.parametrize("split", [split_by_tokens, step_pieces])
@pytest.mark.parametrize("class_weights", [None, np.array([0.3, 2.0])], ids=["unweighted", "weighted"])
def test_gradients_of_a_divided_step_are_those_of_the_mean_loss(
    class_weights: np.ndarray | None, split: Any, tiny_encoder: Path
) -> None:
    """Against torch's own mean (weighted) cross entropy over the whole batch."""
    from headstart.models.batching import collate
    from headstart.training.loop import _Step

    task = tiny_task(n=12, encoder=tiny_encoder)
    classifier = network(task)
    data = data_of(classifier, task.train)
    config = TrainingConfig(step_tokens=30)
    step = _Step(classifier, data, config, class_weights)
    rows = np.arange(12)
    for piece in split(rows, data.tokens.lengths, 30):
        step._piece(piece, data, step._weight(rows))
    divided = {n: p.grad.to_dense().clone() for n, p in classifier.model.named_parameters() if p.grad is not None}
    classifier.model.zero_grad()
    batch = collate(data.tokens, rows, classifier.tokenizer)
    weight = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
    logits = classifier.model(**batch).logits
    nn.functional.cross_entropy(logits, torch.from_numpy(data.y), weight=weight).backward()
    for name, parameter in classifier.model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(divided[name], parameter.grad.to_dense(), atol=1e-5, rtol=1e-4)


def test_the_best_epochs_weights_are_left(tiny_encoder: Path) -> None:
    """At a ruinous rate the first epochs are the best; the network is that of the best epoch and no other."""
    task = tiny_task(encoder=tiny_encoder)
    config = TrainingConfig(epochs=6, learning_rate=0.05, batch_size=8, patience=2)
    classifier, history = fit(task, config)
    losses = [e["validation_log_loss"] for e in history.epochs]
    assert history.best_epoch == int(np.argmin(losses)) + 1
    assert len(losses) == min(config.epochs, history.best_epoch + config.patience)
    assert history.best_epoch < len(losses), "the rate was not ruinous: nothing was restored"
    p = classifier.predict_proba(task.validation)[np.arange(len(task.validation)), task.validation.y]
    assert -np.log(np.clip(p, 1e-12, None)).mean() == pytest.approx(min(losses), abs=1e-6)
    assert history.texts == len(losses) * len(task.train)


def test_the_last_epochs_weights_are_left_where_that_is_asked_for(tiny_encoder: Path) -> None:
    """At the same ruinous rate every epoch is made, and the last one's validation loss is the network's."""
    task = tiny_task(encoder=tiny_encoder)
    config = TrainingConfig(epochs=6, learning_rate=0.05, batch_size=8, patience=2, keep="last")
    classifier, history = fit(task, config)
    losses = [e["validation_log_loss"] for e in history.epochs]
    assert history.best_epoch == len(losses) == 6
    assert min(losses) < losses[-1], "the rate was not ruinous: best and last are the same"
    p = classifier.predict_proba(task.validation)[np.arange(len(task.validation)), task.validation.y]
    assert -np.log(np.clip(p, 1e-12, None)).mean() == pytest.approx(losses[-1], abs=1e-6)


def test_batch_norm_statistics_are_restored_too() -> None:
    task = tiny_task()
    flipped = dataclasses.replace(task.validation, y=1 - task.validation.y)  # so that learning makes it worse
    task = dataclasses.replace(task, validation=flipped)
    fitted = fit_strategy("scratch-gru", task, epochs=8, patience=3)
    best = min(e["validation_log_loss"] for e in fitted.epochs)
    assert fitted.notes["best_epoch"] < len(fitted.epochs)
    p = fitted.validation[np.arange(len(task.validation)), task.validation.y]
    assert -np.log(np.clip(p, 1e-12, None)).mean() == pytest.approx(best, abs=1e-6)


def test_without_validation_the_last_epoch_is_kept(tiny_encoder: Path) -> None:
    _, history = fit(tiny_task(n=16, encoder=tiny_encoder), TrainingConfig(epochs=3, patience=1), held=False)
    assert history.best_epoch == 3
    assert set(history.epochs[0]) == {"epoch", "train_loss"}


def test_an_early_stop_leaves_the_rates_as_they_were_planned(tiny_encoder: Path) -> None:
    task = tiny_task(n=48, encoder=tiny_encoder)
    config = TrainingConfig(epochs=5, learning_rate=1e-3)
    _, whole = fit(task, config, held=False)
    stopped, history = fit(task, config, held=False, stop=2)
    assert history.epochs == whole.epochs[:2]
    shorter, _ = fit(task, config.model_copy(update={"epochs": 2}), held=False)
    name = "classifier.weight"
    assert not torch.equal(weights_of(stopped)[name], weights_of(shorter)[name])


def test_frozen_modules_run_in_evaluation_mode(tiny_encoder: Path) -> None:
    model = network(tiny_task(encoder=tiny_encoder), dropout=True).model
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("layer.1." in name or "classifier" in name)
    set_modes(model)
    assert not model.bert.embeddings.training
    assert not model.bert.embeddings.dropout.training
    assert not any(m.training for m in model.bert.encoder.layer[0].modules())
    assert all(m.training for m in model.bert.encoder.layer[1].modules())
    assert model.dropout.training, "dropout before the trained head"
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    set_modes(model)
    assert all(m.training for m in model.modules())


def test_frozen_layers_give_the_same_states_in_training(tiny_encoder: Path) -> None:
    """What is frozen can be computed once: two training passes give the same states."""
    task = tiny_task(n=8, encoder=tiny_encoder)
    classifier = network(task, dropout=True)
    for parameter in classifier.model.bert.parameters():
        parameter.requires_grad_(False)
    set_modes(classifier.model)
    from headstart.models.batching import collate

    batch = collate(classifier.tokenize(task.train), np.arange(8), classifier.tokenizer)
    with torch.no_grad():
        states = [classifier.model.bert(**batch).last_hidden_state for _ in range(2)]
    assert torch.equal(*states)


def test_frozen_tensors_are_untouched_and_unkept(tiny_encoder: Path) -> None:
    task = tiny_task(n=16, encoder=tiny_encoder)
    classifier = network(task)
    classifier.model.bert.requires_grad_(False)
    before = weights_of(classifier)
    data = data_of(classifier, task.train)
    train(classifier, data, data, TrainingConfig(epochs=2, weight_decay=0.5), seed=0)
    changed = {n for n, p in classifier.model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {"classifier.weight", "classifier.bias"}


def test_order_and_dropout_come_from_the_seed(tiny_encoder: Path) -> None:
    task = tiny_task(n=16, encoder=tiny_encoder)
    config = TrainingConfig(epochs=1, batch_size=4)
    start = network(task, dropout=True)

    def trained(seed: int) -> dict[str, torch.Tensor]:
        classifier = copy.copy(start)
        classifier.model = copy.deepcopy(start.model)
        train(classifier, data_of(classifier, task.train), None, config, seed=seed)
        return weights_of(classifier)

    first, again, other = trained(0), trained(0), trained(1)
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert not all(torch.equal(first[n], other[n]) for n in first)


def test_progress_and_epochs_are_told(tiny_encoder: Path) -> None:
    told: list[int] = []
    epochs: list[dict[str, float]] = []
    task = tiny_task(n=18, encoder=tiny_encoder)
    _, history = fit(task, TrainingConfig(epochs=2, batch_size=8), advance=told.append, on_epoch=epochs.append)
    assert sum(told) == 2 * 18
    assert epochs == history.epochs
    assert set(epochs[0]) == {"epoch", "train_loss", "validation_log_loss", "validation_accuracy"}


@pytest.mark.parametrize("planned, warmup", [(10, 0.1), (100, 0.25), (1, 0.1), (7, 0.0), (3, 0.99)])
def test_rate_rises_to_one_and_falls_to_near_zero(planned: int, warmup: float) -> None:
    slope = TrainingConfig(warmup=warmup).slope
    rates = [slope(done, planned) for done in range(planned)]
    rising = max(1, round(planned * warmup))
    assert max(rates) == 1.0
    assert rates[:rising] == sorted(rates[:rising])
    assert rates[rising - 1 :] == sorted(rates[rising - 1 :], reverse=True)
    assert min(rates) > 0
    assert slope(planned, planned) == 0.0


@pytest.mark.parametrize("strategy", ["full", "partial", "lora"])
def test_checkpointing_changes_memory_and_nothing_else(strategy: str, tiny_encoder: Path) -> None:
    """Without dropout the weights are the same; with it, both sides draw torch's own numbers from one seed."""
    from headstart.training import loop

    task = tiny_task(encoder=tiny_encoder)
    with pytest.MonkeyPatch.context() as patch, products() as calls:
        patch.setattr(loop, "use_byte_dropout", lambda *_: None)
        plain = fit_strategy(strategy, task, epochs=2)
        once = len(calls)
        again = fit_strategy(strategy, task, epochs=2, checkpointing=True)
    if strategy != "partial":  # it trains the top one of two layers, which is computed for the first token and kept
        assert len(calls) > 2 * once, "no layer was computed again"
    for one, other in zip(plain.epochs, again.epochs, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], abs=1e-4)
    np.testing.assert_allclose(plain.validation, again.validation, atol=1e-3)
    assert not any(getattr(m, "gradient_checkpointing", False) for m in again.classifier.model.modules())


def test_checkpointing_of_what_has_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="step_tokens"):
        fit_strategy("scratch-gru", tiny_task(), checkpointing=True)


@pytest.mark.parametrize(("held", "times"), [(True, 1), (False, 0)])
def test_freed_memory_is_given_back_once(
    held: bool, times: int, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr("headstart.training.loop.return_freed_memory", lambda: calls.append(1))
    fit(tiny_task(encoder=tiny_encoder), TrainingConfig(epochs=3, patience=3), held=held)
    assert len(calls) == times
