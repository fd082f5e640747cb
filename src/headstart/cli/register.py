"""``headstart register``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from headstart.cli import registered, running
from headstart.cli.lazy import single

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

    The version is an MLflow model that opens anywhere without headstart's help, offline and without pickle, tagged
    with labels, target column, data fingerprints and metrics with intervals. It gets the alias challenger;
    `headstart promote` makes it the champion. With --data it is scored on labeled texts too, and the result is kept
    with it.
    """
    from headstart.cli.evaluate import show_evaluated
    from headstart.models.runtime import choose_runtime
    from headstart.registry import Registry
    from headstart.registry.names import Reference
    from headstart.registry.promoting import evaluate_versions
    from headstart.registry.registering import register as add

    running.use_threads(threads)
    opened = Registry.open(registry)
    version = add(opened, model, name)
    if not quiet:
        running.note(f"{version} (challenger) in {opened.place}; next: headstart promote {name} {version.number}")
    if data is not None:
        table, options = registered.rows_to_judge(
            data, version, label=label, text=text, encoding=encoding, separator=separator
        )
        with running.texts_done(quiet=quiet) as started:
            runtime = choose_runtime(device, precision)
            evaluated = evaluate_versions(opened, [version], table, runtime, started=started, **options)
        if not json_ and not quiet:
            show_evaluated(evaluated.record)
        version = opened.version(Reference(name, version.number))
    if json_:
        typer.echo(json.dumps(registered.version_json(version), indent=2, ensure_ascii=False))
