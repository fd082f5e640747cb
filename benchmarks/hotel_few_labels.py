"""Hotel remarks with 100 labels: pairs, thawing and self-training against plain fine-tuning.

100 labels (80 to train on, 20 to choose with), 2,000 held out, three seeds; the other remarks are the unlabeled pool.
Settings are those of examples/hotel_few_labels.yaml. Every contender is compared with `full`, and with `linear-probe`
and `tfidf`, on the same rows; intervals are widened for the number of contenders (Holm).

    python benchmarks/hotel_few_labels.py --json benchmarks/results/hotel_few_labels.json
    python benchmarks/hotel_few_labels.py --labeled 40 --holdout 60 --seeds 1 --strategies tfidf,tfidf+self-train
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from common import Claim, add_sizes, comparison_result, finish, new_parser, run_example, shared_data
from headstart.data.labels import Labels
from headstart.evaluation.holm import holm_differences
from headstart.experiment.comparison import Comparison
from headstart.experiment.fitting import PREDICTIONS, read_predictions

_METRICS = ("accuracy", "roc_auc")
YARDSTICKS = ("full", "linear-probe", "tfidf")
_MOST_SECONDS = 60.0


def main() -> int:
    parser = new_parser(__doc__, out="hotel_few_labels")
    add_sizes(parser, labeled=100, holdout=2000, seeds=3)
    options = parser.parse_args()
    comparison = run_example(
        "hotel_few_labels.yaml",
        options,
        data=str(shared_data("hotel_reviews.parquet")),
        labeled=options.labeled,
        holdout_size=options.holdout,
        seeds=options.seeds,
        strategies=options.strategies,
    )
    against = {name: against_yardstick(comparison, name) for name in fitted(comparison) if name in YARDSTICKS}
    if not options.quiet:
        show(against)
    figures = {**comparison_result(comparison), "against": against, "self_train": self_train_notes(comparison)}
    return finish("hotel_few_labels", options, claims_of(against, seconds_of(comparison)), figures)


def fitted(comparison: Comparison) -> list[str]:
    """Return the strategies that were fitted."""
    return [row["name"] for row in comparison.record["strategies"] if row["status"] == "ok"]


def against_yardstick(comparison: Comparison, yardstick: str) -> dict[str, dict[str, Any]]:
    """Return by metric and contender its lead over a yardstick on the holdout, with Holm's interval and p-value."""
    y, base = holdout(comparison, yardstick)
    others = {name: holdout(comparison, name)[1] for name in fitted(comparison) if name not in YARDSTICKS}
    return {metric: holm_differences(metric, y, others, base) for metric in _METRICS}


def holdout(comparison: Comparison, name: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return the holdout's classes (N,) and a strategy's probabilities (S, N, C)."""
    labels = Labels.from_json(comparison.record["labels"])
    folders = sorted((comparison.folder / "fits" / name).glob("seed-*"), key=lambda f: int(f.name.split("-")[1]))
    frame = pd.read_parquet(folders[0] / PREDICTIONS)
    y = labels.encode(frame.loc[frame["split"] == "holdout", "label"].tolist())
    return y, np.stack([read_predictions(Path(folder), "holdout", labels.names) for folder in folders])


def seconds_of(comparison: Comparison) -> dict[str, float]:
    """Return seconds to fit by strategy, mean over seeds."""
    return {r["name"]: r["seconds_fit"] for r in comparison.record["strategies"] if r["status"] == "ok"}


def self_train_notes(comparison: Comparison) -> dict[str, list[Any]]:
    """Return what the stage noted, by strategy and seed."""
    rows = [row for row in comparison.record["strategies"] if row["name"].endswith("+self-train")]
    return {row["name"]: [fit.get("notes", {}).get("self_train") for fit in row["fits"]] for row in rows}


def claims_of(against: dict[str, dict[str, Any]], seconds: dict[str, float]) -> list[Claim]:
    """Return what must show; nothing is claimed about what was not fitted."""
    claims = []
    leads = against.get("full", {}).get("accuracy", {})
    if leads:
        name, best = max(leads.items(), key=lambda item: item[1]["low"])
        words = f"{name}: {best['value']:+.4f} ({best['low']:+.4f} to {best['high']:+.4f})"
        sentence = "a way for few labels beats full in accuracy, Holm-adjusted interval above 0"
        claims.append(Claim(sentence, "low end > 0", words, best["low"] > 0))
    if "contrastive" in seconds:
        took = seconds["contrastive"]
        words = "seconds to fit contrastive, mean over seeds"
        claims.append(Claim(words, f"<= {_MOST_SECONDS:.0f}", f"{took:.1f}", took <= _MOST_SECONDS))
    return claims


def show(against: dict[str, dict[str, Any]]) -> None:
    """Print the leads."""
    for yardstick, metrics in against.items():
        for metric, leads in metrics.items():
            for name, lead in leads.items():
                ends = f"{lead['low']:+.4f} to {lead['high']:+.4f}, adjusted p {lead['p_holm']:.4f}"
                print(f"{metric}: {name} - {yardstick}: {lead['value']:+.4f} ({ends})")


if __name__ == "__main__":
    sys.exit(main())
