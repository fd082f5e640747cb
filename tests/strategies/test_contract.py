"""One test body over every strategy: what all of them promise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import QUICK, VOCABULARY, fit_strategy, tiny_task
from headstart.data.examples import Examples
from headstart.data.labels import Labels
from headstart.errors import ConfigError, StrategyError
from headstart.models import folder as model_folder
from headstart.models.runtime import Runtime
from headstart.strategies import table
from headstart.strategies.task import Fitted, Task

STORED_NAMES = [
    "majority",
    "tfidf",
    "scratch-gru",
    "scratch-transformer",
    "as-is",
    "linear-probe",
    "boosted",
    "partial",
    "gradual",
    "full",
    "lora",
    "contrastive",
    "source+linear-probe",
    "source+boosted",
    "source+partial",
    "source+gradual",
    "source+full",
    "source+lora",
    "source+contrastive",
]
# The same fits from another folder: what an adapted encoder's folder is, has tests of its own (tests/adaptation).
ADAPTED_NAMES = [f"adapt+{name.removeprefix('source+')}" for name in STORED_NAMES if name.startswith("source+")]
# Solved exactly, or not fitted at all: the seed does not matter.
WITHOUT_CHANCE = {"majority", "tfidf", "as-is", "linear-probe", "source+linear-probe"}
NOT_WEIGHTED = {"majority", "as-is"}
every_strategy = pytest.mark.parametrize("name", STORED_NAMES)
Make = Callable[..., Task]


@pytest.fixture(scope="module")
def make(tiny_encoder: Path, sources: Callable[[int], Any]) -> Make:
    """Return a function that makes a task for a strategy, with an encoder and a source where it takes them."""

    def make_task(name: str, **options: Any) -> Task:
        plan = table.plan(name)
        options.setdefault("encoder", tiny_encoder)
        if plan.needs_source:
            options["source"] = sources(len(options.get("values", "ab")))
        if plan.from_source:
            options |= {"encoder": options["source"].encoder.folder, "keep_head": True}
        task: Task = tiny_task(**options)
        return task

    return make_task


@pytest.fixture(scope="module")
def fitted(make: Make) -> Callable[[str], tuple[Task, Fitted]]:
    """Return a function from a strategy's name to its plain task and fit, made once."""

    @cache
    def fit(name: str) -> tuple[Task, Fitted]:
        task = make(name)
        return task, fit_strategy(name, task)

    return fit


def short(name: str) -> dict[str, int]:
    """Return settings that end a fit early, for tests that do not ask how good it is."""
    quick = QUICK.get(name.split("+")[-1], {})
    return {key: 1 for key in ("epochs", "steps") if key in quick}


def proba(fit: Fitted, task: Task) -> np.ndarray:
    return fit.classifier.predict_proba(task.validation)


def test_table_holds_the_stored_names() -> None:
    assert table.known_names() == STORED_NAMES + ADAPTED_NAMES


def test_a_task_brings_no_holdout() -> None:
    assert not {f.name for f in dataclasses.fields(Task)} & {"holdout", "test", "splits"}


@every_strategy
def test_learns_separable_texts(name: str, fitted: Callable[[str], tuple[Task, Fitted]]) -> None:
    task, fit = fitted(name)
    probabilities = proba(fit, task)
    accuracy = float((probabilities.argmax(axis=1) == task.validation.y).mean())
    floor = float((task.validation.y == np.bincount(task.train.y).argmax()).mean())
    assert accuracy == floor if name == "majority" else accuracy >= max(0.8, floor + 0.2)
    assert probabilities.shape == fit.validation.shape == (len(task.validation), 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(fit.validation.sum(axis=1), 1, atol=1e-6)
    assert probabilities.min() >= 0


@every_strategy
def test_same_seed_same_probabilities(name: str, make: Make, fitted: Callable[[str], tuple[Task, Fitted]]) -> None:
    task, first = fitted(name)
    again = fit_strategy(name, make(name))
    np.testing.assert_array_equal(proba(first, task), proba(again, task))
    np.testing.assert_array_equal(first.validation, again.validation)


@every_strategy
def test_other_seed_other_probabilities_where_chance_plays(
    name: str, make: Make, fitted: Callable[[str], tuple[Task, Fitted]]
) -> None:
    task, first = fitted(name)
    other = fit_strategy(name, make(name, seed=1))
    assert np.array_equal(proba(first, task), proba(other, task)) == (name in WITHOUT_CHANCE)


@every_strategy
def test_fitting_leaves_the_random_state_of_torch_alone(name: str, make: Make) -> None:
    import torch

    before = torch.random.get_rng_state()
    fit_strategy(name, make(name, n=8, n_validation=4), **short(name))
    assert torch.equal(before, torch.random.get_rng_state())


@every_strategy
def test_saved_and_loaded_gives_equal_probabilities(
    name: str, fitted: Callable[[str], tuple[Task, Fitted]], tmp_path: Path
) -> None:
    task, fit = fitted(name)
    model_folder.save(fit.classifier, tmp_path / "m", text=task.text, check=task.train, card={"strategy": name})
    model = model_folder.load(tmp_path / "m", runtime=Runtime())
    np.testing.assert_allclose(model.predict_proba(list(task.validation.texts)), proba(fit, task), atol=1e-6)
    assert model.labels == task.labels
    assert not list((tmp_path / "m").glob("*.bin")) + list((tmp_path / "m").glob("*.pkl"))


def _expected_trained(name: str, task: Task, fit: Fitted) -> int:
    """Count by hand what a strategy trains on the tiny BERT (width 32, 2 layers, feed-forward 48)."""
    C, D, L, ff = 2, 32, 2, 48
    base = name.split("+")[-1]
    layer = 4 * (D * D + D) + (D * ff + ff) + (ff * D + D) + 2 * 2 * D
    embeddings = (len(VOCABULARY) + 64 + 2 + 2) * D
    output = C * D + C
    pooler = D * D + D  # the checkpoint lacks it; a source classifier has it
    if base in ("full", "scratch-transformer"):
        return fit.classifier.parameters()
    if base == "scratch-gru":
        return fit.classifier.parameters()
    thawed = fit.notes.get("layers_trained", [])
    return {
        "majority": C,
        "as-is": 0,
        "tfidf": fit.classifier.parameters(),
        "linear-probe": output,
        "boosted": fit.classifier.head.parameters() if base == "boosted" else -1,
        "partial": layer + pooler + output,
        "gradual": pooler
        + output
        + layer * sum("layer " in name for name in thawed)
        + ("embeddings" in thawed) * embeddings,
        "contrastive": embeddings + L * layer + output,
        "lora": L * 3 * 8 * (D + D) + (0 if name.startswith("source+") else pooler) + output,
    }[base]


@every_strategy
def test_states_how_many_numbers_it_trains(name: str, fitted: Callable[[str], tuple[Task, Fitted]]) -> None:
    task, fit = fitted(name)
    assert fit.parameters_trained == _expected_trained(name, task, fit)
    assert fit.parameters_trained <= fit.classifier.parameters() or name.endswith("lora")


@pytest.mark.parametrize("name", STORED_NAMES)
def test_one_class_is_refused(name: str, make: Make) -> None:
    task = make(name)
    one = task.train.take(np.flatnonzero(task.train.y == 1))
    with pytest.raises(StrategyError, match="all of one class \\(positive\\)"):
        fit_strategy(name, dataclasses.replace(task, train=one))
    with pytest.raises(StrategyError, match="no validation"):
        fit_strategy(name, dataclasses.replace(task, validation=one.take([])))


@every_strategy
def test_class_weights_shift_probabilities(name: str, make: Make) -> None:
    task = make(name, n=40, n_validation=12)
    blurred = dataclasses.replace(task.train, y=np.where(np.arange(40) % 4 == 0, 1 - task.train.y, task.train.y))
    settings = {"epochs": 4} if "epochs" in short(name) else {}

    def mean_of_second(weights: list[float]) -> float:
        weighted = dataclasses.replace(task, train=blurred, class_weights=np.array(weights))
        return float(proba(fit_strategy(name, weighted, **settings), task)[:, 1].mean())

    first_heavier, second_heavier = mean_of_second([4.0, 0.5]), mean_of_second([0.5, 4.0])
    if name in NOT_WEIGHTED:
        assert first_heavier == second_heavier
    else:
        assert first_heavier < second_heavier - 0.01


# The source of two classes keeps its head: the order of its classes has tests of its own (test_as_is).
RAW_LABELS = {"text": ("zeta", "alpha"), "three-whole-numbers": (10, 9, 100), "bool": (True, False)}
LABEL_CASES = [
    pytest.param(name, raw, id=f"{name}-{kind}")
    for name in STORED_NAMES
    for kind, raw in RAW_LABELS.items()
    if name != "as-is" and not (name.startswith("source+") and len(raw) == 2)
]


@pytest.mark.parametrize("name, raw", LABEL_CASES)
def test_label_order_and_type_are_kept(name: str, raw: tuple[Any, ...], make: Make, tmp_path: Path) -> None:
    """Text group g has the label raw[g], whatever its place in the sorted order."""
    plain = make(name, values=tuple(range(len(raw))), n=72, n_validation=24)
    labels = Labels.of(raw)
    y = labels.encode([raw[g] for g in plain.train.y])
    held = labels.encode([raw[g] for g in plain.validation.y])
    task = dataclasses.replace(
        plain,
        labels=labels,
        train=dataclasses.replace(plain.train, y=y),
        validation=dataclasses.replace(plain.validation, y=held),
        keep_head=False,
    )
    fit = fit_strategy(name, task)
    model_folder.save(fit.classifier, tmp_path / "m", text=task.text, check=task.train, card={"strategy": name})
    predicted = model_folder.load(tmp_path / "m", runtime=Runtime()).predict(list(task.validation.texts))
    assert {type(p) for p in predicted} == {type(raw[0])}
    if name != "majority":
        assert np.mean([p == raw[g] for p, g in zip(predicted, plain.validation.y, strict=True)]) >= 1 / len(raw) + 0.2


@every_strategy
def test_pairs_of_texts_with_a_last_batch_of_one(name: str, make: Make) -> None:
    task = make(name, n=17, n_validation=9, pairs=True)
    fit = fit_strategy(name, task, **short(name))
    np.testing.assert_allclose(proba(fit, task).sum(axis=1), 1, atol=1e-6)
    turned = dataclasses.replace(task.validation, texts=task.validation.pairs, pairs=task.validation.texts)
    if name not in ("majority", "tfidf"):
        assert not np.allclose(fit.classifier.predict_proba(turned), proba(fit, task), atol=1e-9)


@every_strategy
def test_empty_texts_and_unknown_words_work(name: str, make: Make) -> None:
    task = make(name, n=16, n_validation=8)
    odd = Examples.of(["", "   ", "\n", "ыыы ъъъ", "😀", "zq" * 500, "good\x00film", "​"], [0, 1] * 4)
    fit = fit_strategy(
        name,
        dataclasses.replace(task, train=task.train.concat(odd), validation=task.validation.concat(odd)),
        **short(name),
    )
    probabilities = fit.classifier.predict_proba(odd)
    assert np.isfinite(probabilities).all()
    assert fit.classifier.predict_proba(odd.take([])).shape == (0, 2)
    assert fit.classifier.predict_proba(odd.take([0])).shape == (1, 2)


@every_strategy
def test_a_class_without_training_texts_is_kept(name: str, make: Make) -> None:
    task = make(name, values=("a", "b", "c"), n=30, n_validation=12)
    two = task.train.take(np.flatnonzero(task.train.y != 1))
    fit = fit_strategy(name, dataclasses.replace(task, train=two), **short(name))
    assert proba(fit, task).shape == (12, 3)


@every_strategy
def test_work_is_told(name: str, make: Make) -> None:
    done: list[int] = []
    fit_strategy(name, make(name, n=16, n_validation=8, advance=done.append), **short(name))
    assert all(n > 0 for n in done)


def test_names_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'lora'"):
        table.plan("lora_")
    with pytest.raises(ConfigError, match="'source\\+tfidf' means nothing"):
        table.plan("source+tfidf")
    with pytest.raises(ConfigError, match="'adapt\\+tfidf' means nothing"):
        table.plan("adapt+tfidf")
    with pytest.raises(ConfigError, match="'adapt\\+source\\+lora' trains the source"):
        table.plan("source+adapt+lora")
    assert table.plan("adapt+source+full+self-train").stages == ("adapt", "source")
    with pytest.raises(ConfigError, match="twice"):
        table.plan("source+source+full")


def test_settings_are_checked_all_at_once() -> None:
    faults = table.settings_faults({"lora": {"rnk": 4, "alpha": -1}, "ful": {}})
    assert len(faults) == 3
    assert "Did you mean 'rank'" in faults[0] + faults[1]
    assert "Did you mean 'full'" in faults[2]
