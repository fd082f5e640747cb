"""CSV and TSV: the separator found, every fault with its row."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.data.table import Table, cut_long_cells, frame_of_cells
from headstart.data.textfile import read_text
from headstart.errors import DataError, counted

_SEPARATORS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "pipe"}
_SNIFFED_CHARACTERS = 1 << 20
_SNIFFED_ROWS = 200
_ROWS_SHOWN = 5


@dataclass(frozen=True)
class _Parsed:
    header: list[str]
    rows: list[list[str]]
    lines: list[int]  # the line on which each row begins, from 1


class _QuoteError(Exception):
    """Quotes that do not follow the dialect; the text says where."""

    at_end = False  # a quote that was opened and never closed


@dataclass(frozen=True)
class Dialect:
    """How a delimited file is read.

    Attributes:
        parameters: for `csv.reader`.
        found: a few words on separator and quoting.
        lines_before: lines in front of the header.
    """

    parameters: Mapping[str, Any]
    found: str
    lines_before: int


def stream_dialect(head: str, name: str, *, separator: str | None, tab_first: bool, cut: bool) -> Dialect:
    """Choose how to read a file from its first characters, as `read_delimited` does from all of them.

    Args:
        head: first characters.
        name: what messages call the file.
        separator: one character, else found.
        tab_first: whether a tab is the likeliest separator.
        cut: whether there is more than the head.

    Raises:
        DataError: the separator is not one character.
    """
    _check_separator(separator)
    characters, declared = _declared_separator(head)
    chosen = separator or declared or _sniff(characters, tab_first=tab_first)
    usual = {"delimiter": chosen, "strict": True}
    said = f"separator {_SEPARATORS.get(chosen, repr(chosen))}"
    before = len(head[: len(head) - len(characters)].splitlines())
    with cells_of_any_size():
        try:
            _parse(characters, usual)
        except _QuoteError as problem:
            if not (cut and problem.at_end):
                for dialect, words in _other_dialects(characters, chosen):
                    if _fits(characters, dialect, cut=cut):
                        return Dialect(dialect, f"{said}, {words}", before)
    return Dialect(usual, said, before)


def _fits(characters: str, dialect: Mapping[str, Any], *, cut: bool) -> bool:
    try:
        parsed = _parse(characters, dialect)
    except _QuoteError as problem:
        return cut and problem.at_end
    rows = parsed.rows[:-1] if cut else parsed.rows
    return len(parsed.header) > 1 and all(len(row) == len(parsed.header) for row in rows)


def _check_separator(separator: str | None) -> None:
    if separator is not None and len(separator) != 1:
        raise DataError(f"a separator is one character, or 'tab'; got '{separator}' (--separator)")


def read_delimited(
    path: Path, *, encoding: str | None = None, separator: str | None = None, text: Sequence[str] = ()
) -> Table:
    """Read a CSV or TSV file with a header row.

    Args:
        path: the file.
        encoding: else found.
        separator: one character, else found.
        text: columns whose cells stay exactly as written.

    Raises:
        DataError: the separator is none, or the file is empty, has NUL bytes, ragged rows, open quotes or equal
            column names.
    """
    name = path.name
    _check_separator(separator)
    characters, found = read_text(path, encoding=encoding)
    characters, declared = _declared_separator(characters)
    tab_first = path.suffix.lower() in (".tsv", ".tab")
    chosen = separator or declared or _sniff(characters, tab_first=tab_first)
    with cells_of_any_size():
        parsed, quoting = _parse_any(characters, chosen, name)
    _refuse_bad_rows(parsed, name, chosen)
    header = column_names(parsed.header, name)
    columns: dict[str, list[Any]] = {n: list(c) for n, c in zip(header, zip(*parsed.rows, strict=True), strict=True)}
    notes = [f"{name}: {found}, separator {_SEPARATORS.get(chosen, repr(chosen))}{quoting}"]
    notes += cut_long_cells(columns, name)
    return Table(frame_of_cells(columns, text=text), name, tuple(notes))


@contextlib.contextmanager
def cells_of_any_size() -> Iterator[None]:
    """Lift the parser's limit of 131,072 characters a cell, which is the process's, for the length of the block."""
    before = csv.field_size_limit((1 << 31) - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _declared_separator(characters: str) -> tuple[str, str | None]:
    """Take off Excel's first line ``sep=;``."""
    if characters[:4].lower() == "sep=" and characters[5:6] in ("\r", "\n"):
        return characters[5:].lstrip("\r\n"), characters[4]
    return characters, None


def _sniff(characters: str, *, tab_first: bool) -> str:
    """Return the separator by which most of the first rows have as many cells as the header, and more than one."""
    head = characters[:_SNIFFED_CHARACTERS]
    order = ["\t", ",", ";", "|"] if tab_first else [",", "\t", ";", "|"]
    widths = {c: _widths(head, c, cut=len(head) < len(characters)) for c in order}
    share = {c: sum(n == w[0] for n in w) / len(w) for c, w in widths.items()}
    many = [c for c in order if widths[c][0] > 1]
    if many:
        return max(many, key=lambda c: (share[c], widths[c][0]))
    return max(order, key=lambda c: share[c])  # one column: a separator that cuts no cell of it


def _widths(head: str, separator: str, *, cut: bool) -> list[int]:
    """Return the number of cells of the first rows; the row at which the head was cut does not count."""
    with cells_of_any_size():
        rows = csv.reader(io.StringIO(head, newline=""), delimiter=separator)
        widths = [len(row) for row in itertools.islice(rows, _SNIFFED_ROWS) if row]
    return widths[:-1] if cut and 1 < len(widths) < _SNIFFED_ROWS else widths


def _parse_any(characters: str, separator: str, name: str) -> tuple[_Parsed, str]:
    """Parse by the usual quoting; else by another that fits every row; else say where the usual one breaks."""
    try:
        return _parse(characters, {"delimiter": separator, "strict": True}), ""
    except _QuoteError as problem:
        fault = problem
    for dialect, words in _other_dialects(characters, separator):
        if _fits(characters, dialect, cut=False):
            return _parse(characters, dialect), f", {words}"
    raise DataError(f"{name}: {fault}")


def _other_dialects(characters: str, separator: str) -> list[tuple[dict[str, Any], str]]:
    """Return ways of quoting, besides the usual one, that a file may have been written in."""
    common = {"delimiter": separator, "strict": True}
    others: list[tuple[dict[str, Any], str]] = []
    if '\\"' in characters:  # only then: without doubled quotes the parser lets stray ones pass
        others.append(({**common, "doublequote": False, "escapechar": "\\"}, r"quotes escaped as \""))
    if separator == "\t":  # many tools write TSV without quoting anything; with commas that would hide the fault
        others.append(({**common, "quoting": csv.QUOTE_NONE}, "quotes are part of the text"))
    return others


def _parse(characters: str, dialect: Mapping[str, Any]) -> _Parsed:
    reader = csv.reader(io.StringIO(characters, newline=""), **dialect)
    rows: list[list[str]] = []
    lines: list[int] = []
    begin = 1
    try:
        for row in reader:
            if row:  # blank lines are no rows
                rows.append(row)
                lines.append(begin)
            begin = reader.line_num + 1
    except csv.Error as problem:
        where = f"row {len(rows)} (line {begin})" if rows else "the header row"
        if "unexpected end" in str(problem):
            unclosed = _QuoteError(f'{where} opens a quote (") that is never closed: close it, or double it ("")')
            unclosed.at_end = True
            raise unclosed from None
        raise _QuoteError(
            f'{where} has text after a closing quote: inside a quoted cell write each quote twice ("")'
        ) from None
    return _Parsed(rows[0], rows[1:], lines[1:])


def _refuse_bad_rows(parsed: _Parsed, name: str, separator: str) -> None:
    faults = []
    expected = len(parsed.header)
    nul = [i for i, row in enumerate(parsed.rows) if any("\0" in cell for cell in row)]
    if nul or any("\0" in cell for cell in parsed.header):
        where = _where(nul, parsed) if nul else "the header row"
        faults.append(f"{name}: NUL bytes in {where}: the file is damaged or not text; write it again")
    ragged = [i for i, row in enumerate(parsed.rows) if len(row) != expected]
    if ragged:
        got = ", ".join(sorted({str(len(parsed.rows[i])) for i in ragged}, key=int))
        faults.append(
            f"{name}: {counted(len(ragged), 'row has', 'rows have')} {got} columns where the header has {expected} "
            f"({_where(ragged, parsed)}): quote cells that hold the separator {separator!r}, or give --separator"
        )
    if not parsed.rows:
        faults.append(f"{name} has a header but no rows: add a row per text")
    if faults:
        raise DataError(faults)


def _where(rows: Sequence[int], parsed: _Parsed) -> str:
    shown = ", ".join(f"row {i + 1} on line {parsed.lines[i]}" for i in rows[:_ROWS_SHOWN])
    return shown if len(rows) <= _ROWS_SHOWN else f"{shown} and {len(rows) - _ROWS_SHOWN} more"


def column_names(header: Sequence[str], name: str) -> list[str]:
    """Return the names of a header row, stripped, those without numbered.

    Raises:
        DataError: two are equal.
    """
    names = [cell.strip() or f"column {i + 1}" for i, cell in enumerate(header)]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise DataError(f"{name} has two columns of one name: {', '.join(twice)}; rename one in the header row")
    return names
