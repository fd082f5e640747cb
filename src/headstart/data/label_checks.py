"""What can be wrong with a label column."""

from __future__ import annotations

from collections import Counter

import numpy as np

from headstart.data.findings import Finding, finding_in_rows
from headstart.data.labels import Labels, Value
from headstart.data.rows import Given, Rows
from headstart.errors import DataError, did_you_mean

_FEW_ROWS_OF_A_CLASS = 8
_ROWS_PER_CLASS_AND_SPLIT = 2
_MANY_VALUES = 20
_NAMES_SHOWN = 10


def check_labels(given: Given, *, splits_to_make: int) -> list[Finding]:
    """Look for labels that are no classes, that differ only in writing, that are too rare, or that training has not.

    Args:
        given: rows of each file.
        splits_to_make: how many splits the training rows will be cut into, 1 to 3.
    """
    counts = label_counts(given.train)
    if not counts:
        remedy = "check --label; rows with a blank label are only used as unlabeled texts"
        return [Finding("no-labels", "error", f"{given.train.name}: no row has a label", (), 0, remedy)]
    mixed = _mixed(given.train)
    if mixed:
        return mixed
    if len(counts) == 1:
        message = f"{given.train.name}: every label is {next(iter(counts))!r}; there must be at least two classes"
        return [Finding("one-class", "error", message, (), sum(counts.values()), "check --label")]
    found = _variants(given)
    no_classes = _regression(given.train, counts) or _identifier(given.train, counts)
    if any(f.severity == "error" for f in no_classes):
        return found + no_classes
    return found + no_classes + _rare(given.train, counts, splits_to_make) + _unknown(given)


def label_counts(rows: Rows) -> Counter[Value]:
    """Return how many rows each label has; blank ones do not count."""
    return Counter(v for v in rows.labels if v is not None)


def rare_labels(rows: Rows, splits_to_make: int) -> set[Value]:
    """Return the labels with fewer rows than two for each split to be made."""
    fewest = _ROWS_PER_CLASS_AND_SPLIT * splits_to_make
    return {value for value, count in label_counts(rows).items() if count < fewest}


def spelling(value: Value) -> str | None:
    """Return what a text label is without regard to case and blanks; None for other types."""
    return " ".join(value.split()).casefold() if isinstance(value, str) else None


def preferred_spellings(given: Given) -> dict[Value, Value]:
    """Return, for each label that is written in several ways, the way most rows write it (the first, on a tie)."""
    counts: Counter[Value] = Counter(v for rows in given.each() for v in rows.labels if v is not None)
    ways: dict[str, list[Value]] = {}
    for value in counts:
        name = spelling(value)
        if name is not None:
            ways.setdefault(name, []).append(value)
    chosen: dict[Value, Value] = {}
    for same in ways.values():
        best = min(same, key=lambda v: (-counts[v], str(v).strip() != v, str(v)))
        chosen |= {value: best for value in same if value != best}
    return chosen


def _mixed(rows: Rows) -> list[Finding]:
    try:
        Labels.of(rows.labels)
    except DataError as problem:
        return [Finding("mixed-labels", "error", f"{rows.name}: {problem}", (), len(rows))]
    return []


def _variants(given: Given) -> list[Finding]:
    chosen = preferred_spellings(given)
    if not chosen:
        return []
    shown = ", ".join(f"{value!r} and {best!r}" for value, best in list(chosen.items())[:_NAMES_SHOWN])
    found = []
    for rows in given.each():
        where = np.asarray([v in chosen for v in rows.labels], dtype=bool)
        subject = ("label differs", "labels differ")
        words = f"from others only in case or blanks: {shown}"
        remedy = "write them in one way, or mend with --mend merge-labels"
        found += finding_in_rows("label-variants", "error", rows, where, subject, words, remedy)
    return found


def _regression(rows: Rows, counts: Counter[Value]) -> list[Finding]:
    numbers = [v for v in counts if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) <= _MANY_VALUES // 2 or len(numbers) < len(counts):
        return []
    fractions = any(not float(v).is_integer() for v in numbers)
    per_value = sum(counts.values()) / len(numbers)
    if (fractions and per_value < 50) or (len(numbers) > _MANY_VALUES and per_value < 20):
        # Whole numbers with a fair number of rows each may be class numbers (77 intents): those are only mentioned.
        sure = fractions or per_value < 5
        unique = not fractions and len(numbers) > sum(counts.values()) // 2
        words = "an identifier or a quantity to regress" if unique else "a quantity to regress"
        message = (
            f"{rows.name}: the label has {len(numbers)} different numbers from {min(numbers)} to {max(numbers)}: "
            f"it looks like {words}, not a class"
        )
        remedy = "cut it into classes (low, high), or name the right column with --label"
        return [Finding("regression-label", "error" if sure else "warning", message, (), sum(counts.values()), remedy)]
    return []


def _identifier(rows: Rows, counts: Counter[Value]) -> list[Finding]:
    total = sum(counts.values())
    if len(counts) <= max(5, total // 2):
        return []
    message = f"{rows.name}: {len(counts)} different labels in {total} rows: the label looks like an identifier"
    return [Finding("identifier-label", "error", message, (), total, "name the column of classes with --label")]


def _rare(rows: Rows, counts: Counter[Value], splits_to_make: int) -> list[Finding]:
    rare = rare_labels(rows, splits_to_make)
    needed = _ROWS_PER_CLASS_AND_SPLIT * splits_to_make
    found = []
    if rare:
        where = np.asarray([v in rare for v in rows.labels], dtype=bool)
        subject = ("row is", "rows are")
        words = f"of classes with fewer than the {needed} rows that are needed: {_listed(rare, counts)}"
        found += finding_in_rows(
            "rare-class", "error", rows, where, subject, words, "label more of them, or mend with --mend drop-rare"
        )
    few = {v for v, count in counts.items() if needed <= count < _FEW_ROWS_OF_A_CLASS}
    if few:
        message = f"{rows.name}: classes with fewer than {_FEW_ROWS_OF_A_CLASS} rows: {_listed(few, counts)}"
        total = sum(counts[v] for v in few)
        found.append(Finding("few-rows", "warning", message, (), total, "label more of them: scores will be unsteady"))
    return found


def _listed(values: set[Value], counts: Counter[Value]) -> str:
    ordered = sorted(values, key=str)
    shown = ", ".join(f"{v!r} ({counts[v]})" for v in ordered[:_NAMES_SHOWN])
    return shown if len(ordered) <= _NAMES_SHOWN else f"{shown} and {len(ordered) - _NAMES_SHOWN} more"


def _unknown(given: Given) -> list[Finding]:
    """Find labels of given validation and holdout rows that training does not know."""
    known = Labels.of(given.train.labels)
    found = []
    for rows in given.each()[1:]:
        where = np.asarray([v is not None and v not in known.values for v in rows.labels], dtype=bool)
        if not where.any():
            if not rows.labeled().any():
                message = f"{rows.name}: no row has a label"
                found.append(Finding("no-labels", "error", message, (), 0, "check --label"))
            continue
        strange = sorted({str(v) for v in rows.labels[where]})
        subject = ("label is", "labels are")
        words = f"not among those of {given.train.name}: {', '.join(strange[:_NAMES_SHOWN])}"
        listed = ", ".join(known.names[:_NAMES_SHOWN])
        near = did_you_mean(strange[0], known.names)
        remedy = f"known: {listed}.{near} Correct them, or add labeled rows of them for training"
        found += finding_in_rows("unknown-label", "error", rows, where, subject, words, remedy)
    return found
