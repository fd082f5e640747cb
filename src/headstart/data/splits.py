"""Drawing rows for a split: stratified by label, groups kept whole, the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def rows_of_size(size: float | int, available: int) -> int:
    """Return a number of rows: whole numbers as they are, shares (0-1) of ``available``, rounded, at least 1."""
    return size if isinstance(size, int) else max(1, round(size * available))


def units(keys: Sequence[str], groups: Iterable[Any] | None = None) -> Ints:
    """Return a number per row, shape (N,), equal for rows that no split may part.

    Those are rows of the same text and, where given, of the same group, and whatever these connect.

    Args:
        keys: what makes a text the same, N.
        groups: group of each row, N; None is a group of its own.
    """
    parent = list(range(len(keys)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for values in (keys, () if groups is None else groups):
        first: dict[Any, int] = {}
        for row, value in enumerate(values):
            if value is not None and value != "":
                parent[root(row)] = root(first.setdefault(value, row))
    _, numbers = np.unique([root(row) for row in range(len(keys))], return_inverse=True)
    return numbers.astype(np.int64)


def quotas(counts: Ints, size: int, *, fewest: int = 1) -> Ints:
    """Share ``size`` rows among classes in proportion to their counts (largest remainders), shape (C,).

    Every class gets at least ``fewest`` rows, if it has them and ``size`` allows it for all.

    Args:
        counts: rows per class, shape (C,).
        size: rows to share, at most ``counts.sum()``.
        fewest: what every class should get.
    """
    floor = np.minimum(counts, fewest)
    if floor.sum() > size:
        floor = np.zeros_like(counts)
    exact = counts * (size / counts.sum())
    shared: Ints = np.maximum(np.floor(exact).astype(np.int64), floor)
    while shared.sum() != size:  # up by what rounding left over, or down by what the floors put in
        step = 1 if shared.sum() < size else -1
        movable = shared < counts if step > 0 else shared > floor
        shared[int(np.argmax(np.where(movable, (exact - shared) * step, -np.inf)))] += step
    return shared


def draw(classes: Ints, units: Ints, size: int, rng: np.random.Generator, *, fewest: int = 1) -> npt.NDArray[np.bool_]:
    """Draw ``size`` rows, stratified by class, never parting a unit.

    Exactly ``size`` where units allow it (they do when enough of them are single rows), else as near as was found.

    Args:
        classes: class index per row, shape (N,).
        units: number per row, shape (N,); rows of one number stay together.
        size: rows to draw, at most N.
        rng: the only source of chance.
        fewest: rows every class should have among those drawn.

    Returns:
        Mask of the rows drawn, shape (N,).
    """
    _, units = np.unique(units, return_inverse=True)
    class_count = int(classes.max()) + 1 if len(classes) else 0
    table = np.zeros((int(units.max()) + 1 if len(units) else 0, class_count), dtype=np.int64)  # (U, C)
    np.add.at(table, (units, classes), 1)
    wanted = _per_present_class(classes, class_count, size, fewest)
    order = rng.permutation(len(table))
    taken = np.zeros(len(table), dtype=bool)
    left = wanted.copy()
    for unit in order:  # first whatever fits each of its classes
        if (table[unit] <= left).all():
            taken[unit] = True
            left -= table[unit]
    _fill(table.sum(axis=1), order, taken, size)
    return taken[units]


def _per_present_class(classes: Ints, class_count: int, size: int, fewest: int) -> Ints:
    counts = np.bincount(classes, minlength=class_count).astype(np.int64)
    wanted = np.zeros(class_count, dtype=np.int64)
    present = counts > 0
    wanted[present] = quotas(counts[present], size, fewest=fewest)
    return wanted


def _fill(sizes: Ints, order: Ints, taken: npt.NDArray[np.bool_], size: int) -> None:
    """Take further units, in place, until ``size`` rows are reached: what fits; then one more if that is nearer."""
    missing = size - int(sizes[taken].sum())
    for unit in order:
        if missing and not taken[unit] and sizes[unit] <= missing:
            taken[unit] = True
            missing -= int(sizes[unit])
    rest = [u for u in order if not taken[u]]
    if missing and len(rest) > 1:  # one unit always stays behind
        smallest = min(rest, key=lambda u: int(sizes[u]))
        if abs(int(sizes[smallest]) - missing) < missing or not taken.any():
            taken[smallest] = True
