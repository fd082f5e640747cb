"""The stage ``X+self-train``: X again, with confident predictions on unlabeled texts among its training texts.

Pseudo-labels (Lee 2013) with a threshold and equal numbers per class. The teacher predicts first: ``contrastive`` where
X starts from an encoder, for with few labels it is right more often than X, and wrong elsewhere (docs/few_labels.md has
the figures). In later rounds X predicts, as it was trained last, and each round looks at texts that none has looked at
while there are any. Predictions are made as sure as they are right on validation (temperature scaling) before the
threshold is asked.

Thousands of texts are another task than a hundred: `full`, `partial` and `lora` make a few passes whose rate falls to
zero, and the last is kept. The validation texts of few labels are too few to tell epochs apart, and an epoch in the
middle of a schedule for many more is no model to keep.

Validation decides when to stop and how sure is sure: no model that was fitted on validation texts labels the pool for a
round that validation judges. When all is decided, the teacher is fitted once more on the validation labels too, and
what it and the last round's model then say of further texts teaches the model that is handed out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_serializer

from headstart.data.examples import Examples
from headstart.data.rows import text_keys
from headstart.errors import StrategyError
from headstart.evaluation.calibration import scaled, temperature
from headstart.models.classifier import Probabilities
from headstart.strategies import contrastive
from headstart.strategies.contrastive import ContrastiveConfig
from headstart.strategies.full import FullConfig
from headstart.strategies.lora import LoraConfig
from headstart.strategies.partial import PartialConfig
from headstart.strategies.task import Fit, Fitted, Task


class SelfTrainConfig(BaseModel):
    """Settings of the stage, under the name ``self-train``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    teacher: Literal["contrastive", "itself"] = Field(
        "contrastive",
        description="who labels the texts first; a strategy that starts from no encoder always does it itself",
    )
    rounds: int = Field(
        1, ge=1, description="most rounds after the first fit; ends with one that validation does not confirm"
    )
    confidence: float = Field(0.6, gt=0, lt=1, description="calibrated probability from which a prediction is used")
    pool: int = Field(4000, ge=1, description="most unlabeled texts that a round looks at, drawn by the seed")
    epochs: int = Field(
        2, ge=1, description="passes of `full`, `partial` and `lora` over the texts of a round; the last is kept"
    )
    learning_rate_share: float = Field(
        0.5, gt=0, description="peak learning rate of those passes, as a share of the strategy's own"
    )


class SelfTrained(BaseModel):
    """Settings of a strategy with this stage behind it.

    Attributes:
        strategy: the strategy's own.
        self_train: the stage's.
        student: the strategy's in a round, where thousands of texts are trained on.
        teacher: of the teacher; None where the strategy is its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: BaseModel
    self_train: SelfTrainConfig
    student: BaseModel
    teacher: ContrastiveConfig | None = None

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        own = {**self.strategy.model_dump(mode="json"), "self_train": self.self_train.model_dump(mode="json")}
        return own if self.teacher is None else {**own, "teacher": self.teacher.model_dump(mode="json")}


def fit(task: Task, strategy: Fit, config: SelfTrained) -> Fitted:
    """Fit, label some of the pool, fit again from the same start with what was labeled, perhaps once more.

    The first round is what was asked for: it is kept unless validation is worse by more than two standard errors, for
    one of 20 validation texts can outweigh what all others gained. A further one is kept if validation is better, and
    the first that is not ends it. Where a round was kept, and another strategy teaches and is refitted, a last fit
    follows that is not judged: on the validation labels too, with what the refitted teacher says of the next texts of
    the pool, and the best round's model where it was not trained on them. Without such a teacher X is fitted once more
    where it refits itself. Validation probabilities and epochs are those of the fit that was judged.

    Raises:
        StrategyError: there are no unlabeled texts, or they lack what the training texts have.
    """
    stage, pool = config.self_train, usable_pool(task)
    # A refit model has seen the validation labels: what it says of the pool may not be judged on validation.
    best = teacher = _Round.of(task, strategy(task, _without_refit(config.strategy)))
    notes: dict[str, Any] = {"pool": len(pool), "first": best.figures()}
    if config.teacher is not None:
        teacher = _Round.of(task, contrastive.fit(task, _without_refit(config.teacher)))
        notes["teacher"] = {"strategy": stage.teacher, **teacher.figures()}
    taught = teacher
    rounds: list[dict[str, Any]] = []
    for number in range(1, stage.rounds + 1):
        looked_at = part(pool, stage, number)
        labeled = confident(taught.label(looked_at), looked_at, task, stage, number)
        rounds.append({"round": number, "looked_at": len(looked_at), "added": _counts(task, labeled), "kept": False})
        if not len(labeled):
            break
        grown = replace(task, train=task.train.concat(labeled))
        again = _Round.of(grown, strategy(grown, _without_refit(config.student)))
        worse, error = again.worse_than(best)
        kept = worse <= 2 * error if number == 1 else worse < 0
        rounds[-1] |= {"kept": kept, **again.figures()}
        if not kept:
            break
        taught = best = again
    notes |= {"rounds": rounds, "temperature": best.temperature}
    any_kept = best.task is not task
    last, settings = best.task, config.student if any_kept else config.strategy
    refits = _refits(config.strategy)
    if any_kept and config.teacher is not None and config.teacher.refit:
        refits = True
        teacher = replace(teacher, fitted=contrastive.refit(task, config.teacher, teacher.fitted))
        number = len(rounds) + 1
        looked_at = part(pool, stage, number)
        proba = teacher.label(looked_at)
        if number * stage.pool <= len(pool):  # of what it was trained on, the round's model repeats what it was told
            proba = (proba + best.label(looked_at)) / 2
        labeled = confident(proba, looked_at, task, stage, number)
        notes["refit"] = {"looked_at": len(looked_at), "added": _counts(task, labeled)}
        last = replace(task, train=task.train.concat(labeled)) if len(labeled) else last
    fitted = best.fitted
    if refits:
        if any_kept and not _refits(settings) and getattr(settings, "keep", "best") == "last":
            last = replace(last, train=last.train.concat(task.validation))  # which chooses nothing in this fit
        fitted = strategy(replace(last, on_epoch=None), settings)
        notes_of_fit = fitted.notes | ({"refit": True} if "refit" in fitted.notes else {})
        fitted = replace(fitted, validation=best.fitted.validation, epochs=best.fitted.epochs, notes=notes_of_fit)
    return replace(fitted, notes=fitted.notes | {"self_train": notes})


def student_of(config: BaseModel, stage: SelfTrainConfig) -> BaseModel:
    """Return a strategy's settings for a round: ``full``, ``partial`` and ``lora`` make few passes and keep the last.

    The others keep their own: ``gradual`` thaws epoch by epoch, the rest is not trained for epochs or not pretrained.
    """
    if not isinstance(config, FullConfig | PartialConfig | LoraConfig):
        return config
    rate = config.learning_rate * stage.learning_rate_share
    return config.model_copy(update={"epochs": stage.epochs, "learning_rate": rate, "keep": "last", "refit": False})


def _refits(config: Any) -> bool:
    return bool(getattr(config, "refit", False))


def _without_refit(config: Any) -> Any:
    return config.model_copy(update={"refit": False}) if _refits(config) else config


def usable_pool(task: Task) -> Examples:
    """Return the unlabeled texts that are not also training or validation texts, each once, in the seed's order.

    Raises:
        StrategyError: there are none, or they lack second texts or columns that the training texts have.
    """
    pool = task.unlabeled
    if pool is None or not len(pool):
        raise StrategyError("needs unlabeled texts: rows whose label is blank, or --unlabeled FILE; there are none")
    if (pool.pairs is None) != (task.train.pairs is None) or (pool.columns is None) != (task.train.columns is None):
        raise StrategyError("the unlabeled texts need the same text and feature columns as the labeled ones")
    known = {key for part in (task.train, task.validation) for key in text_keys(part.texts, part.pairs)}
    first = {key: row for row, key in reversed(list(enumerate(text_keys(pool.texts, pool.pairs)))) if key not in known}
    rows = np.sort(np.fromiter(first.values(), dtype=np.int64, count=len(first)))
    if not len(rows):
        raise StrategyError("needs unlabeled texts that are not also training or validation texts; there are none")
    return pool.take(np.random.default_rng(task.seed).permutation(rows))


def part(pool: Examples, config: SelfTrainConfig, number: int) -> Examples:
    """Return the texts that a round, counted from 1, looks at: those that none before it did, then the first again."""
    size = min(config.pool, len(pool))
    return pool.take(np.sort(np.arange((number - 1) * size, number * size) % len(pool)))


def confident(proba: Probabilities, pool: Examples, task: Task, config: SelfTrainConfig, number: int) -> Examples:
    """Return confident texts of the pool with their predicted labels, equally many of each class that has any.

    Where only one class has any, none is returned: more of one class alone would only say which is more frequent. Of a
    class with more they are drawn at random: the surest of all say what the training texts say already.

    Args:
        proba: calibrated probabilities of the pool, shape (N, C).
        pool: N unlabeled texts.
        task: its training texts give the classes.
        config: the threshold.
        number: of the round, from 1.
    """
    predicted, sure = proba.argmax(axis=1), proba.max(axis=1) >= config.confidence  # (N,)
    candidates = [np.flatnonzero(sure & (predicted == c)) for c in np.unique(task.train.y)]
    candidates = [rows for rows in candidates if len(rows)]
    each = min(len(rows) for rows in candidates) if len(candidates) > 1 else 0
    generator = np.random.default_rng([task.seed, number])
    drawn = [generator.permutation(rows)[:each] for rows in candidates]
    chosen = np.sort(np.concatenate(drawn)) if drawn else np.empty(0, dtype=np.int64)
    return replace(pool.take(chosen), y=predicted[chosen].astype(np.int64))


@dataclass(frozen=True)
class _Round:
    """One fit, judged on validation at the temperature that suits it best; ``losses`` (N,) are its log losses there."""

    task: Task
    fitted: Fitted
    temperature: float
    losses: npt.NDArray[np.float64]

    @classmethod
    def of(cls, task: Task, fitted: Fitted) -> _Round:
        y = task.validation.y
        own = temperature(y, fitted.validation)
        likelihood = scaled(fitted.validation, own)[np.arange(len(y)), y]
        return cls(task, fitted, own, -np.log(np.clip(likelihood, 1e-12, None)))

    def worse_than(self, other: _Round) -> tuple[float, float]:
        """Return how much larger the mean validation log loss is than another's, and the standard error of that."""
        by_text = self.losses - other.losses  # (N,)
        return float(by_text.mean()), float(by_text.std() / np.sqrt(len(by_text)))

    def label(self, pool: Examples) -> Probabilities:
        """Return calibrated probabilities of the pool, shape (N, C)."""
        return scaled(self.fitted.classifier.predict_proba(pool), self.temperature)

    def figures(self) -> dict[str, float]:
        return {"validation_log_loss": float(self.losses.mean()), "temperature": self.temperature}


def _counts(task: Task, labeled: Examples) -> dict[str, int]:
    counts: npt.NDArray[np.int64] = np.bincount(labeled.y, minlength=len(task.labels))
    return {name: int(n) for name, n in zip(task.labels.names, counts, strict=True)}
