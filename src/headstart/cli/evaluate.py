"""``headstart evaluate``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headstart.cli import registered, running
from headstart.cli.lazy import single
from headstart.errors import ConfigError

if TYPE_CHECKING:
    from headstart.registry import Version

_EPILOG = """Examples:

headstart evaluate runs/reviews/best --data later.csv --label sentiment

headstart evaluate runs/old/best runs/new/best --data later.csv --out rows.csv

headstart evaluate models:/reviews@champion runs/new/best --data later.csv --json

headstart evaluate models:/reviews/3 --data later.csv --attach
"""
Models = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL...",
        help="Model folders or registered models (models:/NAME@ALIAS); the first is what the others are set against.",
    ),
]
Data = Annotated[str, typer.Option("--data", metavar="FILE", help="Labeled texts.")]
Label = Annotated[
    str | None, typer.Option("--label", metavar="COLUMN", help="Column of the label; by default the first model's.")
]
Out = Annotated[
    str | None,
    typer.Option(
        "--out",
        metavar="FILE",
        help="Where each text is written with every model's answer: .csv, .tsv, .jsonl, .parquet; of several models by "
        "default runs/evaluations/DATA.csv, of one nowhere.",
        show_default=False,
    ),
]
Attach = Annotated[
    bool, typer.Option("--attach", help="Keep with each registered model (models:/NAME/VERSION) what it scored.")
]
_PLACE = Path("runs") / "evaluations"
_MOST_CLASSES_SHOWN = 30


def application() -> typer.Typer:
    """Return the application of this command."""
    return single("evaluate", evaluate, epilog=_EPILOG)


def evaluate(
    models: Models,
    data: Data,
    out: Out = None,
    attach: Attach = False,
    text: running.Text = None,
    label: Label = None,
    seed: running.ResamplingSeed = 0,
    registry: registered.RegistryUri = None,
    json_: running.AsJson = False,
    encoding: running.Encoding = None,
    separator: running.Separator = None,
    quiet: running.Quiet = False,
    device: running.Device = "auto",
    precision: running.Precision = "auto",
    engine: running.Engine = "auto",
    threads: running.Threads = None,
) -> None:
    """Score models side by side on labeled texts.

    Every metric comes with a 95% interval. With several models the differences to the first are shown too, measured
    on the same drawn rows, so that the luck of the rows cancels, and each text is written to a file with what each
    model says of it. The file's labels are matched to each model's by value, then by their text; a label that a model
    does not know is an error.
    """
    from headstart.data.read import read_table
    from headstart.data.write import write_table
    from headstart.models.output_places import check_out
    from headstart.models.runtime import choose_runtime
    from headstart.registry import Registry, load
    from headstart.registry.evaluating import evaluate_models
    from headstart.registry.promoting import attach as keep

    if out == "-":
        raise ConfigError("--out names a file; what goes to stdout is the table, or with --json the record")
    place = out or (str(_PLACE / f"{Path(data).stem or 'data'}.csv") if len(models) > 1 else None)
    target = None if place is None else check_out(data, place)
    versions = _versions(models, registry) if attach else {}
    running.use_threads(threads)
    runtime = choose_runtime(device, precision)
    places = {name: str(versions.get(name, name)) for name in models}
    opened = [(n, load(places[n], runtime=runtime, engine=engine, registry=registry)) for n in models]
    label = label or str(opened[0][1].card.get("label_column") or "label")
    names = running.columns(text) or [str(c) for _, model in opened for c in model.card["text"]["columns"]]
    table = read_table(data, encoding=encoding, separator=running.character(separator), text=names)
    for line in () if quiet else table.notes:
        running.note(line)
    with running.texts_done(quiet=quiet) as started:
        found = evaluate_models(opened, table, label=label, text=running.columns(text), seed=seed, started=started)
    for at, name in enumerate(models):
        if name in versions:
            keep(Registry.open(registry), versions[name], found, at)
            if not quiet:
                running.note(f"attached to {versions[name]}")
    if json_:
        typer.echo(json.dumps(found.record, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        show_evaluated(found.record)
    if target is not None:
        write_table(found.predictions, target)
        if not quiet:
            running.note(f"{len(found.predictions):,} texts with what each model says: {target}")


def _versions(models: Sequence[str], registry: str | None) -> dict[str, Version]:
    """Return the registered ones among the models, each with its version now: an alias may move while it is scored.

    Raises:
        ConfigError: none is registered.
    """
    from headstart.registry import Registry, is_registered
    from headstart.registry.names import parse

    found = {name: Registry.open(registry).version(parse(name)) for name in models if is_registered(name)}
    if not found:
        raise ConfigError("--attach keeps what a registered model scored: name one, e.g. models:/reviews/3")
    return found


def show_evaluated(found: Mapping[str, Any]) -> None:
    """Print what scoring models came to: metrics, and differences to the first or, of one model, its classes."""
    from headstart.cli.tables import show

    without = found["rows_without_label"]
    left_out = f"; {without:,} without a label are left out" if without else ""
    show(_scores(found), f"{found['data']}: {found['rows']:,} labeled texts{left_out}")
    first, *others = found["models"]
    for other in others:
        _show_difference(other, first)
    if not others and len(first["per_class"]) <= _MOST_CLASSES_SHOWN:
        show(_classes(first))


def _scores(found: Mapping[str, Any]) -> Any:
    from headstart.cli.tables import table
    from headstart.evaluation.metrics import METRICS

    rows = [[m["model"], m["strategy"], *(_cell(m["metrics"][n]) for n in METRICS)] for m in found["models"]]
    return table(["model", "strategy", *(m.title for m in METRICS.values())], rows, left=2)


def _classes(model: Mapping[str, Any]) -> Any:
    from headstart.cli.tables import table

    rows = [
        [name, f"{row['support']:,}", *(_cell(row[n]) for n in ("precision", "recall", "f1"))]
        for name, row in model["per_class"].items()
    ]
    return table(["label", "texts", "Precision", "Recall", "F1"], rows)


def _show_difference(other: Mapping[str, Any], first: Mapping[str, Any]) -> None:
    from headstart.cli.tables import show, table
    from headstart.evaluation.metrics import METRICS

    if other["difference"] is None:
        running.note(f"{other['model']} cannot be set against {first['model']}: {other['reason']}")
        return
    rows = [
        [METRICS[name].title, f"{d['value']:+.3f}" if d["value"] is not None else "", _ends(d), _verdict(name, d)]
        for name, d in other["difference"].items()
    ]
    heading = f"{other['model']} minus {first['model']}"
    show(table(["metric", "difference", "95% interval", ""], rows, left=1), heading)


def _verdict(metric: str, difference: Mapping[str, Any]) -> str:
    from headstart.evaluation.metrics import METRICS

    if difference["value"] is None:
        return "not defined"
    if difference["tie"]:
        return "may be chance"
    return "better" if (difference["value"] > 0) == METRICS[metric].higher_is_better else "worse"


def _cell(found: Mapping[str, Any]) -> str:
    from headstart.report.words import decimals

    return f"{decimals(found['value'])} {_ends(found)}".rstrip()


def _ends(found: Mapping[str, Any]) -> str:
    from headstart.report.words import interval

    return interval(found["low"], found["high"])
