"""Labeling a file: read, predict in the file's order, write the same columns and the answer, whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from headstart.data.examples import Examples
from headstart.data.read import examples_of, read_table
from headstart.data.table import clean_text
from headstart.errors import ConfigError, DataError, StorageError
from headstart.models import batching, folder
from headstart.models.classifier import Advance
from headstart.models.folder import Model
from headstart.records import whole_file

if TYPE_CHECKING:
    from headstart.models.runtime import Runtime

PREDICTION = "prediction"
_SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_JSON = (".jsonl", ".ndjson")
_PARQUET = (".parquet", ".pq")
_BEST = "best"


@dataclass(frozen=True)
class Predicted:
    """What labeling a file came to.

    Attributes:
        out: the file written.
        rows: texts labeled.
        counts: how often each label was given, by name.
        notes: what the user should know: encoding found, cells cut, empty texts, texts over the limit.
    """

    out: Path
    rows: int
    counts: dict[str, int]
    notes: tuple[str, ...]


def open_model(
    name: str | Path, runtime: Runtime | None = None, *, device: str = "auto", precision: str = "auto"
) -> Model:
    """Open a model folder; of a comparison's folder, the winner.

    Raises:
        ModelError: there is none, or it is damaged.
    """
    return folder.load(model_folder(name), device=device, precision=precision, runtime=runtime)


def model_folder(name: str | Path) -> Path:
    """Return ``name``, or its ``best`` where ``name`` is the folder of a finished comparison."""
    path = Path(name).expanduser()
    is_model = (path / folder.CARD).is_file() or (path / "config.json").is_file()
    return path / _BEST if not is_model and (path / _BEST / folder.CARD).is_file() else path


def columns_read(model: Model, text: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """Return the text columns and the feature columns that a model reads.

    Args:
        model: the model.
        text: columns to read instead of those it was fitted on, as many.

    Raises:
        ConfigError: another number of text columns.
    """
    own = [str(name) for name in model.card["text"]["columns"]]
    if text and len(text) != len(own):
        raise ConfigError(f"this model reads {len(own)} text column(s) ({', '.join(own)}); --text names {len(text)}")
    features = [str(c) for c in model.card.get("about", {}).get("head", {}).get("columns", [])]
    return list(text) or own, features


def predict_table(
    model: Model,
    frame: pd.DataFrame,
    *,
    text: Sequence[str] = (),
    name: str = "data",
    advance: Advance | None = None,
) -> pd.DataFrame:
    """Return a frame with the columns ``prediction`` and ``p_LABEL`` per class added; rows and index as they were.

    Args:
        model: an opened model.
        frame: N rows with the model's columns; not changed.
        text: text columns, where they are not called as when the model was fitted.
        name: what messages call the table.
        advance: told how many texts were done.

    Raises:
        DataError: a column is missing, or one that would be added is already there.
        ConfigError: the wrong number of text columns.
    """
    refuse_clash(model, frame.columns, name)
    examples = model_examples(model, frame, text=text, name=name)
    return _answered(model, frame, model.classifier.predict_proba(examples, advance) if len(examples) else None)


def model_examples(model: Model, frame: pd.DataFrame, *, text: Sequence[str] = (), name: str = "data") -> Examples:
    """Return the rows of a frame as the model reads them, without labels.

    Raises:
        DataError: a column is missing.
        ConfigError: the wrong number of text columns.
    """
    columns, features = columns_read(model, text)
    with features_named():
        return examples_of(frame, text=columns, columns=features, name=name)


@contextlib.contextmanager
def features_named() -> Iterator[None]:
    """Say of a missing feature column that the model needs it: where one only predicts, there is no --columns."""
    try:
        yield
    except DataError as problem:
        raise DataError([f.replace("(--columns)", "(the model was fitted on it)") for f in problem.faults]) from problem


def refuse_clash(model: Model, columns: Sequence[Any] | pd.Index, name: str) -> None:
    """Refuse a table that already has a column which predicting adds.

    Raises:
        DataError: it has; all are named.
    """
    there = [c for c in added_columns(model) if c in set(columns)]
    if there:
        raise DataError(
            f"{name} already has what predicting adds, {', '.join(repr(c) for c in there)}: rename or remove "
            f"{'it' if len(there) == 1 else 'them'} first"
        )


def added_columns(model: Model) -> list[str]:
    """Return the names of the columns that predicting adds."""
    return [PREDICTION, *(f"p_{name}" for name in model.labels.names)]


def _answered(model: Model, frame: pd.DataFrame, proba: Any) -> pd.DataFrame:
    out = frame.copy()
    labels = model.labels
    proba = np.zeros((0, len(labels))) if proba is None else proba  # (N, C)
    out[PREDICTION] = labels.decode(proba.argmax(axis=1)) if len(out) else []
    for c, column in enumerate(added_columns(model)[1:]):
        out[column] = proba[:, c]
    return out


def predict_file(
    model: Model,
    source: str | Path,
    out: str | Path,
    *,
    text: Sequence[str] = (),
    encoding: str | None = None,
    separator: str | None = None,
    started: Callable[[int], Advance] | None = None,
) -> Predicted:
    """Label the texts of a file and write its columns with the answers to another.

    Args:
        model: an opened model.
        source: CSV, TSV, JSON lines or Parquet, by suffix.
        out: what to write, likewise; replaced if it exists.
        text: text columns, where they are not called as when the model was fitted.
        encoding: of the input, where the one found is wrong.
        separator: of the input, where the one found is wrong.
        started: told the number of texts, returns what is told how many were done.

    Raises:
        DataError: the input cannot be used, or has a column of a name that is added.
        ConfigError: ``out`` has an unknown suffix, or is the input.
        StorageError: ``out`` cannot be written; nothing is left behind.
    """
    target = check_out(source, out)
    columns, _ = columns_read(model, text)
    table = read_table(source, encoding=encoding, separator=separator, text=columns)
    refuse_clash(model, table.frame.columns, table.name)
    examples = model_examples(model, table.frame, text=text, name=table.name)
    advance = None if started is None else started(len(examples))
    kept = table.frame
    if _both_delimited(Path(source), target):  # cells as they were written: 1.50 stays 1.50
        kept = read_table(source, encoding=encoding, separator=separator, text=list(kept.columns)).frame
    full = _answered(model, kept, model.classifier.predict_proba(examples, advance))
    write_table(full, target)
    counts = full[PREDICTION].map(str).value_counts()
    by_label = {n: int(counts.get(str(v), 0)) for n, v in zip(model.labels.names, model.labels.values, strict=True)}
    return Predicted(target, len(full), by_label, (*table.notes, *_notes(model, examples)))


def _both_delimited(source: Path, target: Path) -> bool:
    return source.suffix.lower() in _SEPARATORS and target.suffix.lower() in _SEPARATORS


def _notes(model: Model, examples: Examples) -> list[str]:
    notes = []
    empty = sum(not t.strip() for t in examples.joined())
    if empty:
        notes.append(f"{empty:,} of {len(examples):,} texts are empty: their labels mean little")
    texts, tokens = cut_shares(model, examples)
    if texts:
        limit = model.card["text"]["max_length"]
        notes.append(
            f"{texts:.1%} of texts are longer than the model's {limit} tokens; {tokens:.1%} of all tokens were cut off "
            f"({model.card['text']['truncate']} kept)"
        )
    return notes


def cut_shares(model: Model, examples: Examples) -> tuple[float, float]:
    """Return (share of texts over the model's maximum length, share of tokens cut off), both 0-1."""
    holder: Any = getattr(model.classifier, "extractor", model.classifier)
    if not hasattr(holder, "tokenizer"):
        return 0.0, 0.0
    return batching.tokenize(holder.tokenizer, examples, holder.text).cut_shares()


def check_out(source: str | Path, out: str | Path) -> Path:
    """Return ``out`` as a path if it can be written to, before anything costly is done.

    Raises:
        ConfigError: unknown suffix, or it is the input.
        StorageError: it is a folder, or its folder is not writable.
    """
    target = Path(out).expanduser()
    known = (*_SEPARATORS, *_JSON, *_PARQUET)
    if target.suffix.lower() not in known:
        raise ConfigError(
            f"--out {out}: a file ending in '{target.suffix}' cannot be written; known: {', '.join(known)}"
        )
    if target.is_dir():
        raise StorageError(f"--out {out} is a folder; name a file, e.g. {target / 'predictions.csv'}")
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise ConfigError(f"--out {out} is the input itself; name another file")
    parent = next(p for p in (target.absolute().parent, *target.absolute().parents) if p.exists())
    if not parent.is_dir():
        raise StorageError(f"cannot write {out}: {parent} is a file, not a folder; choose another place with --out")
    if not os.access(parent, os.W_OK):
        raise StorageError(f"cannot write {out}: {parent} is not writable; choose another place with --out")
    return target


def write_table(frame: pd.DataFrame, target: Path) -> None:
    """Write a frame by the suffix of ``target``, whole or not at all; characters no file can hold become U+FFFD.

    Raises:
        DataError: a column cannot be written in this format.
        StorageError: the file cannot be written.
    """
    import pyarrow as pa

    clean = _clean(frame)
    suffix = target.suffix.lower()
    with whole_file(target) as temporary:
        if suffix in _SEPARATORS:
            clean.to_csv(temporary, sep=_SEPARATORS[suffix], index=False, lineterminator="\n")
        elif suffix in _JSON:
            clean.to_json(
                temporary, orient="records", lines=True, force_ascii=False, date_format="iso", double_precision=15
            )
        else:
            try:
                clean.to_parquet(temporary, index=False)
            except pa.ArrowException as problem:
                words = str(problem).splitlines()[0]
                raise DataError(f"cannot be written as Parquet ({words}); name a .csv or .jsonl file") from problem


def _clean(frame: pd.DataFrame) -> pd.DataFrame:
    out = frame.copy()
    out.columns = [clean_text(str(c)) for c in out.columns]
    for name in out.columns:
        if out[name].dtype == object or pd.api.types.is_string_dtype(out[name].dtype):
            out[name] = [clean_text(v) if isinstance(v, str) else v for v in out[name]]
    return out
