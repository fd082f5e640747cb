"""Rows as bytes of an output file, a chunk at a time, so that a file can grow by appending and be cut again."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from headstart.data.stream import DELIMITED, PARQUET
from headstart.data.table import clean_text
from headstart.errors import DataError

Values = dict[str, Any]


class RowOutput(Protocol):
    """Turns rows into the bytes of a format."""

    any_columns: bool  # whether a row may have other columns than the first ones

    def unfit(self, rows: Sequence[Values]) -> dict[int, str]:
        """Return the places of rows that cannot be written, each with the reason; the first call decides the types."""
        ...

    def encode(self, rows: Sequence[Values], *, first: bool) -> bytes:
        """Return the bytes of some rows; those of the first call begin with what stands in front of all rows."""
        ...

    def finish(self, grown: Path, out: Path) -> None:
        """Write what is not a plain row of appended bytes from the file that has grown."""
        ...


def row_output(suffix: str, columns: Sequence[str], added: Any, schema: Any = None) -> RowOutput:
    """Return what writes a format.

    Args:
        suffix: of the output file.
        columns: of the input.
        added: Arrow fields of the columns that are added.
        schema: Arrow schema of the input's columns where it has one; with None Parquet's types are those of the first
            rows.
    """
    names = [*columns, *(field.name for field in added)]
    if suffix in DELIMITED:
        return DelimitedOutput(names, DELIMITED[suffix])
    if suffix in PARQUET:
        return ParquetOutput(columns, added, schema)
    return JsonOutput()


class JsonOutput:
    """JSON lines: each row with the keys it has."""

    any_columns = True

    def unfit(self, rows: Sequence[Values]) -> dict[int, str]:
        """Return nothing: every row can be written."""
        return {}

    def encode(self, rows: Sequence[Values], *, first: bool) -> bytes:
        """Return a line per row."""
        return "".join(clean_text(_json(row)) + "\n" for row in rows).encode()

    def finish(self, grown: Path, out: Path) -> None:
        """Do nothing: the bytes are the file."""


def _json(values: Values) -> str:
    try:
        return json.dumps(values, ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError:  # NaN is no JSON
        return json.dumps(_without_nan(values), ensure_ascii=False, allow_nan=False, default=_plain)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> Any:
    """Return what JSON has no form for as text, numpy's numbers as numbers."""
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.item() if hasattr(value, "item") else str(value)


class DelimitedOutput:
    """CSV or TSV.

    Args:
        names: all columns.
        separator: one character.
    """

    any_columns = False

    def __init__(self, names: Sequence[str], separator: str) -> None:
        self._names = list(names)
        self._separator = separator

    def unfit(self, rows: Sequence[Values]) -> dict[int, str]:
        """Return nothing: every row can be written."""
        return {}

    def encode(self, rows: Sequence[Values], *, first: bool) -> bytes:
        """Return a record per row, quoted where needed."""
        made = io.StringIO()
        writer = csv.writer(made, delimiter=self._separator, lineterminator="\n")
        if first:
            writer.writerow(self._names)
        writer.writerows([_cell(row.get(name)) for name in self._names] for row in rows)
        return clean_text(made.getvalue()).encode()

    def finish(self, grown: Path, out: Path) -> None:
        """Do nothing: the bytes are the file."""


def _cell(value: Any) -> Any:
    if value is None or value != value:
        return ""
    if isinstance(value, dict | list):
        return _json(value)  # type: ignore[arg-type]  # a list is as good
    return value if isinstance(value, str | int | float) else _plain(value)


class ParquetOutput:
    """Parquet by way of an Arrow stream, which can grow by appending as Parquet cannot.

    Args:
        columns: of the input.
        added: Arrow fields of the added columns.
        schema: of the input's columns, or None.
    """

    any_columns = False

    def __init__(self, columns: Sequence[str], added: Any, schema: Any) -> None:
        self._columns = list(columns)
        self._added = added
        self._given = schema
        self._schema: Any = None

    def unfit(self, rows: Sequence[Values]) -> dict[int, str]:
        """Return the places of rows with a value that does not fit its column's type, each with the reason.

        Raises:
            DataError: the first rows have values of several types in one column.
        """
        self._schema = self._schema or self._types(rows)
        found: dict[int, str] = {}
        for field in self._schema:
            values = [row.get(field.name) for row in rows]
            if _fault(field, values) is None:
                continue
            reasons = {at: _fault(field, [value]) for at, value in enumerate(values)}
            found |= {at: f"'{field.name}': {reason}" for at, reason in reasons.items() if reason and at not in found}
        return found

    def encode(self, rows: Sequence[Values], *, first: bool) -> bytes:
        """Return the rows as one Arrow message, after that of the schema.

        Raises:
            DataError: a value does not fit the type of its column; `unfit` tells beforehand.
        """
        import pyarrow as pa

        self._schema = self._schema or self._types(rows)
        arrays = []
        for field in self._schema:
            try:
                arrays.append(_array(field, [row.get(field.name) for row in rows]))
            except (pa.ArrowException, TypeError, OverflowError) as problem:
                raise _unfit(field.name, problem) from problem
        batch = pa.record_batch(arrays, schema=self._schema)
        head = self._schema.serialize().to_pybytes() if first else b""
        return head + batch.serialize().to_pybytes() if rows else head

    def _types(self, rows: Sequence[Values]) -> Any:
        import pyarrow as pa

        if self._given is not None:
            fields = [pa.field(f.name, _flat(f.type)) for f in self._given]
        else:
            fields = [pa.field(name, _common_type(name, [row.get(name) for row in rows])) for name in self._columns]
        return pa.schema([*fields, *self._added])

    def finish(self, grown: Path, out: Path) -> None:
        """Write the stream as Parquet, a row group per chunk."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with (
            pa.OSFile(str(grown), "rb") as handle,
            pa.ipc.open_stream(handle) as stream,
            pq.ParquetWriter(out, stream.schema) as writer,
        ):
            for batch in stream:
                writer.write_batch(batch)


def _array(field: Any, values: Sequence[Any]) -> Any:
    import pyarrow as pa

    return pa.array([_clean(value) for value in values], type=field.type)


def _fault(field: Any, values: Sequence[Any]) -> str | None:
    """Return why values do not fit a column's type, or None."""
    import pyarrow as pa

    try:
        _array(field, values)
    except (pa.ArrowException, TypeError, OverflowError) as problem:
        words = (str(problem).splitlines() or ["of another type"])[0]
        return f"does not fit {field.type}, the type of this column in the Parquet file ({words})"
    return None


def _flat(kind: Any) -> Any:
    """Return the type without dictionary encoding, whose words would have to be known beforehand."""
    import pyarrow as pa

    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _common_type(name: str, values: list[Any]) -> Any:
    import pyarrow as pa

    try:
        kind = pa.array([_clean(v) for v in values]).type
    except pa.ArrowException as problem:
        raise _unfit(name, problem) from problem
    return pa.string() if pa.types.is_null(kind) else kind


def _clean(value: Any) -> Any:
    return clean_text(value) if isinstance(value, str) else value


def _unfit(column: str, problem: Exception) -> DataError:
    words = (str(problem).splitlines() or ["of several types"])[0]
    return DataError(f"column '{column}' cannot be written as Parquet ({words}); name a .csv or .jsonl file")
