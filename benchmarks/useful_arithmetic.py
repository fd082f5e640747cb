"""How much of the processor does useful work: arithmetic of a plain loop's matrices, over the rate of matrix products.

Useful are 6 x encoder matrix parameters x real tokens to train, 2 x to score; padding, dropout, norms, attention and
the optimizer are not. What the top layer leaves out for all tokens but the first counts as done, as in the claims; the
shares of what was executed are told beside them. The product rate is measured at the shape (1024, 384, 1536), before
and after each round, and its median over all rounds counts. MiniLM on snippets of films, 128 tokens at most, in batches
as any fit has them. Scored are as many as a file has, for the first batches of each size are slower: kernels are made
for them.

    python benchmarks/useful_arithmetic.py --json benchmarks/results/useful_arithmetic.json
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import numpy as np
import pandas as pd

from common import EXAMPLES, Claim, finish, median_at_least, new_parser, shared_data, shared_encoder
from headstart.data.examples import Examples
from headstart.data.labels import Labels
from headstart.experiment.config import read_yaml
from headstart.models.batching import TextSettings, step_pieces, tokenize, training_batches
from headstart.models.encoders import find_encoder
from headstart.models.loading import load_tokenizer
from headstart.models.network import NetworkClassifier
from headstart.models.runtime import Runtime, choose_runtime, keep_freed_memory, keep_kernels
from headstart.strategies.fine_tuning import pretrained
from headstart.strategies.task import Task
from headstart.training.data import Data
from headstart.training.loop import TrainingConfig, train
from recipe_race import BATCH, LENGTH, texts

_TEXTS_OF_A_SET = 480


def main() -> int:
    parser = new_parser(__doc__, out="useful_arithmetic")
    parser.add_argument("--texts", type=int, default=2000, metavar="N", help="texts to train on (%(default)s)")
    parser.add_argument("--score", type=int, default=6000, metavar="N", help="texts to score (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds (%(default)s)")
    options = parser.parse_args()
    keep_freed_memory()
    keep_kernels()
    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    rounds = [measure(options.texts, options.score) for _ in range(options.rounds)]
    rate = statistics.median(rate for one in rounds for rate in one["product_rates_used"])
    keys = ("training_gflops", "scoring_gflops", "training_executed", "scoring_executed")
    figures: dict[str, Any] = {key: statistics.median(r[key] for r in rounds) for key in keys} | {"product_rate": rate}
    for key in ("training", "scoring"):
        figures[f"shares_{key}"] = [round(one[f"{key}_gflops"] / rate, 3) for one in rounds]
        figures[f"share_{key}_executed"] = round(figures[f"{key}_gflops"] * figures[f"{key}_executed"] / rate, 3)
    training, scoring = figures["share_training_executed"], figures["share_scoring_executed"]
    figures["told"] = [f"Without what the top layer leaves out: {training} while training, {scoring} while scoring."]
    figures["padding"] = {"film-snippets": rounds[0]["padding"], **padding_of_sets()}
    return finish("useful_arithmetic", options, claims_of(figures), {**figures, "rounds": rounds})


def claims_of(figures: dict[str, Any]) -> list[Claim]:
    """Return what must show."""
    name, padding = max(figures["padding"].items(), key=lambda item: item[1])
    return [
        median_at_least("useful share of the product rate while training", figures["shares_training"], 0.40),
        median_at_least("useful share of the product rate while scoring", figures["shares_scoring"], 0.65),
        Claim(
            f"padding, as a share of all tokens computed while training, the worst set ({name})",
            "<= 0.05",
            f"{padding:.4f}",
            padding <= 0.05,
        ),
    ]


def measure(trained: int, scored: int) -> dict[str, Any]:
    """Train an epoch and score once; return useful GFLOP/s and their share of the product rate."""
    runtime = choose_runtime()
    parts = texts(trained, scored)
    examples, others = Examples.of(*parts["train"]), Examples.of(*parts["score"])
    task = Task(
        Labels.of([0, 1]), examples, examples, TextSettings(LENGTH), runtime, seed=0, encoder=find_encoder("minilm")
    )
    classifier, _ = pretrained(task)
    tokens, held = classifier.tokenize(examples), classifier.tokenize(others)
    parameters = matrix_parameters(classifier) / 1e9
    config = TrainingConfig(epochs=1, batch_size=BATCH)
    start = time.perf_counter()
    train(classifier, Data(tokens, examples.y), None, config, seed=0)
    training = 6 * parameters * int(tokens.lengths.sum()) / (time.perf_counter() - start)
    start = time.perf_counter()
    classifier.keep_weights()  # as a fit does at its end, and whoever opens a model
    classifier.logits(held)
    scoring = 2 * parameters * int(held.lengths.sum()) / (time.perf_counter() - start)
    rates = [product_rate(runtime), product_rate(choose_runtime())]
    return {
        "training_gflops": round(training, 1),
        "scoring_gflops": round(scoring, 1),
        "training_executed": round(executed(classifier, tokens.lengths), 3),
        "scoring_executed": round(executed(classifier, held.lengths), 3),
        "product_rates_used": rates,
        "precision": runtime.precision,
        "product_rates": runtime.product_rates,
        "padding": round(padding(tokens.lengths), 4),
    }


def product_rate(runtime: Runtime) -> float:
    """Return the measured rate in the precision that is used."""
    return runtime.product_rates[runtime.precision]


def matrix_parameters(classifier: NetworkClassifier) -> int:
    """Return the numbers in the matrices of the encoder's layers (not the embeddings, not the head)."""
    layers = classifier.model.base_model.encoder.layer
    return sum(p.numel() for p in layers.parameters() if p.ndim == 2)


def executed(classifier: NetworkClassifier, lengths: Any) -> float:
    """Return what share of the useful arithmetic is done: for most tokens the top layer has keys and values only."""
    top = classifier.model.base_model.encoder.layer[-1]
    spared = sum(
        p.numel() for n, p in top.named_parameters() if p.ndim == 2 and ".key." not in n and ".value." not in n
    )
    return 1 - spared / matrix_parameters(classifier) * (1 - len(lengths) / int(lengths.sum()))


def padding_of_sets() -> dict[str, float]:
    """Return the padding of each shared set: 480 of its texts (600 labels), in steps of 16 as `full` has by default.

    And of the whole SST-2 in the steps of its example.
    """
    tokenizers = {folder: load_tokenizer(folder) for folder in (find_encoder("minilm").folder, shared_encoder())}
    minilm, portuguese = tokenizers.values()
    found = {}
    for file in sorted(shared_data("sst2_train.parquet").parent.glob("*.parquet")):
        texts_of_set = pd.read_parquet(file)["text"]
        tokenizer = portuguese if file.stem == "reviews_pt" else minilm

        def of(chosen: pd.Series, batch_size: int, tokenizer: Any = tokenizer) -> float:
            tokens = tokenize(tokenizer, Examples.of(chosen.tolist()), TextSettings(LENGTH))
            return round(padding(tokens.lengths, batch_size), 4)

        found[file.stem] = of(texts_of_set.sample(_TEXTS_OF_A_SET, random_state=0), TrainingConfig().batch_size)
        if file.stem == "sst2_train":
            found["sst2_train, whole"] = of(
                texts_of_set, read_yaml(EXAMPLES / "sst2.yaml")["settings"]["full"]["batch_size"]
            )
    return found


def padding(lengths: Any, batch_size: int = BATCH) -> float:
    """Return the share of an epoch's tokens that is padding."""
    batches = training_batches(lengths, batch_size, np.random.default_rng(0))
    pieces = [piece for rows in batches for piece in step_pieces(rows, lengths, TrainingConfig().step_tokens)]
    computed = sum(len(rows) * int(lengths[rows].max()) for rows in pieces)
    return 1 - int(lengths.sum()) / computed


if __name__ == "__main__":
    sys.exit(main())
