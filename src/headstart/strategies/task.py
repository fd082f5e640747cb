"""What a strategy is given and what it gives back. The holdout is not among it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from headstart.data.examples import Examples
from headstart.data.labels import Labels
from headstart.models.batching import TextSettings
from headstart.models.classifier import Advance, Classifier, Probabilities
from headstart.models.encoders import Encoder
from headstart.models.runtime import Runtime


class NoConfig(BaseModel):
    """A strategy without settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class SourceModel:
    """A classifier of another domain, on disk.

    Attributes:
        encoder: its folder.
        labels: its own labels, in its class order.
        order: for each target class the source class that means the same, or None where the labels do not match.
        mismatch: why they do not match, in the user's words; empty where they do.
    """

    encoder: Encoder
    labels: Labels
    order: tuple[int, ...] | None
    mismatch: str = ""


@dataclass(frozen=True)
class Task:
    """One fit's inputs.

    Attributes:
        labels: C target labels.
        train: fitted on.
        validation: early stopping and every choice.
        text: maximum length and truncation.
        runtime: device and precision.
        seed: of initialization, order and dropout.
        encoder: where to start from; None where the comparison has no encoder.
        keep_head: the encoder folder brings a head for exactly these labels, to be kept (``source+``).
        source: classifier of another domain, or None.
        unlabeled: texts of the target without labels (``y`` = -1), none of the holdout's unless asked for, or None.
        class_weights: weight per class, shape (C,), or None.
        cache: folder for features that are never computed twice, or None.
        columns: named extra columns.
        advance: told how many texts of work were done.
        on_epoch: told each epoch's figures.
    """

    labels: Labels
    train: Examples
    validation: Examples
    text: TextSettings
    runtime: Runtime
    seed: int
    encoder: Encoder | None = None
    keep_head: bool = False
    source: SourceModel | None = None
    unlabeled: Examples | None = None
    class_weights: npt.NDArray[np.float64] | None = None
    cache: Path | None = None
    threads: int = 1
    advance: Advance | None = None
    on_epoch: Callable[[dict[str, float]], None] | None = None

    @property
    def start(self) -> Encoder:
        """The encoder, for a strategy that needs one (the table says so, and the experiment has checked)."""
        assert self.encoder is not None
        return self.encoder


@dataclass(frozen=True)
class Fitted:
    """One fit's result.

    Attributes:
        classifier: ready to predict.
        validation: probabilities of the validation texts, shape (N, C), by a model that has not seen them.
        parameters_trained: how many numbers were fitted.
        epochs: figures per epoch, empty for heads that are solved.
        trained: names of the trained parameters as they are saved, where not all of them were.
        notes: what was chosen, for the record (``best_epoch``, ``regularization``, ...).
    """

    classifier: Classifier
    validation: Probabilities
    parameters_trained: int
    epochs: list[dict[str, float]] = field(default_factory=list)
    trained: tuple[str, ...] | None = None
    notes: dict[str, Any] = field(default_factory=dict)


class Fit(Protocol):
    """A strategy is a function with this signature."""

    def __call__(self, task: Task, config: Any) -> Fitted:
        """Fit on ``task.train``, choose on ``task.validation``."""
        ...
