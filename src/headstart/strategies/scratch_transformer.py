"""``scratch-transformer``: the encoder's architecture with random weights, or one of your own sizes."""

from __future__ import annotations

import copy
from typing import Any

from pydantic import Field

from headstart.errors import ConfigError
from headstart.models.loading import load_tokenizer, new_classifier
from headstart.models.network import NetworkClassifier
from headstart.strategies.fine_tuning import fine_tune
from headstart.strategies.task import Fitted, Task
from headstart.training.loop import TrainingConfig

# What each size is called in the configurations of the architectures (BERT's kin first, DistilBERT's second).
_NAMES = {
    "layers": ("num_hidden_layers", "n_layers", "n_layer"),
    "hidden_size": ("hidden_size", "dim", "d_model"),
    "intermediate_size": ("intermediate_size", "hidden_dim", "d_inner"),
    "heads": ("num_attention_heads", "n_heads", "n_head"),
}
_DROPOUTS = ("hidden_dropout_prob", "dropout", "mlp_dropout", "embedding_dropout", "classifier_dropout")


class ScratchTransformerConfig(TrainingConfig):
    """Settings of ``scratch-transformer``; sizes left out are the encoder's own."""

    # At 2e-4, twelve layers learned nothing in one to two of three seeds (docs/defaults.md).
    learning_rate: float = Field(1e-4, gt=0, description="peak learning rate")
    epochs: int = Field(8, ge=1, description="most passes over the training texts")
    layers: int | None = Field(None, ge=1, description="number of layers")
    hidden_size: int | None = Field(None, ge=1, description="width")
    intermediate_size: int | None = Field(None, ge=1, description="width of the feed-forward part")
    heads: int | None = Field(None, ge=1, description="attention heads; the width must be a multiple of it")
    dropout: float | None = Field(None, ge=0, lt=1, description="dropout of hidden states")


def fit(task: Task, config: ScratchTransformerConfig) -> Fitted:
    """Train random weights."""
    tokenizer = load_tokenizer(task.start.folder)

    def build() -> NetworkClassifier:
        model = new_classifier(sized(task.start.config, config), task.labels, seed=task.seed)
        return NetworkClassifier(model, tokenizer, task.labels, task.text, task.runtime)

    return fine_tune(task, build, config)


def sized(config: Any, sizes: ScratchTransformerConfig) -> Any:
    """Return a copy of a transformers configuration with the given sizes.

    Raises:
        ConfigError: the architecture has no such size, or width and heads do not fit.
    """
    changed = copy.deepcopy(config)
    for key, names in _NAMES.items():
        value = getattr(sizes, key)
        if value is None:
            continue
        known = [n for n in names if hasattr(changed, n)]
        if not known:
            raise ConfigError(f"a '{config.model_type}' has no {key} to set (settings: scratch-transformer: {key})")
        setattr(changed, known[0], value)
    for name in _DROPOUTS if sizes.dropout is not None else ():
        if getattr(changed, name, None) is not None:
            setattr(changed, name, sizes.dropout)
    width, heads = getattr(changed, "hidden_size", None), getattr(changed, "num_attention_heads", None)
    if width and heads and width % heads:
        raise ConfigError(f"hidden_size {width} is not a multiple of heads {heads} (settings: scratch-transformer)")
    return changed
