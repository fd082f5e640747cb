"""``contrastive``: the encoder learns from pairs of labeled texts, then logistic regression stands on its features.

SetFit (Tunstall et al. 2022, https://arxiv.org/abs/2209.11055) without listing pairs: see `training.contrastive`.
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from headstart.data.examples import Examples
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
    refit: bool = Field(True, description="train encoder and head again on train + validation, chosen penalty and all")


def fit(task: Task, config: ContrastiveConfig) -> Fitted:
    """Train the encoder on pairs of training texts, then choose and fit the head as ``linear-probe`` does."""
    fitted, epochs = _trained(task, task.train, config, config.strengths)
    if config.refit:
        fitted = refit(task, config, fitted)
    return replace(fitted, epochs=epochs, notes=fitted.notes | {"steps": config.steps, "refit": config.refit})


def refit(task: Task, config: ContrastiveConfig, fitted: Fitted) -> Fitted:
    """Train encoder and head again on train + validation, with the penalty that a fit on train alone has chosen.

    The number of steps is fixed, so validation texts need not be kept out for anything.
    """
    both = task.train.concat(task.validation)
    again, _ = _trained(task, both, config, (float(fitted.notes["strength"]),))
    return replace(again, validation=fitted.validation)


def _trained(
    task: Task, examples: Examples, config: ContrastiveConfig, strengths: tuple[float, ...]
) -> tuple[Fitted, list[dict[str, float]]]:
    """Train the task's encoder on pairs of the given texts, and a head on them; return what the pairs' epochs were."""
    extractor = extractor_of(task)
    extractor.key = extractor.cache = None  # features of weights that are about to change
    for name, parameter in extractor.body.named_parameters():
        parameter.requires_grad_("pooler" not in name)  # mean pooling passes it by
    tokens = batching.tokenize(extractor.tokenizer, examples, task.text)
    epochs = train_on_pairs(extractor, tokens, examples.y, config, seed=task.seed, advance=task.advance)
    fitted = probe(replace(task, train=examples, advance=None), extractor, strengths=strengths, refit=False)
    trained = {n: p.numel() for n, p in extractor.body.named_parameters() if p.requires_grad}
    count = fitted.parameters_trained + sum(trained.values())
    return replace(fitted, parameters_trained=count, trained=tuple(trained)), epochs
