"""Tables of any size as a stream of rows: a file, a folder of files, standard input; never whole in memory."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from headstart.data.hub import is_saved_folder
from headstart.data.read import read_table
from headstart.data.row_stream import BadRow, DelimitedRows, Row, json_rows
from headstart.data.table import Table
from headstart.data.textfile import TextStream, open_text
from headstart.errors import DataError, NoRowsError, counted

DELIMITED = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
JSON_LINES = (".jsonl", ".ndjson", ".json")
PARQUET = (".parquet", ".pq")
STANDARD = "-"
_PEEKED_ROWS = 1000
_PARQUET_ROWS = 1024
_NAMED_FILES = 5


@dataclass(frozen=True)
class RowStream:
    """Rows of a table, in order, each read once.

    Attributes:
        name: what messages call it.
        kind: ``delimited`` (cells are text), ``json``, ``parquet`` or ``values`` (values have types).
        columns: their names; of JSON lines those of the first 1,000 rows.
        rows: what is iterated.
        notes: what the user should know: encoding and separator found.
        files: what is read, to know it again; none for standard input.
        total: rows, where it is known beforehand.
        schema: the Arrow schema of a Parquet file.
        handles: open files, which `close` closes.
    """

    name: str
    kind: str
    columns: tuple[str, ...]
    rows: Iterator[Row | BadRow]
    notes: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    total: int | None = None
    schema: Any = field(default=None, repr=False)
    handles: list[Any] = field(default_factory=list, repr=False)

    def close(self) -> None:
        """Close what is open; no more rows are read after it."""
        for handle in self.handles:
            handle.close()


def open_stream(
    source: str | Path, *, encoding: str | None = None, separator: str | None = None, text: Sequence[str] = ()
) -> RowStream:
    """Open a table for reading in constant memory.

    Args:
        source: CSV, TSV, JSON lines or Parquet file, a folder of such files of one kind, or ``-``, standard input (CSV
            or JSON lines, told apart by the first character). What `read_table` reads besides (a JSON list, a
            `datasets` folder, a packaged sample) is read whole.
        encoding: of text files, else found.
        separator: of CSV files, else found.
        text: columns whose values stay as written.

    Raises:
        DataError: the source is missing, damaged, empty or of an unknown kind, or files of a folder do not fit.
    """
    if str(source) == STANDARD:
        return _standard_input(encoding, separator)
    path = Path(source).expanduser()
    if path.is_dir() and not is_saved_folder(path):
        return _folder(path, encoding, separator)
    opened = _file(path, encoding, separator) if path.is_file() else None
    return opened or _whole(read_table(source, encoding=encoding, separator=separator, text=text), path)


def _standard_input(encoding: str | None, separator: str | None) -> RowStream:
    name = "standard input"
    raw: BinaryIO = sys.stdin.buffer
    stream = open_text(raw, name, encoding=encoding, newline="")
    if stream.head.lstrip()[:1] == "{":
        return _json(stream, name, ())
    return _delimited(stream, name, separator, (), tab_first=False)


def _file(path: Path, encoding: str | None, separator: str | None) -> RowStream | None:
    """Open one file, or return None where it is of a kind that is not streamed."""
    kind = path.suffix.lower()
    if kind in PARQUET:
        return _parquet(path)
    if kind not in (*DELIMITED, *JSON_LINES):
        return None
    try:
        raw = path.open("rb")
    except OSError as problem:
        raise DataError(f"cannot read {path}: {problem.strerror or problem}") from problem
    with contextlib.ExitStack() as unless_opened:
        unless_opened.enter_context(raw)
        stream = open_text(raw, path.name, encoding=encoding, newline="" if kind in DELIMITED else "\n")
        if kind in JSON_LINES and stream.head.lstrip().startswith("["):
            return None  # one list of objects can only be read whole
        if kind in JSON_LINES:
            opened = _json(stream, path.name, (path,))
        else:
            opened = _delimited(stream, path.name, separator, (path,), tab_first=DELIMITED[kind] == "\t")
        unless_opened.pop_all()
    return opened


def _delimited(
    stream: TextStream, name: str, separator: str | None, files: tuple[Path, ...], *, tab_first: bool
) -> RowStream:
    table = DelimitedRows(stream, name, separator=separator, tab_first=tab_first)
    rows = _decoded(iter(table), name)
    note = f"{name}: {stream.found}, {table.found}"
    return RowStream(name, "delimited", tuple(table.columns), _some(rows, name), (note,), files, handles=[stream.lines])


def _json(stream: TextStream, name: str, files: tuple[Path, ...]) -> RowStream:
    first, rows = _peeked(_decoded(json_rows(stream.lines, name), name), _PEEKED_ROWS)
    columns = tuple(dict.fromkeys(key for row in first if isinstance(row, Row) for key in row.values))
    if not columns:
        faults = [f"{b.file}: {b.reason}" for b in first[:5] if isinstance(b, BadRow)]
        example = '{"text": ..., "label": ...}'
        raise DataError([*faults, f"{name} has no columns: every line must be an object such as {example}"])
    notes = () if stream.found == "encoding utf-8" else (f"{name}: {stream.found}",)
    return RowStream(name, "json", columns, rows, notes, files, handles=[stream.lines])


def _decoded(rows: Iterator[Row | BadRow], name: str) -> Iterator[Row | BadRow]:
    try:
        yield from rows
    except UnicodeError as problem:
        raise DataError(f"{name} does not fit its encoding ({problem}); give another with --encoding") from problem


def _peeked(rows: Iterator[Row | BadRow], count: int) -> tuple[list[Row | BadRow], Iterator[Row | BadRow]]:
    first = list(itertools.islice(rows, count))
    return first, itertools.chain(first, rows)


def _some(rows: Iterator[Row | BadRow], name: str) -> Iterator[Row | BadRow]:
    first, rows = _peeked(rows, 1)
    if not first:
        raise NoRowsError(f"{name} has a header but no rows: add a row per text")
    return rows


def _parquet(path: Path) -> RowStream:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
        schema = file.schema_arrow
    except (pa.ArrowException, OSError) as problem:
        raise _not_parquet(path, problem) from problem
    names = [n for n in schema.names if not n.startswith("__index_level_")]  # what pandas adds for its index
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise DataError(f"{path.name} has two columns of one name: {', '.join(twice)}; rename one")
    if not names or not file.metadata.num_rows:
        raise NoRowsError(f"{path.name} has no rows")

    def rows() -> Iterator[Row | BadRow]:
        number = 0
        try:
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS, columns=names):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(path.name, number, values)
        except (pa.ArrowException, OSError) as problem:
            raise _not_parquet(path, problem) from problem

    kept = pa.schema([schema.field(n) for n in names])
    total = file.metadata.num_rows
    own = {"files": (path,), "total": total, "schema": kept, "handles": [file]}
    return RowStream(path.name, "parquet", tuple(names), rows(), **own)


def _not_parquet(path: Path, problem: Exception) -> DataError:
    words = (str(problem).splitlines() or ["it is empty"])[0]
    return DataError(f"{path.name} is not a whole Parquet file (cut short, or another format): {words}")


def _whole(table: Table, path: Path) -> RowStream:
    frame = table.frame.astype(object).where(table.frame.notna(), None)
    columns = tuple(str(c) for c in frame.columns)

    def rows() -> Iterator[Row | BadRow]:
        for number, values in enumerate(frame.itertuples(index=False, name=None), start=1):
            yield Row(table.name, number, dict(zip(columns, values, strict=True)))

    files = (path,) if path.is_file() else ()
    return RowStream(table.name, "values", columns, rows(), table.notes, files, len(frame))


def _folder(path: Path, encoding: str | None, separator: str | None) -> RowStream:
    """Chain the files of a folder in the order of their names; hidden ones and those of other kinds are passed over."""
    known = (*DELIMITED, *JSON_LINES, *PARQUET)
    inside = (p.relative_to(path) for p in path.rglob("*") if p.suffix.lower() in known and p.is_file())
    files = [path / p for p in sorted(inside) if not any(part.startswith((".", "_")) for part in p.parts)]
    if not files:
        raise DataError(f"{path} is a folder without a file to read; known: {', '.join(known)}")
    openers: list[Callable[[], RowStream]] = []
    first: RowStream | None = None
    total: int | None = 0
    empty: list[str] = []
    for file in files:
        opener = _opener(file, encoding, separator)
        try:
            found = opener()
        except NoRowsError:  # writers of many parts leave such ones
            empty.append(str(file.relative_to(path)))
            continue
        openers.append(opener)
        total = None if total is None or found.total is None else total + found.total
        if first is None:
            first = found
        else:
            found.close()
            _check_fits(first, found, path)
    if first is None:
        raise NoRowsError(f"{path}: {counted(len(files), 'file', 'files')}, none with rows: add a row per text")
    chained = first

    def rows() -> Iterator[Row | BadRow]:
        yield from chained.rows
        for opener in openers[1:]:
            following = opener()
            chained.handles.extend(following.handles)
            yield from following.rows
            following.close()

    notes = [f"{path.name}: {len(files):,} files", *first.notes]
    if empty:
        more = f" and {len(empty) - _NAMED_FILES:,} more" if len(empty) > _NAMED_FILES else ""
        named = ", ".join(empty[:_NAMED_FILES])
        notes.append(f"{counted(len(empty), 'file has', 'files have')} no rows: {named}{more}")
    return replace(first, name=path.name, rows=rows(), notes=tuple(notes), files=tuple(files), total=total)


def _opener(file: Path, encoding: str | None, separator: str | None) -> Callable[[], RowStream]:
    def opener() -> RowStream:
        found = _file(file, encoding, separator)
        if found is None:
            raise DataError(f"{file.name} holds one JSON list: in a folder only JSON lines are read")
        return found

    return opener


def _check_fits(first: RowStream, other: RowStream, folder: Path) -> None:
    if other.kind != first.kind:
        raise DataError(f"{folder} holds files of several kinds ({first.name}, {other.name}): give one kind at a time")
    if first.kind != "json" and set(other.columns) != set(first.columns):
        raise DataError(
            f"{folder}: {other.name} has other columns ({', '.join(other.columns)}) than {first.name} "
            f"({', '.join(first.columns)}): give them one at a time"
        )
