"""The one door to data: read, mend what is asked for, check everything, split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from headstart.data.checks import check_rows
from headstart.data.config import DataConfig
from headstart.data.examples import Splits
from headstart.data.findings import Finding
from headstart.data.given import read_given
from headstart.data.label_checks import check_labels
from headstart.data.labels import Labels
from headstart.data.mend import mend
from headstart.data.pool import pool_of, read_unlabeled
from headstart.data.rows import ROWS_SHOWN, Given, Rows, objects, row_numbers, text_keys
from headstart.data.splits import Ints, draw, rows_of_size, units
from headstart.errors import DataError, counted

_HOLDOUT, _CAP, _VALIDATION, _GIVEN_VALIDATION = range(4)  # one stream of chance per purpose


@dataclass(frozen=True)
class Loaded:
    """Data that is ready to be fitted on.

    Attributes:
        splits: the task.
        findings: warnings that remain; with an error nothing is loaded.
        mended: rows dropped or changed per mending asked for.
        notes: what the user should know: encodings and separators found, cells cut, rows not used.
        fingerprints: one per split.
    """

    splits: Splits
    findings: tuple[Finding, ...]
    mended: dict[str, int]
    notes: tuple[str, ...]
    fingerprints: dict[str, str]


def load_data(
    config: DataConfig,
    *,
    seed: int,
    frame: pd.DataFrame | None = None,
    holdout_frame: pd.DataFrame | None = None,
) -> Loaded:
    """Read, mend, check and split the target's data.

    Args:
        config: which data, and how it is split.
        seed: the only source of chance in the splits.
        frame: data in memory, instead of ``config.data``.
        holdout_frame: holdout in memory, instead of ``config.holdout``.

    Raises:
        DataError: something is wrong; all that was found is listed.
        MissingExtraError: an optional package is needed to read the data.
    """
    return _load(config, seed, frame, holdout_frame, with_holdout=True)


def load_source(config: DataConfig, *, seed: int) -> Loaded:
    """Read, mend, check and split a source domain's data into train and validation; the holdout has no rows.

    Raises:
        DataError: something is wrong; all that was found is listed.
        MissingExtraError: an optional package is needed to read the data.
    """
    return _load(config, seed, None, None, with_holdout=False)


def _load(
    config: DataConfig,
    seed: int,
    frame: pd.DataFrame | None,
    holdout_frame: pd.DataFrame | None,
    *,
    with_holdout: bool,
) -> Loaded:
    given, notes = read_given(config, frame=frame, holdout_frame=holdout_frame, with_holdout=with_holdout)
    file = read_unlabeled(config)
    splits_to_make = 1 + (given.validation is None) + (given.holdout is None and with_holdout)
    given, mended = mend(given, config.mend, splits_to_make=splits_to_make)
    findings = check_rows(given, allow_overlap=config.allow_overlap)
    findings += check_labels(given, splits_to_make=splits_to_make)
    findings += _check_sizes(given, config, with_holdout=with_holdout)
    _refuse(findings)
    parts, words = _split(given, config, seed, with_holdout=with_holdout)
    extra, more = file or (None, ())
    held = parts["holdout"] if with_holdout else None
    parts["unlabeled"], said = pool_of(parts["unlabeled"], extra, held, transductive=config.transductive)
    words = (*more, *words, *said)
    labels = Labels.of(given.train.labels)
    findings += _check_parts(parts, labels, with_holdout=with_holdout)
    _refuse(findings)
    unlabeled = parts.pop("unlabeled")
    splits = Splits(
        labels=labels,
        unlabeled=unlabeled.examples(labels) if len(unlabeled) else None,
        **{name: rows.examples(labels) for name, rows in parts.items()},
    )
    return Loaded(splits, tuple(findings), mended, (*notes, *words), splits.fingerprints())


def _refuse(findings: list[Finding]) -> None:
    """Raise if there is an error; warnings are listed after the errors, so that all can be mended in one go."""
    errors = [str(f) for f in findings if f.severity == "error"]
    if errors:
        raise DataError([*errors, *(f"warning: {f}" for f in findings if f.severity == "warning")])


def _size_error(message: str, remedy: str) -> list[Finding]:
    return [Finding("split-size", "error", message, (), 0, remedy)]


def _check_sizes(given: Given, config: DataConfig, *, with_holdout: bool) -> list[Finding]:
    """Check that the rows suffice for the sizes asked for."""

    def labeled(rows: int) -> str:
        return counted(rows, "labeled row", "labeled rows")

    left = int(given.train.labeled().sum())
    if not left:  # said by the checks of labels
        return []
    if with_holdout and given.holdout is None:
        held = rows_of_size(config.holdout_size, left)
        if held >= left:
            words = f"holdout of {counted(held, 'row', 'rows')} leaves none of the {labeled(left)}"
            return _size_error(words, "lower --holdout-size")
        left -= held
    if given.validation is not None:
        left += int(given.validation.labeled().sum())
    left = min(left, config.labeled or left)
    chosen_with = rows_of_size(config.validation_size, left)
    if chosen_with >= left and (given.validation is None or config.labeled is not None):
        words = f"validation of {counted(chosen_with, 'row', 'rows')} leaves none of the {labeled(left)} to train on"
        return _size_error(words, "lower --validation-size")
    return []


def _rng(seed: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, purpose])


def _classes(rows: Rows) -> Ints:
    return pd.factorize(rows.labels, sort=False)[0].astype(np.int64)


def _drawn(
    rows: Rows, size: int, rng: np.random.Generator, *, fewest: int = 1, whole: bool = True
) -> tuple[Rows, Rows]:
    """Return the rows drawn and the rest, both in the order of the file; equal texts and groups are kept whole."""
    if size >= len(rows):
        return rows, rows.take(np.zeros(len(rows), dtype=bool))
    together = units(rows.keys(), rows.groups) if whole else np.arange(len(rows), dtype=np.int64)
    mask = draw(_classes(rows), together, size, rng, fewest=fewest)
    return rows.take(mask), rows.take(~mask)


def _split(
    given: Given, config: DataConfig, seed: int, *, with_holdout: bool
) -> tuple[dict[str, Rows], tuple[str, ...]]:
    """Return train, validation, holdout and unlabeled rows, and what the user should know."""
    train = given.train.take(given.train.labeled())
    pool = given.train.take(~given.train.labeled() & ~given.train.blank())
    none = train.take(np.zeros(len(train), dtype=bool))
    validation, holdout = (None if r is None else r.take(r.labeled()) for r in (given.validation, given.holdout))
    notes = []
    if with_holdout and holdout is None:
        size = rows_of_size(config.holdout_size, len(train))
        holdout, train = _drawn(train, size, _rng(seed, _HOLDOUT))
        if len(holdout) != size:
            notes.append(
                f"{counted(len(holdout), 'row is', 'rows are')} held out instead of {size:,}: groups and equal texts "
                "stay whole"
            )
    available = len(train) + (0 if validation is None else len(validation))
    before, given_validation = train, validation
    train, validation = _train_and_validation(train, validation, config, seed)
    used = len(train) + len(validation)
    if used < available:
        notes.append(
            f"{given.train.name}: {used:,} of {available:,} labeled rows are used (--labeled); the others join the "
            "unlabeled ones"
        )
        pool = _with_rest(given.train, pool, before, [train] if given_validation is not None else [train, validation])
    elif config.labeled is not None and used < config.labeled:
        notes.append(
            f"{given.train.name}: --labeled {config.labeled:,} asked for, but only "
            f"{counted(used, 'row is', 'rows are')} there"
        )
    parts = {"train": train, "validation": validation, "holdout": none if holdout is None else holdout}
    return parts | {"unlabeled": pool}, tuple(notes)


def _with_rest(whole: Rows, pool: Rows, labeled: Rows, used: Sequence[Rows]) -> Rows:
    """Return the pool with the labeled rows that are not used, their labels taken away, in the order of the file."""
    rest = np.setdiff1d(labeled.ids, np.concatenate([rows.ids for rows in used]))
    found = whole.take(np.isin(whole.ids, np.concatenate([pool.ids, rest])))
    return replace(found, labels=objects([None] * len(found)))


def _train_and_validation(train: Rows, validation: Rows | None, config: DataConfig, seed: int) -> tuple[Rows, Rows]:
    """Cap the labelled rows if asked to, and take validation out of train where none is given."""
    if validation is None:
        train, _ = _drawn(train, config.labeled or len(train), _rng(seed, _CAP), fewest=2, whole=False)
        size = rows_of_size(config.validation_size, len(train))
        validation, train = _drawn(train, size, _rng(seed, _VALIDATION))
        return train, validation
    if config.labeled is not None and config.labeled < len(train) + len(validation):
        size = min(rows_of_size(config.validation_size, config.labeled), len(validation))
        validation, _ = _drawn(validation, size, _rng(seed, _GIVEN_VALIDATION), whole=False)
        train, _ = _drawn(train, config.labeled - size, _rng(seed, _CAP), whole=False)
    return train, validation


def _check_parts(parts: dict[str, Rows], labels: Labels, *, with_holdout: bool) -> list[Finding]:
    """Check what each split got: no class may be missing from train, or silently from the others."""
    found = []
    for name, rows in parts.items():
        if name == "unlabeled" or (name == "holdout" and not with_holdout):
            continue
        if not len(rows):
            message = f"the {name} split would have no rows: equal texts and groups are kept whole"
            found.append(Finding("empty-split", "error", message, (), 0, "change the sizes, or mend the data"))
            continue
        here = set(rows.labels)
        missing = [n for v, n in zip(labels.values, labels.names, strict=True) if v not in here]
        if missing:
            message = f"the {name} rows ({len(rows)}) have none of class {', '.join(missing[:10])}"
            remedy = "label more rows of it, or change the sizes of the splits"
            found.append(Finding("class-missing", "error" if name == "train" else "warning", message, (), 0, remedy))
    return found


def check_source(source: Loaded, target: Loaded, *, allow_overlap: bool = False) -> tuple[Finding, ...]:
    """Look for source texts that are also in the target's holdout: training on them would make its scores too good.

    Returns:
        A warning, where they are allowed, or nothing.

    Raises:
        DataError: there are such texts, and they are not allowed.
    """
    holdout = target.splits.holdout
    held = set(text_keys(holdout.texts, holdout.pairs)) - {""}
    fitted = source.splits.train.concat(source.splits.validation)
    shared = np.asarray([key in held for key in text_keys(fitted.texts, fitted.pairs)], dtype=bool)
    ids = np.sort(fitted.ids[shared])
    if not len(ids):
        return ()
    message = f"source: {counted(len(ids), 'text is', 'texts are')} also in the target's holdout ({row_numbers(ids)})"
    remedy = "take them out of the source, or accept them with --allow-overlap"
    rows = tuple(int(i) + 1 for i in ids[:ROWS_SHOWN])
    found = [Finding("source-overlap", "warning" if allow_overlap else "error", message, rows, len(ids), remedy)]
    _refuse(found)
    return tuple(found)
