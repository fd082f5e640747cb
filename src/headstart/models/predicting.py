"""What a model reads of a table and adds to it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from headstart.data.examples import Examples
from headstart.data.read import examples_of
from headstart.errors import ConfigError, DataError, ModelError, unknown_name
from headstart.models import folder
from headstart.models.classifier import Advance
from headstart.models.folder import Model
from headstart.records import fingerprint, fingerprint_file, read_json

if TYPE_CHECKING:
    from headstart.models.runtime import Runtime

PREDICTION = "prediction"
ENGINES = ("auto", "torch", "onnx")
_BEST = "best"
_EXPORTED = "onnx"  # kind of an exported model, and the folder inside a model where one is looked for


def open_model(
    name: str | Path,
    runtime: Runtime | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    engine: str = "auto",
) -> Model:
    """Open a model folder; of a comparison's folder, the winner.

    Args:
        name: the folder.
        runtime: device and precision already chosen.
        device: ``auto`` or a torch device name.
        precision: ``auto``, ``float32`` or ``bfloat16``; an ONNX model has its own.
        engine: ``auto``, ``torch``, or ``onnx``: the folder itself where it is an export, else ``onnx`` inside it.

    Raises:
        ModelError: there is none, it is damaged, or not for this engine.
        ConfigError: the engine is unknown.
    """
    path = engine_folder(winner_or_self(name), engine)
    return folder.load(path, device=device, precision=precision, runtime=runtime)


def engine_folder(path: Path, engine: str) -> Path:
    """Return the folder that an engine opens for a model folder.

    Raises:
        ModelError: it has not been exported, is an export of other weights, or is one where torch is asked for.
        ConfigError: the engine is unknown.
    """
    if engine not in ENGINES:
        raise ConfigError(unknown_name("engine", engine, ENGINES, "--engine"))
    if engine == "auto":
        return path
    exported = (path / folder.CARD).is_file() and folder.read_card(path)["kind"] == _EXPORTED
    if engine == "torch" and exported:
        raise ModelError(f"{path} is an ONNX export; give the model it was made from, or leave --engine out")
    if engine == "torch" or exported:
        return path
    inside = path / _EXPORTED
    if not (inside / folder.CARD).is_file():
        raise ModelError(f"{path} has not been exported: headstart export {path} --out {inside}")
    made_from = read_json(inside / "export.json")["source"]["weights"]
    if made_from != weights_fingerprint(path):
        raise ModelError(f"{inside} was exported from other weights than those of {path}: export it again")
    return inside


def weights_fingerprint(path: Path) -> str:
    """Return a fingerprint over the weights of a model folder: safetensors and trees."""
    files = sorted(p for p in path.iterdir() if p.suffix in (".safetensors", ".cbm"))
    return fingerprint(part for p in files for part in (p.name, fingerprint_file(p)))


def winner_or_self(name: str | Path) -> Path:
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


def blank_row(model: Model) -> pd.DataFrame:
    """Return one row of what a model reads, all blank: to let it answer once before it has to."""
    texts, features = columns_read(model)
    return pd.DataFrame({name: pd.Series([""], dtype=object) for name in (*texts, *features)})


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
