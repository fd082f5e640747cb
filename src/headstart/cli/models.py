"""``headstart models``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from headstart.cli import registered, running
from headstart.cli.lazy import single
from headstart.cli.tables import line, show, table

if TYPE_CHECKING:
    from headstart.registry.store import Version

_EPILOG = """Examples:

headstart models

headstart models reviews --json
"""
Name = Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this registered model.", show_default=False)]


def application() -> typer.Typer:
    """Return the application of this command."""
    return single("models", models, epilog=_EPILOG, needs_arguments=False)


def models(name: Name = None, registry: registered.RegistryUri = None, json_: running.AsJson = False) -> None:
    """List registered models: every version with its aliases, strategy, and the metric that chose it.

    Use one by the name of a version or alias wherever a model folder goes: models:/reviews/3, models:/reviews@champion.
    """
    from headstart.registry import Registry

    opened = Registry.open(registry)
    names = opened.names() if name is None else [name]
    found = [version for one in names for version in opened.versions(one)]
    if json_:
        typer.echo(json.dumps([registered.version_json(v) for v in found], indent=2, ensure_ascii=False))
        return
    if not found:
        line(f"no models in {opened.place}; `headstart register runs/NAME --name NAME` adds one")
        return
    show(table(["model", "version", "aliases", "strategy", "metric", "on holdout", "added"], _rows(found), left=5))
    line(f"registry: {opened.place}")


def _rows(versions: list[Version]) -> list[list[object]]:
    rows: list[list[object]] = []
    for version in versions:
        metric = version.tags.get("headstart.metric", "macro_f1")
        aliases, strategy = ", ".join(version.aliases), version.tags.get("headstart.strategy", "")
        holdout = registered.score(version.read("headstart.metrics"), metric)
        rows.append([version.name, version.number, aliases, strategy, metric, holdout, registered.date(version)])
        for place, evaluation in registered.version_json(version)["evaluations"].items():
            rows.append(["", "", "", f"on {place}", metric, registered.score(evaluation["metrics"], metric), ""])
    return rows
