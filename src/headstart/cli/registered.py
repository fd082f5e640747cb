"""What the commands on registered models share: flags, and how a version is shown."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headstart.cli import running

if TYPE_CHECKING:
    from headstart.data.table import Table
    from headstart.registry.store import Version

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a registered model.")]
RegistryUri = Annotated[
    str | None,
    typer.Option(
        "--registry",
        metavar="URI",
        help="Address of an MLflow server or database, e.g. http://mlflow:5000 or sqlite:////srv/registry.db; else "
        "MLFLOW_REGISTRY_URI, MLFLOW_TRACKING_URI, or a database of the user's own.",
    ),
]
Data = Annotated[
    str | None, typer.Option("--data", metavar="FILE", help="Labeled texts to score on; the result is attached.")
]
Label = Annotated[
    str | None,
    typer.Option("--label", metavar="COLUMN", help="Column of the label, where it is not called as in training."),
]
_EVALUATION = "headstart.evaluation."


def rows_to_judge(
    data: str,
    tags: Mapping[str, str],
    *,
    label: str | None,
    text: str | None,
    encoding: str | None,
    separator: str | None,
) -> tuple[Table, dict[str, Any]]:
    """Read labeled texts for a version with these tags; return them with options that say which columns are meant."""
    from headstart.data.read import read_table

    names = running.columns(text)
    kept = json.loads(tags.get("headstart.text", "[]"))
    table = read_table(data, encoding=encoding, separator=running.character(separator), text=list(names) or kept)
    return table, {"label": label or tags.get("headstart.target", "label"), "text": names}


def version_json(version: Version) -> dict[str, Any]:
    """Return a version with its tags as values."""
    tags = {key.removeprefix("headstart."): value for key, value in version.tags.items()}
    for key in ("text", "labels", "fingerprints", "metrics"):
        if key in tags:
            tags[key] = version.read(f"headstart.{key}")
    evaluations = {
        key.removeprefix(_EVALUATION): version.read(key) for key in version.tags if key.startswith(_EVALUATION)
    }
    own = {key: value for key, value in tags.items() if not key.startswith("evaluation.")}
    return {
        "name": version.name,
        "version": version.number,
        "aliases": list(version.aliases),
        "created": date(version),
        "run_id": version.run_id,
        **own,
        "evaluations": evaluations,
    }


def score(metrics: dict[str, Any] | None, metric: str) -> str:
    """Return ``0.866 [0.851, 0.881]``, or nothing."""
    from headstart.report.words import decimals, interval

    found = (metrics or {}).get(metric)
    return "" if found is None else f"{decimals(found['value'])} {interval(found['low'], found['high'])}".rstrip()


def date(version: Version) -> str:
    """Return when a version was added, in UTC."""
    return datetime.datetime.fromtimestamp(version.created / 1000, datetime.UTC).isoformat(timespec="seconds")
