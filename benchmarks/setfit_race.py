"""`contrastive` against SetFit: the same pairs, steps, rate and head, and the same texts to score.

Three sides, each in a process of its own, taking turns. `ours` is `contrastive` with 16 pairs a step among 8 texts.
`same_pairs` gives exactly those pairs to SetFit's recipe: sentence-transformers' CosineSimilarityLoss in a plain loop,
float32, both texts of each of 16 pairs encoded, AdamW. `other_pairs` is the same loop with pairs drawn as SetFit draws
them, over all texts (oversampling). `contrastive` trains without dropout, and so do both of these, for it costs time
and is no part of the recipe; ``--dropout`` turns it on for them. `setfit` is SetFit's own Trainer as it comes (with
dropout, and pairs of its own) for as many steps, in this Python or, with ``--python``, in one of an environment that
has it (`pip install setfit`); where it is not installed its claims are not met.

    python benchmarks/setfit_race.py --python VENV/bin/python --json benchmarks/results/setfit_race.json
    python benchmarks/setfit_race.py --seeds 1 --labeled 24 --steps 3 --score 50
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common import Claim, add_sides, at_least, finish, median_at_least, new_parser, run_apart, shared_data

SIDES = ("ours", "same_pairs", "other_pairs", "setfit")
PAIRS, TEXTS, RATE, LENGTH, WARMUP = 16, 8, 5e-5, 128, 0.1
_ACCURACY_LOSS = 0.01
_ABSENT = "not installed"
Part = tuple[list[str], "np.ndarray[Any, Any]"]


def main() -> int:
    parser = new_parser(__doc__, out="setfit_race")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each side (%(default)s)")
    parser.add_argument("--labeled", type=int, default=100, metavar="N", help="labels (%(default)s)")
    parser.add_argument("--steps", type=int, default=100, metavar="N", help="steps of 16 pairs (%(default)s)")
    parser.add_argument("--score", type=int, default=2000, metavar="N", help="texts to score (%(default)s)")
    parser.add_argument("--dropout", type=int, choices=(0, 1), default=0, help="of the plain loops: 1 for on (0)")
    parser.add_argument("--python", metavar="PATH", help="a Python that has setfit; by default this one, if it has")
    add_sides(parser, SIDES)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(run_side(options)))
        return 0
    has_setfit = options.python is not None or importlib.util.find_spec("setfit") is not None
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES if side != "setfit" or has_setfit}
    names = ("labeled", "steps", "score", "dropout")
    for seed in range(options.seeds):
        for side, found in runs.items():
            if side == "setfit":
                found.append(run_setfit(options, seed))
            else:
                found.append(run_apart(__file__, options, side, seed=seed, names=names))
    figures = summary(runs)
    return finish("setfit_race", options, claims_of(figures), figures)


def summary(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return by side mean accuracy and how many times ours is faster, run by run."""
    ratios = {
        side: [round(a["seconds"] / b["seconds"], 2) for a, b in zip(found, runs["ours"], strict=True)]
        for side, found in runs.items()
        if side != "ours"
    }
    return {
        "ratios": ratios,
        "accuracy": {side: round(statistics.mean(r["accuracy"] for r in found), 4) for side, found in runs.items()},
        "runs": runs,
    }


def claims_of(figures: dict[str, Any]) -> list[Claim]:
    """Return what must show against every other side; one that did not run shows nothing."""
    mine, claims = figures["accuracy"]["ours"], []
    for side in SIDES[1:]:
        faster, words = f"times faster to train than {side}", f"mean accuracy, within a point of {side}"
        if side not in figures["ratios"]:
            claims += [Claim(faster, ">= 3", _ABSENT, False), Claim(words, f">= {side}'s - 0.01", _ABSENT, False)]
            continue
        claims.append(median_at_least(faster, figures["ratios"][side], 3.0))
        claims.append(at_least(words, mine, figures["accuracy"][side] - _ACCURACY_LOSS))
    return claims


def run_setfit(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train with SetFit's own Trainer, encoder only, in a Python that has it; return its figures."""
    from headstart.models.encoders import find_encoder

    (texts, y), (score_texts, score_y) = data(options.labeled, options.score, seed)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    task = {
        "encoder": str(find_encoder("minilm").folder), "length": LENGTH, "pairs": PAIRS, "steps": options.steps,
        "rate": RATE, "warmup": WARMUP, "seed": seed, "threads": options.threads, "out": str(out / "setfit"),
        "texts": texts, "y": y.tolist(), "score_texts": score_texts, "score_y": score_y.tolist(),
    }  # fmt: skip
    file = out / "setfit.json"
    file.write_text(json.dumps(task), encoding="utf-8")
    words = [options.python or sys.executable, str(Path(__file__).with_name("setfit_side.py")), str(file)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"setfit failed:\n{done.stderr[-2000:]}")
    last = done.stdout.strip().splitlines()[-1]
    if not options.quiet:
        print("setfit", last, file=sys.stderr)
    return dict(json.loads(last))


# --- one side, in its own process --------------------------------------------------------------------------------


def run_side(options: argparse.Namespace) -> dict[str, Any]:
    """Train the encoder, fit a head, score; return seconds of training, the head aside, and accuracy."""
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    train, score = data(options.labeled, options.score, options.seed)
    runs = {"ours": ours, "same_pairs": plain, "other_pairs": plain}
    seconds, encode = runs[options.side](train, options)
    accuracy = head_accuracy(encode(train[0]), train[1], encode(score[0]), score[1])
    return {"seconds": round(seconds, 3), "accuracy": round(accuracy, 4)}


def data(labeled: int, score: int, seed: int) -> tuple[Part, Part]:
    """Return texts and classes to train on, drawn by the seed, and those to score, which are always the same."""
    frame = pd.read_parquet(shared_data("hotel_reviews.parquet")).drop_duplicates("text")
    y = pd.factorize(frame["label"], sort=True)[0]
    order = np.random.default_rng(0).permutation(len(frame))
    held, rest = order[:score], order[score:]
    chosen = np.random.default_rng([seed, 1]).permutation(rest)[:labeled]
    texts = frame["text"].to_numpy()
    return (texts[chosen].tolist(), y[chosen]), (texts[held].tolist(), y[held])


def head_accuracy(X: Any, y: Any, X_score: Any, y_score: Any) -> float:
    """Fit SetFit's head, logistic regression as scikit-learn has it by default; return its accuracy."""
    from sklearn.linear_model import LogisticRegression

    return float((LogisticRegression(max_iter=1000).fit(X, y).predict(X_score) == y_score).mean())


def sampler(y: Any, seed: int) -> Any:
    """Return what draws the pairs of `ours` and `same_pairs`."""
    from headstart.training.pairs import PairSampler

    return PairSampler(y, texts=TEXTS, pairs=PAIRS, generator=np.random.default_rng(seed))


def ours(train: Part, options: argparse.Namespace) -> tuple[float, Any]:
    """Train with `contrastive`'s own loop."""
    from headstart.data.examples import Examples
    from headstart.models.batching import TextSettings, tokenize
    from headstart.models.encoders import find_encoder
    from headstart.models.features import FeatureExtractor
    from headstart.models.loading import load_body, load_tokenizer
    from headstart.models.runtime import choose_runtime, keep_freed_memory
    from headstart.training.contrastive import PairTrainingConfig, train_on_pairs

    keep_freed_memory()  # as the command line does
    folder = find_encoder("minilm").folder
    body = load_body(folder)
    for name, parameter in body.named_parameters():
        parameter.requires_grad_("pooler" not in name)
    config = PairTrainingConfig(steps=options.steps, texts=TEXTS, pairs=PAIRS, learning_rate=RATE, warmup=WARMUP)
    start = time.perf_counter()
    extractor = FeatureExtractor(body, load_tokenizer(folder), TextSettings(LENGTH), choose_runtime())
    tokens = tokenize(extractor.tokenizer, Examples.of(train[0]), extractor.text)
    train_on_pairs(extractor, tokens, train[1], config, seed=options.seed)
    return time.perf_counter() - start, lambda texts: extractor(Examples.of(texts))


def plain(train: Part, options: argparse.Namespace) -> tuple[float, Any]:
    """Train as SetFit does: every pair's two texts through the model, sentence-transformers' loss, AdamW."""
    import torch
    from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss

    from headstart.training.rates import linear

    torch.manual_seed(options.seed)
    model = sentence_model()
    if not options.dropout:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    loss_of = CosineSimilarityLoss(model)
    drawn = same_pairs(train[1], options) if options.side == "same_pairs" else other_pairs(train[1], options)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    start = time.perf_counter()
    model.train()
    for done, (first, second, same) in enumerate(drawn):
        for group in optimizer.param_groups:
            group["lr"] = RATE * linear(done, options.steps, WARMUP)
        sides = [tokenized(model, [train[0][i] for i in rows]) for rows in (first, second)]
        loss = loss_of(sides, torch.tensor(same, dtype=torch.float32))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    seconds = time.perf_counter() - start
    return seconds, lambda texts: model.eval().encode(texts, show_progress_bar=False)


def sentence_model() -> Any:
    """Return the encoder as sentence-transformers has it, mean-pooled."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    from headstart.models.encoders import find_encoder

    transformer = Transformer(str(find_encoder("minilm").folder), max_seq_length=LENGTH)
    modules = [transformer, Pooling(transformer.get_embedding_dimension())]
    return SentenceTransformer(modules=modules, device="cpu")


def tokenized(model: Any, texts: list[str]) -> Any:
    """Return a padded batch, by the name that this version of sentence-transformers has for it."""
    return (model.preprocess if hasattr(model, "preprocess") else model.tokenize)(texts)


def same_pairs(y: Any, options: argparse.Namespace) -> Iterator[tuple[Any, Any, Any]]:
    """Yield the pairs that `ours` draws, as rows of the training texts."""
    draw = sampler(y, options.seed)
    for _ in range(options.steps):
        step = draw()
        yield step.rows[step.first], step.rows[step.second], step.same


def other_pairs(y: Any, options: argparse.Namespace) -> Iterator[tuple[Any, Any, Any]]:
    """Yield pairs as SetFit draws them: all pairs of each kind shuffled, as many of one as of the other."""
    rng = np.random.default_rng(options.seed)
    first, second = np.triu_indices(len(y), k=1)
    same = y[first] == y[second]
    wanted = options.steps * PAIRS // 2
    kinds = [np.resize(rng.permutation(np.flatnonzero(same == kind)), wanted) for kind in (True, False)]
    order = np.stack(kinds, axis=1).ravel()
    for start in range(0, options.steps * PAIRS, PAIRS):
        rows = order[start : start + PAIRS]
        yield first[rows], second[rows], same[rows]


if __name__ == "__main__":
    sys.exit(main())
