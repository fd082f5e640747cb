"""A finished comparison: many fits on the same splits, judged on one holdout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.data.examples import Splits
from headstart.errors import StorageError
from headstart.evaluation.intervals import evaluate, is_tie, paired_difference
from headstart.evaluation.metrics import METRICS
from headstart.experiment.fitting import Fit, read_predictions
from headstart.models.folder import CARD
from headstart.records import read_json
from headstart.strategies import table

if TYPE_CHECKING:
    import pandas as pd

    from headstart.models.folder import Model

COMPARISON = "comparison.json"
BEST = "best"
_COSTS = ("seconds_fit", "texts_per_second", "peak_memory_bytes", "size_bytes")
_COUNTS = ("parameters_total", "parameters_trained")


class Comparison:
    """What a comparison left behind.

    Attributes:
        folder: its output folder.
        record: the content of ``comparison.json``.
    """

    def __init__(self, folder: Path, record: dict[str, Any]) -> None:
        self.folder = folder
        self.record = record

    @classmethod
    def open(cls, folder: str | Path) -> Comparison:
        """Open the folder of a finished comparison.

        Raises:
            StorageError: there is none, or it is damaged.
        """
        file = Path(folder) / COMPARISON
        if not file.is_file():
            raise StorageError(f"{folder} holds no finished comparison ({COMPARISON} is missing)")
        try:
            return cls(Path(folder), dict(read_json(file)))
        except (ValueError, TypeError) as problem:
            words = f"{file} is damaged ({problem}); choose another folder with --out, or remove this one"
            raise StorageError(words) from problem

    @property
    def winner(self) -> str | None:
        """Name of the strategy that validation chose; None where every one failed."""
        name = self.record["winner"]
        return None if name is None else str(name)

    @property
    def failed(self) -> list[str]:
        """Names of the strategies that failed, which the same command tries again."""
        return [str(row["name"]) for row in self.record["strategies"] if row["status"] == "failed"]

    @property
    def settled(self) -> frozenset[str]:
        """Names of the strategies that were judged well, if the winner's model is still there.

        Whatever is fitted later, the winner among these stays the same, and so they need no models of their own.
        """
        if not (self.folder / BEST / CARD).is_file():
            return frozenset()
        return frozenset(str(row["name"]) for row in self.record["strategies"] if row["status"] == "ok")

    @property
    def leaderboard(self) -> pd.DataFrame:
        """One row per strategy, best first."""
        from headstart.report.leaderboard import leaderboard

        return leaderboard(self.record)

    @cached_property
    def best(self) -> Model:
        """The winner's model, opened on first use.

        Raises:
            ModelError: there is no winner.
        """
        from headstart.models.folder import load

        return load(self.folder / BEST)

    def __repr__(self) -> str:
        from headstart.report.words import conclusion

        return f"Comparison({str(self.folder)!r}): {conclusion(self.record)}"

    def _repr_html_(self) -> str:
        from headstart.report.render import render_html

        return render_html(self.record)


def strategy_row(
    name: str, fits: Sequence[Fit], records: Sequence[dict[str, Any]], splits: Splits, seed: int
) -> dict[str, Any]:
    """Sum up one strategy over its seeds: holdout metrics with intervals, validation means, costs.

    A strategy that was not fitted has the same keys but ``per_class`` and ``confusion``, without values.
    """
    failed = [r for r in records if r["status"] != "ok"]
    row: dict[str, Any] = {
        "name": name,
        "status": failed[0]["status"] if failed else "ok",
        "reason": failed[0]["reason"] if failed else "",
        "metrics": {},
        "validation": {},
        "fits": [dict(r) for r in records],
        **dict.fromkeys((*_COSTS, *_COUNTS)),
    }
    if failed:
        return row
    y, names = splits.holdout.y, splits.labels.names
    probabilities = np.stack([read_predictions(f.folder, "holdout", names) for f in fits])  # (S, N, C)
    row |= evaluate(y, probabilities, names, seed=seed).to_json()
    row["validation"] = {m: _mean([r["validation"][m] for r in records]) for m in METRICS}
    row |= {key: _mean([r[key] for r in records]) for key in _COSTS}
    return row | {key: records[0][key] for key in _COUNTS}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def choose(rows: Sequence[dict[str, Any]], metric: str) -> str | None:
    """Return the strategy with the best mean validation value; log loss, then the cheaper one, break a tie."""

    def merit(row: dict[str, Any]) -> tuple[float, float, float]:
        return (*_merit(row["validation"], metric), -float(row["parameters_trained"]))

    fitted = [row for row in rows if row["status"] == "ok"]
    return str(max(fitted, key=merit)["name"]) if fitted else None


def choose_fit(records: Sequence[dict[str, Any]], metric: str) -> int:
    """Return the place of the seed that validated best; the earlier one on a tie."""
    return max(range(len(records)), key=lambda i: (*_merit(records[i]["validation"], metric), -i))


def _merit(validation: dict[str, float | None], metric: str) -> tuple[float, float]:
    value, loss = validation[metric], validation["log_loss"]
    sign = 1.0 if METRICS[metric].higher_is_better else -1.0
    return (
        -float("inf") if value is None else sign * value,
        -float("inf") if loss is None else -loss,
    )


def differences(
    rows: Sequence[dict[str, Any]],
    fits: dict[str, list[Fit]],
    winner: str | None,
    splits: Splits,
    metric: str,
    seed: int,
) -> tuple[dict[str, Any], list[str]]:
    """Return the winner's lead over every other strategy on the holdout with its interval, and who is tied with it."""
    if winner is None:
        return {}, []

    def probabilities(name: str) -> Any:
        return np.stack([read_predictions(f.folder, "holdout", splits.labels.names) for f in fits[name]])

    won = probabilities(winner)
    leads = {
        row["name"]: paired_difference(metric, splits.holdout.y, won, probabilities(row["name"]), seed=seed)
        for row in rows
        if row["status"] == "ok" and row["name"] != winner
    }
    return leads, [name for name, lead in leads.items() if is_tie(lead)]


def stage_gains(
    rows: Sequence[dict[str, Any]], fits: dict[str, list[Fit]], splits: Splits, metric: str, seed: int
) -> list[dict[str, Any]]:
    """Return what each stage of each strategy changed: the strategy with it minus the same without, on the holdout.

    ``gradual`` is set beside ``full`` and ``contrastive`` beside ``linear-probe``, which they are but for what their
    names say. Each has ``strategy``, ``stage``, ``without``, and ``value``, ``low``, ``high`` of the paired difference
    in the metric; where the one without is not in the comparison or was not fitted these are None, and ``reason`` says
    so.
    """
    fitted = {row["name"] for row in rows if row["status"] == "ok"}

    def probabilities(name: str) -> Any:
        return np.stack([read_predictions(f.folder, "holdout", splits.labels.names) for f in fits[name]])

    found = []
    for name in (row["name"] for row in rows if row["name"] in fitted):
        for stage, without in table.counterparts(name):
            gain: Mapping[str, Any] = dict.fromkeys(("value", "low", "high"))
            if without in fitted:
                one, other = probabilities(name), probabilities(without)
                gain = paired_difference(metric, splits.holdout.y, one, other, seed=seed)
            else:
                there = any(row["name"] == without for row in rows)
                gain = {**gain, "reason": f"'{without}' {'was not fitted' if there else 'is not in the comparison'}"}
            found.append({"strategy": name, "stage": stage, "without": without, **gain})
    return found
