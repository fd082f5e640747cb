"""Plain tables on stdout, wide enough for what is in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headstart.report.words import plain

_WIDE = 200  # columns where stdout is no terminal: nothing is folded in files and pipes


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]], *, left: int = 1) -> Table:
    """Return a table; the first ``left`` columns are aligned left, the others right. Values are shown as they are."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for place, heading in enumerate(headings):
        made.add_column(Text(heading), justify="left" if place < left else "right", overflow="fold")
    for row in rows:
        made.add_row(*(Text("" if value is None else plain(value)) for value in row))
    return made


def show(made: Table, heading: str = "") -> None:
    """Print a table to stdout below an optional line."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDE)
    if heading:
        line(heading)
    console.print(made)


def line(text: str) -> None:
    """Print one line to stdout, as it is."""
    Console(soft_wrap=True).print(plain(text), markup=False, highlight=False)
