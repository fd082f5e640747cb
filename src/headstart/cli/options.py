"""The flags of ``compare`` and ``fit``: one per setting, with the setting's own description."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
import yaml

from headstart.cli import completion
from headstart.errors import ConfigError, unknown_name
from headstart.experiment.config import ExperimentConfig, is_experiment_file, parse, read_yaml

_PANELS = {
    "Data": "validation holdout unlabeled transductive "
    "text label columns split_column group labeled validation_size holdout_size mend "
    "allow_overlap encoding separator",
    "Encoder and source": "encoder revision source source_text source_label map_labels max_length truncate",
    "Fitting": "strategies strategy set seed seeds metric class_weights precision threads device",
    "Output": "name out keep_models tracking json quiet",
}
_METAVARS = {
    "validation": "FILE", "holdout": "FILE", "unlabeled": "FILE",
    "source": "FILE|MODEL", "out": "DIR", "text": "COLUMN[,COLUMN]",
    "label": "COLUMN", "columns": "COLUMN,...", "split_column": "COLUMN", "group": "COLUMN", "source_label": "COLUMN",
    "source_text": "COLUMN[,COLUMN]", "strategies": "NAME,...", "mend": "WHAT,...", "metric": "NAME",
    "truncate": "head|tail|head-tail", "precision": "NAME", "device": "NAME", "encoder": "NAME|FOLDER",
    "map_labels": "OLD=NEW,...", "class_weights": "WEIGHTS", "name": "NAME", "revision": "NAME", "encoding": "NAME",
    "separator": "CHARACTER", "validation_size": "SIZE", "holdout_size": "SIZE",
}  # fmt: skip
_LEFT_OUT = ("data", "settings")  # the argument, and --set


def with_settings(function: Callable[..., None], *, without: tuple[str, ...] = ()) -> Callable[..., None]:
    """Give a command one flag per setting; the function receives those that were given as ``given``.

    Args:
        function: takes the command's own parameters and the keyword ``given``, a dict.
        without: settings that get no flag.
    """
    signature = inspect.signature(function, eval_str=True)
    own = [p for p in signature.parameters.values() if p.name != "given"]
    flags = [_flag(name) for name in _ordered() if name not in (*_LEFT_OUT, *without)]
    names = {flag.name for flag in flags}

    def command(**values: Any) -> None:
        given = {k: v for k, v in values.items() if k in names and v is not None}
        function(**{k: v for k, v in values.items() if k not in names}, given=given)

    own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    # Panels of --help stand in the order of their first flag, so the command's own come after the settings.
    parameters = [*own[:1], *flags, *own[1:]]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__doc__ = function.__doc__
    return command


def panel(name: str) -> str:
    """Return the heading under which ``--help`` shows a flag."""
    return next((title for title, names in _PANELS.items() if name in names.split()), "Other")


def _ordered() -> list[str]:
    """Return the settings by panel, those without one last."""
    order = [name for names in _PANELS.values() for name in names.split()]
    fields = ExperimentConfig.model_fields
    return [n for n in order if n in fields] + [n for n in fields if n not in order]


def _flag(name: str) -> inspect.Parameter:
    field = ExperimentConfig.model_fields[name]
    is_switch = field.annotation is bool
    option = f"--{name.replace('_', '-')}"
    info = typer.Option(
        f"{option}/--no-{option[2:]}" if is_switch else option,
        help=f"{field.description}{_shown(field.get_default(call_default_factory=True))}",
        metavar=None if is_switch else _METAVARS.get(name, "N" if "int" in str(field.annotation) else "TEXT"),
        show_default=False,
        rich_help_panel=panel(name),
        autocompletion=completion.FOR_SETTINGS.get(name),
    )
    kind = bool | None if is_switch else str | None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, info])


def _shown(default: Any) -> str:
    """Return `` (default: x)`` as one would type it; nothing where there is no default or it is "no"."""
    if default in (None, False, (), {}):
        return ""
    value = "yes" if default is True else ",".join(default) if isinstance(default, tuple) else default
    return f" (default: {value})"


Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="Labeled texts (CSV, TSV, JSON lines, Parquet, a datasets folder or name, a packaged sample), or an "
        "experiment.yaml with the same words as the flags; flags win over the file.",
        show_default=False,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="STRATEGY.KEY=VALUE",
        help="A strategy's own setting, e.g. full.epochs=5 (`headstart strategies` lists them); may be repeated.",
        rich_help_panel="Fitting",
    ),
]
Masking = Annotated[
    str | None,
    typer.Option(
        "--masking",
        metavar="token|whole-word|span",
        help="What adapt+ masks as one (default: token); short for --set adapt.masking=...",
        autocompletion=completion.masking,
        rich_help_panel="Fitting",
        show_default=False,
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the record as JSON to stdout, and nothing else.", rich_help_panel="Output")
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress and no notes; warnings stay.", rich_help_panel="Output")
]


def settings_of(pairs: list[str] | None) -> dict[str, dict[str, Any]]:
    """Read ``STRATEGY.KEY=VALUE`` into ``{strategy: {key: value}}``; values are YAML, so ``true`` is a truth value.

    Raises:
        ConfigError: something is not of that form; all such are listed.
    """
    found: dict[str, dict[str, Any]] = {}
    faults = []
    for pair in pairs or ():
        left, sign, value = pair.partition("=")
        strategy, dot, key = left.strip().partition(".")
        if not (sign and dot and strategy and key):
            faults.append(f"--set must look like full.epochs=5; got '{pair}'")
            continue
        try:
            found.setdefault(strategy, {})[key.replace("-", "_")] = yaml.safe_load(value)
        except yaml.YAMLError:
            faults.append(f"--set {left}: '{value}' is not a value; quote it as text")
    if faults:
        raise ConfigError(faults)
    return found


def with_masking(pairs: list[str] | None, masking: str | None) -> list[str]:
    """Return ``--set`` values with that of ``--masking`` among them, which wins.

    Raises:
        ConfigError: it is unknown.
    """
    if masking is None:
        return list(pairs or ())
    if masking not in completion.MASKINGS:
        raise ConfigError(unknown_name("masking", masking, completion.MASKINGS, "--masking"))
    return [*(pairs or ()), f"adapt.masking={masking}"]


def resolve(data: str, given: Mapping[str, Any], pairs: list[str] | None) -> ExperimentConfig:
    """Return the experiment that a command line describes.

    Args:
        data: a data file, or an experiment file.
        given: settings by flag; they win over the file's.
        pairs: ``--set`` values; they win one by one.

    Raises:
        ConfigError: all faults at once, each with its flag or place in the file.
    """
    settings = settings_of(pairs)
    if not is_experiment_file(data):
        return parse({"data": data, **given, **({"settings": settings} if settings else {})})
    values = {str(k).replace("-", "_"): v for k, v in read_yaml(data).items()}
    merged = _merged(values.get("settings"), settings)
    try:
        return parse({**values, **given, **({"settings": merged} if merged else {})}, where=data)
    except ConfigError as problem:
        raise ConfigError([_by_flag(fault, data, given) for fault in problem.faults]) from problem


def _merged(in_file: Any, by_flag: dict[str, dict[str, Any]]) -> Any:
    if not by_flag or not (in_file is None or isinstance(in_file, Mapping)):
        return in_file
    below = in_file or {}
    own = {name: {**(below.get(name) or {}), **values} for name, values in by_flag.items()}
    return {**below, **own}


def _by_flag(fault: str, file: str, given: Mapping[str, Any]) -> str:
    """Name the flag, not the file, where a fault is about something given by flag."""
    for name in given:
        fault = fault.replace(f"{file}: {name}", f"--{name.replace('_', '-')}")
    return fault
