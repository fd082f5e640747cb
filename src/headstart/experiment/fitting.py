"""One fit: train, score the holdout once, save, and leave a record."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel

from headstart.data.examples import Examples, Splits
from headstart.errors import HeadstartError, MissingExtraError, StorageError, StrategyError
from headstart.evaluation.metrics import METRICS, score
from headstart.experiment.memory import PeakMemory
from headstart.models import folder as model_folder
from headstart.models.classifier import Advance, Classifier, Probabilities
from headstart.models.frozen import FrozenClassifier
from headstart.models.network import NetworkClassifier
from headstart.records import RECORD_FORMAT, folder_size, read_json, storage_problem, whole_file, write_json
from headstart.strategies import table
from headstart.strategies.table import Plan
from headstart.strategies.task import Task

RECORD = "record.json"
PREDICTIONS = "predictions.parquet"
MODEL = "model"


@dataclass(frozen=True)
class Fit:
    """What is to be fitted.

    Attributes:
        plan: strategy and stages.
        config: its resolved settings.
        seed: its seed.
        folder: ``fits/STRATEGY/seed-K``.
        settled: it was judged when the comparison ended, which dropped its model.
    """

    plan: Plan
    config: BaseModel
    seed: int
    folder: Path
    settled: bool = False

    @property
    def title(self) -> str:
        """E.g. ``full, seed 1``."""
        return f"{self.plan.name}, seed {self.seed}"

    def finished(self) -> dict[str, Any] | None:
        """Return the record of an earlier run that ended well, or None."""
        file = self.folder / RECORD
        if not file.is_file():
            return None
        try:
            record: dict[str, Any] = dict(read_json(file))
        except (ValueError, TypeError):  # damaged since: fitted again
            return None
        # The model is needed until the winner is known: a comparison ends by dropping what did not win.
        files = [self.folder / PREDICTIONS]
        files += [] if self.settled else [self.folder / MODEL / model_folder.CARD]
        whole = all(file.is_file() for file in files) and record.get("format") == RECORD_FORMAT
        return record if whole and record.get("status") == "ok" else None


def run_fit(
    fit: Fit, task: Task, splits: Splits, card: dict[str, Any], scored: Advance | None = None
) -> dict[str, Any]:
    """Do one fit and write its folder; the record comes last, so that a record means a whole folder.

    Args:
        fit: what to do.
        task: what the strategy is given.
        splits: the same, with the holdout, which only this function opens.
        card: what ``headstart.json`` shall hold beside the strategy and its metrics.
        scored: told how many holdout texts were scored.

    Returns:
        The record. A strategy that cannot be fitted gives one with status ``failed`` or ``skipped`` and the reason.

    Raises:
        StorageError: the output cannot be written: nothing after it could be either.
    """
    base = {
        "format": RECORD_FORMAT,
        "name": fit.plan.name,
        "seed": fit.seed,
        "settings": fit.config.model_dump(mode="json"),
    }
    try:
        record = base | _fit(fit, task, splits, card, scored)
    except StorageError:
        raise
    except (MissingExtraError, StrategyError) as problem:
        record = base | {"status": "skipped", "reason": str(problem)}
    except HeadstartError as problem:
        record = base | {"status": "failed", "reason": str(problem)}
    except Exception as problem:
        if (full := storage_problem(problem, fit.folder)) is not None:
            raise full from problem
        # Whatever a library raises ends this strategy only: its row says why and the others go on.
        reason = f"{type(problem).__name__}: {(str(problem).strip().splitlines() or ['no message'])[0]}"
        record = base | {"status": "failed", "reason": reason}
    write_json(fit.folder / RECORD, record)
    return record


def _fit(fit: Fit, task: Task, splits: Splits, card: dict[str, Any], scored: Advance | None) -> dict[str, Any]:
    with PeakMemory() as memory:
        start = time.perf_counter()
        fitted = table.fit(fit.plan, task, fit.config)
        seconds = time.perf_counter() - start
    start = time.perf_counter()
    holdout = fitted.classifier.predict_proba(splits.holdout, scored)
    seconds_holdout = time.perf_counter() - start
    speed = _speed(fitted.classifier, len(splits.holdout), seconds_holdout)
    validation_scores = _scores(splits.validation, fitted.validation)
    scores = _scores(splits.holdout, holdout)
    model_folder.save(
        fitted.classifier,
        fit.folder / MODEL,
        text=task.text,
        check=splits.validation,
        card={
            "strategy": fit.plan.name,
            "seed": fit.seed,
            **card,
            **({} if fitted.trained is None else {"trained": list(fitted.trained)}),
            "metrics": {"validation": validation_scores, "holdout": scores},
        },
    )
    _write_predictions(fit.folder / PREDICTIONS, splits, fitted.validation, holdout)
    return {
        "status": "ok",
        "reason": "",
        "notes": fitted.notes,
        "epochs": fitted.epochs,
        "validation": validation_scores,
        "metrics": scores,
        "parameters_total": fitted.classifier.parameters(),
        "parameters_trained": fitted.parameters_trained,
        "seconds_fit": round(seconds, 3),
        "seconds_holdout": round(seconds_holdout, 3),
        "texts_per_second": round(speed, 1),
        "peak_memory_bytes": memory.bytes,
        "size_bytes": folder_size(fit.folder / MODEL),
    }


def _scores(examples: Examples, probabilities: Probabilities) -> dict[str, float | None]:
    return {name: score(name, examples.y, probabilities) for name in METRICS}


def _speed(classifier: Classifier, texts: int, seconds: float) -> float:
    """Return texts per second of prediction; what stored features or states saved is counted in."""
    spared = classifier.spared if isinstance(classifier, FrozenClassifier | NetworkClassifier) else 0.0
    return texts / max(seconds + spared, 1e-9)


def _write_predictions(file: Path, splits: Splits, validation: Probabilities, holdout: Probabilities) -> None:
    frames = []
    for name, examples, probabilities in (
        ("validation", splits.validation, validation),
        ("holdout", splits.holdout, holdout),
    ):
        frame = pd.DataFrame({"split": name, "id": examples.ids, "label": splits.labels.decode(examples.y)})
        for c, label in enumerate(splits.labels.names):
            frame[f"p_{label}"] = probabilities[:, c]
        frames.append(frame)
    with whole_file(file) as temporary:
        pd.concat(frames, ignore_index=True).to_parquet(temporary, index=False)


def read_predictions(folder: Path, split: str, names: tuple[str, ...]) -> Probabilities:
    """Return the stored probabilities (N, C) of one split of a fit."""
    frame = pd.read_parquet(folder / PREDICTIONS)
    columns = [f"p_{name}" for name in names]
    return np.asarray(frame.loc[frame["split"] == split, columns], dtype=np.float64)
