"""`headstart adapt`, killed with kill -9 at random points and given again: the same loss curve, bit for bit.

python benchmarks/adapt_killed.py --json benchmarks/results/adapt_killed.json
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd

from common import MAIN, Claim, finish, new_parser, run_to_end, shared_data, start
from headstart.models.runtime import choose_runtime
from headstart.records import fingerprint_file, read_json
from killed import broken_files


def main() -> int:
    parser = new_parser(__doc__, out="adapt_killed")
    parser.add_argument("--rows", type=int, default=3000, metavar="N", help="texts (%(default)s)")
    parser.add_argument("--epochs", type=int, default=3, metavar="N", help="epochs (%(default)s)")
    parser.add_argument("--kills", type=int, default=3, metavar="N", help="how often (%(default)s)")
    parser.add_argument("--encoder", default="minilm", metavar="NAME", help="(%(default)s)")
    parser.add_argument("--chance", type=int, default=0, metavar="SEED", help="of the points (%(default)s)")
    options = parser.parse_args()
    folder = Path(options.out)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    texts = folder / "texts.parquet"
    frame = pd.read_parquet(shared_data("hotel_reviews.parquet"), columns=["text"])
    frame.sample(options.rows, random_state=0).to_parquet(texts)

    def words(out: Path) -> list[str]:
        more = ["--threads", str(options.threads)] if options.threads is not None else []
        precision = [
            "--precision",
            choose_runtime().precision,
        ]  # one for all runs: a measured one may differ from run to run
        settings = ["--set", f"adapt.epochs={options.epochs}", "--set", "adapt.patience=100", "--quiet"]
        named = ["--encoder", options.encoder, "--out", str(out)]
        return [sys.executable, "-c", MAIN, "adapt", str(texts), *named, *precision, *settings, *more]

    began = time.monotonic()
    run_to_end(words(folder / "whole"), cache=folder / "cache", log=folder / "whole.log")
    seconds = time.monotonic() - began
    chance = random.Random(options.chance)
    points = sorted(chance.uniform(0.15, 0.95) * seconds for _ in range(options.kills))
    kills = run_killed(words(folder / "killed"), folder, points, quiet=options.quiet)

    one, other = (read_json(folder / name / "adaptation.json") for name in ("whole", "killed"))
    unlike = sum(a != b for a, b in zip(one["curve"], other["curve"], strict=False))
    unlike += abs(len(one["curve"]) - len(other["curve"]))
    weights = [fingerprint_file(folder / name / "model.safetensors") for name in ("whole", "killed")]
    hit, broken = sum(kill["hit"] for kill in kills), [name for kill in kills for name in kill["broken"]]
    claims = [
        Claim("kills that hit a running adaptation", str(len(kills)), str(hit), hit == len(kills)),
        Claim("files found half-written after a kill", "0", str(len(broken)), not broken),
        Claim(f"steps of {len(one['curve'])} whose loss differs", "0", str(unlike), unlike == 0),
        same("held-out losses are the same", one["epochs"], other["epochs"]),
        same("weights are the same, bit for bit", *weights),
    ]
    figures = {"seconds_undisturbed": round(seconds, 1), "points": kills, "steps": len(one["curve"])}
    return finish("adapt_killed", options, claims, figures)


def same(claim: str, one: Any, other: Any) -> Claim:
    """Return the claim that two things are equal."""
    return Claim(claim, "yes", "yes" if one == other else "no", one == other)


def run_killed(words: list[str], folder: Path, points: list[float], *, quiet: bool) -> list[dict[str, Any]]:
    """Run a command, kill it at each point of running seconds, and run it again to the end."""
    kills: list[dict[str, Any]] = []
    before = 0.0
    for point in points:
        process = start(words, cache=folder / "cache", log=folder / "killed.log")
        hit = False
        try:
            process.wait(timeout=max(1.0, point - before))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            hit = True
        before = point
        kills.append({"seconds": round(point, 1), "hit": hit, "broken": broken_files(folder / "killed")})
        if not quiet:
            print(f"killed after {point:.0f} s of running", file=sys.stderr)
    run_to_end(words, cache=folder / "cache", log=folder / "killed.log")
    return kills


if __name__ == "__main__":
    sys.exit(main())
