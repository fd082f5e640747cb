"""The one table of strategies, and the stages that can stand in front of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel

from headstart.errors import ConfigError, StrategyError, plain_words, unknown_name
from headstart.strategies import (
    as_is,
    boosted,
    contrastive,
    full,
    gradual,
    linear_probe,
    lora,
    majority,
    partial,
    scratch_gru,
    scratch_transformer,
    tfidf,
)
from headstart.strategies.task import Fit, Fitted, NoConfig, Task
from headstart.training.contrastive import PairTrainingConfig
from headstart.training.loop import TrainingConfig

SOURCE = "source"


@dataclass(frozen=True)
class Strategy:
    """A row of the table.

    Attributes:
        name: as the user writes it.
        fit: the function that does it.
        config: type of its settings.
        starts_from: ``nothing``, ``architecture``, ``encoder`` or ``source``: what has to be there.
        summary: one line.
        origin: where it comes from.
        cost: work per training text and epoch, in forward passes of the encoder over one text (3 = forward and
            backward through everything; 0 = negligible), for the estimate of time.
        gru: whether it means something when the encoder is the GRU.
    """

    name: str
    fit: Fit
    config: type[BaseModel]
    starts_from: str
    summary: str
    origin: str
    cost: float
    gru: bool = True

    @property
    def needs_encoder(self) -> bool:
        """Whether an encoder folder has to be there."""
        return self.starts_from in ("architecture", "encoder")

    @property
    def takes_source(self) -> bool:
        """Whether ``source+`` in front of it means something."""
        return self.starts_from == "encoder"


_ROWS = (
    Strategy("majority", majority.fit, NoConfig, "nothing", "class shares; the floor of every table", "", 0.0),
    Strategy(
        "tfidf",
        tfidf.fit,
        tfidf.TfidfConfig,
        "nothing",
        "logistic regression on word 1-2-gram TF-IDF",
        "the cheap baseline",
        0.0,
    ),
    Strategy(
        "scratch-gru",
        scratch_gru.fit,
        scratch_gru.ScratchGruConfig,
        "nothing",
        "embedding, bidirectional GRU, dense layers, from random weights",
        "the classic baseline",
        0.15,
    ),
    Strategy(
        "scratch-transformer",
        scratch_transformer.fit,
        scratch_transformer.ScratchTransformerConfig,
        "architecture",
        "the encoder's architecture from random weights",
        "no transfer",
        3.0,
        gru=False,
    ),
    Strategy(
        "as-is", as_is.fit, NoConfig, "source", "the source classifier, not trained further", "zero training", 0.0
    ),
    Strategy(
        "linear-probe",
        linear_probe.fit,
        linear_probe.LinearProbeConfig,
        "encoder",
        "logistic regression on frozen features",
        "feature extraction",
        1.0,
    ),
    Strategy(
        "boosted",
        boosted.fit,
        boosted.BoostedConfig,
        "encoder",
        "CatBoost on frozen features and named columns",
        "feature extraction",
        1.0,
    ),
    Strategy(
        "partial",
        partial.fit,
        partial.PartialConfig,
        "encoder",
        "top layers trained, the rest frozen",
        "freeze / unfreeze",
        1.8,
    ),
    Strategy(
        "gradual",
        gradual.fit,
        gradual.GradualConfig,
        "encoder",
        "thawed from the head down, lower layers at lower rates",
        "ULMFiT, Howard & Ruder 2018",
        3.0,
    ),
    Strategy("full", full.fit, full.FullConfig, "encoder", "every weight trained", "fine-tuning", 3.0),
    Strategy(
        "lora",
        lora.fit,
        lora.LoraConfig,
        "encoder",
        "low-rank adapters and head trained, then merged",
        "LoRA, Hu et al. 2021",
        2.4,
        gru=False,
    ),
    Strategy(
        "contrastive",
        contrastive.fit,
        contrastive.ContrastiveConfig,
        "encoder",
        "encoder trained on pairs of labeled texts, then a linear head",
        "SetFit, Tunstall et al. 2022",
        3.0,
        gru=False,
    ),
)
STRATEGIES: dict[str, Strategy] = {row.name: row for row in _ROWS}


@dataclass(frozen=True)
class Plan:
    """A strategy with the stages in front of it, e.g. ``source+full``."""

    name: str
    stages: tuple[str, ...]
    strategy: Strategy

    @property
    def from_source(self) -> bool:
        """Whether it starts from the source classifier."""
        return SOURCE in self.stages

    @property
    def needs_source(self) -> bool:
        """Whether a source has to be there."""
        return self.from_source or self.strategy.starts_from == "source"


def known_names() -> list[str]:
    """Return all names, those with a stage after those without."""
    return [*STRATEGIES, *(f"{SOURCE}+{name}" for name, row in STRATEGIES.items() if row.takes_source)]


def plan(name: str, where: str = "--strategies") -> Plan:
    """Return what a name stands for.

    Args:
        name: a strategy, perhaps with stages in front: ``source+full``.
        where: flag or YAML path, for the message.

    Raises:
        ConfigError: the strategy or stage is unknown, or they do not go together.
    """
    *stages, base = name.split("+")
    if base not in STRATEGIES or any(stage != SOURCE for stage in stages):
        raise ConfigError(unknown_name("strategy", name, known_names(), where))
    strategy = STRATEGIES[base]
    if len(stages) > 1:
        raise ConfigError(f"strategy '{name}' names stage '{SOURCE}' twice ({where})")
    if stages and not strategy.takes_source:
        raise ConfigError(
            f"'{name}' means nothing: '{base}' does not start from an encoder's weights. "
            f"'{SOURCE}+' goes with {', '.join(n for n, r in STRATEGIES.items() if r.takes_source)} ({where})"
        )
    return Plan(name, tuple(stages), strategy)


def default_names(*, has_encoder: bool, has_source: bool, is_gru: bool) -> list[str]:
    """Return the strategies that make sense for what is there: all of them, and ``source+full`` with a source."""
    names = [
        name
        for name, row in STRATEGIES.items()
        if (has_encoder or not row.needs_encoder)
        and (has_source or row.starts_from != "source")
        and (row.gru or not is_gru)
    ]
    return [*names, f"{SOURCE}+full"] if has_source else names


def fit(plan: Plan, task: Task, config: BaseModel) -> Fitted:
    """Fit, after checking what every strategy needs.

    Raises:
        StrategyError: the training texts are of one class only, or there are none.
    """
    present = np.unique(task.train.y)
    if len(present) < 2 or len(task.labels) < 2:
        names = [task.labels.names[c] for c in present]
        raise StrategyError(f"training texts are all of one class ({', '.join(names)}); at least two are needed")
    if not len(task.validation):
        raise StrategyError("there are no validation texts to choose with")
    return plan.strategy.fit(task, config)


def work(plan: Plan, config: BaseModel, *, train: int, validation: int, holdout: int) -> float:
    """Return an upper estimate of a fit's work, in forward passes of the encoder over one text.

    Args:
        plan: strategy and stages.
        config: its settings.
        train: texts to train on.
        validation: texts to choose with.
        holdout: texts held out.
    """
    scoring = 0.0 if plan.strategy.starts_from == "nothing" else 1.0
    if isinstance(config, PairTrainingConfig):
        return plan.strategy.cost * config.steps * config.texts + scoring * (train + validation + holdout)
    if not isinstance(config, TrainingConfig):
        return plan.strategy.cost * (train + validation) + scoring * holdout
    per_epoch = plan.strategy.cost * train + scoring * validation
    return per_epoch * config.epochs * (2 if config.refit else 1) + scoring * holdout


def settings_faults(settings: dict[str, dict[str, Any]], where: str = "settings") -> list[str]:
    """Return one sentence per fault in ``{strategy: {key: value}}``; empty if all is well."""
    from pydantic import ValidationError

    faults: list[str] = []
    for name, values in settings.items():
        base = name.split("+")[-1]
        if base not in STRATEGIES:
            faults.append(unknown_name("strategy", name, known_names(), f"{where}: {name}"))
            continue
        config = STRATEGIES[base].config
        known = list(config.model_fields)
        try:
            config(**values)
        except ValidationError as problem:
            faults += [_fault(e, known, f"{where}: {name}") for e in problem.errors()]
        except TypeError as problem:
            faults.append(f"{where}: {name} must be a table of settings ({problem})")
    return faults


def _fault(error: Any, known: Sequence[str], where: str) -> str:
    key = ".".join(str(p) for p in error["loc"])
    if error["type"] == "extra_forbidden":
        return unknown_name("setting", key, known or ["(none)"], f"{where}: {key}")
    return f"{where}: {key}: {plain_words(error['msg'])}; got {error['input']!r}"


def config_for(plan: Plan, settings: dict[str, dict[str, Any]], *, gru: bool = False) -> BaseModel:
    """Return a plan's resolved settings: those of its whole name win over those of the bare strategy.

    Args:
        plan: strategy and stages.
        settings: as given, by strategy name.
        gru: the encoder is the GRU: where a network is trained, ``scratch-gru``'s rates and lengths are the defaults.
    """
    rates = scratch_gru.RATES if gru and issubclass(plan.strategy.config, TrainingConfig) else {}
    values = {**rates, **settings.get(plan.strategy.name, {}), **settings.get(plan.name, {})}
    return plan.strategy.config(**values)
