"""``headstart register``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headstart.cli import registered, running
from headstart.cli.lazy import single

if TYPE_CHECKING:
    from headstart.data.table import Table
    from headstart.registry.evaluating import Evaluated

_EPILOG = """Examples:

headstart register runs/reviews --name reviews

headstart register runs/reviews --name reviews --data later.csv --label sentiment

headstart register runs/reviews/best --name reviews --registry http://mlflow:5000
"""
Model = Annotated[
    str,
    typer.Argument(
        metavar="RUN_OR_MODEL",
        help="Folder of a comparison (its winner), model folder, registered model, or id of an MLflow run.",
    ),
]
Name = Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the registered model, made if new.")]


def application() -> typer.Typer:
    """Return the application of this command."""
    return single("register", register, epilog=_EPILOG)


def register(
    model: Model,
    name: Name,
    data: registered.Data = None,
    label: registered.Label = None,
    text: running.Text = None,
    registry: registered.RegistryUri = None,
    json_: running.AsJson = False,
    encoding: running.Encoding = None,
    separator: running.Separator = None,
    quiet: running.Quiet = False,
    device: running.Device = "auto",
    precision: running.Precision = "auto",
    threads: running.Threads = None,
) -> None:
    """Add a model to the registry as the next version of a name.

    The version is an MLflow model that opens offline where headstart is not installed, and holds no pickle. It is
    tagged with labels, target column, data fingerprints and metrics with intervals. It gets the alias challenger;
    `headstart promote` makes it the champion. With --data it is scored on labeled texts first, and the result is kept
    with it; where that fails there is no version.
    """
    from headstart.cli.evaluate import show_evaluated
    from headstart.registry import Registry
    from headstart.registry.names import Reference
    from headstart.registry.promoting import attach
    from headstart.registry.registering import register as add
    from headstart.tracking.base import without_password

    running.use_threads(threads)
    opened = Registry.open(registry)
    found: list[Evaluated] = []

    def scored(folder: Path, tags: Mapping[str, str]) -> None:
        if data is not None:
            table, options = registered.rows_to_judge(
                data, tags, label=label, text=text, encoding=encoding, separator=separator
            )
            found.append(_evaluated(folder, name, table, options, device=device, precision=precision, quiet=quiet))

    version = add(opened, model, name, first=scored)
    for evaluated in found:
        evaluated.record["models"][0]["model"] = str(version)
        attach(opened, version, evaluated)
        if not json_ and not quiet:
            show_evaluated(evaluated.record)
        version = opened.version(Reference(name, version.number))
    if not quiet:
        where = f" --registry {shlex.quote(without_password(registry))}" if registry else ""
        following = f"headstart promote {name} {version.number}{where}"
        running.note(f"{version} (challenger) in {opened.place}; next: {following}")
    if json_:
        typer.echo(json.dumps(registered.version_json(version), indent=2, ensure_ascii=False))


def _evaluated(
    folder: Path, name: str, table: Table, options: Mapping[str, Any], *, device: str, precision: str, quiet: bool
) -> Evaluated:
    """Score a model that is no version yet."""
    from headstart.models.folder import load
    from headstart.models.runtime import choose_runtime
    from headstart.registry.evaluating import evaluate_models

    with running.texts_done(quiet=quiet) as started:
        model = load(folder, runtime=choose_runtime(device, precision))
        return evaluate_models([(name, model)], table, started=started, **options)
