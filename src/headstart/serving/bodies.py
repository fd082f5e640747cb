"""What requests and answers hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from headstart.data.examples import Examples
from headstart.data.labels import Value
from headstart.data.table import clean_text
from headstart.errors import DataError
from headstart.models.classifier import Probabilities
from headstart.models.folder import Model
from headstart.models.predicting import columns_read

Cell = str | bool | int | float | None
_LARGEST_NUMBER = 2**63


class PredictRequest(BaseModel):
    """Texts to label."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"texts": "A quiet, lovely film."},
                {"texts": ["A quiet, lovely film.", "Dull from the first minute on."], "model": "reviews"},
                {"texts": [{"title": "Lovely", "body": "I stayed to the end."}], "version": "2"},
            ]
        },
    )

    texts: str | list[str | dict[str, Cell]] = Field(
        description="One text, or a list. Where the model reads several columns each item is an object with a value "
        "per column."
    )
    model: str | None = Field(None, description="Name of the model; may be left out where one is served.")
    version: str | None = Field(None, description="Version or alias; else the first one served under that name.")


class Prediction(BaseModel):
    """The answer for one text."""

    label: Value = Field(description="The likeliest label, with the type it had in training.")
    probability: float = Field(description="Probability of this label, 0-1.")
    probabilities: dict[str, float] = Field(description="Probability per label, in the model's order; sums to 1.")


class PredictResponse(BaseModel):
    """Answers in the order of the texts."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "reviews",
                    "version": "1",
                    "predictions": [
                        {
                            "label": "positive",
                            "probability": 0.97,
                            "probabilities": {"negative": 0.03, "positive": 0.97},
                        }
                    ],
                }
            ]
        }
    )

    model: str = Field(description="Name of the model that answered.")
    version: str = Field(description="Its version.")
    predictions: list[Prediction] = Field(description="One per text.")


class Metric(BaseModel):
    """A metric on rows that the model was not fitted on."""

    model_config = ConfigDict(extra="allow")

    value: float | None = Field(description="The metric.")
    low: float | None = Field(None, description="Lower end of its 95% interval.")
    high: float | None = Field(None, description="Upper end.")


class ModelCard(BaseModel):
    """What is known of a served model."""

    name: str
    version: str
    alias: str | None = Field(description="Alias of the registry that it is served for.")
    since: str = Field(description="When it was opened, UTC.")
    strategy: str = Field(description="How it was made.")
    labels: list[Value] = Field(description="Labels in the order of the probabilities.")
    text_columns: list[str] = Field(description="Columns that hold its texts.")
    feature_columns: list[str] = Field(description="Further columns that it reads.")
    max_length: int | None = Field(description="Most tokens it reads of a text; None: all.")
    truncate: str = Field(description="Which part of a longer text is kept.")
    parameters: int = Field(description="Number of weights.")
    metrics: dict[str, Metric] = Field(description="Metrics on the holdout, with 95% intervals.")


class Limits(BaseModel):
    """What a request may hold."""

    max_body_bytes: int
    max_texts: int
    max_characters: int


class ModelList(BaseModel):
    """The models served now."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "models": [
                        {
                            "name": "reviews",
                            "version": "3",
                            "alias": "champion",
                            "since": "2026-01-31T12:00:00+00:00",
                            "strategy": "full",
                            "labels": ["negative", "positive"],
                            "text_columns": ["text"],
                            "feature_columns": [],
                            "max_length": 256,
                            "truncate": "head",
                            "parameters": 22713986,
                            "metrics": {"macro_f1": {"value": 0.93, "low": 0.91, "high": 0.95}},
                        }
                    ],
                    "limits": {"max_body_bytes": 4194304, "max_texts": 1000, "max_characters": 100000},
                }
            ]
        }
    )

    models: list[ModelCard]
    limits: Limits


class Problem(BaseModel):
    """Why a request was not answered."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": "text 1: body missing; this model reads title, body",
                    "faults": ["text 1: body missing; this model reads title, body"],
                }
            ]
        }
    )

    error: str = Field(description="What was got, what was expected, and the next step.")
    faults: list[str] = Field(description="The same, one entry per fault.")


class State(BaseModel):
    """Whether the server is well."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok"}]})

    status: str


def examples_of_request(model: Model, texts: str | list[str | dict[str, Cell]], limits: Limits) -> Examples:
    """Return the texts of a request as the model reads them: as `Model.examples` does with a table, but sooner.

    Raises:
        DataError: too many or too long texts, columns that are missing, or numbers that no column can hold.
    """
    items = [texts] if isinstance(texts, str) else texts
    if len(items) > limits.max_texts:
        raise DataError(f"{len(items):,} texts; at most {limits.max_texts:,} in one request: send them in parts")
    columns, features = columns_read(model)
    wanted = [*columns, *features]
    cells: dict[str, list[Cell]] = {name: [] for name in wanted}
    faults: list[str] = []
    for number, item in enumerate(items, start=1):
        row = _row(item, wanted, number, faults)
        for name in wanted:
            cells[name].append(_cell(row.get(name), name, number, limits, faults))
    if faults:
        raise DataError(faults if len(faults) <= 10 else [*faults[:10], f"{len(faults) - 10} more such faults"])
    first, *second = ([_text(value) for value in cells[name]] for name in columns)
    # Cells keep the type they came with, whatever the other requests of a batch hold.
    table = pd.DataFrame({name: pd.Series(cells[name], dtype=object) for name in features}) if features else None
    return Examples.of(first, pairs=second[0] if second else None, columns=table)


def _text(value: Cell) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None or value != value else str(value)  # NaN is not equal to itself


def _row(item: str | dict[str, Cell], wanted: list[str], number: int, faults: list[str]) -> dict[str, Cell]:
    if isinstance(item, str):
        if len(wanted) == 1:
            return {wanted[0]: item}
        faults.append(f"text {number}: this model reads {', '.join(wanted)}; send an object with these keys")
        return {}
    missing = [name for name in wanted if name not in item]
    if missing:
        faults.append(f"text {number}: {', '.join(missing)} missing; this model reads {', '.join(wanted)}")
    return item


def _cell(value: Cell, name: str, number: int, limits: Limits, faults: list[str]) -> Cell:
    if isinstance(value, str):
        if len(value) > limits.max_characters:
            faults.append(
                f"text {number}, {name}: {len(value):,} characters; at most {limits.max_characters:,}: shorten it"
            )
        return clean_text(value)
    if isinstance(value, int) and abs(value) >= _LARGEST_NUMBER:
        faults.append(f"text {number}, {name}: a whole number of more than 64 bits")
    return value


def answers(model: Model, proba: Probabilities) -> list[dict[str, Any]]:
    """Return a `Prediction` as JSON for each row of probabilities (N, C)."""
    names = model.labels.names
    best = proba.argmax(axis=1) if len(proba) else np.zeros(0, dtype=np.int64)
    return [
        {"label": label, "probability": row[c], "probabilities": dict(zip(names, row, strict=True))}
        for label, c, row in zip(model.labels.decode(best), best, proba.tolist(), strict=True)
    ]
