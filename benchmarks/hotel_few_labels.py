"""Hotel remarks with 100 labels: pairs, thawing, self-training and adaptation against plain fine-tuning.

100 labels (80 to train on, 20 to choose with), 2,000 held out, five seeds; the other remarks are the unlabeled pool.
A seed draws the labels too, not only heads and orders: with so few, which texts have a label is the largest luck of
all, and a way that wins for one draw need not for the next. The same 2,000 remarks are held out for every seed.
Settings are those of examples/hotel_few_labels.yaml. Every contender is compared with `full`, and with `linear-probe`
and `tfidf`, on the same rows and seeds; intervals are widened for the number of contenders (Holm).

    python benchmarks/hotel_few_labels.py --json benchmarks/results/hotel_few_labels.json
    python benchmarks/hotel_few_labels.py --labeled 40 --holdout 60 --seeds 1 --strategies tfidf,tfidf+self-train
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from common import EXAMPLES, Claim, add_sizes, comparison_result, finish, new_parser, run_example, shared_data, value
from headstart.data.labels import Labels
from headstart.data.load import load_data
from headstart.evaluation.holm import holm_differences
from headstart.experiment.comparison import Comparison
from headstart.experiment.config import parse, read_yaml
from headstart.experiment.fitting import PREDICTIONS, read_predictions

_METRICS = ("accuracy", "roc_auc")
YARDSTICKS = ("full", "linear-probe", "tfidf")
_MOST_SECONDS = 60.0


def main() -> int:
    parser = new_parser(__doc__, out="hotel_few_labels")
    add_sizes(parser, labeled=100, holdout=2000, seeds=5)
    options = parser.parse_args()
    folder = Path(options.out)
    if not options.resume:
        shutil.rmtree(folder, ignore_errors=True)
    data, held = split(folder, options.holdout)
    comparisons = [compared(data, held, folder, options, seed) for seed in range(options.seeds)]
    names = fitted(comparisons)
    against = {name: against_yardstick(comparisons, name) for name in names if name in YARDSTICKS}
    if not options.quiet:
        show(against)
    figures = {
        "by_seed": {name: [value(c, name, "accuracy") for c in comparisons] for name in names},
        "against": against,
        "self_train": self_train_notes(comparisons),
        "comparisons": [comparison_result(c) for c in comparisons],
    }
    return finish("hotel_few_labels", options, claims_of(against, seconds_of(comparisons)), figures)


def split(folder: Path, size: int) -> tuple[Path, Path]:
    """Write the remarks that the example does not hold out, and those that it does, as files; return both."""
    source = shared_data("hotel_reviews.parquet")
    config = parse({**read_yaml(EXAMPLES / "hotel_few_labels.yaml"), "data": str(source), "holdout_size": size})
    held = set(load_data(config, seed=config.seed).splits.holdout.texts)
    frame = pd.read_parquet(source)
    folder.mkdir(parents=True, exist_ok=True)
    files = folder / "others.parquet", folder / "held_out.parquet"
    for file, rows in zip(files, (~frame["text"].isin(held), frame["text"].isin(held)), strict=True):
        frame[rows].to_parquet(file)
    return files


def compared(data: Path, held: Path, folder: Path, options: argparse.Namespace, seed: int) -> Comparison:
    """Run the example with the labels, heads and orders that a seed draws."""
    return run_example(
        "hotel_few_labels.yaml",
        argparse.Namespace(**{**vars(options), "out": str(folder / f"seed-{seed}")}),
        without=("holdout_size",),
        data=str(data),
        holdout=str(held),
        labeled=options.labeled,
        seed=seed,
        seeds=1,
        strategies=options.strategies,
    )


def fitted(comparisons: Sequence[Comparison]) -> list[str]:
    """Return the strategies that were fitted with every seed."""
    found = [[row["name"] for row in c.record["strategies"] if row["status"] == "ok"] for c in comparisons]
    return [name for name in found[0] if all(name in names for names in found)]


def against_yardstick(comparisons: Sequence[Comparison], yardstick: str) -> dict[str, dict[str, Any]]:
    """Return by metric and contender its lead over a yardstick on the holdout, with Holm's interval and p-value."""
    y, base = holdout(comparisons, yardstick)
    others = {name: holdout(comparisons, name)[1] for name in fitted(comparisons) if name not in YARDSTICKS}
    return {metric: holm_differences(metric, y, others, base) for metric in _METRICS}


def holdout(comparisons: Sequence[Comparison], name: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return the holdout's classes (N,) and a strategy's probabilities (S, N, C), a seed each."""
    labels = Labels.from_json(comparisons[0].record["labels"])
    folders = [next((c.folder / "fits" / name).glob("seed-*")) for c in comparisons]
    frame = pd.read_parquet(folders[0] / PREDICTIONS)
    y = labels.encode(frame.loc[frame["split"] == "holdout", "label"].tolist())
    return y, np.stack([read_predictions(folder, "holdout", labels.names) for folder in folders])


def seconds_of(comparisons: Sequence[Comparison]) -> dict[str, float]:
    """Return seconds to fit by strategy, mean over seeds."""
    rows = [{r["name"]: r for r in c.record["strategies"]} for c in comparisons]
    return {name: float(np.mean([r[name]["seconds_fit"] for r in rows])) for name in fitted(comparisons)}


def self_train_notes(comparisons: Sequence[Comparison]) -> dict[str, list[Any]]:
    """Return what the stage noted, by strategy and seed."""
    rows = [row for c in comparisons for row in c.record["strategies"] if row["name"].endswith("+self-train")]
    names = dict.fromkeys(row["name"] for row in rows)
    notes = [(row["name"], fit.get("notes", {}).get("self_train")) for row in rows for fit in row["fits"]]
    return {name: [note for own, note in notes if own == name] for name in names}


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
