"""What bfloat16 products change: accuracy of `full` in both precisions, against what another seed changes.

MiniLM on 600 snippets of films, 2 epochs of 32 at 5e-5, 2,000 texts scored in the end; five seeds, both precisions for
each, in turn. Weights, norms, softmax and sums of gradients are float32 in both.

    python benchmarks/precision_noise.py --json benchmarks/results/precision_noise.json
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

from common import Claim, finish, new_parser
from headstart.data.examples import Examples
from headstart.data.labels import Labels
from headstart.models.batching import TextSettings
from headstart.models.encoders import find_encoder
from headstart.models.runtime import choose_runtime, keep_freed_memory
from headstart.strategies import table
from headstart.strategies.task import Task
from recipe_race import BATCH, LENGTH, RATE, texts

PRECISIONS = ("float32", "bfloat16")


def main() -> int:
    parser = new_parser(__doc__, out="precision_noise")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds (%(default)s)")
    parser.add_argument("--train", type=int, default=600, metavar="N", help="texts to train on (%(default)s)")
    parser.add_argument("--score", type=int, default=2000, metavar="N", help="texts to score (%(default)s)")
    options = parser.parse_args()
    keep_freed_memory()
    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    data = texts(options.train, options.score)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in PRECISIONS}
    for seed in range(options.seeds):
        for name in PRECISIONS:
            runs[name].append(run(data, name, seed))
    figures = summary(runs)
    return finish("precision_noise", options, claims_of(figures), figures)


def run(data: dict[str, Any], precision: str, seed: int) -> dict[str, float]:
    """Train and score once; return accuracy and seconds."""
    train, score = (Examples.of(*data[part]) for part in ("train", "score"))
    runtime = choose_runtime(precision=precision)
    task = Task(
        Labels.of([0, 1]), train, train, TextSettings(LENGTH), runtime, seed=seed, encoder=find_encoder("minilm")
    )
    values = {"learning_rate": RATE, "epochs": 2, "batch_size": BATCH, "patience": 2}
    plan = table.plan("full")
    start = time.perf_counter()
    fitted = table.fit(plan, task, table.config_for(plan, {"full": values}))
    found = fitted.classifier.predict_proba(score).argmax(axis=1)
    return {"accuracy": float((found == score.y).mean()), "seconds": round(time.perf_counter() - start, 2)}


def summary(runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Return mean accuracies, the standard deviation over float32's seeds, and how far the means are apart."""
    accuracy = {name: [r["accuracy"] for r in found] for name, found in runs.items()}
    means = {name: round(statistics.mean(found), 4) for name, found in accuracy.items()}
    spread = statistics.stdev(accuracy["float32"]) if len(accuracy["float32"]) > 1 else 0.0
    return {
        "accuracy": means,
        "spread": round(spread, 4),
        "difference": round(means["bfloat16"] - means["float32"], 4),
        "runs": runs,
    }


def claims_of(figures: dict[str, Any]) -> list[Claim]:
    """Return that the precision changes less than the seed does."""
    apart, spread = abs(figures["difference"]), figures["spread"]
    words = "mean accuracy in bfloat16 against float32, apart by at most the deviation between float32's seeds"
    return [Claim(words, f"<= {spread:.4f}", f"{apart:.4f}", apart <= spread)]


if __name__ == "__main__":
    sys.exit(main())
