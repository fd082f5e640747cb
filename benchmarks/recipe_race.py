"""The tutorials' recipe against ours: the same encoder, texts, epochs and scoring.

The recipe is what notebooks on the web do: transformers' `Trainer` in float32 with its own defaults, texts padded to
the longest of a random batch, 32 to a step, and the test set scored after each epoch. Ours are the same 600 snippets,
5 epochs of 32 at the same rate, and the same 2,000 texts scored after each. Each side runs in a process of its own;
sides alternate, pair by pair. Accuracy is the mean over seeds. Where the processor only emulates bfloat16 products
(`product_rates` shows it), the recipe in bfloat16 would say nothing: it is left out, and its ratio is null.

    python benchmarks/recipe_race.py --json benchmarks/results/recipe_race.json
    python benchmarks/recipe_race.py --pairs 1 --seeds 1 --train 100 --score 100
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from typing import Any

from common import Claim, add_sides, at_least, finish, median_at_least, new_parser, run_apart

SIDES = ("ours", "recipe_float32", "recipe_bfloat16")
RATE, EPOCHS, BATCH, LENGTH = 5e-5, 5, 32, 128
_ACCURACY_LOSS = 0.005


def main() -> int:
    parser = new_parser(__doc__, out="recipe_race")
    parser.add_argument("--pairs", type=int, default=5, metavar="N", help="timed runs of each side (%(default)s)")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds for the accuracies (%(default)s)")
    parser.add_argument("--train", type=int, default=600, metavar="N", help="texts to train on (%(default)s)")
    parser.add_argument("--score", type=int, default=2000, metavar="N", help="texts to score (%(default)s)")
    add_sides(parser, SIDES)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(run_side(options)))
        return 0
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for pair in range(max(options.pairs, options.seeds)):
        for side in SIDES:
            # Beyond the timed pairs only accuracy is wanted, which bfloat16 has no claim about.
            if side != "recipe_bfloat16" or (pair < options.pairs and has_bfloat16(runs["ours"][0])):
                runs[side].append(run_apart(__file__, options, side, seed=pair, names=("train", "score")))
    figures = summary(runs, options.pairs)
    for precision in ("float32", "bf16"):
        print(f"ratios to the recipe in {precision}, pair by pair: {figures[f'ratios_{precision}']}")
    figures["told"] = [
        f"With nothing but the useful products at their measured rate the ratio to the recipe in float32 would be "
        f"{figures['floor_float32']}."
    ]
    return finish("recipe_race", options, claims_of(figures), figures)


def has_bfloat16(run: dict[str, Any]) -> bool:
    """Tell whether the processor multiplies faster in bfloat16 than in float32, as one of our runs measured."""
    return bool(run["product_rates"]["bfloat16"] > run["product_rates"]["float32"])


def summary(runs: dict[str, list[dict[str, Any]]], pairs: int) -> dict[str, Any]:
    """Return ratios of the recipe's seconds to ours, pair by pair, and accuracies over all seeds."""

    def ratios(side: str) -> list[float]:
        both = zip(runs[side][:pairs], runs["ours"][:pairs], strict=bool(runs[side]))
        return [round(theirs["seconds"] / ours["seconds"], 2) for theirs, ours in both]

    accuracy = {s: round(statistics.mean(r["accuracy"] for r in found), 4) for s, found in runs.items() if found}
    return {
        "ratio_float32": statistics.median(ratios("recipe_float32")),
        "ratio_bf16": statistics.median(ratios("recipe_bfloat16")) if runs["recipe_bfloat16"] else None,
        "ratios_float32": ratios("recipe_float32"),
        "ratios_bf16": ratios("recipe_bfloat16"),
        "accuracy": accuracy,
        "product_rates": runs["ours"][0]["product_rates"],
        "floor_float32": floor(runs, pairs),
        "precision": runs["ours"][0]["precision"],
        "peak_memory_ratio": round(
            statistics.median(r["peak_memory_bytes"] for r in runs["ours"])
            / statistics.median(r["peak_memory_bytes"] for r in runs["recipe_float32"]),
            3,
        ),
        "runs": runs,
    }


def floor(runs: dict[str, list[dict[str, Any]]], pairs: int) -> float:
    """Return the ratio that the same useful arithmetic would have at the best product rate, with nothing beside it."""
    least = statistics.median(r["useful_gflop"] / max(r["product_rates"].values()) for r in runs["ours"][:pairs])
    return round(statistics.median(r["seconds"] for r in runs["recipe_float32"][:pairs]) / least, 2)


def claims_of(figures: dict[str, Any]) -> list[Claim]:
    """Return what must show; the ratios are for a processor with bfloat16 products."""
    mine, theirs = figures["accuracy"]["ours"], figures["accuracy"]["recipe_float32"]
    memory = figures["peak_memory_ratio"]
    return [
        median_at_least("times faster than the recipe in float32", figures["ratios_float32"], 10.0),
        median_at_least(
            "times faster than the recipe in bfloat16", figures["ratios_bf16"], 2.5, none="no such products here"
        ),
        at_least("mean accuracy, within half a point of the recipe's", mine, theirs - _ACCURACY_LOSS),
        Claim("peak memory, as a share of the recipe's", "<= 1", f"{memory:.3f}", memory <= 1.0),
    ]


# --- one side, in its own process --------------------------------------------------------------------------------


def run_side(options: argparse.Namespace) -> dict[str, Any]:
    """Train and score; return seconds, the last accuracy and peak memory above what both sides' imports take."""
    import torch
    import transformers.trainer  # noqa: F401

    import headstart.strategies.table  # noqa: F401
    from headstart.experiment.memory import PeakMemory

    if options.threads:
        torch.set_num_threads(options.threads)
    data = texts(options.train, options.score)
    run = ours if options.side == "ours" else recipe
    with PeakMemory() as memory:
        found = run(data, options)
    return {**found, "peak_memory_bytes": memory.bytes}


def texts(train: int, score: int) -> dict[str, tuple[list[str], list[int]]]:
    """Return snippets with classes, to train on and to score, in an order fixed by a seed."""
    import numpy as np

    from headstart.data.config import DataConfig
    from headstart.data.load import load_source

    splits = load_source(DataConfig(data="film-snippets", validation_size=0.5), seed=0).splits
    pool = splits.train.concat(splits.validation)
    order = np.random.default_rng(0).permutation(len(pool))

    def part(rows: Any) -> tuple[list[str], list[int]]:
        chosen = pool.take(rows)
        return list(chosen.texts), [int(c) for c in chosen.y]

    return {"train": part(order[:train]), "score": part(order[train : train + score])}


def recipe(data: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Do what the notebooks do."""
    import time

    import numpy as np
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments, set_seed
    from transformers.utils import logging

    from headstart.models.encoders import find_encoder

    logging.set_verbosity_error()
    set_seed(options.seed)
    folder = str(find_encoder("minilm").folder)
    start = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2, dtype=torch.float32)

    class Set(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __init__(self, part: tuple[list[str], list[int]]) -> None:
            self.encoded, self.y = tokenizer(part[0], truncation=True, max_length=LENGTH), part[1]

        def __len__(self) -> int:
            return len(self.y)

        def __getitem__(self, at: int) -> dict[str, Any]:
            return {**{k: v[at] for k, v in self.encoded.items()}, "labels": self.y[at]}

    def accuracy(predicted: Any) -> dict[str, float]:
        return {"accuracy": float(np.mean(predicted.predictions.argmax(axis=1) == predicted.label_ids))}

    with tempfile.TemporaryDirectory() as folder_out:
        settings = TrainingArguments(
            output_dir=folder_out, learning_rate=RATE, num_train_epochs=EPOCHS, per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=BATCH, weight_decay=0.01, eval_strategy="epoch", save_strategy="no",
            report_to="none", seed=options.seed, bf16=options.side == "recipe_bfloat16", use_cpu=True,
            disable_tqdm=True, logging_strategy="no",
        )  # fmt: skip
        trainer = Trainer(
            model=model, args=settings, train_dataset=Set(data["train"]), eval_dataset=Set(data["score"]),
            processing_class=tokenizer, compute_metrics=accuracy,
        )  # fmt: skip
        trainer.train()
        seconds = time.perf_counter() - start
    scores = [log["eval_accuracy"] for log in trainer.state.log_history if "eval_accuracy" in log]
    return {"seconds": round(seconds, 3), "accuracy": scores[-1], "epochs": len(scores)}


def ours(data: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Do the same work with Headstart's loop: the scored texts stand where validation stands."""
    import time

    from headstart.data.examples import Examples
    from headstart.data.labels import Labels
    from headstart.models.batching import TextSettings
    from headstart.models.encoders import find_encoder
    from headstart.models.runtime import choose_runtime, keep_freed_memory, keep_kernels
    from headstart.strategies import table
    from headstart.strategies.task import Task
    from useful_arithmetic import matrix_parameters

    # As the command line does.
    keep_freed_memory()
    keep_kernels()
    encoder = find_encoder("minilm")
    start = time.perf_counter()
    runtime = choose_runtime()  # measuring is part of the price
    train, score = (Examples.of(*data[part]) for part in ("train", "score"))
    task = Task(Labels.of([0, 1]), train, score, TextSettings(LENGTH), runtime, seed=options.seed, encoder=encoder)
    values = {"learning_rate": RATE, "epochs": EPOCHS, "batch_size": BATCH, "patience": EPOCHS}
    plan = table.plan("full")
    fitted = table.fit(plan, task, table.config_for(plan, {"full": values}))
    seconds = time.perf_counter() - start
    last = fitted.epochs[-1]["validation_accuracy"]
    tokens = [int(fitted.classifier.tokenize(part).lengths.sum()) for part in (train, score)]
    return {
        "useful_gflop": round((6 * tokens[0] + 2 * tokens[1]) * EPOCHS * matrix_parameters(fitted.classifier) / 1e9, 1),
        "seconds": round(seconds, 3),
        "accuracy": last,
        "epochs": len(fitted.epochs),
        "precision": runtime.precision,
        "product_rates": runtime.product_rates,
    }


if __name__ == "__main__":
    sys.exit(main())
