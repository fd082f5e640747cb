"""``tfidf``: logistic regression on word 1-2-gram TF-IDF; half a second, and hard to beat."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from headstart.errors import StrategyError, counted
from headstart.models.baselines import TfidfClassifier, new_vectorizer
from headstart.strategies.linear import choose_strength, logistic
from headstart.strategies.task import Fitted, Task


class TfidfConfig(BaseModel):
    """Settings of ``tfidf``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strengths: tuple[float, ...] = Field((1.0, 10.0, 100.0), description="inverse L2 penalties to choose among")
    sublinear: bool = Field(True, description="count a word 1 + log(times)")
    min_count: int = Field(1, ge=1, description="texts that a term must occur in")
    refit: bool = Field(True, description="fit again on train + validation with the chosen penalty")


def fit(task: Task, config: TfidfConfig) -> Fitted:
    """Choose the penalty on validation, then fit on everything (unless told otherwise).

    Raises:
        StrategyError: no term occurs in as many texts as asked for.
    """
    vectorizer, X = _vectorize(task.train.joined(), config)
    X_validation = vectorizer.transform(task.validation.joined())
    C = len(task.labels)
    strength, validation = choose_strength(
        X, task.train.y, X_validation, task.validation.y, C, config.strengths, task.class_weights
    )
    y: npt.NDArray[np.int64] = task.train.y
    if config.refit:
        vectorizer, X = _vectorize(task.train.joined() + task.validation.joined(), config)
        y = np.concatenate([y, task.validation.y])
    classifier = TfidfClassifier(vectorizer, *logistic(X, y, C, strength, task.class_weights), task.labels)
    notes = {"strength": strength, "terms": X.shape[1], "refit": config.refit}
    return Fitted(classifier, validation, classifier.parameters(), notes=notes)


def _vectorize(texts: list[str], config: TfidfConfig) -> tuple[Any, Any]:
    vectorizer = new_vectorizer(sublinear=config.sublinear, min_count=config.min_count)
    try:
        return vectorizer, vectorizer.fit_transform(texts)
    except ValueError as problem:
        raise StrategyError(
            f"no word or word pair is in {config.min_count} of {counted(len(texts), 'text', 'texts')}; "
            "lower min_count, or check --text"
        ) from problem
