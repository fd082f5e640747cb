"""``headstart predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from headstart.cli import registered, running
from headstart.cli.lazy import single
from headstart.errors import counted

ROWS_LEFT_OUT = 3
_EPILOG = """Examples:

headstart predict runs/reviews/best new.csv --out labeled.csv

headstart predict runs/reviews/best new.parquet --text body --out labeled.jsonl

headstart predict runs/reviews/best folder-of-files --out labeled.parquet

cat new.jsonl | headstart predict runs/reviews/best - --out -

headstart predict models:/reviews@champion new.csv --out labeled.csv
"""
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Model folder, the folder of a comparison (its winner), or a registered model (models:/NAME@ALIAS).",
    ),
]
File = Annotated[
    str,
    typer.Argument(
        metavar="INPUT", help="CSV, TSV, JSON lines or Parquet file with the texts, a folder of them, or - (stdin)."
    ),
]
Out = Annotated[
    str, typer.Option("--out", metavar="FILE", help="File to write: .csv, .tsv, .jsonl or .parquet; - is stdout.")
]
Rejected = Annotated[
    str | None,
    typer.Option("--rejected", metavar="FILE", help="Rows left out, with reasons; by default OUT.rejected.jsonl."),
]


def application() -> typer.Typer:
    """Return the application of this command."""
    return single("predict", predict, epilog=_EPILOG)


def predict(
    model: Model,
    file: File,
    out: Out,
    text: running.Text = None,
    rejected: Rejected = None,
    encoding: running.Encoding = None,
    separator: running.Separator = None,
    registry: registered.RegistryUri = None,
    quiet: running.Quiet = False,
    device: running.Device = "auto",
    precision: running.Precision = "auto",
    engine: running.Engine = "auto",
    threads: running.Threads = None,
) -> None:
    """Label the texts of a file with a model.

    The input's columns are written in its row order, with the columns prediction and p_LABEL for each label added.
    The text columns are those the model was fitted on unless --text names others. Rows without a text, and rows that
    cannot be read, go to a side file with the reason; the exit code is then 3.

    Any size is read in constant memory. The output appears when it is whole; after an interruption the same command
    goes on where it stopped. Standard input cannot be read twice, so with - an interrupted run begins anew.
    """
    from headstart.data.partial import pending
    from headstart.models.labeling import predict_file
    from headstart.models.output_places import check_out, check_side
    from headstart.registry import load

    target = check_out(file, out)
    check_side(file, out, rejected)
    before = pending(target) or {}
    # What an interrupted run computed with is taken up, or its rows would differ from ours in the last digit.
    running.use_threads(threads or before.get("threads"))
    if precision == "auto":
        precision = before.get("precision") or precision
    opened = load(model, device=device, precision=precision, engine=engine, registry=registry)
    try:
        with running.texts_done(quiet=quiet) as started:
            done = predict_file(
                opened,
                file,
                out,
                text=running.columns(text),
                rejected=rejected,
                encoding=encoding,
                separator=running.character(separator),
                started=lambda total: started("predicting", total),
            )
    except KeyboardInterrupt:
        if not quiet and pending(target):
            running.note("interrupted; the same command goes on from here")
        raise
    if not quiet:
        _say(done)
    if done.rejected:
        raise typer.Exit(ROWS_LEFT_OUT)


def _say(done: Any) -> None:
    for line in done.notes:
        running.note(line)
    if done.resumed:
        running.note(f"{counted(done.resumed, 'row', 'rows')} had been done before an interruption")
    shares = ", ".join(f"{name} {count:,}" for name, count in done.counts.items())
    where = "standard output" if done.out == Path("-") else done.out
    running.note(f"{counted(done.rows, 'text', 'texts')} labeled ({shares}): {where}")
    if done.rejected:
        place = "the reasons are above" if done.rejected_file is None else f"see {done.rejected_file}"
        running.note(f"warning: {counted(done.rejected, 'row was', 'rows were')} left out: {place}")
