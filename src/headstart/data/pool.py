"""The unlabeled pool: rows with a blank label, and those of a file of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from headstart.data.checks import inside
from headstart.data.config import DataConfig
from headstart.data.examples import Splits
from headstart.data.read import read_table
from headstart.data.rows import Rows, objects, rows_of, text_keys
from headstart.errors import counted


def read_unlabeled(config: DataConfig) -> tuple[Rows, tuple[str, ...]] | None:
    """Read the file of texts without labels (``--unlabeled``), rows without a text left out; None without one.

    Raises:
        DataError: it cannot be read, or has no such text column.
    """
    if config.unlabeled is None:
        return None
    table = read_table(config.unlabeled, encoding=config.encoding, separator=config.separator, text=config.text)
    rows = rows_of(table.frame, text=config.text, label=None, columns=config.columns, name=table.name)
    blank = rows.blank()
    note = (f"{table.name}: {int(blank.sum()):,} rows without a text are not used",) if blank.any() else ()
    return rows.take(~blank), (*table.notes, *note)


def pool_of(
    blank_labels: Rows, file: Rows | None, holdout: Rows | None, *, transductive: bool
) -> tuple[Rows, tuple[str, ...]]:
    """Return the pool, without the holdout's texts, or with them where that is wanted; and what to say of it.

    Args:
        blank_labels: rows of the data whose label is blank.
        file: rows of the file of unlabeled texts, or None.
        holdout: rows that are scored at the end, or None.
        transductive: the holdout's texts, without their labels, are part of the pool.
    """
    pool = blank_labels if file is None else _joined(blank_labels, file)
    shared = inside(pool, [holdout])
    notes = []
    if shared.any() and not transductive:
        notes.append(
            f"{pool.name}: not used, for the holdout has the text: "
            f"{counted(int(shared.sum()), 'unlabeled row', 'unlabeled rows')}"
        )
    pool = pool.take(~shared)
    if transductive and holdout is not None and len(holdout):
        pool = _joined(pool, replace(holdout, labels=objects([None] * len(holdout))))
        notes.append(f"the {len(holdout):,} texts of the holdout are learnt from too, without labels (--transductive)")
    return pool, tuple(notes)


def _joined(one: Rows, other: Rows) -> Rows:
    """Return the rows of both; groups and parts no longer matter."""
    import pandas as pd

    pairs = None if one.pairs is None or other.pairs is None else np.concatenate([one.pairs, other.pairs])
    columns = None
    if one.columns is not None and other.columns is not None:
        columns = pd.concat([one.columns, other.columns], ignore_index=True)
    return Rows(
        name=one.name if len(one) else other.name,
        texts=np.concatenate([one.texts, other.texts]),
        pairs=pairs,
        labels=np.concatenate([one.labels, other.labels]),
        ids=np.concatenate([one.ids, other.ids]),
        columns=columns,
    )


def adaptation_texts(splits: Splits) -> list[str]:
    """Return the texts an encoder may be adapted to: the pool's and the training texts, each in its order.

    Texts of the validation rows stay out, for they choose; those of the holdout are only in the pool where that was
    wanted.
    """
    pool = splits.train if splits.unlabeled is None else splits.unlabeled.concat(splits.train)
    validation = set(text_keys(splits.validation.texts, splits.validation.pairs))
    keys = text_keys(pool.texts, pool.pairs)
    return [text for text, key in zip(pool.joined(), keys, strict=True) if key not in validation]
