"""``partial``: the lower layers stay as they are; the top ones, or what a pattern names, are trained."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, field_validator

from headstart.errors import ConfigError
from headstart.models.layers import layer_groups, top_third
from headstart.models.loading import layer_list
from headstart.models.network import NetworkClassifier
from headstart.strategies.fine_tuning import fine_tune, pretrained
from headstart.strategies.task import Fitted, Task
from headstart.training.loop import TrainingConfig


class PartialConfig(TrainingConfig):
    """Settings of ``partial``; fresh parameters (the head) are always trained."""

    learning_rate: float = Field(2e-4, gt=0, description="peak learning rate")
    epochs: int = Field(5, ge=1, description="most passes over the training texts")
    top_layers: int | None = Field(None, ge=0, description="train this many top layers; by default the top third")
    pattern: str | None = Field(
        None, description=r"regular expression over parameter names to train instead, e.g. 'layer\.(4|5)\.'"
    )

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as problem:
                raise ValueError(f"'{value}' is not a regular expression: {problem}") from problem
        return value


def fit(task: Task, config: PartialConfig) -> Fitted:
    """Train the chosen parameters; the others stay bit-identical."""

    def build() -> NetworkClassifier:
        classifier, fresh = pretrained(task)
        train_only(classifier.model, fresh, config)
        return classifier

    return fine_tune(task, build, config)


def train_only(model: Any, fresh: set[str], config: PartialConfig) -> None:
    """Set ``requires_grad`` on the chosen and the fresh parameters only, in place.

    Raises:
        ConfigError: the pattern names no parameter, or there are not so many layers.
    """
    chosen = _by_pattern(model, config.pattern) if config.pattern else _by_layers(model, config.top_layers)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen or name in fresh)


def _by_pattern(model: Any, pattern: str) -> set[str]:
    chosen = {name for name, _ in model.named_parameters() if re.search(pattern, name)}
    if not chosen:
        some = [name for name, _ in model.named_parameters()][::20]
        raise ConfigError(
            f"pattern '{pattern}' names no parameter of this encoder; names look like {', '.join(some[:4])} "
            "(`headstart inspect ENCODER` lists them all; settings: partial: {pattern: ...})"
        )
    return chosen


def _by_layers(model: Any, top_layers: int | None) -> set[str]:
    """Return parameters of the top layers and of everything outside the layers that comes after them (the head)."""
    groups = layer_groups(model)
    if model.config.model_type == "headstart_gru":
        return {name for group in groups[:-1] for name in group.parameters}
    _, layers = layer_list(model)
    count = top_third(len(layers)) if top_layers is None else top_layers
    if count > len(layers):
        raise ConfigError(f"top_layers is {count}, but this encoder has {len(layers)} (settings: partial: top_layers)")
    return {name for group in groups[: 1 + count] for name in group.parameters}
