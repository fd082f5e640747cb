"""What a check found: what it is, where, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from headstart.data.rows import ROWS_SHOWN, Rows, row_numbers
from headstart.errors import counted

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or may be, with the data.

    Attributes:
        code: what was looked for, e.g. ``duplicates``.
        severity: an error stops everything before anything costly; a warning is said and recorded.
        message: what was found, in which file and rows (rows count from 1, the header aside).
        rows: the first few row numbers, as in the message.
        count: how many rows.
        remedy: the next step.
    """

    code: str
    severity: Severity
    message: str
    rows: tuple[int, ...] = ()
    count: int = 0
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.message}: {self.remedy}" if self.remedy else self.message


def finding_in_rows(
    code: str,
    severity: Severity,
    rows: Rows,
    where: npt.NDArray[np.bool_],
    subject: tuple[str, str],
    words: str,
    remedy: str,
) -> list[Finding]:
    """Return one finding on the rows of a mask, or none where it is empty.

    Args:
        code: of the finding.
        severity: of the finding.
        rows: N rows.
        where: shape (N,).
        subject: how the sentence begins for one row and for several: ``("text is", "texts are")``.
        words: how it goes on.
        remedy: the next step.
    """
    ids = rows.ids[where]
    if not len(ids):
        return []
    message = f"{rows.name}: {counted(len(ids), *subject)} {words} ({row_numbers(ids)})"
    return [Finding(code, severity, message, tuple(int(i) + 1 for i in ids[:ROWS_SHOWN]), len(ids), remedy)]
