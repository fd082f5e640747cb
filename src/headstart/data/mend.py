"""Mending what the checks found: only what was asked for, and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from headstart.data.checks import conflicting, inside, repeated
from headstart.data.label_checks import preferred_spellings, rare_labels
from headstart.data.rows import Given, Rows, objects
from headstart.errors import unknown_name

_Mending = Callable[[Given, int], tuple[Given, int]]
ALL = "all"


def unknown_mends(names: Iterable[str]) -> list[str]:
    """Return a sentence for each name that is no mending."""
    known = (ALL, *MENDS)
    return [unknown_name("mending", name, known, "--mend") for name in names if name not in known]


def mend(given: Given, names: Iterable[str], *, splits_to_make: int) -> tuple[Given, dict[str, int]]:
    """Mend what is asked for, always in the order of `MENDS`.

    Returns:
        The rows that are left, and rows dropped or changed per mending asked for (0 where nothing was to do).
    """
    asked = set(names)
    counts: dict[str, int] = {}
    for name, change in MENDS.items():
        if name in asked or ALL in asked:
            given, counts[name] = change(given, splits_to_make)
    return given, counts


def _drop(given: Given, which: Callable[[Rows], npt.NDArray[np.bool_]]) -> tuple[Given, int]:
    masks = [which(rows) for rows in given.each()]
    each = iter(masks)
    return given.map(lambda rows: rows.take(~next(each))), int(sum(mask.sum() for mask in masks))


def _merge_labels(given: Given, _: int) -> tuple[Given, int]:
    chosen = preferred_spellings(given)
    changed = sum(v in chosen for rows in given.each() for v in rows.labels)
    merged = given.map(lambda rows: replace(rows, labels=objects([chosen.get(v, v) for v in rows.labels])))
    return merged, changed


def _drop_empty(given: Given, _: int) -> tuple[Given, int]:
    return _drop(given, lambda rows: rows.blank())


def _drop_conflicts(given: Given, _: int) -> tuple[Given, int]:
    return _drop(given, conflicting)


def _drop_duplicates(given: Given, _: int) -> tuple[Given, int]:
    return _drop(given, repeated)


def _drop_overlap(given: Given, _: int) -> tuple[Given, int]:
    """Drop from train what is in validation or holdout, and from validation what is in the holdout."""
    train = inside(given.train, [given.validation, given.holdout])
    dropped = int(train.sum())
    validation = given.validation
    if validation is not None:
        shared = inside(validation, [given.holdout])
        dropped += int(shared.sum())
        validation = validation.take(~shared)
    return replace(given, train=given.train.take(~train), validation=validation), dropped


def _drop_rare(given: Given, splits_to_make: int) -> tuple[Given, int]:
    rare = rare_labels(given.train, splits_to_make)
    return _drop(given, lambda rows: np.asarray([v in rare for v in rows.labels], dtype=bool))


MENDS: Mapping[str, _Mending] = {
    "merge-labels": _merge_labels,
    "drop-empty": _drop_empty,
    "drop-conflicts": _drop_conflicts,
    "drop-duplicates": _drop_duplicates,
    "drop-overlap": _drop_overlap,
    "drop-rare": _drop_rare,
}
