"""Plans: a strategy of the table with stages in front of it and behind it, its settings and its work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import BaseModel

from headstart.adaptation.config import AdaptConfig
from headstart.errors import ConfigError, StrategyError, plain_words, unknown_name
from headstart.strategies import scratch_gru, self_train
from headstart.strategies.contrastive import ContrastiveConfig
from headstart.strategies.rows import STRATEGIES as STRATEGIES
from headstart.strategies.rows import Strategy
from headstart.strategies.self_train import SelfTrainConfig, SelfTrained
from headstart.strategies.task import Fitted, Task
from headstart.training.loop import TrainingConfig

# Stages in front of a strategy and behind it. Settings of a stage are given under its own name.
SOURCE = "source"
ADAPT = "adapt"
SELF_TRAIN = "self-train"
_BEFORE = (ADAPT, SOURCE)
_AFTER = (SELF_TRAIN,)
_STAGES: dict[str, type[BaseModel]] = {ADAPT: AdaptConfig, SELF_TRAIN: SelfTrainConfig}


@dataclass(frozen=True)
class Plan:
    """A strategy with the stages in front of it and behind it, e.g. ``source+full+self-train``."""

    name: str
    stages: tuple[str, ...]
    strategy: Strategy
    after: tuple[str, ...] = ()

    @property
    def from_source(self) -> bool:
        """Whether it starts from the source classifier."""
        return SOURCE in self.stages

    @property
    def adapted(self) -> bool:
        """Whether it starts from the encoder adapted to texts without labels."""
        return ADAPT in self.stages

    @property
    def needs_source(self) -> bool:
        """Whether a source has to be there."""
        return self.from_source or self.strategy.starts_from == "source"


def known_names() -> list[str]:
    """Return all names, those with a stage after those without."""
    starting = [name for name, row in STRATEGIES.items() if row.takes_source]
    return [*STRATEGIES, *(f"{stage}+{name}" for stage in (SOURCE, ADAPT) for name in starting)]


def plan(name: str, where: str = "--strategies") -> Plan:
    """Return what a name stands for.

    Args:
        name: a strategy, perhaps with stages in front: ``source+full``.
        where: flag or YAML path, for the message.

    Raises:
        ConfigError: the strategy or stage is unknown, or they do not go together.
    """
    stages, base, after = parts(name)
    if base not in STRATEGIES or any(stage not in _BEFORE for stage in stages):
        raise ConfigError(unknown_name("strategy", "+".join((*stages, base)) or name, known_names(), where))
    strategy = STRATEGIES[base]
    twice = [stage for stage in (*stages, *after) if (*stages, *after).count(stage) > 1]
    if twice:
        raise ConfigError(f"strategy '{name}' names stage '{twice[0]}' twice ({where})")
    if stages and not strategy.takes_source:
        raise ConfigError(
            f"'{name}' means nothing: '{base}' does not start from an encoder's weights. "
            f"'{stages[0]}+' goes with {', '.join(n for n, r in STRATEGIES.items() if r.takes_source)} ({where})"
        )
    if stages == (SOURCE, ADAPT):
        raise ConfigError(
            f"'{name}' means nothing: filling in masked tokens would undo what the source classifier learnt. "
            f"'{ADAPT}+{SOURCE}+{base}' trains the source classifier on the adapted encoder ({where})"
        )
    if after and not strategy.learns:
        raise ConfigError(
            f"'{name}' means nothing: '{base}' says the same with more texts. "
            f"'+{SELF_TRAIN}' goes with {', '.join(n for n, r in STRATEGIES.items() if r.learns)} ({where})"
        )
    return Plan(name, stages, strategy, after)


def parts(name: str) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
    """Split a name into the stages in front, the strategy and the stages behind; the strategy may be empty."""
    words = name.split("+")
    end = len(words)
    while end and words[end - 1] in _AFTER:
        end -= 1
    return tuple(words[: max(0, end - 1)]), words[end - 1] if end else "", tuple(words[end:])


def counterparts(name: str) -> list[tuple[str, str]]:
    """Return what a strategy is set beside to see whether its stages helped: each stage, and the name without it.

    ``gradual`` and ``contrastive`` count as stages of ``full`` and ``linear-probe``.
    """
    before, base, after = parts(name)
    words = [*before, base, *after]
    found = [(w, "+".join(words[:i] + words[i + 1 :])) for i, w in enumerate(words) if i != len(before)]
    if plainer := STRATEGIES[base].without:
        found.append((base, "+".join([*before, plainer, *after])))
    return found


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
    if isinstance(config, SelfTrained):
        return self_train.fit(task, plan.strategy.fit, config)
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
    if isinstance(config, SelfTrained):
        pool, rounds = config.self_train.pool, config.self_train.rounds
        fits = work(plan, config.strategy, train=train, validation=validation, holdout=0)
        grown = work(plan, config.student, train=train + pool + validation, validation=validation, holdout=0)
        last_fit = getattr(config.strategy, "refit", False) and not getattr(config.student, "refit", False)
        labeled = rounds * pool
        if config.teacher is not None:
            taught = replace(plan, strategy=STRATEGIES[config.self_train.teacher], after=())
            fits += work(taught, config.teacher, train=train, validation=validation, holdout=0)
            if config.teacher.refit:
                last_fit, labeled = True, labeled + 2 * pool  # by the teacher and by the last round's model
        return fits + grown * (rounds + last_fit) + scoring * (labeled + holdout)
    if isinstance(config, ContrastiveConfig):
        once = plan.strategy.cost * config.steps * config.texts + scoring * (train + validation)
        return once * (2 if config.refit else 1) + scoring * holdout
    if not isinstance(config, TrainingConfig):
        return plan.strategy.cost * (train + validation) + scoring * holdout
    per_epoch = plan.strategy.cost * train + scoring * validation
    return per_epoch * config.epochs * (2 if config.refit else 1) + scoring * holdout


def settings_faults(settings: dict[str, dict[str, Any]], where: str = "settings") -> list[str]:
    """Return one sentence per fault in ``{strategy: {key: value}}``; empty if all is well."""
    from pydantic import ValidationError

    faults: list[str] = []
    for name, values in settings.items():
        base = parts(name)[1]
        if base not in STRATEGIES and name not in _STAGES:
            faults.append(unknown_name("strategy", name, known_names(), f"{where}: {name}"))
            continue
        config = _STAGES[name] if name in _STAGES else STRATEGIES[base].config
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

    With a stage behind it these are a `SelfTrained`: the strategy's own, and the stage's.

    Args:
        plan: strategy and stages.
        settings: as given, by strategy name.
        gru: the encoder is the GRU: where a network is trained, ``scratch-gru``'s rates and lengths are the defaults.
    """
    rates = scratch_gru.RATES if gru and issubclass(plan.strategy.config, TrainingConfig) else {}
    values = {**rates, **settings.get(plan.strategy.name, {}), **settings.get(plan.name, {})}
    config = plan.strategy.config(**values)
    if SELF_TRAIN in plan.after:
        stage = SelfTrainConfig(**settings.get(SELF_TRAIN, {}))
        taught = plan.strategy.starts_from == "encoder" and not gru
        taught = taught and stage.teacher not in ("itself", plan.strategy.name)
        teacher = ContrastiveConfig(**settings.get(stage.teacher, {})) if taught else None
        student = config if gru else self_train.student_of(config, stage)
        return SelfTrained(strategy=config, self_train=stage, student=student, teacher=teacher)
    return config
