"""The stage ``X+self-train``: X again, with its own confident predictions on unlabeled texts among its training texts.

Pseudo-labels (Lee 2013) as in self-training with a threshold and equal numbers per class. Predictions are made as sure
as they are right on validation (temperature scaling) before the threshold is asked. Validation decides when to stop and
how sure is sure, and nothing else: no model that was fitted on validation texts ever labels the pool.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_serializer

from headstart.data.examples import Examples
from headstart.data.rows import text_keys
from headstart.errors import StrategyError
from headstart.evaluation.calibration import scaled, temperature
from headstart.evaluation.metrics import score
from headstart.models.classifier import Probabilities
from headstart.strategies.task import Fit, Fitted, Task


class SelfTrainConfig(BaseModel):
    """Settings of the stage, under the name ``self-train``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rounds: int = Field(3, ge=1, description="most rounds after the first fit; ends when validation gets no better")
    confidence: float = Field(0.9, gt=0, lt=1, description="calibrated probability from which a prediction is used")
    surest: float = Field(
        0.5, ge=0, lt=1, description="share of a class's predictions (0-1) that may be used though less confident"
    )
    least_confidence: float = Field(
        0.7, ge=0, lt=1, description="calibrated probability below which none of these is used either"
    )
    growth: float = Field(
        3.0,
        gt=0,
        description="round r adds up to r times this share of the number of training texts, all classes alike",
    )
    pool: int = Field(5000, ge=1, description="most unlabeled texts looked at, drawn by the seed")


class SelfTrained(BaseModel):
    """Settings of a strategy with this stage behind it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: BaseModel
    self_train: SelfTrainConfig

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        return {**self.strategy.model_dump(mode="json"), "self_train": self.self_train.model_dump(mode="json")}


def fit(task: Task, strategy: Fit, config: SelfTrained) -> Fitted:
    """Fit, label the pool, fit again from the same start with what was labeled; keep the round that validates best.

    Raises:
        StrategyError: there are no unlabeled texts, or they lack what the training texts have.
    """
    pool = usable_pool(task, config.self_train)
    own = config.strategy
    refit = bool(getattr(own, "refit", False))
    # A refit model has seen the validation labels: what it says of the pool may not be judged on validation.
    plain = own.model_copy(update={"refit": False}) if refit else own
    first = best = _Round.of(task, strategy(task, plain))
    rounds: list[dict[str, Any]] = []
    for number in range(1, config.self_train.rounds + 1):
        labeled = confident(best.label(pool), pool, task, config.self_train, number)
        if not len(labeled):
            rounds.append({"round": number, "added": _counts(task, labeled), "kept": False})
            break
        grown = replace(task, train=task.train.concat(labeled))
        again = _Round.of(grown, strategy(grown, plain))
        kept = again.log_loss < best.log_loss
        rounds.append({"round": number, "added": _counts(task, labeled), "kept": kept, **again.figures()})
        if not kept:
            break
        best = again
    fitted = strategy(best.task, own) if refit else best.fitted
    notes = {"pool": len(pool), "first": first.figures(), "rounds": rounds, "temperature": best.temperature}
    return replace(fitted, notes=fitted.notes | {"self_train": notes})


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

    Where only one class has any, none is returned: more of one class alone would only say which is more frequent. They
    are drawn at random: the surest of all say what the training texts say already (on hotel remarks they made `full`
    worse, random ones better).

    Args:
        proba: calibrated probabilities of the pool, shape (N, C).
        pool: N unlabeled texts.
        task: its training texts give the classes and the most that a round adds.
        config: threshold and growth.
        number: of the round, from 1.
    """
    predicted, sure = proba.argmax(axis=1), proba.max(axis=1)  # (N,)
    classes = np.unique(task.train.y)
    candidates = [_sure_rows(np.flatnonzero(predicted == c), sure, config) for c in classes]
    candidates = [rows for rows in candidates if len(rows)]
    most = int(number * config.growth * len(task.train) / len(classes))
    each = min(most, *(len(rows) for rows in candidates)) if len(candidates) > 1 else 0
    generator = np.random.default_rng([task.seed, number])
    drawn = [generator.permutation(rows)[:each] for rows in candidates]
    chosen = np.sort(np.concatenate(drawn)) if drawn else np.empty(0, dtype=np.int64)
    return replace(pool.take(chosen), y=predicted[chosen].astype(np.int64))


def _sure_rows(
    rows: npt.NDArray[np.int64], sure: npt.NDArray[np.float64], config: SelfTrainConfig
) -> npt.NDArray[np.int64]:
    """Return the rows (M,) of one class that are confident, or among the surest of the class and not too unsure."""
    if not len(rows):
        return rows
    among = np.quantile(sure[rows], 1 - config.surest) if config.surest else 1.0
    kept: npt.NDArray[np.int64] = rows[sure[rows] >= min(config.confidence, max(config.least_confidence, among))]
    return kept


@dataclass(frozen=True)
class _Round:
    """One fit, judged on validation at the temperature that suits it best."""

    task: Task
    fitted: Fitted
    temperature: float
    log_loss: float

    @classmethod
    def of(cls, task: Task, fitted: Fitted) -> _Round:
        y = task.validation.y
        own = temperature(y, fitted.validation)
        loss = score("log_loss", y, scaled(fitted.validation, own))
        return cls(task, fitted, own, float("inf") if loss is None else loss)

    def label(self, pool: Examples) -> Probabilities:
        """Return calibrated probabilities of the pool, shape (N, C)."""
        return scaled(self.fitted.classifier.predict_proba(pool), self.temperature)

    def figures(self) -> dict[str, float]:
        return {"validation_log_loss": self.log_loss, "temperature": self.temperature}


def _counts(task: Task, labeled: Examples) -> dict[str, int]:
    counts: npt.NDArray[np.int64] = np.bincount(labeled.y, minlength=len(task.labels))
    return {name: int(n) for name, n in zip(task.labels.names, counts, strict=True)}
