"""JSON lines, and JSON files that hold one list of objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from headstart.data.table import Table, clean_text, cut_long_cells, frame_of_values
from headstart.data.textfile import read_text
from headstart.errors import DataError

_FAULTS_SHOWN = 5


def read_json_lines(path: Path, *, encoding: str | None = None) -> Table:
    """Read one JSON object per line (blank lines are skipped); keys that a line lacks are missing values.

    Raises:
        DataError: a line is not a JSON object; the first lines are named.
    """
    name = path.name
    characters, found = read_text(path, encoding=encoding)
    parse = _one_list if characters.lstrip().startswith("[") else _lines
    records = parse(characters, name)
    keys = dict.fromkeys(key for record in records for key in record)
    if not keys:
        raise DataError(f'{name} has no columns: every line must be an object such as {{"text": ..., "label": ...}}')
    columns: dict[str, list[Any]] = {clean_text(key): [r.get(key) for r in records] for key in keys}
    notes = [f"{name}: {found}"] if found != "encoding utf-8" else []
    notes += cut_long_cells(columns, name)
    return Table(frame_of_values(columns), name, tuple(notes))


def _lines(characters: str, name: str) -> list[dict[str, Any]]:
    records, faults = [], []
    for number, line in enumerate(characters.split("\n"), start=1):  # splitlines() would cut at U+2028, legal in JSON
        if not line.strip():
            continue
        record = parse_line(line)
        if isinstance(record, dict):
            records.append(record)
        else:
            what = record if isinstance(record, str) else f"a {type(record).__name__}"
            faults.append(f"{name}: line {number} is not a JSON object: {what}")
    if faults:
        more = [f"{name}: {len(faults) - _FAULTS_SHOWN} more such lines"] if len(faults) > _FAULTS_SHOWN else []
        raise DataError(faults[:_FAULTS_SHOWN] + more)
    return records


def parse_line(line: str) -> object:
    """Return the value, or a few words on why there is none."""
    try:
        value = json.loads(line)
    except json.JSONDecodeError as problem:
        return f"{problem.msg} at column {problem.colno}"
    except (RecursionError, ValueError) as problem:  # nested too deep, or a number of thousands of digits
        return f"{problem}"
    return "a text" if isinstance(value, str) else value


def _one_list(characters: str, name: str) -> list[dict[str, Any]]:
    try:
        value = json.loads(characters)
    except json.JSONDecodeError as problem:
        raise DataError(f"{name} is not valid JSON: {problem.msg} (line {problem.lineno})") from problem
    except (RecursionError, ValueError) as problem:
        raise DataError(f"{name} is not valid JSON: {problem}") from problem
    wrong = [i + 1 for i, record in enumerate(value) if not isinstance(record, dict)]
    if wrong:
        raise DataError(f"{name}: entry {wrong[0]} of the list is not an object ({len(wrong)} such entries)")
    return list(value)
