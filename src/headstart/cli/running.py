"""What the commands on finished models share: flags for the machine, and a bar for texts done."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from headstart.cli import completion
from headstart.report.words import plain

Started = Callable[[str, int | None], Callable[[int], None]]

Device = Annotated[
    str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, ...", rich_help_panel="Machine")
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="NAME",
        help="auto (measured), float32 or bfloat16.",
        autocompletion=completion.FOR_SETTINGS["precision"],
        rich_help_panel="Machine",
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="NAME",
        help="auto (as the folder is), torch, or onnx (an exported folder, or MODEL/onnx).",
        rich_help_panel="Machine",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", min=1, help="Processor threads.", rich_help_panel="Machine"),
]
Text = Annotated[
    str | None,
    typer.Option(
        "--text", metavar="COLUMN[,COLUMN]", help="Text column(s), where they are not called as the model's own."
    ),
]
Encoding = Annotated[str | None, typer.Option("--encoding", metavar="NAME", help="Encoding of the file.")]
Separator = Annotated[str | None, typer.Option("--separator", metavar="CHARACTER", help="Separator of the file.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print everything as JSON to stdout.")]
ResamplingSeed = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of the intervals' resampling.")]


def columns(value: str | None) -> tuple[str, ...]:
    """Turn ``a,b`` into ``("a", "b")``."""
    return tuple(part.strip() for part in (value or "").split(",") if part.strip())


def character(value: str | None) -> str | None:
    """Turn the word ``tab``, or a backslash with a t, into a tab."""
    return "\t" if value in ("tab", "\\t") else value


def use_threads(count: int | None) -> None:
    """Let torch use so many threads, and keep the memory that batches free."""
    import torch

    from headstart.models.runtime import keep_freed_memory

    keep_freed_memory()
    if count is not None:
        torch.set_num_threads(count)


def note(message: str) -> None:
    """Print a line to stderr, as it is."""
    typer.echo(plain(message), err=True)


@contextlib.contextmanager
def texts_done(*, quiet: bool) -> Iterator[Started]:
    """Yield a function that shows a bar for so many texts (None: not known), on a terminal; elsewhere nothing."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda name, total: lambda done: None
        return
    shown = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*shown, console=console, transient=True) as bar:

        def started(name: str, total: int | None) -> Callable[[int], None]:
            task = bar.add_task(plain(name), total=total)
            return lambda done: bar.advance(task, done)

        yield started
