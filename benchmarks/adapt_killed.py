"""`headstart adapt`, killed with kill -9 at random steps and given again: the same loss curve, bit for bit.

First it runs undisturbed. Then it runs in another folder, is killed when the state that it keeps has come to a random
step and a random moment more has passed, and the same command is given again, three times over, until it ends. It
keeps a state every second here, for short runs: the program that is run sets that, and nothing else. After each kill
every file that carries its final name must be whole, and what goes on must not begin before the step that was kept.

python benchmarks/adapt_killed.py --json benchmarks/results/adapt_killed.json
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from common import MAIN, Claim, finish, new_parser, run_to_end, shared_data, start
from headstart.adaptation.adapt import state_folder
from headstart.adaptation.state import STATE
from headstart.models.runtime import choose_runtime
from headstart.records import fingerprint_file, read_json
from killed import broken_files

_OFTEN = "from headstart.adaptation import state; state.LEAST_SECONDS, state.MOST_OF_TIME = 1.0, 0.5; "
_LONGER = 2.0  # seconds, at most, from the state waited for to the kill


def main() -> int:
    parser = new_parser(__doc__, out="adapt_killed")
    parser.add_argument("--rows", type=int, default=2000, metavar="N", help="texts (%(default)s)")
    parser.add_argument("--epochs", type=int, default=2, metavar="N", help="epochs (%(default)s)")
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
    precision = choose_runtime().precision  # one for all runs: a measured one may differ from run to run

    def words(out: Path) -> list[str]:
        more = ["--threads", str(options.threads)] if options.threads is not None else []
        settings = ["--set", f"adapt.epochs={options.epochs}", "--set", "adapt.patience=100", "--quiet"]
        named = ["--encoder", options.encoder, "--out", str(out), "--precision", precision]
        return [sys.executable, "-c", _OFTEN + MAIN, "adapt", str(texts), *named, *settings, *more]

    began = time.monotonic()
    run_to_end(words(folder / "whole"), cache=folder / "cache", log=folder / "whole.log")
    seconds = time.monotonic() - began
    one = read_json(folder / "whole" / "adaptation.json")
    chance = random.Random(options.chance)
    points = sorted(chance.sample(range(1, int(0.9 * len(one["curve"]))), options.kills))
    kills = run_killed(words(folder / "killed"), folder, points, chance, quiet=options.quiet)
    other = read_json(folder / "killed" / "adaptation.json")

    unlike = sum(a != b for a, b in zip(one["curve"], other["curve"], strict=False))
    unlike += abs(len(one["curve"]) - len(other["curve"]))
    weights = [fingerprint_file(folder / name / "model.safetensors") for name in ("whole", "killed")]
    claims = [
        *claims_of(kills),
        Claim(f"steps of {len(one['curve'])} whose loss differs", "0", str(unlike), unlike == 0),
        same("held-out losses are the same", one["epochs"], other["epochs"]),
        same("weights are the same, bit for bit", *weights),
    ]
    figures = {"seconds_undisturbed": round(seconds, 1), "points": kills, "steps": len(one["curve"])}
    return finish("adapt_killed", options, claims, figures | {"precision": precision})


def claims_of(kills: Sequence[dict[str, Any]]) -> list[Claim]:
    """Return what must hold of the kills: each hit a run that had kept a step, which the next run went on from."""
    hit = sum(kill["hit"] and kill["step"] > 0 for kill in kills)
    steps = ", ".join(str(kill["step"]) for kill in kills)
    back = sum(kill["went_back"] for kill in kills)
    files, broken = sum(kill["files"] for kill in kills), sum(len(kill["broken"]) for kill in kills)
    return [
        Claim("kills that hit a run with a step kept", str(len(kills)), f"{hit} (steps {steps})", hit == len(kills)),
        Claim("runs again that began before the step kept", "0", str(back), back == 0),
        Claim("files found half-written after a kill", f"0 of {files}", str(broken), not broken and files > 0),
    ]


def same(claim: str, one: Any, other: Any) -> Claim:
    """Return the claim that two things are equal."""
    return Claim(claim, "yes", "yes" if one == other else "no", one == other)


def run_killed(
    words: list[str], folder: Path, points: Sequence[int], chance: random.Random, *, quiet: bool
) -> list[dict[str, Any]]:
    """Run a command, kill it soon after it has kept each step, and run it again to the end.

    Returns:
        For each kill the step that was kept, and what was found; ``went_back`` is of the run after it.
    """
    kills: list[dict[str, Any]] = []
    kept = folder / "killed"
    for point in (*points, None):
        process = start(words, cache=folder / "cache", log=folder / "killed.log")
        lowest, due = None, float("inf")
        while process.poll() is None and time.monotonic() < due:
            step = kept_step(kept)
            if step:
                lowest = step if lowest is None else min(lowest, step)
            if point is not None and step >= point and due == float("inf"):
                due = time.monotonic() + chance.uniform(0, _LONGER)
            time.sleep(0.02)
        hit = process.poll() is None
        process.kill()
        code = process.wait()
        if kills:
            kills[-1]["went_back"] = lowest is not None and lowest < kills[-1]["step"]
        if point is None:
            if code:
                raise SystemExit(f"exit code {code}:\n{(folder / 'killed.log').read_text(errors='replace')[-2000:]}")
            break
        state = state_folder(kept)
        broken = [*broken_files(state), *broken_files(kept)]
        files = sum(not file.name.startswith(".") for file in state.glob("*"))
        kills.append({"asked": point, "step": kept_step(kept), "hit": hit, "files": files, "broken": broken})
        if not quiet:
            print(f"killed with step {kills[-1]['step']} kept", file=sys.stderr)
    return kills


def kept_step(out: Path) -> int:
    """Return how many steps the state of an unfinished adaptation has behind it; 0 where there is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(state_folder(out) / STATE, framework="np") as opened:
            return len(json.loads((opened.metadata() or {})["position"])["curve"])
    except (OSError, SafetensorError):
        return 0


if __name__ == "__main__":
    sys.exit(main())
