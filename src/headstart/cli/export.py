"""``headstart export``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from headstart.cli import registered, running
from headstart.cli.lazy import single

_EPILOG = """Examples:

headstart export runs/reviews/best --out reviews-onnx

headstart export runs/reviews/best --out reviews-int8 --int8 --data later.csv --label sentiment

headstart predict reviews-int8 new.csv --out labeled.csv
"""
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Model folder, the folder of a comparison (its winner), or models:/NAME@ALIAS."
    ),
]
Out = Annotated[str, typer.Option("--out", metavar="FOLDER", help="Folder to write; MODEL/onnx serves --engine onnx.")]
Int8 = Annotated[bool, typer.Option("--int8", help="Quantize to int8; needs --data.")]
Data = Annotated[str | None, typer.Option("--data", metavar="FILE", help="Real texts to check and measure on.")]
Label = Annotated[
    str | None,
    typer.Option(
        "--label", metavar="COLUMN", help="Column of the label in --data; by default the model's, if it is there."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Write int8 also where it loses too much or gains too little.")]


def application() -> typer.Typer:
    """Return the application of this command."""
    return single("export", export, epilog=_EPILOG)


def export(
    model: Model,
    out: Out,
    int8: Int8 = False,
    data: Data = None,
    label: Label = None,
    text: running.Text = None,
    force: Force = False,
    encoding: running.Encoding = None,
    separator: running.Separator = None,
    registry: registered.RegistryUri = None,
    quiet: running.Quiet = False,
    threads: running.Threads = None,
) -> None:
    """Write a model as ONNX, checked against the original before it is put in place.

    The folder holds the graph, the tokenizer, headstart.json, and export.json with the largest difference found, the
    accuracy of both (where --data has the label column) and how much faster it is. It is a model folder: predict,
    evaluate and serve take it. int8 is not written when it loses more than 0.5 points of accuracy (without labels:
    gives more than 0.5% of the texts another label), is not 1.2 times as fast in batches or takes more than half the
    time for one text, unless --force. Without --data the graph is checked on a few built-in texts; nothing is timed.

    Fine-tuned models, linear-probe and the GRU can be exported; boosted and tfidf cannot.
    """
    from headstart.data.labels import Labels
    from headstart.data.read import examples_of, read_table
    from headstart.models.exporting import export_model
    from headstart.models.folder import read_card
    from headstart.models.predicting import winner_or_self
    from headstart.registry import resolve

    running.use_threads(threads)
    path = winner_or_self(resolve(model, registry=registry))
    examples = None
    if data is not None:
        card = read_card(path)
        columns = list(running.columns(text)) or [str(c) for c in card["text"]["columns"]]
        table = read_table(data, encoding=encoding, separator=running.character(separator), text=columns)
        label = label or _label_there(card, table.frame.columns, quiet=quiet)
        known = None if label is None else Labels.from_json(card["labels"])
        examples = examples_of(table.frame, text=columns, label=label, labels=known, name=table.name)
    done = export_model(
        path, out, int8=int8, examples=examples, force=force, tell=(lambda line: None) if quiet else running.note
    )
    if not quiet:
        _say(done.report, str(done.folder))


def _label_there(card: dict[str, Any], columns: Any, *, quiet: bool) -> str | None:
    """Return the column that the label had in training, if the table has it."""
    name = str(card.get("label_column") or "label")
    if name in columns:
        return name
    if not quiet:
        running.note(f"there is no column '{name}' with labels (--label): accuracy is not compared, answers are")
    return None


def _say(report: dict[str, Any], folder: str) -> None:
    difference, texts = report["largest_difference"], report["texts_compared"]
    which = "built-in texts (real ones: --data)" if report["texts"] == "built-in" else "texts"
    running.note(f"largest difference to torch in probability: {difference:.2g} on {texts:,} {which}")
    if report.get("accuracy"):
        found = report["accuracy"]
        running.note(
            f"accuracy on {found['texts']:,} labeled texts: torch {found['torch']:.4f}, ONNX {found['onnx']:.4f}"
        )
    if report.get("speed"):
        speed = report["speed"]
        rate, wait = speed["texts_per_second"], speed["single_text_ms"]
        running.note(
            f"texts per second: torch ({speed['torch_precision']}) {rate['torch']:.0f}, ONNX {rate['onnx']:.0f}; "
            f"one text: torch {wait['torch']:.2f} ms, ONNX {wait['onnx']:.2f} ms"
        )
    for fault in report.get("faults", ()):
        running.note(f"warning: {fault}")
    running.note(f"{report['precision']}, {report['bytes'] / 1e6:.0f} MB: {folder}")
