"""``scratch-gru``: token embedding, bidirectional GRU, dense + batch norm + dropout; the classic baseline."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from headstart.models.gru import GruConfig, build_tokenizer
from headstart.models.loading import new_classifier
from headstart.models.network import NetworkClassifier
from headstart.strategies.fine_tuning import fine_tune
from headstart.strategies.task import Fitted, Task
from headstart.training.loop import TrainingConfig

# What suits a GRU that goes on from a source; from random weights it wants a higher rate (docs/defaults.md). Batch norm
# sees whole steps: they are not split.
RATES: dict[str, Any] = {"learning_rate": 3e-3, "epochs": 15, "batch_size": 32, "patience": 3, "step_tokens": 1 << 20}


class ScratchGruConfig(TrainingConfig):
    """Settings of ``scratch-gru``."""

    learning_rate: float = Field(5e-3, gt=0, description="peak learning rate")
    epochs: int = Field(RATES["epochs"], ge=1, description="most passes over the training texts")
    batch_size: int = Field(RATES["batch_size"], ge=2, description="texts per optimizer step")
    patience: int = Field(
        RATES["patience"], ge=1, description="epochs without a better validation log loss before stopping"
    )
    step_tokens: int = Field(RATES["step_tokens"], ge=1, description="most padded tokens computed at once")
    embedding_size: int = Field(64, ge=1, description="width of the token embedding")
    hidden_size: int = Field(50, ge=1, description="width of the GRU in each direction")
    dense_size: int = Field(64, ge=1, description="width of the dense layer")
    dropout: float = Field(0.3, ge=0, lt=1, description="dropout before and after the dense layer")
    max_words: int = Field(20_000, ge=1, description="most words in the vocabulary")
    min_count: int = Field(2, ge=1, description="times a word must occur in train")


def fit(task: Task, config: ScratchGruConfig) -> Fitted:
    """Learn a vocabulary on train, then train everything."""
    both = [*task.train.texts, *(task.train.pairs or ())]
    tokenizer = build_tokenizer(both, max_words=config.max_words, min_count=config.min_count)

    def build() -> NetworkClassifier:
        sizes = GruConfig(
            vocab_size=len(tokenizer),
            embedding_size=config.embedding_size,
            hidden_size=2 * config.hidden_size,
            dense_size=config.dense_size,
            dropout=config.dropout,
        )
        model = new_classifier(sizes, task.labels, seed=task.seed)
        return NetworkClassifier(model, tokenizer, task.labels, task.text, task.runtime)

    return fine_tune(task, build, config)
