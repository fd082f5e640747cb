"""The rows of a comparison's record, in the order in which they earned it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from headstart.evaluation.metrics import METRICS, Metric

if TYPE_CHECKING:
    import pandas as pd

Record = Mapping[str, Any]

_STATUS_ORDER = ("ok", "failed", "skipped")
_SHOWN = ("macro_f1", "accuracy", "roc_auc", "log_loss", "matthews")
_MB = 1e6


def leaderboard(record: Record) -> pd.DataFrame:
    """Return one row per strategy of a comparison's record (the content of ``comparison.json``).

    Fitted strategies come first, best validation value of the deciding metric on top, because that is what chose
    the winner; then failed ones, then skipped ones.

    Columns: ``strategy``, ``status``; the deciding metric on the holdout as ``NAME``, ``NAME_low``, ``NAME_high``
    (95% interval); the other metrics on the holdout; ``validation`` (deciding metric); ``seconds_fit``,
    ``texts_per_second``, ``peak_memory_mb`` and ``size_mb`` (1 MB = 10^6 bytes), ``parameters_trained``,
    ``parameters_total``; ``reason``. What is not known is missing (NaN or NA).
    """
    import pandas as pd

    frame = pd.DataFrame([_row(record, strategy) for strategy in ordered(record)], columns=_columns(record))
    for name in ("parameters_trained", "parameters_total"):
        frame[name] = frame[name].astype("Int64")
    floats = [c for c in frame.columns if c not in ("strategy", "status", "reason", *_WHOLE)]
    frame[floats] = frame[floats].astype("float64")
    return frame


_WHOLE = ("parameters_trained", "parameters_total")


def ordered(record: Record) -> list[Record]:
    """Return the record's strategies: fitted by validation, best first, then failed, then skipped."""
    better = 1 if deciding(record).higher_is_better else -1

    def place(strategy: Record) -> tuple[int, float]:
        value = validation_value(record, strategy)
        status = strategy.get("status")
        rank = _STATUS_ORDER.index(status) if status in _STATUS_ORDER else len(_STATUS_ORDER)
        return rank, float("inf") if value is None else -better * value

    return sorted(record.get("strategies", ()), key=place)


def deciding(record: Record) -> Metric:
    """Return the metric that decided (``metric`` in the record, macro-F1 where it is not said)."""
    return METRICS[record.get("metric") or "macro_f1"]


def cell(strategy: Record, metric: str) -> tuple[float | None, float | None, float | None]:
    """Return value, low and high of a metric on the holdout; None for what is not known."""
    found = (strategy.get("metrics") or {}).get(metric) or {}
    return found.get("value"), found.get("low"), found.get("high")


def validation_value(record: Record, strategy: Record) -> float | None:
    """Return the deciding metric on the validation rows, or None."""
    found = (strategy.get("validation") or {}).get(deciding(record).name)
    value = found.get("value") if isinstance(found, Mapping) else found
    return None if value is None else float(value)


def _others(record: Record) -> list[str]:
    return [name for name in _SHOWN if name != deciding(record).name]


def _columns(record: Record) -> list[str]:
    name = deciding(record).name
    scores = [name, f"{name}_low", f"{name}_high", *_others(record), "validation"]
    costs = ["seconds_fit", "texts_per_second", "peak_memory_mb", "size_mb", *_WHOLE]
    return ["strategy", "status", *scores, *costs, "reason"]


def _row(record: Record, strategy: Record) -> list[Any]:
    scores = [*cell(strategy, deciding(record).name), *(cell(strategy, name)[0] for name in _others(record))]
    return [
        strategy.get("name"),
        strategy.get("status"),
        *scores,
        validation_value(record, strategy),
        strategy.get("seconds_fit"),
        strategy.get("texts_per_second"),
        _megabytes(strategy.get("peak_memory_bytes")),
        _megabytes(strategy.get("size_bytes")),
        *(strategy.get(name) for name in _WHOLE),
        strategy.get("reason"),
    ]


def _megabytes(count: float | None) -> float | None:
    return None if count is None else count / _MB
