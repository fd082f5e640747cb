"""``full``: fine-tuning of every weight."""

from __future__ import annotations

from functools import partial

from pydantic import Field

from headstart.strategies.fine_tuning import fine_tune, pretrained
from headstart.strategies.task import Fitted, Task
from headstart.training.layered import Layered
from headstart.training.loop import TrainingConfig


class FullConfig(TrainingConfig):
    """Settings of ``full``."""

    learning_rate: float = Field(1e-4, gt=0, description="peak learning rate")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="each layer's rate as a share of that of the layer above; 1: all rates are equal"
    )


def fit(task: Task, config: FullConfig) -> Fitted:
    """Train encoder and head together."""
    layered = None if config.layer_decay == 1 else partial(Layered.of, factor=1 / config.layer_decay)
    return fine_tune(task, lambda: pretrained(task)[0], config, layered=layered)
