"""`scratch-transformer` takes sizes of one's own; `scratch-gru` learns its vocabulary on train only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import ARCHITECTURES, fit_strategy, tiny_task
from headstart.errors import ConfigError
from headstart.models.loading import load_classifier
from headstart.strategies.scratch_transformer import ScratchTransformerConfig, sized


def test_sizes_of_ones_own(tiny_encoder: Path) -> None:
    task = tiny_task(n=16, n_validation=8, encoder=tiny_encoder)
    sizes = {"layers": 1, "hidden_size": 24, "heads": 3, "intermediate_size": 40, "dropout": 0.3}
    model = fit_strategy("scratch-transformer", task, epochs=1, **sizes).classifier.model
    assert len(model.bert.encoder.layer) == 1
    assert model.bert.embeddings.word_embeddings.weight.shape[1] == 24
    assert model.bert.encoder.layer[0].intermediate.dense.weight.shape == (40, 24)
    assert model.config.num_attention_heads == 3
    assert model.config.hidden_dropout_prob == 0.3


def test_pretrained_weights_are_not_used(tiny_encoder: Path) -> None:
    task = tiny_task(n=16, n_validation=8, encoder=tiny_encoder)
    model = fit_strategy("scratch-transformer", task, epochs=1, learning_rate=1e-12).classifier.model
    pretrained, _fresh = load_classifier(tiny_encoder, task.labels, seed=0)
    theirs = pretrained.bert.encoder.layer[0].output.dense.weight
    assert not torch.allclose(model.bert.encoder.layer[0].output.dense.weight, theirs, atol=1e-3)


def test_width_and_heads_have_to_fit(tiny_encoder: Path) -> None:
    with pytest.raises(ConfigError, match="hidden_size 30 is not a multiple of heads 4"):
        fit_strategy("scratch-transformer", tiny_task(encoder=tiny_encoder), hidden_size=30)


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_every_architecture_takes_sizes(architecture: str, checkpoint: Callable[[str], Path]) -> None:
    task = tiny_task(encoder=checkpoint(architecture))
    changed = sized(task.start.config, ScratchTransformerConfig(layers=1, hidden_size=48, heads=2, dropout=0.2))
    assert changed.num_hidden_layers == 1
    assert changed.hidden_size == 48
    assert changed.num_attention_heads == 2
    assert task.start.config.hidden_size == 32


def test_gru_vocabulary_is_that_of_train(tiny_encoder: Path) -> None:
    task = tiny_task(n=16, n_validation=8)
    vocabulary: dict[str, Any] = fit_strategy("scratch-gru", task, epochs=1).classifier.tokenizer.get_vocab()
    seen = {word for text in task.train.texts for word in text.split()}
    assert set(vocabulary) == seen | {"[PAD]", "[UNK]", "[SEP]"}
    frequent = fit_strategy("scratch-gru", task, epochs=1, min_count=3, max_words=4).classifier.tokenizer.get_vocab()
    assert len(frequent) == 3 + 4


def test_gru_does_not_see_padding() -> None:
    """A text's probabilities do not depend on the longer texts it is scored with."""
    task = tiny_task(n=24, n_validation=8)
    classifier = fit_strategy("scratch-gru", task, epochs=2).classifier
    alone = np.concatenate([classifier.predict_proba(task.validation.take([i])) for i in range(8)])
    np.testing.assert_allclose(classifier.predict_proba(task.validation), alone, atol=1e-6)
