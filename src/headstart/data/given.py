"""From the settings to the rows the user gave: files read, columns found, given splits told apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pandas as pd

from headstart.data.config import DataConfig
from headstart.data.labels import Labels
from headstart.data.mend import unknown_mends
from headstart.data.read import read_table
from headstart.data.rows import Given, Rows, row_numbers, rows_of
from headstart.data.table import Table
from headstart.errors import DataError

_ROLES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "holdout"), "holdout"),
}
_T = TypeVar("_T")


@dataclass(frozen=True)
class Sources:
    """The tables of one task: each role's frame and what messages call it."""

    frames: Mapping[str, tuple[pd.DataFrame, str]]
    notes: tuple[str, ...]


class _Faults:
    """Gathers the faults of several steps, so that they are raised at once."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def of(self, step: Callable[[], _T]) -> _T | None:
        try:
            return step()
        except DataError as problem:
            self.found += [fault for fault in problem.faults if fault not in self.found]
            return None

    def done(self) -> None:
        if self.found:
            raise DataError(self.found)


def read_given(
    config: DataConfig, *, frame: pd.DataFrame | None, holdout_frame: pd.DataFrame | None, with_holdout: bool
) -> tuple[Given, tuple[str, ...]]:
    """Read every file of the settings.

    Returns:
        The rows by role (labels matched to those of the training rows), and what the user should know.

    Raises:
        DataError: files, columns or settings are wrong; all faults are named.
    """
    faults = _Faults()
    faults.found += unknown_mends(config.mend) + _label_elsewhere(config)
    sources = _read(config, faults, frame, holdout_frame if with_holdout else None, with_holdout)
    rows = {role: faults.of(lambda f=f, n=n, r=role: _rows(config, f, n, r)) for role, (f, n) in sources.frames.items()}  # type: ignore[misc]
    faults.done()
    given = _by_role({role: r for role, r in rows.items() if r is not None}, config, faults)
    faults.done()
    return _matched(given if with_holdout else replace(given, holdout=None)), sources.notes


def _label_elsewhere(config: DataConfig) -> list[str]:
    uses = {"--text": config.text, "--columns": config.columns}
    return [
        f"the label column '{config.label}' is also named in {flag}: a model would read its own answer; take it out"
        for flag, names in uses.items()
        if config.label in names
    ]


def _read(
    config: DataConfig,
    faults: _Faults,
    frame: pd.DataFrame | None,
    holdout_frame: pd.DataFrame | None,
    with_holdout: bool,
) -> Sources:
    def table(source: str | pd.DataFrame, name: str | None = None) -> Table | None:
        options = {"encoding": config.encoding, "separator": config.separator}
        return faults.of(lambda: read_table(source, text=config.text, name=name, **options))

    main = table(config.data) if frame is None else table(frame)
    frames: dict[str, tuple[pd.DataFrame, str]] = {}
    notes: list[str] = []
    if main is not None:
        frames["train"] = (main.frame, main.name)
        frames |= {role: (split, f"{main.name} ({role})") for role, split in main.splits.items()}
        notes += main.notes
    holdout: str | pd.DataFrame | None = config.holdout if holdout_frame is None else holdout_frame
    further = {"validation": config.validation, "holdout": holdout if with_holdout else None}
    for role, source in further.items():
        read = None if source is None else table(source, role if isinstance(source, pd.DataFrame) else None)
        if read is not None:
            frames[role] = (read.frame, read.name)
            notes += read.notes
    return Sources(frames, tuple(notes))


def _rows(config: DataConfig, frame: pd.DataFrame, name: str, role: str) -> Rows:
    has_group = role == "train" or config.group in frame.columns  # a file of its own may go without groups
    return rows_of(
        frame,
        text=config.text,
        label=config.label,
        columns=config.columns,
        group=config.group if has_group else None,
        split_column=config.split_column if role == "train" else None,
        name=name,
    )


def _by_role(rows: Mapping[str, Rows], config: DataConfig, faults: _Faults) -> Given:
    train = rows["train"]
    if train.parts is None:
        return Given(train, rows.get("validation"), rows.get("holdout"))
    parts: dict[str, Rows | None] = {}
    roles = np.asarray(
        [_role(part, label) for part, label in zip(train.parts, train.labels, strict=True)], dtype=object
    )
    strange = train.ids[roles == "?"]
    if len(strange):
        values = sorted({str(train.parts[i]) for i in np.flatnonzero(roles == "?")})[:5]
        faults.found.append(
            f"{train.name}: column '{config.split_column}' says {', '.join(values)} in {row_numbers(strange)}; "
            f"known: {', '.join(_ROLES)}"
        )
    for role in ("train", "validation", "holdout"):
        part = train.take(roles == role)
        parts[role] = replace(part, name=f"{train.name} ({role} rows)") if len(part) else rows.get(role)
        if role != "train" and len(part) and role in rows:
            faults.found.append(
                f"{role} rows are given twice: in column '{config.split_column}' and in {rows[role].name}"
            )
    if not (roles == "train").any():
        faults.found.append(f"{train.name}: no row says 'train' in column '{config.split_column}'")
    return Given(parts["train"] or train, parts["validation"], parts["holdout"])


def _role(part: object, label: object) -> str:
    if part is None:
        return "train" if label is None else "?"
    return _ROLES.get(str(part).strip().lower(), "?")


def _matched(given: Given) -> Given:
    """Let labels of further files that differ from training's only in type (``1`` and ``"1"``) be the same."""
    try:
        known = Labels.of(given.train.labels)
    except DataError:  # the checks say so, with all else
        return given
    further = [None if rows is None else rows.matched(known) for rows in (given.validation, given.holdout)]
    return Given(given.train, *further)
