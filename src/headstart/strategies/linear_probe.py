"""``linear-probe``: logistic regression on the frozen encoder's mean-pooled features."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from headstart.models.features import FeatureExtractor
from headstart.models.frozen import FrozenClassifier, LinearHead
from headstart.strategies.features import extractor_of
from headstart.strategies.linear import choose_strength, logistic
from headstart.strategies.task import Fitted, Task

Floats = npt.NDArray[np.float64]


class LinearProbeConfig(BaseModel):
    """Settings of ``linear-probe``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strengths: tuple[float, ...] = Field(
        (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1), description="inverse L2 penalties to choose among"
    )
    layer: int = Field(-1, description="which layer's states are averaged; -1 the last")
    refit: bool = Field(True, description="fit again on train + validation with the chosen penalty")


def fit(task: Task, config: LinearProbeConfig) -> Fitted:
    """Choose the penalty on validation, then fit on everything (unless told otherwise)."""
    extractor = extractor_of(task, layer=config.layer)
    return probe(task, extractor, strengths=config.strengths, refit=config.refit)


def probe(task: Task, extractor: FeatureExtractor, *, strengths: tuple[float, ...], refit: bool) -> Fitted:
    """Fit logistic regression on the features of an encoder.

    Args:
        task: the task.
        extractor: the encoder.
        strengths: inverse L2 penalties to choose among, on validation.
        refit: fit again on train + validation with the chosen one.
    """
    raw = extractor(task.train, task.advance).astype(np.float64)  # (N, D)
    raw_validation = extractor(task.validation, task.advance).astype(np.float64)
    mean, scale = _standard(raw)
    C = len(task.labels)
    strength, validation = choose_strength(
        (raw - mean) / scale,
        task.train.y,
        (raw_validation - mean) / scale,
        task.validation.y,
        C,
        strengths,
        task.class_weights,
    )
    y = task.train.y
    if refit:
        raw, y = np.concatenate([raw, raw_validation]), np.concatenate([y, task.validation.y])
        mean, scale = _standard(raw)
    head = LinearHead(mean, scale, *logistic((raw - mean) / scale, y, C, strength, task.class_weights))
    classifier = FrozenClassifier(extractor, head, task.labels)
    return Fitted(classifier, validation, head.parameters(), notes={"strength": strength, "refit": refit})


def _standard(raw: Floats) -> tuple[Floats, Floats]:  # (N, D) -> (D,), (D,)
    scale = raw.std(axis=0)
    return raw.mean(axis=0), np.where(scale > 1e-8, scale, 1.0)
