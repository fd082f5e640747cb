"""`X+self-train`: what joins training, what never does, when it ends, what the record says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from conftest import QUICK, fit_strategy, separable_texts, tiny_task
from headstart.data.examples import Examples
from headstart.errors import ConfigError, StrategyError
from headstart.models import folder as model_folder
from headstart.models.classifier import Probabilities
from headstart.models.runtime import Runtime
from headstart.strategies import table
from headstart.strategies.contrastive import ContrastiveConfig
from headstart.strategies.full import FullConfig
from headstart.strategies.gradual import GradualConfig
from headstart.strategies.rows import STRATEGIES
from headstart.strategies.self_train import (
    SelfTrainConfig,
    SelfTrained,
    confident,
    fit,
    part,
    student_of,
    usable_pool,
)
from headstart.strategies.task import Fitted, NoConfig, Task
from headstart.strategies.tfidf import TfidfConfig


def with_pool(task: Task, n: int = 60, seed: int = 9) -> Task:
    return replace(task, unlabeled=Examples.of(separable_texts(n, len(task.labels), seed)[0]))


class Spy:
    """A strategy that notes what it was given.

    The k-th fit is right on a share ``right[k]`` of the validation texts, and ``sure[k]`` of all it says. Texts of the
    pool are of one class and the next in turn, with ``pool`` the probability; ``other`` is of the opposite opinion.
    """

    def __init__(
        self, *right: float, sure: tuple[float, ...] = (0.8,), pool: float = 0.99, other: bool = False
    ) -> None:
        self.right, self.sure, self.pool, self.other = right, sure, pool, other
        self.given: list[tuple[Task, Any]] = []

    def __call__(self, task: Task, config: Any) -> Fitted:
        right, sure = (values[min(len(self.given), len(values) - 1)] for values in (self.right, self.sure))
        self.given.append((task, config))
        C, N = len(task.labels), len(task.validation)
        said = np.where(np.arange(N) < round(right * N), task.validation.y, (task.validation.y + 1) % C)
        validation = np.full((N, C), (1 - sure) / (C - 1))
        validation[np.arange(N), said] = sure
        number = len(self.given)
        epochs = [{"epoch": float(number)}]
        notes = {"fit": number, "refit": False}
        return Fitted(_Alternating(C, self.pool, self.other), validation, 1, epochs, None, notes)  # type: ignore[arg-type]


class _Alternating:
    def __init__(self, classes: int, sure: float, other: bool) -> None:
        self.classes, self.sure, self.other = classes, sure, other

    def predict_proba(self, examples: Examples, advance: object = None) -> Probabilities:
        rows = np.arange(len(examples))
        proba = np.full((len(examples), self.classes), (1 - self.sure) / (self.classes - 1))
        proba[rows, (rows + self.other) % self.classes] = self.sure - rows / 1e6  # the earlier the surer
        return proba / proba.sum(axis=1, keepdims=True)


def teach(monkeypatch: pytest.MonkeyPatch, teacher: Spy) -> None:
    """Put a spy in the teacher's place."""
    monkeypatch.setattr("headstart.strategies.contrastive.fit", teacher)
    monkeypatch.setattr("headstart.strategies.contrastive.refit", lambda task, config, fitted: teacher(task, config))


def run(spy: Spy, task: Task, **settings: Any) -> Fitted:
    return fit(task, spy, settings_of(TfidfConfig(), SelfTrainConfig(**settings)))


def settings_of(config: BaseModel, stage: SelfTrainConfig, teacher: ContrastiveConfig | None = None) -> SelfTrained:
    return SelfTrained(strategy=config, self_train=stage, student=student_of(config, stage), teacher=teacher)


def test_rounds_are_balanced_and_recorded() -> None:
    task = with_pool(tiny_task(n=20, n_validation=30), 100)
    spy = Spy(0.7, 0.8, 0.9)
    found = run(spy, task, rounds=2, confidence=0.5).notes["self_train"]
    n = found["pool"] // 2
    assert [r["added"] for r in found["rounds"]] == [{"negative": n, "positive": n}] * 2
    assert [r["kept"] for r in found["rounds"]] == [True, True]
    losses = [found["first"]["validation_log_loss"], *(r["validation_log_loss"] for r in found["rounds"])]
    # Of 30 texts a share is right, and all are said with 0.8: Platt's targets are met by a probability of their mean.
    shares = np.array([0.7, 0.8, 0.9])
    said = (shares * 31 + (1 - shares)) / 32
    assert losses == pytest.approx(-(shares * np.log(said) + (1 - shares) * np.log(1 - said)), rel=1e-6)
    assert found["temperature"] == pytest.approx(np.log(0.8 / 0.2) / np.log(said[2] / (1 - said[2])), rel=1e-6)
    assert [len(t.train) for t, _ in spy.given] == [20, 20 + 2 * n, 20 + 2 * n, 20 + 2 * n]  # the last is the refit


def test_ends_when_validation_gets_no_better_and_keeps_what_was_better() -> None:
    task = with_pool(tiny_task(n=20, n_validation=10), 100)
    spy = Spy(0.7, 0.8, 0.75, 0.9)
    found = run(spy, task, rounds=5, confidence=0.5)
    assert [r["kept"] for r in found.notes["self_train"]["rounds"]] == [True, False]
    (_, second_round), (refit_task, refit_config) = spy.given[1], spy.given[-1]
    assert not second_round.refit
    assert refit_task.train.texts == spy.given[1][0].train.texts
    assert refit_config.refit


@pytest.mark.parametrize(("right", "kept"), [((0.8, 0.8), True), ((0.8, 0.78), True), ((0.8, 0.4), False)])
def test_the_first_round_stays_unless_validation_is_clearly_worse(right: tuple[float, float], kept: bool) -> None:
    """Of 50 texts one more wrong is within two standard errors, twenty are not; a second round must be better."""
    task = with_pool(tiny_task(n=20, n_validation=50), 100)
    found = run(Spy(*right, right[1]), task, rounds=2, confidence=0.5).notes["self_train"]["rounds"]
    assert [r["kept"] for r in found] == ([True, False] if kept else [False])


def test_rounds_are_judged_at_their_own_temperature() -> None:
    """The second fit is right more often and far too sure: its raw log loss is the worse one."""
    task = with_pool(tiny_task(n=20, n_validation=30), 100)
    found = run(Spy(0.7, 0.8, sure=(0.7, 0.9999)), task, rounds=1, confidence=0.5).notes["self_train"]
    assert [r["kept"] for r in found["rounds"]] == [True]
    same = run(Spy(0.8, 0.8, sure=(0.99, 0.8)), task, rounds=1, confidence=0.5).notes["self_train"]
    assert same["rounds"][0]["validation_log_loss"] == pytest.approx(same["first"]["validation_log_loss"], rel=1e-6)


def test_more_than_one_round_unless_validation_ends_it() -> None:
    found = run(Spy(0.6, 0.7, 0.8, 0.9), with_pool(tiny_task(n=20, n_validation=30), 200), rounds=3).notes["self_train"]
    assert [r["kept"] for r in found["rounds"]] == [True, True, True]


def test_no_confident_text_of_a_class_ends_it() -> None:
    task = with_pool(tiny_task(n=20, n_validation=10), 100)
    spy = Spy(0.7, pool=0.51)
    found = run(spy, task, confidence=0.95).notes["self_train"]
    nothing = {"added": {"negative": 0, "positive": 0}, "kept": False}
    assert found["rounds"] == [{"round": 1, "looked_at": found["pool"], **nothing}]


def test_a_model_that_has_seen_validation_never_labels_the_pool() -> None:
    spy = Spy(0.7, 0.8, 0.9)
    run(spy, with_pool(tiny_task(n=20, n_validation=10)), rounds=2, confidence=0.5)
    *rounds, (_, last) = spy.given
    assert [config.refit for _, config in rounds] == [False] * 3
    assert last.refit


def test_without_refit_the_best_round_itself_is_handed_out() -> None:
    spy = Spy(0.7, 0.8, 0.75)
    config = settings_of(NoConfig(), SelfTrainConfig(confidence=0.5, rounds=3))
    fitted = fit(with_pool(tiny_task(n=20, n_validation=10)), spy, config)
    assert len(spy.given) == 3
    assert fitted.notes["fit"] == 2


def test_training_texts_are_those_given_and_texts_of_the_pool_and_nothing_else() -> None:
    plain = tiny_task(n=20, n_validation=10)
    task = replace(with_pool(plain), unlabeled=with_pool(plain).unlabeled.concat(plain.validation).concat(plain.train))
    spy = Spy(0.6, 0.7, 0.8, 0.9)
    run(spy, task, confidence=0.5)
    held = set(plain.validation.texts)
    for given, _ in spy.given:
        assert given.train.texts[:20] == plain.train.texts
        np.testing.assert_array_equal(given.train.y[:20], plain.train.y)
        added = given.train.texts[20:]
        assert len(set(added)) == len(added)
        assert not set(added) & (held | set(plain.train.texts))
        assert given.validation is task.validation


def test_the_pool_is_drawn_by_the_seed_and_holds_each_text_once() -> None:
    task = with_pool(tiny_task(), 200)
    doubled = replace(task, unlabeled=task.unlabeled.concat(task.unlabeled))
    one, again, other = usable_pool(doubled), usable_pool(doubled), usable_pool(replace(doubled, seed=1))
    assert one.texts == again.texts != other.texts
    assert len(set(one.texts)) == len(one)
    assert set(one.texts) == set(other.texts) <= set(task.unlabeled.texts if task.unlabeled else ())


def test_rounds_look_at_texts_that_none_has_looked_at_while_there_are_any() -> None:
    pool = usable_pool(with_pool(tiny_task(), 100))
    third = SelfTrainConfig(pool=-(-len(pool) // 3))
    rounds = [part(pool, third, number).texts for number in (1, 2, 3)]
    assert len({text for texts in rounds for text in texts}) == len(pool)
    assert not set(rounds[0]) & set(rounds[1])
    assert {len(texts) for texts in rounds} == {third.pool}  # the last starts again from the first
    assert set(part(pool, SelfTrainConfig(pool=len(pool) + 1), 4).texts) == set(pool.texts)


def test_a_round_of_an_encoder_is_few_passes_and_keeps_the_last() -> None:
    stage = SelfTrainConfig(epochs=4, learning_rate_share=0.25)
    given = FullConfig(learning_rate=2e-4, epochs=9, batch_size=8, refit=True)
    found = student_of(given, stage)
    assert found == FullConfig(learning_rate=5e-5, epochs=4, batch_size=8, keep="last")
    for own in (GradualConfig(), TfidfConfig(), ContrastiveConfig()):
        assert student_of(own, stage) is own


def test_only_confident_texts_are_taken_equally_many_of_each_class_drawn_by_the_seed() -> None:
    task = with_pool(tiny_task(n=20), 60)
    assert task.unlabeled is not None
    sure = np.linspace(0.55, 0.99, len(task.unlabeled))
    proba = np.stack([sure, 1 - sure], axis=1)
    proba[::3] = proba[::3, ::-1]  # every third is of the other class
    config = SelfTrainConfig(confidence=0.9)
    found, again, other = (confident(proba, task.unlabeled, replace(task, seed=seed), config, 1) for seed in (0, 0, 1))
    rows = [task.unlabeled.texts.index(text) for text in found.texts]
    assert (sure[rows] >= 0.9).all()
    np.testing.assert_array_equal(found.y, proba[rows].argmax(axis=1))
    fewest = np.bincount(proba[sure >= 0.9].argmax(axis=1)).min()
    assert np.bincount(found.y).tolist() == [fewest, fewest]
    assert found.texts == again.texts != other.texts


def test_a_class_that_is_never_predicted_does_not_end_it() -> None:
    task = with_pool(tiny_task(n=30, values=("a", "b", "c")), 60)
    assert task.unlabeled is not None
    half = len(task.unlabeled) // 2
    proba = np.repeat(np.array([[0.96, 0.02, 0.02], [0.02, 0.02, 0.96]]), [half - 3, len(task.unlabeled) - half + 3], 0)
    found = confident(proba, task.unlabeled, task, SelfTrainConfig(), 1)
    assert np.bincount(found.y, minlength=3).tolist() == [half - 3, 0, half - 3]
    assert not len(confident(proba[:, [0, 1, 1]][: half - 3], task.unlabeled, task, SelfTrainConfig(), 1))


def test_a_class_without_training_texts_does_not_stop_it() -> None:
    task = with_pool(tiny_task(n=30, values=("a", "b", "c")))
    two = replace(task, train=task.train.take(np.flatnonzero(task.train.y != 1)))
    assert task.unlabeled is not None
    proba = np.tile(np.array([[0.98, 0.01, 0.01], [0.01, 0.01, 0.98]]), (len(task.unlabeled) // 2, 1))
    assert set(confident(proba, task.unlabeled, two, SelfTrainConfig(), 1).y) == {0, 2}


@pytest.mark.parametrize(
    "name", [f"{n}+self-train" for n in ("tfidf", "linear-probe", "full", "partial", "gradual", "lora")]
)
def test_real_strategies_learn_save_and_repeat(name: str, tiny_encoder: Path, tmp_path: Path) -> None:
    def fitted(seed: int = 0) -> tuple[Task, Fitted]:
        task = with_pool(tiny_task(encoder=tiny_encoder, seed=seed))
        plan = table.plan(name)
        quick = {**QUICK, "self-train": {"rounds": 1}}
        return task, table.fit(plan, task, table.config_for(plan, quick))

    task, first = fitted()
    _, again = fitted()
    proba = first.classifier.predict_proba(task.validation)
    assert (proba.argmax(axis=1) == task.validation.y).mean() >= 0.8
    np.testing.assert_array_equal(proba, again.classifier.predict_proba(task.validation))
    assert first.notes == again.notes
    assert sum(first.notes["self_train"]["rounds"][0]["added"].values()) > 0
    assert ("teacher" in first.notes["self_train"]) == (name != "tfidf+self-train")
    model_folder.save(first.classifier, tmp_path / "m", text=task.text, check=task.train, card={"strategy": name})
    loaded = model_folder.load(tmp_path / "m", runtime=Runtime())
    np.testing.assert_allclose(loaded.predict_proba(list(task.validation.texts)), proba, atol=1e-6)


def test_there_must_be_a_pool_that_fits() -> None:
    task = tiny_task()
    with pytest.raises(StrategyError, match="needs unlabeled texts: rows whose label is blank"):
        fit_strategy("tfidf+self-train", task)
    with pytest.raises(StrategyError, match="not also training or validation texts"):
        fit_strategy("tfidf+self-train", replace(task, unlabeled=replace(task.validation)))
    with pytest.raises(StrategyError, match="same text and feature columns"):
        fit_strategy("tfidf+self-train", with_pool(tiny_task(pairs=True)))


def test_names() -> None:
    plan = table.plan("source+full+self-train")
    assert (plan.stages, plan.strategy.name, plan.after) == (("source",), "full", ("self-train",))
    assert plan.from_source
    for name, row in STRATEGIES.items():
        if row.learns:
            assert table.plan(f"{name}+self-train").after == ("self-train",)
            continue
        with pytest.raises(ConfigError, match=f"'{name}' says the same with more texts.*goes with tfidf"):
            table.plan(f"{name}+self-train")
    with pytest.raises(ConfigError, match="'self-train' twice"):
        table.plan("full+self-train+self-train")
    with pytest.raises(ConfigError, match="Did you mean 'full'"):
        table.plan("fulll+self-train")
    for name in ("self-train+full", "self-train", "source+self-train"):
        with pytest.raises(ConfigError, match="is unknown"):
            table.plan(name)


def test_what_a_strategy_is_set_beside() -> None:
    assert table.counterparts("full") == []
    assert table.counterparts("adapt+source+gradual+self-train") == [
        ("adapt", "source+gradual+self-train"),
        ("source", "adapt+gradual+self-train"),
        ("self-train", "adapt+source+gradual"),
        ("gradual", "adapt+source+full+self-train"),
    ]
    assert table.counterparts("contrastive") == [("contrastive", "linear-probe")]
    for name, row in STRATEGIES.items():
        for _, without in table.counterparts(name):
            assert STRATEGIES[without].starts_from == row.starts_from


def test_settings() -> None:
    plan = table.plan("full+self-train")
    settings: dict[str, dict[str, Any]] = {
        "full": {"epochs": 3},
        "full+self-train": {"epochs": 4},
        "self-train": {"rounds": 5},
    }
    config: Any = table.config_for(plan, settings)
    assert (config.strategy.epochs, config.self_train.rounds) == (4, 5)
    assert config.model_dump(mode="json")["epochs"] == 4
    assert config.model_dump(mode="json")["self_train"]["rounds"] == 5
    assert table.settings_faults(settings) == []
    faults = table.settings_faults({"self-train": {"round": 1}, "full+self-train": {"epoch": 1}})
    assert "Did you mean 'rounds'" in faults[0]
    assert "Did you mean 'epochs'" in faults[1]


def test_work_counts_every_round_and_the_last_fit() -> None:
    plan, plain = table.plan("full+self-train"), table.plan("full")
    sizes = {"validation": 20, "holdout": 0}
    config: Any = table.config_for(plan, {"self-train": {"rounds": 2, "pool": 100}})
    own = [table.work(plain, config.strategy, train=80, **sizes)]
    own += [table.work(plain, config.student, train=200, **sizes)] * 3
    teacher = table.work(table.plan("contrastive"), config.teacher, train=80, **sizes)
    assert table.work(plan, config, train=80, **sizes) == sum(own) + teacher + 4 * 100  # the last by two models
    itself: dict[str, dict[str, Any]] = {"self-train": {"pool": 100, "teacher": "itself"}, "full": {"refit": True}}
    config = table.config_for(plan, itself)
    own[0] = table.work(plain, config.strategy, train=80, **sizes)
    assert table.work(plan, config, train=80, **sizes) == sum(own[:3]) + 100


def test_who_teaches() -> None:
    def teacher(name: str, gru: bool = False, **stage: Any) -> Any:
        config: Any = table.config_for(table.plan(name), {"self-train": stage, "contrastive": {"steps": 7}}, gru=gru)
        return config.teacher

    assert teacher("full+self-train").steps == teacher("adapt+lora+self-train").steps == 7
    for name in ("tfidf+self-train", "scratch-transformer+self-train", "contrastive+self-train"):
        assert teacher(name) is None
    assert teacher("full+self-train", teacher="itself") is None
    assert teacher("full+self-train", gru=True) is None


def test_the_threshold_is_asked_of_calibrated_probabilities() -> None:
    """Right on 70% of validation and 0.8 sure of all: 0.95 of a text of the pool is 0.84 when made as sure as right."""
    task = with_pool(tiny_task(n=20, n_validation=30), 100)
    for confidence, some in ((0.8, True), (0.9, False)):
        found = run(Spy(0.7, pool=0.95), task, confidence=confidence, rounds=1).notes["self_train"]["rounds"]
        assert (sum(found[0]["added"].values()) > 0) is some


def test_the_teacher_labels_the_first_round_and_has_not_seen_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    task = with_pool(tiny_task(n=20, n_validation=30), 100)
    teacher, spy = Spy(0.7, pool=0.95), Spy(0.7, 0.8, pool=0.55)
    teach(monkeypatch, teacher)
    stage = SelfTrainConfig(confidence=0.7, rounds=2)
    config = settings_of(NoConfig(), stage, ContrastiveConfig())
    found = fit(task, spy, config).notes["self_train"]
    (given, settings), (_, last) = teacher.given
    assert given.train.texts == task.train.texts
    assert not settings.refit
    assert last.refit
    assert found["teacher"]["strategy"] == "contrastive"
    assert [sum(r["added"].values()) > 0 for r in found["rounds"]] == [True, False]  # the strategy itself is not sure
    assert config.model_dump(mode="json")["teacher"]["steps"] == ContrastiveConfig().steps


@pytest.mark.parametrize(
    ("right", "refit", "fits"), [((0.7, 0.8), True, 3), ((0.9, 0.2), True, 2), ((0.7, 0.8), False, 2)]
)
def test_a_refitted_teacher_teaches_the_model_that_is_handed_out(
    right: tuple[float, float], refit: bool, fits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where its round was kept; validation is never judged by what knows its labels."""
    task = with_pool(tiny_task(n=20, n_validation=30), 100)
    teacher, spy = Spy(0.7, pool=0.95), Spy(*right, 0.1)
    teach(monkeypatch, teacher)
    config = settings_of(NoConfig(), SelfTrainConfig(confidence=0.7), ContrastiveConfig(refit=refit))
    fitted = fit(task, spy, config)
    assert [settings.refit for _, settings in teacher.given] == [False] + [True] * (fits - 2)
    assert len(spy.given) == fits
    notes = fitted.notes["self_train"]
    kept = right[1] > right[0]
    assert fitted.notes["fit"] == (fits if kept else 1)
    share = (fitted.validation.argmax(axis=1) == task.validation.y).mean()
    assert share == pytest.approx(right[1] if kept else right[0], abs=0.02)
    assert ("refit" in notes) is (fits == 3)
    if fits == 3:
        assert notes["refit"]["added"] == notes["rounds"][0]["added"]
        texts = spy.given[2][0].train.texts
        assert texts[:20] == task.train.texts
        assert not set(texts[20:]) & set(task.validation.texts)


@pytest.mark.parametrize("given", [FullConfig(), FullConfig(refit=True)])
def test_the_model_handed_out_learns_every_label_and_texts_that_no_round_looked_at(
    given: FullConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = with_pool(tiny_task(n=20, n_validation=30), 100)
    teacher, spy = Spy(0.7, pool=0.95), Spy(0.7, 0.8)
    teach(monkeypatch, teacher)
    stage = SelfTrainConfig(pool=len(usable_pool(task)) // 2)
    fitted = fit(task, spy, settings_of(given, stage, ContrastiveConfig()))
    (_, first), (one_round, its), (last, settings) = spy.given
    assert first == given.model_copy(update={"refit": False})
    assert its == settings == student_of(given, stage)
    assert last.train.texts[:20] + last.train.texts[-30:] == task.train.texts + task.validation.texts
    assert last.train.y[-30:].tolist() == task.validation.y.tolist()
    rounds = [set(one_round.train.texts[20:]), set(last.train.texts[20:-30])]
    assert all(rounds)
    assert not rounds[0] & rounds[1]
    assert last.on_epoch is None
    assert fitted.epochs == [{"epoch": 2.0}], "epochs judged by texts that were trained on"
    assert (fitted.notes["fit"], fitted.notes["refit"]) == (3, True)


@pytest.mark.parametrize(("parts", "whose"), [(2, "both"), (1, "the teacher's")])
def test_the_rounds_model_has_a_say_where_it_was_not_trained(
    parts: int, whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Student and teacher say the opposite: with equal weights nothing is sure, else it is as the teacher has it."""
    task = with_pool(tiny_task(n=20, n_validation=30), 100)
    teach(monkeypatch, Spy(0.7, pool=0.95))
    size = len(usable_pool(task)) // parts
    config = settings_of(NoConfig(), SelfTrainConfig(pool=size), ContrastiveConfig())
    found = fit(task, Spy(0.7, 0.7, pool=0.95, other=True), config).notes["self_train"]
    assert found["rounds"][0]["kept"]
    assert found["refit"]["looked_at"] == size
    assert (sum(found["refit"]["added"].values()) > 0) is (whose == "the teacher's")


@pytest.mark.parametrize(("right", "kept"), [((0.6, 0.7, 0.8), [True, True]), ((0.6, 0.8, 0.7), [True, False])])
def test_the_last_fit_goes_on_behind_the_rounds(
    right: tuple[float, ...], kept: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = with_pool(tiny_task(n=20, n_validation=30), 150)
    teach(monkeypatch, Spy(0.7, pool=0.95))
    spy = Spy(*right)
    stage = SelfTrainConfig(rounds=2, pool=len(usable_pool(task)) // 3)
    fitted = fit(task, spy, settings_of(NoConfig(), stage, ContrastiveConfig()))
    assert [r["kept"] for r in fitted.notes["self_train"]["rounds"]] == kept
    added = [set(given.train.texts[20:]) for given, _ in spy.given]
    assert [bool(texts) for texts in added] == [False, True, True, True]
    assert len(set.union(*added)) == sum(map(len, added))
    assert fitted.notes["fit"] == 4
    assert fitted.epochs == [{"epoch": 3.0 if kept[1] else 2.0}]


def test_what_does_not_fine_tune_an_encoder_trains_as_it_always_does() -> None:
    def config_of(name: str, gru: bool = False) -> Any:
        return table.config_for(table.plan(name), {"full": {"layer_decay": 0.9, "keep": "best"}}, gru=gru)

    for name in ("scratch-transformer+self-train", "scratch-gru+self-train", "gradual+self-train"):
        assert config_of(name).student == config_of(name).strategy
    assert config_of("full+self-train", gru=True).student == config_of("full+self-train", gru=True).strategy
    assert config_of("full+self-train").student.layer_decay == 0.9
    for name in ("full", "partial", "lora", "source+lora"):
        student = config_of(f"{name}+self-train").student
        assert (student.epochs, student.keep) == (2, "last")


@pytest.mark.parametrize("refit", [True, False])
def test_without_another_teacher_validation_labels_join_where_the_strategy_refits(refit: bool) -> None:
    task = with_pool(tiny_task(n=20, n_validation=30), 100)
    spy = Spy(0.7, 0.8)
    given = FullConfig(refit=refit)
    fitted = fit(task, spy, settings_of(given, SelfTrainConfig()))
    assert len(spy.given) == (3 if refit else 2)
    assert fitted.notes["fit"] == len(spy.given)
    if refit:
        assert spy.given[2][0].train.texts == spy.given[1][0].train.texts + task.validation.texts


def test_a_comparison_takes_rows_with_a_blank_label(tmp_path: Path) -> None:
    import pandas as pd

    import headstart
    from headstart.records import read_json

    texts, y = separable_texts(160, seed=3)
    labels = [("bad", "good")[c] if at < 100 else None for at, c in enumerate(y)]
    frame = pd.DataFrame({"text": texts, "label": labels}).drop_duplicates("text")
    names = ["tfidf", "tfidf+self-train", "majority"]
    out = tmp_path / "out"
    found = headstart.compare(
        frame, strategies=names, encoder=None, holdout_size=40, tracking=False, out=str(out),
    )  # fmt: skip
    assert [row["status"] for row in found.record["strategies"]] == ["ok"] * 3
    notes = read_json(out / "fits/tfidf+self-train/seed-0/record.json")["notes"]["self_train"]
    assert notes["pool"] == found.record["rows"]["unlabeled"] > 0
    assert notes["rounds"][0]["added"]["bad"] == notes["rounds"][0]["added"]["good"] > 0
    without = headstart.compare(
        frame.dropna(), strategies=names, encoder=None, holdout_size=40, tracking=False, out=str(tmp_path / "without")
    )
    row = next(r for r in without.record["strategies"] if r["name"] == "tfidf+self-train")
    assert row["status"] == "skipped"
    assert "needs unlabeled texts" in row["reason"]
