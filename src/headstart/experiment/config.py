"""One experiment as settings: a YAML file, flags or keyword arguments, with the same words and checks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, ValidationError

from headstart.data.config import DataConfig, Names
from headstart.errors import ConfigError, did_you_mean, plain_words, unknown_name
from headstart.evaluation.metrics import METRICS

# Settings are read by `headstart compare --help` and shell completion too: torch and the table come when needed.
if TYPE_CHECKING:
    from headstart.strategies import table


def _mapping(value: Any) -> Any:
    """Turn ``"neg=negative,pos=positive"`` into a mapping."""
    if value is None:
        return {}
    if not isinstance(value, str):
        return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if not all(sign for _, sign, _ in pairs):
        raise ValueError(f"must look like neg=negative,pos=positive; got '{value}'")
    return {old.strip(): new.strip() for old, _, new in pairs}


def _weights(value: Any) -> Any:
    """Read ``none``, ``balanced`` or ``label=weight,...``."""
    if value in (None, "none", "None"):
        return "none"
    if value == "balanced":
        return value
    try:
        numbers = {name: float(weight) for name, weight in _mapping(value).items()}
    except (ValueError, AttributeError) as problem:
        raise ValueError(f"must be none, balanced or label=weight,label=weight; got {value!r}") from problem
    if not all(0 < weight < float("inf") for weight in numbers.values()):
        raise ValueError(f"every weight must be above 0; got {value!r}")
    return numbers


class ExperimentConfig(DataConfig):
    """Everything a comparison is decided by; unknown keys are refused."""

    name: str | None = Field(None, description="name of the comparison; by default that of the data")
    encoder: str | None = Field(
        "minilm", description="catalog name, local folder, hub name, models:/NAME@ALIAS, or 'gru'"
    )
    revision: str | None = Field(None, description="branch, tag or commit of a hub encoder")
    source: str | None = Field(None, description="labeled file of another domain, or a fine-tuned sequence classifier")
    source_text: Names = Field((), description="text column(s) of the source file; by default as the target's")
    source_label: str | None = Field(None, description="label column of the source file; by default as the target's")
    map_labels: Annotated[dict[str, str], BeforeValidator(_mapping)] = Field(
        default_factory=dict, description="source labels in the target's words: neg=negative,pos=positive"
    )
    strategies: Names = Field((), description="ways of transferring, a,b,c; by default all that make sense")
    settings: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="settings per strategy, and per stage: 'source' (the source classifier), 'adapt', 'self-train'",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="seed of splits, initialization, order and dropout")
    seeds: int = Field(1, ge=1, description="fit every strategy with this many seeds, counted up from --seed")
    metric: str = Field("macro_f1", description=f"what decides: {', '.join(METRICS)}")
    max_length: int | None = Field(
        None, ge=4, description="most tokens per text; by default 256 or the encoder's limit"
    )
    truncate: Literal["head", "tail", "head-tail"] = Field(
        "head", description="part of a longer text that is kept: head, tail or head-tail"
    )
    precision: str = Field("auto", description="auto (measured), float32 or bfloat16")
    class_weights: Annotated[str | dict[str, float], BeforeValidator(_weights)] = Field(
        "none", description="none, balanced, or label=weight,...; probabilities shift with them"
    )
    threads: int | None = Field(None, ge=1, description="processor threads; by default all cores")
    device: str = Field("auto", description="auto, cpu, cuda, ...")
    out: str | None = Field(None, description="output folder; by default runs/NAME")
    keep_models: bool = Field(False, description="keep every fit's model folder, not only the winner's")
    tracking: bool = Field(True, description="log to MLflow where it is installed")

    @property
    def title(self) -> str:
        """Name of the comparison."""
        return self.name or Path(self.data).stem or "comparison"

    @property
    def folder(self) -> Path:
        """Output folder."""
        return Path(self.out) if self.out else Path("runs") / self.title

    @property
    def is_gru(self) -> bool:
        """Whether the encoder is the GRU, trained on the source."""
        from headstart.models.encoders import GRU

        return self.encoder == GRU

    def plans(self) -> list[table.Plan]:
        """Return the strategies to fit, in order, repeats left out."""
        from headstart.strategies import table

        names = self.strategies or table.default_names(
            has_encoder=self.encoder is not None, has_source=self.source is not None, is_gru=self.is_gru
        )
        return [table.plan(name) for name in dict.fromkeys(names)]

    def deciding(self) -> dict[str, Any]:
        """Return what results depend on: everything but names, places and how much is kept."""
        aside = {"name", "out", "keep_models", "tracking"}
        return {k: v for k, v in self.model_dump(mode="json").items() if k not in aside}


def parse(values: Mapping[str, Any], where: str = "") -> ExperimentConfig:
    """Check settings and report every fault at once.

    Args:
        values: settings by name; ``None`` means "not given"; dashes and underscores are the same.
        where: the file they come from, for the messages; empty for flags.

    Raises:
        ConfigError: one sentence per fault.
    """
    given = {str(k).replace("-", "_"): v for k, v in values.items() if v is not None}
    known = list(ExperimentConfig.model_fields)
    faults = [unknown_name("setting", k, known, where) for k in given if k not in known]
    config: ExperimentConfig | None = None
    try:
        config = ExperimentConfig(**{k: v for k, v in given.items() if k in known})
    except ValidationError as problem:
        faults += [_fault(error, where) for error in problem.errors()]
    faults += _name_faults(given, where)
    if config is not None:
        faults += _sense_faults(config, where)
    if faults or config is None:
        raise ConfigError(list(dict.fromkeys(faults)))
    return config


def _place(key: str, where: str) -> str:
    return f"{where}: {key}" if where else f"--{key.replace('_', '-')}"


def _fault(error: Any, where: str) -> str:
    key = ".".join(str(p) for p in error["loc"] if not str(p).startswith(("function-", "constrained-")))
    if error["type"] == "missing":
        return f"{_place(key, where)}: nothing given; name the file with your labeled texts"
    message = plain_words(str(error["msg"]))
    if not key:
        return f"{message} ({where})" if where else message
    got = "" if "got" in message else f"; got {error['input']!r}"
    return f"{_place(key, where)}: {message}{got}"


def _name_faults(given: Mapping[str, Any], where: str) -> list[str]:
    from headstart.models.batching import TRUNCATIONS
    from headstart.models.encoders import GRU
    from headstart.models.runtime import PRECISIONS
    from headstart.strategies import table

    faults: list[str] = []
    for key, known in (("metric", list(METRICS)), ("precision", list(PRECISIONS)), ("truncate", list(TRUNCATIONS))):
        value = given.get(key)
        if isinstance(value, str) and value not in known and key != "truncate":
            faults.append(unknown_name(key, value, known, _place(key, where)))
    names = given.get("strategies") or ()
    names = [n.strip() for n in names.split(",") if n.strip()] if isinstance(names, str) else names
    if isinstance(given.get("strategies"), str | list) and not names:
        faults.append(f"{_place('strategies', where)} names none; leave it out to fit all that make sense")
    for at, name in enumerate(names if isinstance(names, list | tuple) else ()):
        try:
            table.plan(str(name), f"{where}: strategies[{at}]" if where else "--strategies")
        except ConfigError as problem:
            faults += problem.faults
    settings = given.get("settings")
    if isinstance(settings, Mapping) and all(isinstance(v, Mapping) for v in settings.values()):
        place = f"{where}: settings" if where else "--set"
        trained = "scratch-gru" if given.get("encoder") == GRU else "full"  # what a source classifier is
        for name, values in settings.items():
            base = trained if name == table.SOURCE else str(name)
            found = table.settings_faults({base: dict(values)}, place)
            faults += [fault.replace(f"{place}: {base}", f"{place}: {name}") for fault in found]
    return faults


def _sense_faults(config: ExperimentConfig, where: str) -> list[str]:
    """Return faults of settings that are well-formed one by one but do not go together."""
    faults: list[str] = []
    if config.map_labels and config.source is None:
        faults.append(f"{_place('map_labels', where)} needs --source: there are no source labels to map")
    if config.is_gru and config.source is None:
        faults.append(
            f"{_place('encoder', where)}: 'gru' is trained on a source and then transferred: give --source FILE "
            "(a GRU trained on the target alone is the strategy 'scratch-gru')"
        )
    try:
        plans = config.plans()
    except ConfigError:
        return faults  # already said
    for plan in plans:
        if plan.needs_source and config.source is None:
            faults.append(
                f"strategy '{plan.name}' needs --source FILE or --source MODEL ({_place('strategies', where)})"
            )
        if plan.adapted and config.is_gru:
            faults.append(
                f"strategy '{plan.name}': a GRU has no language-model head to adapt ({_place('strategies', where)})"
            )
        if plan.strategy.needs_encoder and config.encoder is None:
            faults.append(f"strategy '{plan.name}' needs --encoder ({_place('strategies', where)})")
    return faults


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read an experiment file; relative paths in it are relative to where the command is run.

    Raises:
        ConfigError: it is missing, not YAML, or not a table of settings.
    """
    file = Path(path)
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as problem:
        near = [str(p) for p in file.parent.glob("*.y*ml")] if file.parent.is_dir() else []
        raise ConfigError(f"{path}: there is no such file.{did_you_mean(str(path), near)}") from problem
    except OSError as problem:
        raise ConfigError(f"{path} cannot be read ({problem.strerror}); name a YAML file") from problem
    except UnicodeDecodeError as problem:
        raise ConfigError(f"{path} is not UTF-8 (byte {problem.start:,}): save it as UTF-8") from problem
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        line = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise ConfigError(f"{path} is not valid YAML{line}: {getattr(problem, 'problem', problem)}") from problem
    if not isinstance(values, dict):
        got = "an empty file" if values is None else f"a {type(values).__name__}"
        raise ConfigError(f"{path} must be a table of settings such as 'data: reviews.csv'; got {got}")
    return values


def is_experiment_file(path: str) -> bool:
    """Whether a command's argument is an experiment file and not data."""
    return Path(path).suffix.lower() in (".yaml", ".yml")
