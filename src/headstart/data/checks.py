"""Everything that is looked at before anything costly is done: texts and rows. Labels are in `label_checks`."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd

from headstart.data.findings import Finding, finding_in_rows
from headstart.data.rows import Given, Rows

# Share of the label's uncertainty that a column may explain before it is reported. In clothing reviews "recommended"
# explains 0.46 and the department 0.00; stars, of which the label is made, 1.00.
_GIVES_AWAY = 0.4
_MOST_BINS = 20
_TEXTS_ARE = ("text is", "texts are")
_OVERLAP_REMEDY = "mend with --mend drop-overlap (drops them from training), or accept them with --allow-overlap"


def check_rows(given: Given, *, allow_overlap: bool) -> list[Finding]:
    """Look for empty texts, duplicates, conflicts, overlaps, cut groups and columns that give the label away."""
    found = [f for rows in given.each() for f in (*_empty(rows), *_duplicates(rows), *_conflicts(rows))]
    found += [f for rows in given.each()[1:] for f in _unlabelled(rows)]
    found += _overlaps(given, allow_overlap=allow_overlap)
    found += _cut_groups(given)
    found += _other_kinds(given)
    return found + _giveaways(given.train)


def _empty(rows: Rows) -> list[Finding]:
    blank = rows.blank()
    if len(rows) and blank.all():
        return [Finding("empty-text", "error", f"{rows.name}: every text is empty", (), len(rows), "check --text")]
    return finding_in_rows(
        "empty-text", "warning", rows, blank, _TEXTS_ARE, "empty", "fill them, or mend with --mend drop-empty"
    )


def _unlabelled(rows: Rows) -> list[Finding]:
    subject = ("row without a label is", "rows without a label are")
    words = "left out, for what has no label cannot be scored"
    return finding_in_rows("blank-label", "warning", rows, ~rows.labeled(), subject, words, "fill in the labels")


def conflicting(rows: Rows) -> npt.NDArray[np.bool_]:
    """Say which rows share their text with a row of another label, shape (N,)."""
    labels: dict[str, set[object]] = {}
    keys = rows.keys()
    for key, value in zip(keys, rows.labels, strict=True):
        if value is not None and key.strip("\x1f"):
            labels.setdefault(key, set()).add(value)
    return np.asarray(
        [v is not None and len(labels.get(k, ())) > 1 for k, v in zip(keys, rows.labels, strict=True)], dtype=bool
    )


def repeated(rows: Rows) -> npt.NDArray[np.bool_]:
    """Say which rows repeat an earlier one, text and label, shape (N,)."""
    seen: set[tuple[str, object]] = set()
    repeats = np.zeros(len(rows), dtype=bool)
    for i, pair in enumerate(zip(rows.keys(), rows.labels, strict=True)):
        repeats[i] = pair in seen and bool(pair[0].strip("\x1f"))
        seen.add(pair)
    return repeats


def _duplicates(rows: Rows) -> list[Finding]:
    remedy = "mend with --mend drop-duplicates"
    subject, words = ("row repeats", "rows repeat"), "the text and label of an earlier row"
    return finding_in_rows("duplicates", "warning", rows, repeated(rows), subject, words, remedy)


def _conflicts(rows: Rows) -> list[Finding]:
    subject, words = ("row has", "rows have"), "the text of a row of another label"
    remedy = "correct the labels, or mend with --mend drop-conflicts"
    return finding_in_rows("conflicts", "warning", rows, conflicting(rows), subject, words, remedy)


def inside(rows: Rows, others: Iterable[Rows | None]) -> npt.NDArray[np.bool_]:
    """Say which rows have a text that is also among others', shape (N,); blank texts do not count."""
    known = {key for other in others if other is not None for key in other.keys() if key.strip("\x1f")}  # noqa: SIM118
    return np.asarray([key in known for key in rows.keys()], dtype=bool)  # noqa: SIM118


def _overlaps(given: Given, *, allow_overlap: bool) -> list[Finding]:
    found = []
    for rows in (given.train, given.validation):
        if rows is None or given.holdout is None:
            continue
        shared = inside(rows, [given.holdout])
        labeled = rows.labeled()
        words = f"also in the holdout ({given.holdout.name}): its scores would be too good"
        severity = "warning" if allow_overlap else "error"
        found += finding_in_rows("overlap", severity, rows, shared & labeled, _TEXTS_ARE, words, _OVERLAP_REMEDY)  # type: ignore[arg-type]
        subject = ("text without a label is", "texts without a label are")
        words = f"also in the holdout ({given.holdout.name})"
        found += finding_in_rows(
            "overlap-unlabeled", "warning", rows, shared & ~labeled, subject, words, _OVERLAP_REMEDY
        )
    if given.validation is not None:
        words = f"also in the validation rows ({given.validation.name}): choices would be too hopeful"
        shared = inside(given.train, [given.validation]) & given.train.labeled()
        found += finding_in_rows(
            "overlap-validation", "warning", given.train, shared, _TEXTS_ARE, words, "mend with --mend drop-overlap"
        )
    return found


def _cut_groups(given: Given) -> list[Finding]:
    found = []
    parts = given.each()
    for i, rows in enumerate(parts):
        for other in parts[i + 1 :]:
            if rows.groups is None or other.groups is None:
                continue
            known = {g for g in other.groups if g is not None}
            cut = np.asarray([g in known for g in rows.groups], dtype=bool)
            subject = ("row belongs", "rows belong")
            words = f"to a group that {other.name} also has"
            remedy = "keep each group in one split, or leave --group out"
            found += finding_in_rows("group-cut", "error", rows, cut, subject, words, remedy)
    return found


def _kind(column: pd.Series) -> str:
    return "text" if column.dtype == object else "numbers"


def _other_kinds(given: Given) -> list[Finding]:
    """Find feature columns that are numbers in one file and text in another."""
    found = []
    for rows in given.each()[1:]:
        if rows.columns is None or given.train.columns is None:
            continue
        for name in rows.columns.columns:
            here, there = _kind(rows.columns[name]), _kind(given.train.columns[name])
            if here != there:
                message = f"column '{name}' holds {there} in {given.train.name} but {here} in {rows.name}"
                found.append(Finding("column-kind", "error", message, (), len(rows), "write it in one way in both"))
    return found


def _giveaways(rows: Rows) -> list[Finding]:
    found = []
    labeled = rows.take(rows.labeled())
    if labeled.columns is None or len(labeled) < 10 or len(set(labeled.labels)) < 2:
        return []
    classes, _ = pd.factorize(labeled.labels)
    for name in labeled.columns.columns:
        share = explained_share(labeled.columns[name], classes)
        if share >= _GIVES_AWAY:
            message = (
                f"{rows.name}: column '{name}' alone explains {share:.0%} of the label: it may give the label away"
            )
            remedy = "leave it out of --columns unless it will be known where the model is used"
            found.append(Finding("giveaway", "warning", message, (), len(labeled), remedy))
    return found


def explained_share(column: pd.Series, classes: npt.NDArray[np.int64]) -> float:
    """Return the share of the label's entropy that a column explains on rows it was not counted on, at most 1.

    The class shares per value (numbers in at most 20 bins of equal count) are counted on half of the rows, smoothed
    by the base rates, and scored by log loss on the other half, both ways round; so an identifier, whose values do
    not come again, explains nothing (0 or below).

    Args:
        column: values, shape (N,).
        classes: class indices, shape (N,), from 0.
    """
    bins = _bins(column)
    half = np.random.default_rng(0).permutation(len(bins)) % 2 == 0
    loss, base_loss = 0.0, 0.0
    for counted, scored in ((half, ~half), (~half, half)):
        table = np.zeros((bins.max() + 1, classes.max() + 1))  # (B, C)
        np.add.at(table, (bins[counted], classes[counted]), 1)
        base = (table.sum(axis=0) + 1) / (table.sum() + table.shape[1])  # (C,)
        shares = (table + base) / (table.sum(axis=1, keepdims=True) + 1)  # (B, C)
        loss -= float(np.log(shares[bins[scored], classes[scored]]).sum())
        base_loss -= float(np.log(base[classes[scored]]).sum())
    return 1 - loss / base_loss


def _bins(column: pd.Series) -> npt.NDArray[np.int64]:
    if column.dtype != object and column.nunique() > _MOST_BINS:
        edges = np.unique(np.nanquantile(column.astype(float), np.linspace(0, 1, _MOST_BINS + 1)[1:-1]))
        binned = np.searchsorted(edges, column.astype(float), side="right")
        return np.where(column.isna(), len(edges) + 1, binned).astype(np.int64)
    codes, _ = pd.factorize(column, use_na_sentinel=False)
    return codes.astype(np.int64)
