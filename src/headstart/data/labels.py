"""The labels of a task: their values as the user wrote them, their names, and one order fixed once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.errors import DataError, counted

Value = str | int | float | bool


def plain_value(value: Any) -> Value | None:
    """Return a label as a plain Python value; None, NaN and blank strings become None ("no label")."""
    if hasattr(value, "item"):
        value = value.item()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, bool | int | float):
        return value
    return str(value) if str(value) not in ("<NA>", "NaT", "nan") else None


@dataclass(frozen=True)
class Labels:
    """Label values in their one order.

    Attributes:
        values: original values (str, int, float or bool), one type, sorted; class ``c`` is ``values[c]``.
        names: text of each value, unique; used in file columns (``p_NAME``), ``id2label`` and reports.
    """

    values: tuple[Value, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, raw: Iterable[Any], names: Sequence[str] | None = None) -> Labels:
        """Fix the order of all distinct values in ``raw``: sorted within their type, blanks left out.

        Args:
            raw: label values, repeats and blanks allowed.
            names: text per sorted value, where the data set brings names of its own.

        Raises:
            DataError: values of different kinds are mixed, or two have the same text.
        """
        values = {v for v in (plain_value(r) for r in raw) if v is not None}
        kinds = {type(v) for v in values}
        if len(kinds) > 1 and kinds != {int, float}:
            raise DataError(
                f"the label column mixes {', '.join(sorted(k.__name__ for k in kinds))}: "
                "write every label in the same way, or quote them all as text"
            )
        ordered = tuple(sorted(values))  # one kind, or int and float: comparable
        texts = tuple(names) if names is not None else tuple(str(v) for v in ordered)
        if len(texts) != len(ordered) or len(set(texts)) != len(texts):
            raise DataError(f"label names must be one per label and distinct; got {list(texts)} for {list(ordered)}")
        return cls(ordered, texts)

    def __len__(self) -> int:
        return len(self.values)

    def encode(self, raw: Iterable[Any]) -> npt.NDArray[np.int64]:
        """Return class indices, shape (N,); -1 where the label is blank.

        Raises:
            DataError: a label is not one of ``values``; row numbers (from 0) are given.
        """
        index: dict[Value, int] = {v: i for i, v in enumerate(self.values)}
        plain = [plain_value(r) for r in raw]
        unknown = [(row, v) for row, v in enumerate(plain) if v is not None and v not in index]
        if unknown:
            rows = ", ".join(f"row {row}: {v!r}" for row, v in unknown[:5])
            raise DataError(f"{counted(len(unknown), 'label is', 'labels are')} not among {list(self.values)} ({rows})")
        return np.asarray([-1 if v is None else index[v] for v in plain], dtype=np.int64)

    def decode(self, classes: Iterable[int]) -> list[Value]:
        """Return the original values of class indices."""
        return [self.values[int(c)] for c in classes]

    def to_json(self) -> dict[str, Any]:
        """Return ``{"values": [...], "names": [...], "type": "str"}``."""
        kind = type(self.values[0]).__name__ if self.values else "str"
        return {"values": list(self.values), "names": list(self.names), "type": kind}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Labels:
        """Rebuild from `to_json`; the original type is restored (JSON keeps int and float apart only by form)."""
        cast: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool}
        kind = cast[value["type"]]
        return cls(tuple(kind(v) for v in value["values"]), tuple(str(n) for n in value["names"]))
