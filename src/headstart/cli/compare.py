"""``headstart compare``."""

from __future__ import annotations

import gc
import json
from typing import TYPE_CHECKING, Any

import typer

from headstart.cli.lazy import single
from headstart.cli.options import AsJson, Data, Masking, Quiet, Set, resolve, with_masking, with_settings
from headstart.cli.reporting import reporter
from headstart.experiment.config import ExperimentConfig

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_FEWEST_COLUMNS = 3  # mark, strategy, deciding metric
_EPILOG = """Examples:

headstart compare reviews.csv --label sentiment

headstart compare reviews.csv --source films.csv --strategies tfidf,full,source+full --seeds 3

headstart compare reviews.csv --holdout later.csv --max-length 128 --truncate head-tail --metric roc_auc

headstart compare reviews.csv --unlabeled new.csv --strategies tfidf,full,adapt+full --masking whole-word

headstart compare experiment.yaml --seed 1 --out runs/second

headstart compare reviews.csv --set full.epochs=5 --set lora.rank=16 --json > record.json
"""


def application() -> typer.Typer:
    """Return the application of this command."""
    return single("compare", with_settings(compare), epilog=_EPILOG)


def compare(
    data: Data,
    *,
    given: dict[str, Any],
    masking: Masking = None,
    set_: Set = None,
    json_: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fit every way of transferring on the same rows, and say which one won and by how much.

    Labeled rows are split into train, validation (which chooses) and holdout (which is scored once, at the end). The
    folder runs/NAME keeps the record, every fit's predictions, and the winner's model in best/. The same command
    again goes on where it stopped.
    """
    compare_and_show(resolve(data, given, with_masking(set_, masking)), as_json=json_, quiet=quiet)


def compare_and_show(config: ExperimentConfig, *, as_json: bool, quiet: bool) -> None:
    """Run a comparison and print what came of it.

    Args:
        config: the experiment.
        as_json: print the record and nothing else to stdout.
        quiet: no progress and no notes.
    """
    from headstart.experiment.run import run
    from headstart.models.runtime import keep_freed_memory, keep_kernels

    keep_freed_memory()
    keep_kernels()
    gc.freeze()  # what was imported stays: the collector, called before every fit, need not look through it
    try:
        with reporter(config.metric, quiet=quiet) as listener:
            comparison = run(config, reporter=listener)
    except KeyboardInterrupt:
        typer.echo("interrupted: the same command again goes on where it stopped; finished fits are kept", err=True)
        raise typer.Exit(130) from None
    record = comparison.record
    if as_json:
        typer.echo(json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        _show(record, str(comparison.folder), config)
    if comparison.winner is None:
        raise typer.Exit(1)


def _show(record: dict[str, Any], folder: str, config: ExperimentConfig) -> None:
    from rich.console import Console

    from headstart.report.render import conclusion, render_table

    console = Console()
    if not console.is_terminal:
        console = Console(width=140)  # a file or pipe has no width; the table is made for 110
    shown = render_table(record)
    left_out = fit_to_width(shown, console)
    console.print(shown)
    lines = [f"columns left out, for the terminal is narrow: {', '.join(left_out)}"] if left_out else []
    lines += [conclusion(record), f"Record: {folder}/comparison.json"]
    if record.get("winner") is not None:
        lines += [f"Model:  {folder}/best", f"Next:   {next_command(f'{folder}/best', config)}"]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def fit_to_width(table: Table, console: Console) -> list[str]:
    """Take columns off the right of a table, in place, until it fits; return their headings.

    Numbers cut to ``0.8...`` would say nothing; what is left out is in the record.
    """
    from rich.measure import Measurement

    caption, table.caption = table.caption, None  # wraps by itself
    left_out = []
    unbound = console.options.update(width=1000)
    while Measurement.get(console, unbound, table).maximum > console.width and len(table.columns) > _FEWEST_COLUMNS:
        left_out.append(str(table.columns.pop().header))
    table.caption = caption
    return left_out[::-1]


def next_command(model: str, config: ExperimentConfig) -> str:
    """Return the command that uses a model on the user's own file."""
    import shlex

    suffix = config.data.rpartition(".")[2].lower() if "." in config.data else "csv"
    ending = suffix if suffix in ("csv", "tsv", "jsonl", "parquet") else "csv"
    return f"headstart predict {shlex.quote(model)} FILE.{ending} --out predictions.{ending}"
