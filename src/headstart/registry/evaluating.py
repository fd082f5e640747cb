"""Scoring finished models on labeled texts, side by side on the same rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from headstart.data.examples import Examples
from headstart.data.read import examples_of
from headstart.data.table import Table
from headstart.errors import ConfigError, DataError
from headstart.evaluation.intervals import evaluate, is_tie, paired_difference
from headstart.evaluation.metrics import METRICS
from headstart.models.classifier import Advance
from headstart.models.folder import Model
from headstart.models.predicting import PREDICTION, columns_read, features_named

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Evaluated:
    """What scoring models came to.

    Attributes:
        record: ``{"data", "fingerprint", "rows", "rows_without_label", "seed", "models": [{"model", "strategy",
            "labels", "metrics", "per_class", "confusion", "difference", "reason"}]}``; ``difference`` holds per metric
            model minus first.
        predictions: a row per labeled text: ``row`` (of the file, from 1), the first model's text columns, the label,
            and per model ``prediction`` and ``p_LABEL``; of several models their number, from 1, is added, as in
            ``prediction_2`` and ``p_2_LABEL``.
    """

    record: dict[str, Any]
    predictions: pd.DataFrame


@dataclass(frozen=True)
class _Scored:
    """One model's answers: ``y`` (N,) and ``proba`` (N, C) in its own label order."""

    names: tuple[str, ...]
    y: npt.NDArray[np.int64]
    proba: Floats


def evaluate_models(
    models: Sequence[tuple[str, Model]],
    table: Table,
    *,
    label: str = "label",
    text: Sequence[str] = (),
    seed: int = 0,
    started: Callable[[str, int], Advance] | None = None,
) -> Evaluated:
    """Score models on the labeled rows of a table; differences are to the first model, on the same drawn rows.

    Args:
        models: name and model each; the first is what the others are set against.
        table: N rows; those with a blank label are left out.
        label: its label column; values are matched to each model's labels by value, then by their text.
        text: text columns, where they are not called as when the models were fitted.
        seed: of the bootstrap.
        started: told a model's name and the number of texts, returns what is told how many were done.

    Raises:
        DataError: a column is missing, no row has a label, or a label is unknown to a model.
        ConfigError: the wrong number of text columns.
    """
    read = [_examples(name, model, table, text, label) for name, model in models]  # before anything costly
    scored = []
    for (name, model), examples in zip(models, read, strict=True):
        advance = None if started is None else started(name, len(examples))
        scored.append(_Scored(model.labels.names, examples.y, model.classifier.predict_proba(examples, advance)))
    rows = [
        {
            "model": name,
            "strategy": model.card.get("strategy"),
            "labels": model.labels.to_json(),
            **evaluate(one.y, one.proba[None], one.names, seed=seed).to_json(),
            **(_difference(one, scored[0], models[0][0], seed) if at else {"difference": None, "reason": ""}),
        }
        for at, ((name, model), one) in enumerate(zip(models, scored, strict=True))
    ]
    without = len(table.frame) - len(read[0])
    record = {
        "data": table.name,
        "fingerprint": read[0].fingerprint(),
        "rows": len(read[0]),
        "rows_without_label": without,
        "seed": seed,
        "models": rows,
    }
    named = columns_read(models[0][1], text)[0]
    frame = table.frame.iloc[read[0].ids][[*named, label]].reset_index(drop=True)
    return Evaluated(record, _by_row(frame, read[0].ids + 1, [model for _, model in models], scored))


def _by_row(
    frame: pd.DataFrame, rows: npt.NDArray[np.int64], models: Sequence[Model], scored: Sequence[_Scored]
) -> Any:
    """Return texts and labels (N rows) with what each model says of them beside."""
    parts: dict[str, Any] = {"row": rows}
    for number, (model, one) in enumerate(zip(models, scored, strict=True), start=1):
        mark = f"_{number}" if len(models) > 1 else ""
        parts[f"{PREDICTION}{mark}"] = model.labels.decode(one.proba.argmax(axis=1))
        parts |= {f"p{mark}_{name}": one.proba[:, c] for c, name in enumerate(one.names)}
    there = [name for name in parts if name in frame]
    if there:
        raise DataError(f"the columns {', '.join(map(repr, there))} are what scoring adds: rename them first")
    return pd.concat([pd.DataFrame({"row": parts.pop("row")}), frame, pd.DataFrame(parts)], axis=1)


def _examples(name: str, model: Model, table: Table, text: Sequence[str], label: str) -> Examples:
    try:
        columns, features = columns_read(model, text)
        with features_named():
            examples = examples_of(
                table.frame, text=columns, label=label, columns=features, labels=model.labels, name=table.name
            )
    except (DataError, ConfigError) as problem:
        faults = problem.faults
        raise DataError([f"{name}: {fault}" for fault in faults]) from problem
    labeled = np.flatnonzero(examples.y >= 0)
    if not len(labeled):
        raise DataError(f"{table.name}: no row has a label in column '{label}'; name the column with --label")
    return examples.take(labeled)


def _difference(one: _Scored, first: _Scored, first_name: str, seed: int) -> dict[str, Any]:
    """Return this model minus the first in every metric, where both know the same labels."""
    if set(one.names) != set(first.names):
        return {"difference": None, "reason": f"its labels are not those of {first_name}"}
    order = [one.names.index(name) for name in first.names]
    proba = one.proba[:, order]  # (N, C) in the first model's order
    found = {}
    for metric in METRICS:
        difference = paired_difference(metric, first.y, proba[None], first.proba[None], seed=seed)
        found[metric] = {**difference, "tie": is_tie(difference)}
    return {"difference": found, "reason": ""}
