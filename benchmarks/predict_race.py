"""Labeling 20,000 texts: ours against transformers' pipeline with batches of 32, alternated.

A classifier is fitted on a part of the SST-2 train set, and labels 20,000 other phrases of it. Each way runs in a
process of its own, `--rounds` times in turn; its clock starts when the model is loaded and the texts are in memory.
The pipeline is used as its documentation says, once more with texts sorted by length for comparison. Then some texts
are given one at a time. What is claimed is the median over rounds of the ratio within a round; smallest and largest are
told too.

    python benchmarks/predict_race.py --json benchmarks/results/predict_race.json
    python benchmarks/predict_race.py --texts 2000 --rounds 1 --model runs/reviews/best
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import headstart
from common import Claim, finish, median_at_least, new_parser, shared_data, spread
from headstart.models.runtime import choose_runtime, keep_freed_memory
from headstart.records import hardware

_TIMES = 5.0
_SAME = 0.995
_FITTED_ON = 2000
_MAX_LENGTH = 128
_ALONE = 200


def main() -> int:
    parser = new_parser(__doc__, out="predict_race")
    parser.add_argument("--texts", type=int, default=20_000, metavar="N", help="texts to label (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="runs of each way (%(default)s)")
    parser.add_argument("--model", type=Path, help="a model folder; by default one is fitted")
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = Path(options.out)
    if options.way:
        return one(options.way, folder, options.model)
    folder.mkdir(parents=True, exist_ok=True)
    model = options.model or fitted(folder)
    phrases = pd.read_parquet(shared_data("sst2_train.parquet"))["text"].drop_duplicates()
    chosen = phrases.iloc[_FITTED_ON:].sample(options.texts, random_state=0)
    pd.DataFrame({"text": chosen}).to_csv(folder / "texts.csv", index=False)
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for number in range(options.rounds):
        for way in WAYS:
            words = [sys.executable, __file__, "--way", way, "--out", str(folder), "--model", str(model)]
            words += ["--threads", str(options.threads)] if options.threads else []
            done = subprocess.run(words, check=True, capture_output=True, text=True)
            runs[way].append(json.loads(done.stdout.splitlines()[-1]))
            if not options.quiet:
                print(f"round {number + 1}, {way}: {runs[way][-1]['texts_per_second']:.0f} texts/s", file=sys.stderr)
    rate = {way: statistics.median(r["texts_per_second"] for r in found) for way, found in runs.items()}
    labels = {way: pd.read_csv(folder / f"{way}.csv")["prediction"].astype(str) for way in WAYS}
    same = float((labels["ours"] == labels["pipeline"]).mean())
    ratios = {way: ratios_of(runs["ours"], runs[way]) for way in WAYS if way != "ours"}
    alone = [round(b["ms_alone"] / a["ms_alone"], 3) for a, b in zip(runs["ours"], runs["pipeline"], strict=True)]
    one_by_one = {way: statistics.median(r["ms_alone"] for r in found) for way, found in runs.items()}
    runtime = choose_runtime()
    claims = [
        median_at_least("texts per second, ours over the pipeline", ratios["pipeline"], _TIMES),
        median_at_least("one text at a time, the pipeline's time over ours", alone, 1.0),
        Claim("share of texts with the same label", f">= {_SAME}", f"{same:.4f}", same >= _SAME),
    ]
    figures = {
        "texts": options.texts,
        "texts_per_second": {way: round(value, 1) for way, value in rate.items()},
        "ratios": ratios,
        "ms_alone": one_by_one,
        "ratios_alone": alone,
        "told": [
            f"Texts per second: {said_of(rate, 0)}.",
            f"Milliseconds for one text alone: {said_of(one_by_one, 1)}.",
        ],
        "runs": runs,
        "precision": runtime.precision,
        "product_rates_gflops": runtime.product_rates,
    }
    print(hardware()["processor"])
    print(f"products, GFLOP/s at (1024, 384, 1536): {runtime.product_rates}; precision chosen: {runtime.precision}")
    for way, found in ratios.items():
        print(f"ours over {way}, round by round: {spread(found)}")
    return finish("predict_race", options, claims, figures)


def said_of(values: Mapping[str, float], digits: int) -> str:
    """Return a number per way, in words."""
    return ", ".join(f"{way} {value:.{digits}f}" for way, value in values.items())


def ratios_of(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the ratios of texts per second, round by round."""
    return [round(a["texts_per_second"] / b["texts_per_second"], 3) for a, b in zip(ours, theirs, strict=True)]


def fitted(folder: Path) -> Path:
    """Fit a classifier on the first phrases and return its folder."""
    frame = pd.read_parquet(shared_data("sst2_train.parquet")).drop_duplicates("text").head(_FITTED_ON)
    frame.to_csv(folder / "train.csv", index=False)
    out = folder / "fitted"
    settings = {"full": {"epochs": 1, "refit": False}}
    headstart.fit(
        folder / "train.csv", strategy="full", encoder="minilm", max_length=_MAX_LENGTH, settings=settings,
        out=str(out), tracking=False,
    )  # fmt: skip
    return out / "best"


def one(way: str, folder: Path, model: Path) -> int:
    """Label the texts in one way, write the labels, print the rate."""
    import torch

    keep_freed_memory()
    loaded, alone = WAYS[way](model)
    texts = pd.read_csv(folder / "texts.csv", keep_default_na=False)["text"].tolist()
    loaded(texts[:64], folder / "warm.csv")
    start = time.perf_counter()
    loaded(texts, folder / f"{way}.csv")
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    for text in texts[:_ALONE]:
        alone(text)
    ms_alone = round((time.perf_counter() - start) * 1000 / min(_ALONE, len(texts)), 3)
    found = {"texts_per_second": len(texts) / seconds, "seconds": seconds, "ms_alone": ms_alone}
    print(json.dumps({**found, "threads": torch.get_num_threads()}))
    return 0


def _ours(model: Path) -> Any:
    """`predict` from file to file, reading and writing included."""
    from headstart.models.labeling import predict_file
    from headstart.models.predicting import open_model

    opened = open_model(model)

    def run(texts: list[str], out: Path) -> None:
        source = out.with_name("ours-in.csv")
        pd.DataFrame({"text": texts}).to_csv(source, index=False)
        predict_file(opened, source, out)

    return run, lambda text: opened.predict_proba([text])


def _pipeline(model: Path, *, in_order: bool = False) -> Any:
    from transformers import pipeline

    classify = pipeline("text-classification", str(model), device="cpu", batch_size=32)

    def run(texts: list[str], out: Path) -> None:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i])) if in_order else range(len(texts))
        found = classify([texts[i] for i in order], truncation=True, max_length=_MAX_LENGTH)
        labels = dict(zip(order, (f["label"] for f in found), strict=True))
        pd.DataFrame({"text": texts, "prediction": [labels[i] for i in range(len(texts))]}).to_csv(out, index=False)

    return run, lambda text: classify(text, truncation=True, max_length=_MAX_LENGTH)


WAYS = {"ours": _ours, "pipeline": _pipeline, "pipeline_sorted": lambda model: _pipeline(model, in_order=True)}


if __name__ == "__main__":
    sys.exit(main())
