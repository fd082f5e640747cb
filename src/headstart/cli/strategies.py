"""``headstart strategies``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from headstart.cli import completion, running
from headstart.cli.lazy import single
from headstart.cli.tables import line, show, table
from headstart.records import read_json

_EPILOG = """Examples:

headstart strategies

headstart strategies lora

headstart strategies --json
"""
Name = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]",
        help="Show one strategy's settings with their meaning.",
        show_default=False,
        autocompletion=completion.strategy,
    ),
]
# What `described` returns, written by docs/tables.py: showing it must not be waited for.
STORED = Path(__file__).with_name("strategies.json")


def application() -> typer.Typer:
    """Return the application of this command."""
    return single("strategies", strategies, epilog=_EPILOG, needs_arguments=False)


def strategies(name: Name = None, json_: running.AsJson = False) -> None:
    """List the ways of transferring: what each starts from and does, and its settings with their defaults.

    A setting is given as --set STRATEGY.KEY=VALUE, or under settings in an experiment file.
    """
    known: list[dict[str, Any]] = read_json(STORED)
    chosen = known if name is None else [row for row in known if row["name"] == _base(name, known)]
    if json_:
        typer.echo(json.dumps(chosen, indent=2, ensure_ascii=False))
        return
    rows = [[s["name"], s["starts_from"], s["summary"], s["origin"]] for s in chosen]
    show(table(["strategy", "starts from", "what it does", "origin"], rows, left=4))
    if name is not None:
        _show_settings(chosen[0])
        return
    after = ", ".join(s["name"] for s in chosen if s["takes_source"])
    line(f"Stage source+ in front starts from the source classifier's weights (--source): {after}.")
    line("Stage adapt+ in front goes on with pretraining on unlabeled texts first (--unlabeled): the same.")
    learning = ", ".join(s["name"] for s in chosen if s["learns"])
    line(f"Stage +self-train behind adds confident predictions on unlabeled texts: {learning}.")
    line("")
    for row in chosen:
        settings = ", ".join(f"{key}={_value(s['default'])}" for key, s in row["settings"].items())
        line(f"{row['name']}: {settings or 'no settings'}")


def _base(name: str, known: list[dict[str, Any]]) -> str:
    """Return the strategy of a name that may have stages; one that is not stored is looked up, and refused, in full."""
    if any(row["name"] == name for row in known):
        return name
    from headstart.strategies import table as strategies

    return strategies.plan(name, "NAME").strategy.name


def _show_settings(row: dict[str, Any]) -> None:
    found = row["settings"]
    if not found:
        line("It has no settings.")
        return
    rows = [[f"{row['name']}.{key}", _value(s["default"]), s["description"]] for key, s in found.items()]
    show(table(["setting (--set)", "default", "meaning"], rows, left=3))


def _value(default: Any) -> str:
    return "auto" if default is None else json.dumps(default) if isinstance(default, bool) else str(default)


def described() -> list[dict[str, Any]]:
    """Return the table of strategies as it is stored; importing it takes seconds, for it stands on torch."""
    from headstart.strategies.table import STRATEGIES

    return [_about(row) for row in STRATEGIES.values()]


def _about(row: Any) -> dict[str, Any]:
    fields = row.config.model_fields
    return {
        "name": row.name,
        "starts_from": row.starts_from,
        "summary": row.summary,
        "origin": row.origin,
        "takes_source": row.takes_source,
        "learns": row.learns,
        "settings": {
            key: {"default": _plain(field.get_default(call_default_factory=True)), "description": field.description}
            for key, field in fields.items()
        },
    }


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else json.loads(json.dumps(value, default=str))
