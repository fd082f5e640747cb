"""Killed at three points, the same command again ends with the same record.

First the demo runs undisturbed. Then it runs in another folder, is killed with kill -9 when so much of the first
run's time has passed, and the same command is given again, three times over, until it ends. Both have an empty
cache to begin with. After each kill every file that carries its final name must be whole.

    python benchmarks/killed.py --json benchmarks/results/killed.json
    python benchmarks/killed.py --experiment my.yaml --at 0.3 0.6
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import EXAMPLES, Claim, command, differing, finish, new_parser, records_of, run_to_end, same_files, start

_SHOWN = 10


def main() -> int:
    parser = new_parser(__doc__, out="killed")
    parser.add_argument("--experiment", type=Path, default=EXAMPLES / "film_reviews.yaml", help="(the demo)")
    parser.add_argument("--at", type=float, nargs="+", default=[0.2, 0.5, 0.8], metavar="SHARE", help="(0.2 0.5 0.8)")
    options = parser.parse_args()
    folder = Path(options.out)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    more = ["--threads", str(options.threads)] if options.threads is not None else []

    whole, killed = folder / "whole", folder / "killed"
    began = time.monotonic()
    run_to_end(command(options.experiment, whole, *more), cache=folder / "whole.cache", log=folder / "whole.log")
    seconds = time.monotonic() - began
    words = command(options.experiment, killed, *more)
    kills = run_killed(words, killed, [share * seconds for share in options.at], quiet=options.quiet)

    differences = list(differing(records_of(whole), records_of(killed)))
    probabilities, unlike = same_files(whole, killed, "fits/**/predictions.parquet")
    broken = [name for kill in kills for name in kill["broken"]]
    hit = sum(kill["hit"] for kill in kills)
    claims = [
        Claim("kills that hit a running comparison", str(len(kills)), str(hit), hit == len(kills)),
        Claim("files found half-written after a kill", "0", str(len(broken)), not broken),
        Claim("places where the records differ in the end", "0", str(len(differences)), not differences),
        Claim(f"{probabilities} files of probabilities that differ", "0", str(len(unlike)), not unlike),
    ]
    for line in (*broken[:_SHOWN], *differences[:_SHOWN], *unlike[:_SHOWN]):
        print(f"  {line}")
    figures = {"seconds_undisturbed": round(seconds, 1), "kills": kills, "differences": differences}
    return finish("killed", options, claims, figures)


def run_killed(words: Sequence[str], folder: Path, points: Sequence[float], *, quiet: bool) -> list[dict[str, Any]]:
    """Run a command, kill it at each point, run it again to the end; return what each kill found.

    Args:
        words: the command.
        folder: the comparison's folder.
        points: running seconds, added up over restarts, at which it is killed.
        quiet: print nothing.
    """
    cache, log = folder.with_suffix(".cache"), folder.with_suffix(".log")
    kills: list[dict[str, Any]] = []
    before = 0.0
    for point in points:
        process = start(words, cache=cache, log=log)
        hit = False
        try:
            process.wait(timeout=point - before)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            hit = True
        before = point
        finished = sorted(str(f.parent.relative_to(folder / "fits")) for f in (folder / "fits").rglob("record.json"))
        found = {"seconds": round(point, 1), "hit": hit, "fits_finished": finished, "broken": broken_files(folder)}
        kills.append(found)
        if not quiet:
            print(f"killed after {point:.0f} s of running: {len(finished)} fits finished", file=sys.stderr)
    run_to_end(words, cache=cache, log=log)
    return kills


def broken_files(folder: Path) -> list[str]:
    """Return files that carry their final name and are not whole; temporary ones begin with a dot."""
    broken = []
    for file in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if not hidden and file.is_file() and not _is_whole(file):
            broken.append(str(file.relative_to(folder)))
    return broken


def _is_whole(file: Path) -> bool:
    try:
        if file.suffix == ".json":
            json.loads(file.read_text(encoding="utf-8"))
        elif file.suffix == ".parquet":
            import pyarrow.parquet

            pyarrow.parquet.ParquetFile(file)
        elif file.suffix == ".safetensors":
            import safetensors

            with safetensors.safe_open(file, framework="np") as opened:
                opened.keys()
    except Exception as problem:  # each reader has errors of its own; any of them means: not whole
        print(f"{file}: {problem}", file=sys.stderr)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
