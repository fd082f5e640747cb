"""The training loop: steps in pieces, schedule, early stopping, modes, seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from conftest import separable_texts
from headstart.data.examples import Examples
from headstart.data.labels import Labels
from headstart.models.batching import TextSettings, collate
from headstart.models.encoders import load_classifier, load_tokenizer, new_classifier
from headstart.models.gru import GruConfig, build_tokenizer
from headstart.models.network import NetworkClassifier
from headstart.models.runtime import Runtime
from headstart.training.loop import Data, TrainingConfig, set_modes, train

LABELS = Labels.of(["negative", "positive"])
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
# So small that the weights stay as they are: every step's gradient can be compared.
STILL = 1e-12


def network(folder: Path, *, dropout: bool = False) -> NetworkClassifier:
    model, _fresh = load_classifier(folder, LABELS, seed=0, changes=None if dropout else NO_DROPOUT)
    return NetworkClassifier(model, load_tokenizer(folder), LABELS, TextSettings(32), Runtime())


def gru(texts: list[str]) -> NetworkClassifier:
    tokenizer = build_tokenizer(texts, min_count=1)
    sizes = GruConfig(vocab_size=len(tokenizer), embedding_size=8, hidden_size=8, dense_size=8)
    model = new_classifier(sizes, LABELS, seed=0)
    return NetworkClassifier(model, tokenizer, LABELS, TextSettings(32), Runtime())


def data(classifier: NetworkClassifier, n: int, *, seed: int = 0, words: int = 12, flipped: bool = False) -> Data:
    texts, y = separable_texts(n, 2, seed, words)
    classes = np.asarray(y, dtype=np.int64)
    return Data(classifier.tokenize(Examples.of(texts, y)), 1 - classes if flipped else classes)


def weights_of(classifier: NetworkClassifier) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in classifier.model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@contextmanager
def steps_seen(see: Callable[[torch.optim.Optimizer], Any]) -> Iterator[list[Any]]:
    """Collect what ``see`` makes of the optimizer before each of its steps."""
    seen: list[Any] = []
    handle = register_optimizer_step_pre_hook(lambda optimizer, *_: seen.append(see(optimizer)))
    try:
        yield seen
    finally:
        handle.remove()


def gradients(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [p.grad.clone() for group in optimizer.param_groups for p in group["params"]]


@pytest.mark.parametrize("class_weights", [None, np.array([3.0, 0.5])], ids=["plain", "weighted"])
def test_a_step_in_pieces_equals_the_undivided_one(class_weights: Any, tiny_encoder: Path) -> None:
    def run(step_tokens: int) -> tuple[list[list[torch.Tensor]], float, int]:
        classifier = network(tiny_encoder)
        calls: list[int] = []
        classifier.model.register_forward_pre_hook(lambda *_: calls.append(1))
        config = TrainingConfig(learning_rate=STILL, epochs=1, batch_size=10, step_tokens=step_tokens)
        with steps_seen(gradients) as seen:
            history = train(classifier, data(classifier, 25), None, config, seed=0, class_weights=class_weights)
        return seen, history.epochs[0]["train_loss"], len(calls)

    whole, whole_loss, whole_calls = run(100_000)
    pieces, pieces_loss, pieces_calls = run(40)
    assert whole_calls == len(whole) == len(pieces) == 3
    assert pieces_calls > 6
    assert pieces_loss == pytest.approx(whole_loss, abs=1e-5)
    for step_whole, step_pieces in zip(whole, pieces, strict=True):
        for a, b in zip(step_whole, step_pieces, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("class_weights", [None, [3.0, 0.5]], ids=["plain", "weighted"])
def test_gradient_is_that_of_the_mean_cross_entropy(class_weights: Any, tiny_encoder: Path) -> None:
    classifier, plain = network(tiny_encoder), network(tiny_encoder)
    texts = data(plain, 9)
    weight = None if class_weights is None else torch.tensor(class_weights)
    plain.model.train()
    batch = collate(texts.tokens, np.arange(9), plain.tokenizer)
    loss = torch.nn.functional.cross_entropy(plain.model(**batch).logits, torch.from_numpy(texts.y), weight=weight)
    loss.backward()
    config = TrainingConfig(learning_rate=STILL, epochs=1, batch_size=9, step_tokens=50, max_grad_norm=1e9)
    names = [name for name, p in plain.model.named_parameters()]
    order = [n for n in names if plain.model.get_parameter(n).ndim >= 2]
    order += [n for n in names if plain.model.get_parameter(n).ndim < 2]
    given = None if class_weights is None else np.array(class_weights)
    with steps_seen(gradients) as seen:
        history = train(classifier, texts, None, config, seed=0, class_weights=given)
    assert history.epochs[0]["train_loss"] == pytest.approx(loss.item(), abs=1e-6)
    for name, ours in zip(order, seen[0], strict=True):
        torch.testing.assert_close(ours, plain.model.get_parameter(name).grad, atol=1e-6, rtol=1e-4)


def test_gradients_are_clipped_to_the_norm(tiny_encoder: Path) -> None:
    classifier = network(tiny_encoder)
    config = TrainingConfig(learning_rate=STILL, epochs=1, batch_size=8, max_grad_norm=1e-3)
    with steps_seen(gradients) as seen:
        train(classifier, data(classifier, 16), None, config, seed=0)
    norms = [float(torch.cat([g.flatten() for g in step]).norm()) for step in seen]
    np.testing.assert_allclose(norms, 1e-3, rtol=1e-3)


def test_rate_rises_then_falls_linearly(tiny_encoder: Path) -> None:
    classifier = network(tiny_encoder)
    config = TrainingConfig(learning_rate=1e-3, epochs=2, batch_size=4, warmup=0.2, weight_decay=0.3)
    with steps_seen(lambda o: [(g["lr"], g["weight_decay"]) for g in o.param_groups]) as seen:
        train(classifier, data(classifier, 20), None, config, seed=0)
    slope = [0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]
    assert [decay for _rate, decay in seen[0]] == [0.3, 0.0]
    for group in (0, 1):
        np.testing.assert_allclose([step[group][0] for step in seen], np.array(slope) * 1e-3, rtol=1e-12)


def test_without_warm_up_the_first_step_has_the_full_rate(tiny_encoder: Path) -> None:
    classifier = network(tiny_encoder)
    config = TrainingConfig(learning_rate=1e-3, epochs=1, batch_size=4, warmup=0)
    with steps_seen(lambda o: o.param_groups[0]["lr"]) as rates:
        train(classifier, data(classifier, 16), None, config, seed=0)
    np.testing.assert_allclose(rates, [1e-3, 1e-3, 2 / 3 * 1e-3, 1 / 3 * 1e-3], rtol=1e-12)


def test_weights_of_matrices_decay_and_those_of_norms_do_not(tiny_encoder: Path) -> None:
    classifier = network(tiny_encoder)
    with steps_seen(lambda o: [[p.ndim for p in g["params"]] for g in o.param_groups]) as seen:
        train(classifier, data(classifier, 8), None, TrainingConfig(epochs=1, batch_size=8), seed=0)
    matrices, vectors = seen[0]
    assert min(matrices) == 2
    assert set(vectors) == {1}
    assert len(matrices) + len(vectors) == len(list(classifier.model.parameters()))


@pytest.mark.parametrize("kind", ["transformer", "gru"])
def test_early_stopping_restores_the_best_epoch(kind: str, tiny_encoder: Path) -> None:
    classifier = network(tiny_encoder, dropout=True) if kind == "transformer" else gru(separable_texts(24, 2, 0, 12)[0])
    snapshots: list[dict[str, torch.Tensor]] = []
    config = TrainingConfig(learning_rate=1e-2, epochs=9, batch_size=8, patience=2)
    # Validation says the opposite of train: what is learnt makes it worse.
    held = data(classifier, 24, seed=1, flipped=True)
    history = train(
        classifier,
        data(classifier, 24),
        held,
        config,
        seed=0,
        on_epoch=lambda _: snapshots.append(weights_of(classifier)),
    )
    losses = [epoch["validation_log_loss"] for epoch in history.epochs]
    assert history.best_epoch == int(np.argmin(losses)) + 1
    assert len(losses) == history.best_epoch + 2 < 9
    assert history.texts == 24 * len(losses)
    kept = weights_of(classifier)
    assert same(kept, snapshots[history.best_epoch - 1])
    assert not same(kept, snapshots[-1])


def test_validation_figures_are_those_of_scikit_learn(tiny_encoder: Path) -> None:
    from sklearn.metrics import accuracy_score, log_loss

    classifier = network(tiny_encoder)
    texts, y = separable_texts(20, 2, 3)
    held = Examples.of(texts, y)
    history = train(
        classifier,
        data(classifier, 16),
        Data(classifier.tokenize(held), held.y),
        TrainingConfig(epochs=1, batch_size=8),
        seed=0,
    )
    probabilities = classifier.predict_proba(held)
    assert history.epochs[0]["validation_log_loss"] == pytest.approx(log_loss(y, probabilities), abs=1e-6)
    assert history.epochs[0]["validation_accuracy"] == accuracy_score(y, probabilities.argmax(axis=1))


def test_without_validation_the_last_epoch_is_kept(tiny_encoder: Path) -> None:
    classifier = network(tiny_encoder)
    snapshots: list[dict[str, torch.Tensor]] = []
    config = TrainingConfig(learning_rate=1e-3, epochs=4, batch_size=8, patience=1)
    history = train(
        classifier,
        data(classifier, 16),
        None,
        config,
        seed=0,
        on_epoch=lambda _: snapshots.append(weights_of(classifier)),
    )
    assert history.best_epoch == len(history.epochs) == 4
    assert "validation_log_loss" not in history.epochs[0]
    assert same(weights_of(classifier), snapshots[-1])
    assert not classifier.model.training


def test_frozen_modules_run_in_evaluation_mode_and_stay_as_they_are(tiny_encoder: Path) -> None:
    classifier = network(tiny_encoder, dropout=True)
    model = classifier.model
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(("bert.encoder.layer.1.", "bert.pooler", "classifier")))
    modes: dict[str, bool] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, _inputs: Any) -> None:
            modes[name] = module.training

        return hook

    watched = ("bert.embeddings.word_embeddings", "bert.encoder.layer.0.attention.self.query", "classifier")
    for name in (*watched, "bert.encoder.layer.1.intermediate.dense"):
        model.get_submodule(name).register_forward_pre_hook(note(name))
    before = weights_of(classifier)
    train(classifier, data(classifier, 16), None, TrainingConfig(learning_rate=1e-2, epochs=2, batch_size=8), seed=0)
    assert modes == {
        "bert.embeddings.word_embeddings": False,
        "bert.encoder.layer.0.attention.self.query": False,
        "bert.encoder.layer.1.intermediate.dense": True,
        "classifier": True,
    }
    for name, tensor in weights_of(classifier).items():
        frozen = name.startswith(("bert.embeddings", "bert.encoder.layer.0."))
        if frozen or "key.bias" not in name:  # a key's bias moves no attention weight
            assert torch.equal(tensor, before[name]) == frozen, name


def test_modes_of_a_partly_frozen_network(tiny_encoder: Path) -> None:
    model = network(tiny_encoder, dropout=True).model
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("classifier"))
    set_modes(model)
    assert {name for name, module in model.named_modules() if module.training} == {"", "dropout", "classifier"}
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    set_modes(model)
    assert all(module.training for module in model.modules())


def test_frozen_part_drops_nothing(tiny_encoder: Path) -> None:
    """With only the head trained, and no dropout in front of it, two passes in training mode are equal."""
    model = network(tiny_encoder, dropout=True).model
    model.dropout.p = 0.0
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("classifier"))
    ids = torch.arange(5, 25).view(2, 10)

    def equal() -> bool:
        return torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits)

    set_modes(model)
    assert equal()
    model.train()
    assert not equal()


@pytest.mark.parametrize("kind", ["transformer", "gru"])
def test_same_seed_same_bits_other_seed_others(kind: str, tiny_encoder: Path) -> None:
    def fit(seed: int) -> dict[str, torch.Tensor]:
        texts = separable_texts(20, 2, 0, 12)[0]
        classifier = network(tiny_encoder, dropout=True) if kind == "transformer" else gru(texts)
        config = TrainingConfig(learning_rate=1e-3, epochs=2, batch_size=8)
        torch.rand(seed + 3)  # the caller's random state must not matter
        train(classifier, data(classifier, 20), data(classifier, 8, seed=1), config, seed=seed)
        return weights_of(classifier)

    first = fit(0)
    assert same(first, fit(0))
    assert not same(first, fit(1))


def test_the_callers_random_state_is_left_alone(tiny_encoder: Path) -> None:
    classifier = network(tiny_encoder, dropout=True)
    torch_before, numpy_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    train(classifier, data(classifier, 8), None, TrainingConfig(epochs=1, batch_size=8), seed=5)
    assert torch.equal(torch_before, torch.random.get_rng_state())
    np.testing.assert_array_equal(numpy_before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("n", [2, 3, 9, 17])
def test_a_last_batch_of_one_works_with_batch_norm(n: int) -> None:
    classifier = gru(separable_texts(n, 2, 0, 12)[0])
    sizes: list[int] = []
    classifier.model.norm.register_forward_pre_hook(
        lambda module, inputs: sizes.append(len(inputs[0])) if module.training else None
    )
    train(classifier, data(classifier, n), None, TrainingConfig(epochs=2, batch_size=8), seed=0)
    assert sum(sizes) == 2 * n
    assert min(sizes) >= 2
    assert all(torch.isfinite(tensor).all() for tensor in classifier.model.state_dict().values())


def test_progress_counts_every_training_text(tiny_encoder: Path) -> None:
    classifier = network(tiny_encoder)
    done: list[int] = []
    train(classifier, data(classifier, 19), None, TrainingConfig(epochs=3, batch_size=8), seed=0, advance=done.append)
    assert sum(done) == 3 * 19


def test_learns_what_can_be_learnt(tiny_encoder: Path) -> None:
    classifier = network(tiny_encoder, dropout=True)
    config = TrainingConfig(learning_rate=5e-3, epochs=6, batch_size=8)
    held = data(classifier, 40, seed=1)
    history = train(classifier, data(classifier, 64), held, config, seed=0)
    assert history.epochs[history.best_epoch - 1]["validation_accuracy"] >= 0.9
