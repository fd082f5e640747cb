"""Reading a table from wherever it is, and taking texts, labels and features out of it."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from headstart import catalog
from headstart.data.delimited import read_delimited
from headstart.data.examples import Examples
from headstart.data.hub import is_saved_folder, read_hub, read_saved_folder
from headstart.data.jsonlines import read_json_lines
from headstart.data.labels import Labels
from headstart.data.rows import rows_of
from headstart.data.table import Table, cut_long_cells, frame_of_values
from headstart.data.textfile import read_bytes
from headstart.errors import DataError, counted, did_you_mean

_DELIMITED = (".csv", ".tsv", ".tab")
_JSON = (".jsonl", ".ndjson", ".json")
_PARQUET = (".parquet", ".pq")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*){0,2}")
_KNOWN = f"known: {', '.join((*_DELIMITED, *_JSON, *_PARQUET))}, a `datasets` folder, a hub name such as glue/sst2"


def read_table(
    source: str | Path | pd.DataFrame,
    *,
    encoding: str | None = None,
    separator: str | None = None,
    text: Sequence[str] = (),
    name: str | None = None,
) -> Table:
    """Read a file, a `datasets` folder, a hub name, a packaged sample or a frame.

    Args:
        source: path, name or frame (which is not changed).
        encoding: of a text file, else found.
        separator: of a CSV or TSV file, else found.
        text: columns of a CSV file whose cells stay exactly as written, also where they look like numbers.
        name: what messages call the table, else the file's name.

    Raises:
        DataError: the source is missing, damaged or of an unknown kind.
        MissingExtraError: an optional package is needed to read it.
    """
    if isinstance(source, pd.DataFrame):
        return _from_frame(source, name or "data")
    if not str(source).strip():
        raise DataError(f"no data is named; {_KNOWN}")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", str(source)):
        raise DataError(f"'{source}' is an address: fetch the file first, and give its path")
    path = Path(source).expanduser()
    with contextlib.suppress(OSError):  # a name too long for the file system is no file
        if path.is_dir():
            return _from_folder(path)
        if path.exists():
            return _from_file(path, encoding=encoding, separator=separator, text=text)
    return _from_name(str(source), path)


def _from_file(path: Path, *, encoding: str | None, separator: str | None, text: Sequence[str]) -> Table:
    kind = path.suffix.lower()
    if kind in _DELIMITED:
        return read_delimited(path, encoding=encoding, separator=separator, text=text)
    if kind in _JSON:
        return read_json_lines(path, encoding=encoding)
    if kind in _PARQUET:
        return _from_parquet(path)
    raise DataError(f"{path.name}: a file ending in '{path.suffix}' cannot be read; {_KNOWN}")


def _from_folder(path: Path) -> Table:
    if is_saved_folder(path):
        return read_saved_folder(path)
    held = sorted(p.name for p in path.iterdir())[:5]
    raise DataError(
        f"{path} is a folder, but not one that `datasets` saved (no dataset_dict.json or state.json; it holds "
        f"{', '.join(held) or 'nothing'}): give a file inside it, or save it with save_to_disk"
    )


def _from_name(source: str, path: Path) -> Table:
    if source in catalog.SAMPLES:
        return _from_frame(catalog.sample_frame(source), source)
    known_ending = path.suffix.lower() in (*_DELIMITED, *_JSON, *_PARQUET)
    if known_ending or not _HUB_NAME.fullmatch(source):
        raise DataError(f"file {source} does not exist.{_closest_file(path)}")
    near = difflib.get_close_matches(source, catalog.SAMPLES, n=1, cutoff=0.8) or _closest_file(path)
    if "/" not in source and near:
        words = f" Did you mean '{near[0]}'?" if isinstance(near, list) else near
        raise DataError(f"'{source}' is neither a file nor a packaged sample ({', '.join(catalog.SAMPLES)}).{words}")
    return read_hub(source)


def _closest_file(path: Path) -> str:
    with contextlib.suppress(OSError):
        if path.parent.is_dir():
            return did_you_mean(path.name, [p.name for p in path.parent.iterdir()])
        return f" Its folder {path.parent} does not exist either."
    return ""


def _from_parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    raw = read_bytes(path)
    try:
        table = pq.ParquetFile(pa.BufferReader(raw)).read()
    except (pa.ArrowException, OSError) as problem:
        words = str(problem).splitlines()[0]
        raise DataError(f"{path.name} is not a whole Parquet file (cut short, or another format): {words}") from problem
    names = [n for n in table.column_names if not n.startswith("__index_level_")]  # what pandas adds for its index
    return _from_columns({n: table.column(n).to_pylist() for n in names}, names, path.name)


def _from_frame(frame: pd.DataFrame, name: str) -> Table:
    if isinstance(frame.columns, pd.MultiIndex):
        raise DataError(f"{name} has column names of several levels: flatten them to one")
    names = [str(c) for c in frame.columns]
    plain = frame.astype(object).where(frame.notna(), None)
    return _from_columns({n: plain.iloc[:, i].tolist() for i, n in enumerate(names)}, names, name)


def _from_columns(columns: dict[str, list[Any]], names: Sequence[str], name: str) -> Table:
    twice = sorted({n for n in names if list(names).count(n) > 1})
    if twice:
        raise DataError(f"{name} has two columns of one name: {', '.join(twice)}; rename one")
    if not names or not columns[names[0]]:
        raise DataError(f"{name} has no rows")
    notes = cut_long_cells(columns, name)
    return Table(frame_of_values(columns), name, tuple(notes))


def examples_of(
    frame: pd.DataFrame,
    *,
    text: Sequence[str],
    label: str | None = None,
    columns: Sequence[str] = (),
    labels: Labels | None = None,
    name: str = "",
) -> Examples:
    """Take texts, labels and features out of a frame; row order kept, ids are row positions from 0.

    Args:
        frame: N rows.
        text: one column, or two for pairs; blank cells become ``""``.
        label: column of labels; None gives ``y`` = -1 everywhere.
        columns: feature columns.
        labels: the order to encode by (by value, else by name: ``1`` finds ``"1"``); else fixed from this frame.
        name: what messages call the table.

    Raises:
        DataError: columns are missing (all are named), texts are no texts, or a label is not among ``labels``.
    """
    rows = rows_of(frame, text=text, label=label, columns=columns, name=name or "data")
    if label is None:
        return rows.examples(None)
    known = labels or Labels.of(rows.labels)
    matched = rows.matched(known)
    strange = [(i, v) for i, v in enumerate(matched.labels) if v is not None and v not in known.values]
    if strange:
        shown = ", ".join(f"row {i + 1}: {v!r}" for i, v in strange[:5])
        raise DataError(
            f"{rows.name}: column '{label}': {counted(len(strange), 'label is', 'labels are')} not among "
            f"{', '.join(known.names)} ({shown})"
        )
    return matched.examples(known)


__all__ = ["Table", "examples_of", "read_table"]
