"""Rows on their way from a table to a split: texts, plain label values, groups, where each came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from headstart.data.examples import Examples
from headstart.data.labels import Labels, Value, plain_value
from headstart.data.table import clean_text
from headstart.errors import DataError, did_you_mean

ROWS_SHOWN = 5
Objects = npt.NDArray[np.object_]


@dataclass(frozen=True)
class Rows:
    """N rows of one file.

    Attributes:
        name: what messages call them, e.g. ``reviews.csv``.
        texts: first texts, shape (N,); a blank one is ``""``.
        pairs: second texts, shape (N,), or None.
        labels: plain values, shape (N,); None is "no label".
        ids: position in the file, shape (N,), from 0 (messages count from 1).
        columns: feature columns, index 0..N-1, or None.
        groups: group of each row, shape (N,), or None; a blank one is None.
        parts: value of the split column, shape (N,), or None.
    """

    name: str
    texts: Objects
    pairs: Objects | None
    labels: Objects
    ids: npt.NDArray[np.int64]
    columns: pd.DataFrame | None = None
    groups: Objects | None = None
    parts: Objects | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: npt.NDArray[Any]) -> Rows:
        """Return the rows of a mask, shape (N,) bool, or of positions."""
        positions = np.flatnonzero(rows) if rows.dtype == bool else rows
        return replace(
            self,
            texts=self.texts[positions],
            pairs=None if self.pairs is None else self.pairs[positions],
            labels=self.labels[positions],
            ids=self.ids[positions],
            columns=None if self.columns is None else self.columns.iloc[positions].reset_index(drop=True),
            groups=None if self.groups is None else self.groups[positions],
            parts=None if self.parts is None else self.parts[positions],
        )

    def labeled(self) -> npt.NDArray[np.bool_]:
        """Say which rows have a label, shape (N,)."""
        return np.asarray([v is not None for v in self.labels], dtype=bool)

    def keys(self) -> list[str]:
        """Return `text_keys` of the rows."""
        return text_keys(self.texts, self.pairs)

    def blank(self) -> npt.NDArray[np.bool_]:
        """Say which rows have no text at all, shape (N,)."""
        return np.asarray([not key.strip("\x1f") for key in self.keys()], dtype=bool)

    def matched(self, labels: Labels) -> Rows:
        """Replace label values that only differ in type from known ones (``1`` for ``"1"``) by those."""
        values = set(labels.values)
        by_name: dict[str, Value] = dict(zip(labels.names, labels.values, strict=True))
        found = [v if v is None or v in values else by_name.get(str(v), v) for v in self.labels]
        return replace(self, labels=objects(found))

    def examples(self, labels: Labels | None) -> Examples:
        """Return the same rows as examples, encoded by ``labels`` (all -1 without)."""
        unlabelled = np.full(len(self), -1, dtype=np.int64)
        return Examples(
            texts=tuple(self.texts),
            y=unlabelled if labels is None else labels.encode(self.labels),
            ids=self.ids,
            pairs=None if self.pairs is None else tuple(self.pairs),
            columns=self.columns,
        )


@dataclass(frozen=True)
class Given:
    """What the user gave, before we split anything.

    Attributes:
        train: rows to train on and to carve what is missing from; unlabelled rows are among them.
        validation: given validation rows, or None.
        holdout: given holdout rows, or None.
    """

    train: Rows
    validation: Rows | None = None
    holdout: Rows | None = None

    def each(self) -> list[Rows]:
        """Return the rows that are there, train first."""
        return [rows for rows in (self.train, self.validation, self.holdout) if rows is not None]

    def map(self, change: Callable[[Rows], Rows]) -> Given:
        """Return the same with each part changed."""
        return Given(*(None if r is None else change(r) for r in (self.train, self.validation, self.holdout)))  # type: ignore[arg-type]


def text_keys(texts: Iterable[str], pairs: Iterable[str] | None) -> list[str]:
    """Return what makes a text the same text, N: its characters (of both, for pairs) without blanks at the ends."""
    if pairs is None:
        return [text.strip() for text in texts]
    return [f"{a.strip()}\x1f{b.strip()}" for a, b in zip(texts, pairs, strict=True)]


def objects(values: Sequence[Any]) -> Objects:
    """Return a 1-D object array, also of values that are sequences themselves."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def missing_columns(frame: pd.DataFrame, wanted: dict[str, str], name: str) -> list[str]:
    """Return a sentence for each wanted column (column -> the flag that names it) that the frame has not."""
    known = [str(c) for c in frame.columns]
    return [
        f"{name} has no column '{column}' ({flag}); its columns: {', '.join(known[:30])}.{did_you_mean(column, known)}"
        for column, flag in wanted.items()
        if column not in known
    ]


def rows_of(
    frame: pd.DataFrame,
    *,
    text: Sequence[str],
    label: str | None,
    columns: Sequence[str] = (),
    group: str | None = None,
    split_column: str | None = None,
    name: str,
) -> Rows:
    """Take rows out of a frame (N rows).

    Raises:
        DataError: columns are missing, or a text column does not hold texts; all faults are named.
    """
    flags = [*((c, "--text") for c in text), *((c, "--columns") for c in columns)]
    single = [(label, "--label"), (group, "--group"), (split_column, "--split-column")]
    wanted = dict([*flags, *((c, flag) for c, flag in single if c is not None)])
    faults = missing_columns(frame, wanted, name)
    plain = [c for c in (*text, label) if c in frame.columns]
    faults += [fault for c in plain for fault in _not_plain(frame[c], name)]
    if faults:
        raise DataError(faults)
    texts = [_texts(frame[c]) for c in text]
    return Rows(
        name=name,
        texts=texts[0],
        pairs=texts[1] if len(texts) > 1 else None,
        labels=objects([None] * len(frame)) if label is None else _labels(frame[label]),
        ids=np.arange(len(frame), dtype=np.int64),
        columns=_features(frame[list(columns)]) if columns else None,
        groups=None if group is None else objects([plain_value(v) for v in frame[group]]),
        parts=None if split_column is None else objects([plain_value(v) for v in frame[split_column]]),
    )


def _not_plain(column: pd.Series, name: str) -> list[str]:
    if column.dtype != object:
        return []
    wrong = [i for i, v in enumerate(column) if isinstance(v, list | dict | bytes)]
    if not wrong:
        return []
    kind = type(column.iloc[wrong[0]]).__name__
    where = f"in row {wrong[0] + 1} ({len(wrong)} such rows)"
    return [f"{name}: column '{column.name}' holds a {kind} {where}, not one text or label"]


def _texts(column: pd.Series) -> Objects:
    missing = column.isna()
    found = ["" if gone else clean_text(str(value)) for value, gone in zip(column, missing, strict=True)]
    return objects([text if text.strip() else "" for text in found])


def _labels(column: pd.Series) -> Objects:
    """Return plain values; whole numbers that missing ones turned into floats are whole numbers again."""
    if column.dtype.kind == "f" and column.isna().any():
        filled = column.dropna()
        if (filled == filled.round()).all():
            return objects([None if gone else int(v) for v, gone in zip(column, column.isna(), strict=True)])
    return objects([plain_value(v) for v in column])


def _features(frame: pd.DataFrame) -> pd.DataFrame:
    """Return features in three plain kinds: bool, float64/int64 (missing: NaN) and text (missing: ``""``)."""
    plain: dict[str, pd.Series] = {}
    for name in frame.columns:
        column = frame[name].reset_index(drop=True)
        if pd.api.types.is_bool_dtype(column.dtype) and not column.isna().any():
            plain[name] = column.astype(bool)
        elif pd.api.types.is_bool_dtype(column.dtype) or pd.api.types.is_numeric_dtype(column.dtype):
            whole = pd.api.types.is_integer_dtype(column.dtype) and not column.isna().any()
            plain[name] = column.astype("int64" if whole else "float64")
        else:
            plain[name] = pd.Series(_texts(column), dtype=object)
    return pd.DataFrame(plain)


def row_numbers(ids: npt.NDArray[np.int64]) -> str:
    """Return ``row 3`` or ``rows 3, 17, 20 and 4 more``, counted from 1 without the header."""
    shown = ", ".join(str(int(i) + 1) for i in ids[:ROWS_SHOWN])
    more = f" and {len(ids) - ROWS_SHOWN} more" if len(ids) > ROWS_SHOWN else ""
    return f"row{'s' if len(ids) > 1 else ''} {shown}{more}"
