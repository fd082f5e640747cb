"""``full``: fine-tuning of every weight."""

from __future__ import annotations

from headstart.strategies.fine_tuning import fine_tune, pretrained
from headstart.strategies.task import Fitted, Task
from headstart.training.loop import TrainingConfig


class FullConfig(TrainingConfig):
    """Settings of ``full``."""


def fit(task: Task, config: FullConfig) -> Fitted:
    """Train encoder and head together."""
    return fine_tune(task, lambda: pretrained(task)[0], config)
