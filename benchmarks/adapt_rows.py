"""Adaptation to short reviews: each a row of its own, or all joined into blocks. Which is better for single texts?

The same texts, encoder, objective, rates, tokens a step and epochs; the held-out loss is that of single texts, at the
same masked positions for both, for a classifier reads texts one by one. The claim is about the default.

    python benchmarks/adapt_rows.py --json benchmarks/results/adapt_rows.json
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from common import Claim, finish, new_parser, shared_data
from headstart.adaptation.adapt import hold_out
from headstart.adaptation.config import AdaptConfig
from headstart.adaptation.corpus import read_rows
from headstart.adaptation.language_model import load_language_model
from headstart.adaptation.loop import Adaptation
from headstart.models.encoders import Encoder, find_encoder
from headstart.models.runtime import Runtime, choose_runtime, keep_freed_memory

Kind = str
KINDS: tuple[Kind, ...] = ("texts", "blocks")


def main() -> int:
    parser = new_parser(__doc__, out="adapt_rows")
    parser.add_argument("--rows", type=int, default=1000, metavar="N", help="texts (%(default)s)")
    parser.add_argument("--epochs", type=int, default=1, metavar="N", help="epochs of the encoder (%(default)s)")
    parser.add_argument("--block", type=int, default=128, metavar="N", help="tokens of a block (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds (%(default)s)")
    parser.add_argument("--encoder", metavar="NAME", help="by default ../shared/models/e5-small-enpt")
    options = parser.parse_args()
    keep_freed_memory()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    data = shared_data("reviews_pt.parquet")
    encoder = find_encoder(options.encoder or str(data.parent.parent / "models" / "e5-small-enpt"))
    texts = pd.read_parquet(data)["text"].head(options.rows).tolist()
    runtime = choose_runtime()
    found: dict[Kind, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for seed in range(options.seeds):
        for kind in KINDS if seed % 2 == 0 else KINDS[::-1]:
            found[kind].append(run(encoder, texts, kind, seed, options, runtime))
            if not options.quiet:
                print(f"seed {seed}, {kind}: {found[kind][-1]}", flush=True)
    about = {"device": runtime.device, "precision": runtime.precision, "threads": torch.get_num_threads()}
    figures = {"runs": found, "runtime": {**about, "product_rates": runtime.product_rates}}
    return finish("adapt_rows", options, claims_of(found), figures)


def run(
    encoder: Encoder, texts: Sequence[str], kind: Kind, seed: int, options: argparse.Namespace, runtime: Runtime
) -> dict[str, Any]:
    """Adapt with rows of a kind; return the losses on single texts, seconds and sizes."""
    train, held = hold_out(texts, 0.05, seed)
    lm = load_language_model(encoder, seed=seed)
    length = options.block if kind == "blocks" else min(256, encoder.token_limit())
    corpus = read_rows(lm.tokenizer, train, max_length=length, rows="blocks" if kind == "blocks" else "texts")
    single = read_rows(lm.tokenizer, held, max_length=min(256, encoder.token_limit()), rows="texts")
    config = AdaptConfig(epochs=options.epochs, patience=options.epochs)
    began = time.perf_counter()
    position = Adaptation(lm, corpus, single, config, runtime=runtime, seed=seed).run()
    seconds = time.perf_counter() - began
    losses = [e["held_out_loss"] for e in position.epochs if e["phase"] == "all"]
    return {"losses": losses, "seconds": round(seconds, 1), "rows": len(corpus), "steps": len(position.curve)}


def claims_of(found: Mapping[Kind, Sequence[Mapping[str, Any]]]) -> list[Claim]:
    """Return that the default's loss in the end is not above the other's, in the mean over seeds."""
    default = AdaptConfig().rows
    other = next(kind for kind in KINDS if kind != default)
    got, bound = (float(np.mean([run["losses"][-1] for run in found[kind]])) for kind in (default, other))
    ratio = float(np.mean([run["seconds"] for run in found[default]]) / np.mean([r["seconds"] for r in found[other]]))
    return [
        Claim(f"held-out loss of single texts, rows={default} against {other}", f"<= {bound:.4f}", f"{got:.4f}",
              got <= bound),
        Claim(f"seconds, rows={default} as a share of {other}", "shown", f"{ratio:.2f}", True),
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
