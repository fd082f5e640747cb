"""The stage ``X+self-train``: X again, with confident predictions on unlabeled texts among its training texts.

Pseudo-labels (Lee 2013) with a threshold and equal numbers per class. The teacher predicts first: ``contrastive`` where
X starts from an encoder, for with few labels it is right more often than X, and wrong elsewhere (docs/few_labels.md has
the figures). In later rounds X predicts, as it was trained last. Predictions are made as sure as they are right on
validation (temperature scaling) before the threshold is asked. Validation decides when to stop and how sure is sure:
no model that was fitted on validation texts labels the pool for a fit that validation judges. When all is decided, the
teacher is fitted once more on the validation labels too, and what it then says of the pool teaches the model that is
handed out: a fifth more labels made a teacher of hotel remarks three points better.
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
    pool: int = Field(4000, ge=1, description="most unlabeled texts looked at, drawn by the seed")


class SelfTrained(BaseModel):
    """Settings of a strategy with this stage behind it.

    Attributes:
        strategy: the strategy's own.
        self_train: the stage's.
        teacher: of the teacher; None where the strategy is its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: BaseModel
    self_train: SelfTrainConfig
    teacher: ContrastiveConfig | None = None

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        own = {**self.strategy.model_dump(mode="json"), "self_train": self.self_train.model_dump(mode="json")}
        return own if self.teacher is None else {**own, "teacher": self.teacher.model_dump(mode="json")}


def fit(task: Task, strategy: Fit, config: SelfTrained) -> Fitted:
    """Fit, label the pool, fit again from the same start with what was labeled, perhaps once more.

    The first round is what was asked for: it is kept unless validation is worse by more than two standard errors, for
    one of 20 validation texts can outweigh what all others gained. A further one is kept if validation is better, and
    the first that is not ends it. Where only the teacher's round was kept, and the teacher can be refitted on training
    and validation texts, that one labels the pool for the last fit; the validation probabilities are those of the fit
    that was judged.

    Raises:
        StrategyError: there are no unlabeled texts, or they lack what the training texts have.
    """
    pool = usable_pool(task, config.self_train)
    own = config.strategy
    # A refit model has seen the validation labels: what it says of the pool may not be judged on validation.
    plain = _without_refit(own)
    first = best = _Round.of(task, strategy(task, plain))
    notes: dict[str, Any] = {"pool": len(pool), "first": first.figures()}
    teacher = first
    if config.teacher is not None:
        teacher = _Round.of(task, contrastive.fit(task, _without_refit(config.teacher)))
        notes["teacher"] = {"strategy": config.self_train.teacher, **teacher.figures()}
    first_teacher = teacher
    rounds: list[dict[str, Any]] = []
    for number in range(1, config.self_train.rounds + 1):
        labeled = confident(teacher.label(pool), pool, task, config.self_train, number)
        if not len(labeled):
            rounds.append({"round": number, "added": _counts(task, labeled), "kept": False})
            break
        grown = replace(task, train=task.train.concat(labeled))
        again = _Round.of(grown, strategy(grown, plain))
        worse, error = again.worse_than(best)
        kept = worse <= 2 * error if number == 1 else worse < 0
        rounds.append({"round": number, "added": _counts(task, labeled), "kept": kept, **again.figures()})
        if not kept:
            break
        teacher = best = again
    notes |= {"rounds": rounds, "temperature": best.temperature}
    last = best.task
    if config.teacher is not None and config.teacher.refit and sum(r["kept"] for r in rounds) == 1:
        again = replace(first_teacher, fitted=contrastive.refit(task, config.teacher, first_teacher.fitted))
        labeled = confident(again.label(pool), pool, task, config.self_train, 1)
        last = replace(task, train=task.train.concat(labeled)) if len(labeled) else last
        notes["refit"] = {"added": _counts(task, labeled)}
    fitted = best.fitted if last is best.task and plain is own else strategy(last, own)
    return replace(fitted, validation=best.fitted.validation, notes=fitted.notes | {"self_train": notes})


def _without_refit(config: Any) -> Any:
    return config.model_copy(update={"refit": False}) if getattr(config, "refit", False) else config


def usable_pool(task: Task, config: SelfTrainConfig) -> Examples:
    """Return the unlabeled texts to look at: none that is also a training or validation text, and each once.

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
    return pool.take(np.sort(np.random.default_rng(task.seed).permutation(rows)[: config.pool]))


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
