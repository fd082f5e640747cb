"""``headstart predict``."""

from __future__ import annotations

from typing import Annotated

import typer

from headstart.cli import running
from headstart.cli.lazy import single

_EPILOG = """Examples:

headstart predict runs/reviews/best new.csv --out labeled.csv

headstart predict runs/reviews/best new.parquet --text body --out labeled.jsonl
"""
Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="Model folder, or the folder of a comparison (its winner).")
]
File = Annotated[str, typer.Argument(metavar="FILE", help="CSV, TSV, JSON lines or Parquet file with the texts.")]
Out = Annotated[str, typer.Option("--out", metavar="FILE", help="File to write: .csv, .tsv, .jsonl or .parquet.")]


def application() -> typer.Typer:
    """Return the application of this command."""
    return single("predict", predict, epilog=_EPILOG)


def predict(
    model: Model,
    file: File,
    out: Out,
    text: running.Text = None,
    encoding: running.Encoding = None,
    separator: running.Separator = None,
    quiet: running.Quiet = False,
    device: running.Device = "auto",
    precision: running.Precision = "auto",
    threads: running.Threads = None,
) -> None:
    """Label the texts of a file with a model.

    The file's columns are written in the file's row order, with the columns prediction and p_LABEL for each label
    added. The text columns are those the model was fitted on unless --text names others. The output appears whole or
    not at all.
    """
    from headstart.models.predicting import check_out, open_model, predict_file

    check_out(file, out)
    running.use_threads(threads)
    opened = open_model(model, device=device, precision=precision)
    with running.texts_done(quiet=quiet) as started:
        done = predict_file(
            opened,
            file,
            out,
            text=running.columns(text),
            encoding=encoding,
            separator=running.character(separator),
            started=lambda total: started("predicting", total),
        )
    if quiet:
        return
    for line in done.notes:
        running.note(line)
    shares = ", ".join(f"{name} {count:,}" for name, count in done.counts.items())
    running.note(f"{done.rows:,} texts labeled ({shares}): {done.out}")
