"""Scoring finished models on labeled texts, side by side on the same rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.data.examples import Examples
from headstart.data.read import examples_of
from headstart.data.table import Table
from headstart.errors import ConfigError, DataError
from headstart.evaluation.intervals import evaluate, is_tie, paired_difference
from headstart.evaluation.metrics import METRICS
from headstart.models.classifier import Advance
from headstart.models.folder import Model
from headstart.models.predicting import columns_read, features_named

Floats = npt.NDArray[np.float64]


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
) -> dict[str, Any]:
    """Score models on the labeled rows of a table; differences are to the first model, on the same drawn rows.

    Args:
        models: name and model each; the first is what the others are set against.
        table: N rows; those with a blank label are left out.
        label: its label column; values are matched to each model's labels by value, then by their text.
        text: text columns, where they are not called as when the models were fitted.
        seed: of the bootstrap.
        started: told a model's name and the number of texts, returns what is told how many were done.

    Returns:
        ``{"data", "rows", "rows_without_label", "seed", "models": [{"model", "strategy", "labels", "metrics",
        "per_class", "confusion", "difference", "reason"}]}``; ``difference`` holds per metric model minus first.

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
    return {"data": table.name, "rows": len(read[0]), "rows_without_label": without, "seed": seed, "models": rows}


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
