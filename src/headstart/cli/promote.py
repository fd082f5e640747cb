"""``headstart promote``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headstart.cli import completion, registered, running
from headstart.cli.lazy import single
from headstart.errors import ConfigError

if TYPE_CHECKING:
    from headstart.registry.names import Reference
    from headstart.registry.promoting import Verdict

_EPILOG = """Examples:

headstart promote reviews @challenger --data later.csv --label sentiment

headstart promote reviews 3 --force
"""
Which = Annotated[str, typer.Argument(metavar="VERSION|@ALIAS", help="Number of the version, or an alias of it.")]
Metric = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar="NAME",
        help="What decides; else the metric that chose the version.",
        autocompletion=completion.FOR_SETTINGS["metric"],
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Promote whatever the rows say, or without any.")]
_NOT_PROMOTED = 1


def application() -> typer.Typer:
    """Return the application of this command."""
    return single("promote", promote, epilog=_EPILOG)


def promote(
    name: registered.Name,
    version: Which,
    data: registered.Data = None,
    label: registered.Label = None,
    text: running.Text = None,
    metric: Metric = None,
    seed: running.ResamplingSeed = 0,
    force: Force = False,
    registry: registered.RegistryUri = None,
    json_: running.AsJson = False,
    encoding: running.Encoding = None,
    separator: running.Separator = None,
    quiet: running.Quiet = False,
    device: running.Device = "auto",
    precision: running.Precision = "auto",
    threads: running.Threads = None,
) -> None:
    """Make a version the champion, if it is better than the one there is.

    Both are scored on the same rows. The challenger is promoted when the 95% interval of the difference in the
    deciding metric excludes zero, on the right side; else nothing is changed and the exit code is 1. The first
    champion has none to beat. `headstart rollback` undoes it.
    """
    from headstart.models.runtime import choose_runtime
    from headstart.registry import Registry
    from headstart.registry.promoting import promote as ask

    reference = _reference(name, version)
    running.use_threads(threads)
    opened = Registry.open(registry)
    challenger = opened.version(reference)
    judging: dict[str, Any] = {}
    with running.texts_done(quiet=quiet) as started:
        if data is not None:
            table, options = registered.rows_to_judge(
                data, challenger.tags, label=label, text=text, encoding=encoding, separator=separator
            )
            judging = {"table": table, "runtime": choose_runtime(device, precision), "seed": seed, **options}
            judging["started"] = started
        verdict = ask(opened, challenger, metric=metric, force=force, **judging)
    _say(verdict, as_json=json_, quiet=quiet)
    if not verdict.promoted:
        raise typer.Exit(_NOT_PROMOTED)


def _reference(name: str, version: str) -> Reference:
    from headstart.registry.names import SCHEME, checked_name, parse

    checked_name(name)
    if version.startswith("@"):
        return parse(f"{SCHEME}{name}{version}")
    if not version.isdecimal():
        raise ConfigError(f"'{version}' is neither the number of a version nor an alias such as @challenger")
    return parse(f"{SCHEME}{name}/{version}")


def _say(verdict: Verdict, *, as_json: bool, quiet: bool) -> None:
    from headstart.cli.evaluate import show_evaluated

    if as_json:
        told = {
            "promoted": verdict.promoted,
            "reason": verdict.reason,
            "version": verdict.version.number,
            "champion_before": None if verdict.champion is None else verdict.champion.number,
            "evaluation": None if verdict.evaluated is None else verdict.evaluated.record,
        }
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False))
        return
    if verdict.evaluated is not None and not quiet:
        show_evaluated(verdict.evaluated.record)
    running.note(f"{'promoted' if verdict.promoted else 'not promoted'}: {verdict.reason}")
