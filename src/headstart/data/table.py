"""A table as read, before anything is known of its columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

LONGEST_CELL_CHARACTERS = 100_000
_KEPT_AT_EACH_END = LONGEST_CELL_CHARACTERS // 2
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?")
_LEADING_ZERO = re.compile(r"[-+]?0\d+")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Table:
    """What a source holds.

    Attributes:
        frame: N rows, index 0..N-1, unique text column names; of several splits, the one to train on.
        name: what messages call it.
        notes: what the user should know: encoding and separator found, cells cut.
        label_names: class names per column, where the source brings its own (already in `frame` instead of numbers).
        splits: further splits, ``"validation"`` and ``"holdout"``, each numbered from 0.
    """

    frame: pd.DataFrame
    name: str
    notes: tuple[str, ...] = ()
    label_names: Mapping[str, list[str]] = field(default_factory=dict)
    splits: Mapping[str, pd.DataFrame] = field(default_factory=dict)


def clean_text(value: str) -> str:
    """Replace lone surrogates, which no tokenizer and no UTF-8 file can hold, by U+FFFD."""
    return _SURROGATE.sub("\ufffd", value) if not value.isascii() else value


def cut_long_cells(columns: Mapping[str, list[object]], name: str) -> list[str]:
    """Cut cells over 100,000 characters to their first and last 50,000, in place.

    Returns:
        A note per cell cut (at most ten, then their number).
    """
    notes = []
    for column, cells in columns.items():
        for row, cell in enumerate(cells):
            if isinstance(cell, str) and len(cell) > LONGEST_CELL_CHARACTERS:
                cells[row] = cell[:_KEPT_AT_EACH_END] + cell[-_KEPT_AT_EACH_END:]
                notes.append(
                    f"{name}: row {row + 1}, column '{column}': {len(cell):,} characters cut to the first and "
                    f"last {_KEPT_AT_EACH_END:,}"
                )
    return notes if len(notes) <= 10 else [*notes[:10], f"{name}: {len(notes) - 10} more cells cut in the same way"]


def frame_of_cells(columns: Mapping[str, list[str]], *, text: Sequence[str] = ()) -> pd.DataFrame:
    """Make a frame of cells that were written as text (CSV).

    Whole numbers, numbers and true/false become what they are if every cell of their column is one; ``001``, ``NA``
    and ``None`` stay text. Columns named in ``text`` stay as written.
    """
    return pd.DataFrame({n: _series_of_cells(c) if n not in text else _strings(c) for n, c in columns.items()})


def frame_of_values(columns: Mapping[str, list[object]]) -> pd.DataFrame:
    """Make a frame of values that have a type (JSON); whole numbers stay whole where others are missing."""
    return pd.DataFrame({name: _series_of_values(values) for name, values in columns.items()})


def _strings(cells: list[str]) -> pd.Series:
    return pd.Series(cells, dtype="str")


def _series_of_cells(cells: list[str]) -> pd.Series:
    filled = [c for c in (cell.strip() for cell in cells) if c]
    if not filled:
        return _strings(cells)
    blank = len(filled) < len(cells)
    if all(_INTEGER.fullmatch(c) for c in filled):
        return pd.Series([int(c) if c.strip() else None for c in cells], dtype="Int64" if blank else "int64")
    if all(_NUMBER.fullmatch(c) and not _LEADING_ZERO.fullmatch(c) for c in filled):
        return pd.Series([float(c) if c.strip() else float("nan") for c in cells], dtype="float64")
    if all(c.lower() in ("true", "false") for c in filled):
        values = [c.strip().lower() == "true" if c.strip() else None for c in cells]
        return pd.Series(values, dtype="boolean" if blank else "bool")
    return _strings(cells)


def _series_of_values(values: list[object]) -> pd.Series:
    kinds = {type(v) for v in values if v is not None}
    blank = any(v is None for v in values)
    if kinds == {str}:
        return pd.Series([clean_text(v) if isinstance(v, str) else None for v in values], dtype="str")
    if kinds == {bool}:
        return pd.Series(values, dtype="boolean" if blank else "bool")
    small = all(abs(v) < 2**63 for v in values if isinstance(v, int))
    if kinds == {int} and small:
        return pd.Series(values, dtype="Int64" if blank else "int64")
    if kinds and kinds <= {int, float} and small:
        return pd.Series(values, dtype="float64")  # None becomes NaN
    return pd.Series(values, dtype="object")
