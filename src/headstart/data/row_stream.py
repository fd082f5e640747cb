"""Rows of text files one at a time: what cannot be read is handed on with its reason, and the next row follows."""

from __future__ import annotations

import csv
import json
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from headstart.data.delimited import cells_of_any_size, column_names, stream_dialect
from headstart.data.jsonlines import parse_line
from headstart.data.textfile import TextStream
from headstart.errors import DataError

_LONGEST_RECORD_CHARACTERS = 16 << 20
_SHOWN_CHARACTERS = 1000
_UNDECODED = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it was written.

    Attributes:
        file: the file's name.
        number: from 1 within its file, the header and blank lines not counted.
        values: cell or value per column.
    """

    file: str
    number: int
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BadRow:
    r"""One row that cannot be used.

    Attributes:
        file: the file's name.
        number: as in `Row`.
        reason: why, in words.
        content: what stands there, at most 1,000 characters; bytes that are no text as ``\xNN``.
    """

    file: str
    number: int
    reason: str
    content: str

    @classmethod
    def of(cls, file: str, number: int, reason: str, content: str) -> BadRow:
        """Make one, its content cut and made writable."""
        shown = content.rstrip("\r\n")[:_SHOWN_CHARACTERS]
        raw = shown.encode("utf-8", "surrogateescape" if _UNDECODED.search(shown) else "replace")
        return cls(file, number, reason, raw.decode("utf-8", "backslashreplace"))


class DelimitedRows:
    """CSV or TSV: the column names, and the rows as an iterator.

    Args:
        stream: the opened file.
        name: what messages call it.
        separator: one character, else found.
        tab_first: whether a tab is the likeliest separator.

    Attributes:
        columns: from the header row.
        found: a few words on separator and quoting.

    Raises:
        DataError: the header has equal names or cannot be read, or the separator is none.
    """

    def __init__(self, stream: TextStream, name: str, *, separator: str | None, tab_first: bool) -> None:
        dialect = stream_dialect(stream.head, name, separator=separator, tab_first=tab_first, cut=stream.cut)
        self.found = dialect.found
        self._name = name
        lines = iter(stream.lines)
        for _ in range(dialect.lines_before):
            next(lines)
        self._records = _records(lines, dialect.parameters)
        header = next(self._records)
        if isinstance(header.cells, str):
            raise DataError(f"{name}: the header row {header.cells}")
        self.columns = column_names(header.cells, name)

    def __iter__(self) -> Iterator[Row | BadRow]:
        for number, record in enumerate(self._records, start=1):
            reason = self._fault(record.cells)
            if reason is None:
                yield Row(self._name, number, dict(zip(self.columns, record.cells, strict=True)))
            else:
                yield BadRow.of(self._name, number, f"line {record.line}: {reason}", record.first_line)

    def _fault(self, cells: list[str] | str) -> str | None:
        if isinstance(cells, str):
            return cells
        if len(cells) != len(self.columns):
            return f"{len(cells)} columns where the header has {len(self.columns)}"
        for cell in cells:
            if "\0" in cell:
                return "NUL bytes"
            if not cell.isascii() and _UNDECODED.search(cell):
                return "bytes that are no text in this encoding"
        return None


@dataclass(frozen=True, slots=True)
class _Record:
    line: int  # on which it begins, from 1
    cells: list[str] | str  # or why there are none
    first_line: str


class _Lines:
    """Lines for the parser, which can be given back."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._back: deque[str] = deque()
        self.taken: list[str] = []
        self._characters = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if self._characters > _LONGEST_RECORD_CHARACTERS:
            raise csv.Error("unexpected end")  # a quote that is never closed would take in the whole file
        line = self._back.popleft() if self._back else next(self._lines)
        self.taken.append(line)
        self._characters += len(line)
        return line

    def begin(self) -> None:
        self.taken = []
        self._characters = 0

    def keep_first_only(self) -> None:
        self._back.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]


def _records(source: Iterator[str], parameters: Mapping[str, Any]) -> Iterator[_Record]:
    """Yield every record; after one that is quoted wrongly, go on with the line after its first."""
    lines = _Lines(source)
    reader = csv.reader(lines, **parameters)
    line = 1
    while True:
        lines.begin()
        cells: list[str] | str
        try:
            with cells_of_any_size():
                cells = next(reader)
        except StopIteration:
            return
        except csv.Error as problem:
            lines.keep_first_only()
            cells = "has text after a closing quote"
            if "unexpected end" in str(problem):
                cells = 'opens a quote (") that is never closed'
        if cells:  # blank lines are no rows
            yield _Record(line, cells, lines.taken[0])
        line += len(lines.taken)


def json_rows(lines: TextIO, name: str) -> Iterator[Row | BadRow]:
    """Yield one row per line that holds a JSON object; blank lines are none."""
    number = 0
    for at, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        number += 1
        if not line.isascii() and _UNDECODED.search(line):
            yield BadRow.of(name, number, f"line {at}: bytes that are no text in this encoding", line)
            continue
        value = parse_line(line)
        if isinstance(value, dict):
            yield Row(name, number, value)
        else:
            what = value if isinstance(value, str) else f"a {type(value).__name__}"
            yield BadRow.of(name, number, f"line {at} is not a JSON object: {what}", line)


def without_text(row: Row, text: Sequence[str]) -> str | None:
    """Return why a row has no text to label, or None where it has."""
    values = [row.values.get(column) for column in text]
    for column, value in zip(text, values, strict=True):
        if isinstance(value, list | dict | bytes):
            return f"column '{column}' holds a {type(value).__name__}, not a text"
    if all(v is None or v != v or not str(v).strip() for v in values):
        return f"no text in {' or '.join(repr(c) for c in text)}"
    return None


def shown(row: Row) -> str:
    """Return a row's values as JSON, for the side file."""
    return json.dumps(row.values, ensure_ascii=False, default=str)
