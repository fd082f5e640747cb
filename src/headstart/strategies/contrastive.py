"""``contrastive``: the encoder learns from pairs of labeled texts, then logistic regression stands on its features.

SetFit (Tunstall et al. 2022, https://arxiv.org/abs/2209.11055) without listing pairs: see `training.contrastive`.
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from headstart.models import batching
from headstart.strategies.features import extractor_of
from headstart.strategies.linear_probe import LinearProbeConfig, probe
from headstart.strategies.task import Fitted, Task
from headstart.training.contrastive import PairTrainingConfig, train_on_pairs


class ContrastiveConfig(PairTrainingConfig):
    """Settings of ``contrastive``."""

    strengths: tuple[float, ...] = Field(
        LinearProbeConfig().strengths, description="inverse L2 penalties of the head to choose among"
    )
    refit: bool = Field(True, description="fit the head again on train + validation with the chosen penalty")


def fit(task: Task, config: ContrastiveConfig) -> Fitted:
    """Train the encoder on pairs of training texts, then choose and fit the head as ``linear-probe`` does."""
    extractor = extractor_of(task)
    extractor.key = extractor.cache = None  # features of weights that are about to change
    for name, parameter in extractor.body.named_parameters():
        parameter.requires_grad_("pooler" not in name)  # mean pooling passes it by
    tokens = batching.tokenize(extractor.tokenizer, task.train, task.text)
    epochs = train_on_pairs(extractor, tokens, task.train.y, config, seed=task.seed, advance=task.advance)
    fitted = probe(replace(task, advance=None), extractor, strengths=config.strengths, refit=config.refit)
    trained = {n: p.numel() for n, p in extractor.body.named_parameters() if p.requires_grad}
    return replace(
        fitted,
        parameters_trained=fitted.parameters_trained + sum(trained.values()),
        epochs=epochs,
        trained=tuple(trained),
        notes=fitted.notes | {"steps": config.steps},
    )
