"""A comparison's record as a table for the terminal and for a notebook.

Names, labels and reasons may hold any characters: the terminal gets them as `Text`, never as markup, without control
characters; HTML gets them escaped.
"""

from __future__ import annotations

import html
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from headstart.report.leaderboard import Record, cell, deciding, ordered, validation_value
from headstart.report.words import conclusion, count, decimals, interval, plain, seconds, size, stage_lines, ties

__all__ = ["conclusion", "render_html", "render_table"]

_SIDE_METRICS = {"macro_f1": "F1", "accuracy": "acc", "roc_auc": "AUC", "log_loss": "loss"}
_SIDE_COLUMNS = 2  # more would not fit 110 columns
_NAME_WIDTH = 26  # characters, longer names are folded
_MARK_WIDTH, _GAP, _EDGES = 2, 2, 2
_DROPPED_FIRST = ("size", "mem", "text/s", "acc", "trained")  # on narrow terminals


@dataclass(frozen=True)
class _Line:
    """One strategy, ready to be shown."""

    mark: str  # "*" winner, "=" tie, "" neither
    cells: tuple[str, ...]  # as `_headings`
    ok: bool


def render_table(record: Record, *, width: int = 110) -> Table:
    """Return the leaderboard for a terminal; ``*`` is the winner, ``=`` what the holdout cannot tell from it.

    Args:
        record: content of ``comparison.json``.
        width: columns of the terminal; below 110 the costs are left out one by one.
    """
    caption = Text("\n".join(_notes(record)), style="dim")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=caption, caption_justify="left", padding=(0, 1, 0, 0))
    headings, lines = _headings(record), _lines(record)
    kept = _fitting(headings, lines, width)
    table.add_column(Text(f"  {headings[0]}"), no_wrap=True)
    for place in kept:
        table.add_column(Text(headings[place]), justify="right", no_wrap=True)
    for line in lines:
        style = "bold" if line.mark == "*" else "" if line.ok else "dim"
        cells = [_folded(line), *(line.cells[place] for place in kept)]
        table.add_row(*(Text(value) for value in cells), style=style)
    return table


def _folded(line: _Line) -> str:
    name = line.cells[0]
    pieces = [name[i : i + _NAME_WIDTH] for i in range(0, len(name), _NAME_WIDTH)]
    return f"{line.mark:{_MARK_WIDTH}}" + f"\n{'':{_MARK_WIDTH}}".join(pieces)


def _fitting(headings: list[str], lines: list[_Line], width: int) -> list[int]:
    """Return the columns, but for the name, that fit beside each other in ``width``."""
    widths = [max([len(heading), *(len(line.cells[i]) for line in lines)]) for i, heading in enumerate(headings)]
    widths[0] = min(widths[0], _NAME_WIDTH) + _MARK_WIDTH
    kept = list(range(1, len(headings)))
    for heading in _DROPPED_FIRST:
        if _EDGES + widths[0] + sum(widths[i] + _GAP for i in kept) <= width:
            break
        kept = [i for i in kept if headings[i] != heading]
    return kept


def render_html(record: Record) -> str:
    """Return the leaderboard with its conclusion as HTML, for a notebook's ``_repr_html_``."""
    head = "".join(f"<th>{html.escape(heading)}</th>" for heading in ("", *_headings(record)))
    rows = "".join(_html_row(line) for line in _lines(record))
    notes = "<br>".join(html.escape(note) for note in _notes(record))
    return (
        f'<div class="headstart-comparison"><p>{html.escape(conclusion(record))}</p>'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table><p><small>{notes}</small></p></div>"
    )


def _html_row(line: _Line) -> str:
    name, *rest = (html.escape(value) for value in line.cells)
    style = ' style="font-weight:bold"' if line.mark == "*" else "" if line.ok else ' style="opacity:0.6"'
    numbers = "".join(f'<td style="text-align:right">{value}</td>' for value in rest)
    return f'<tr{style}><td>{line.mark}</td><td style="text-align:left">{name}</td>{numbers}</tr>'


def _side_metrics(record: Record) -> list[str]:
    return [name for name in _SIDE_METRICS if name != deciding(record).name][:_SIDE_COLUMNS]


def _headings(record: Record) -> list[str]:
    sides = [_SIDE_METRICS[name] for name in _side_metrics(record)]
    costs = ["fit", "text/s", "mem", "size", "trained"]
    return ["strategy", f"{deciding(record).title} (95%)", *sides, "val", *costs]


def _lines(record: Record) -> list[_Line]:
    tied = ties(record)
    lines = []
    for strategy in ordered(record):
        name = strategy.get("name")
        mark = "*" if name == record.get("winner") else "=" if name in tied else ""
        ok = strategy.get("status") == "ok"
        values = _values(record, strategy) if ok else [plain(strategy.get("status")), *[""] * (_SIDE_COLUMNS + 6)]
        lines.append(_Line(mark, (plain(name), *values), ok))
    return lines


def _values(record: Record, strategy: Record) -> list[str]:
    value, low, high = cell(strategy, deciding(record).name)
    return [
        f"{decimals(value)} {interval(low, high)}".rstrip(),
        *(decimals(cell(strategy, name)[0]) for name in _side_metrics(record)),
        decimals(validation_value(record, strategy)),
        seconds(strategy.get("seconds_fit")),
        count(strategy.get("texts_per_second")),
        size(strategy.get("peak_memory_bytes")),
        size(strategy.get("size_bytes")),
        count(strategy.get("parameters_trained")),
    ]


def _notes(record: Record) -> list[str]:
    """Return what stands below the table: the marks, what the intervals cover, why a row is empty."""
    notes = ["* winner, chosen on validation; = the holdout cannot tell it from the winner"] if ties(record) else []
    fits = max((len(s.get("fits") or ()) for s in record.get("strategies", ())), default=0)
    if fits == 1:
        notes.append("one seed: the intervals cover the luck of the rows, not of the seed")
    elif fits > 1:
        notes.append(f"mean of {fits} seeds: the intervals cover rows and seeds")
    notes += stage_lines(record)
    for strategy in ordered(record):
        if strategy.get("status") != "ok":
            reason = plain(strategy.get("reason") or "no reason given")
            notes.append(f"{plain(strategy.get('name'))} {plain(strategy.get('status'))}: {reason}")
    return notes
