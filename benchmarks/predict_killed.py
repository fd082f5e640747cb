"""Killed with kill -9 at random moments, labeling ends with the same file, byte for byte.

200,000 rows are labeled undisturbed by a tiny classifier with random weights. Then again, killed after a random part
of the undisturbed time and started again with the same command, until it ends; and all this over again until ten
kills have hit. After every kill the output must not be there yet, or be whole already (a process that has named its
output still takes a moment to end); at every end it must equal the undisturbed one.

    python benchmarks/predict_killed.py --json benchmarks/results/predict_killed.json
    python benchmarks/predict_killed.py --rows 20000 --kills 3 --format .parquet
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from common import MAIN, Claim, finish, new_parser, phrases_file, tiny_model
from headstart.records import fingerprint_file


def main() -> int:
    parser = new_parser(__doc__, out="predict_killed")
    parser.add_argument("--rows", type=int, default=200_000, metavar="N", help="(%(default)s)")
    parser.add_argument("--kills", type=int, default=10, metavar="N", help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments (%(default)s)")
    parser.add_argument("--format", default=".csv", metavar="SUFFIX", help="of input and output (%(default)s)")
    options = parser.parse_args()
    folder = Path(options.out)
    model = tiny_model(folder / "model")
    source = phrases_file(folder / f"rows{options.format}", options.rows, spoil_every=1000)
    whole, killed = folder / f"whole{options.format}", folder / f"killed{options.format}"
    words = [sys.executable, "-c", MAIN, "predict", str(model), str(source), "--quiet", "--precision", "float32"]
    words += ["--threads", str(options.threads)] if options.threads else []
    start = time.monotonic()
    run([*words, "--out", str(whole)])
    seconds = time.monotonic() - start

    moments = random.Random(options.seed)
    kills: list[float] = []
    ends, early, unlike = 0, 0, 0
    while len(kills) < options.kills or not ends:
        killed.unlink(missing_ok=True)
        left = options.kills - len(kills)
        hits = run_killed(
            [*words, "--out", str(killed)], [moments.uniform(0, seconds) for _ in range(left)], killed, whole
        )
        kills += [moment for moment, _ in hits]
        early += sum(unfinished for _, unfinished in hits)
        ends += 1
        unlike += not same(whole, killed)
        if not options.quiet:
            print(f"{len(kills)} kills, {ends} files finished", file=sys.stderr)
    left_over = [p.name for p in folder.iterdir() if p.name.startswith(".")]
    claims = [
        Claim("kills that hit a running process", str(options.kills), str(len(kills)), len(kills) >= options.kills),
        Claim("kills after which an unfinished file had its name", "0", str(early), not early),
        Claim(f"of {ends} finished files, those unlike the undisturbed one", "0", str(unlike), not unlike),
        Claim("hidden files left over", "0", str(len(left_over)), not left_over),
    ]
    figures = {"rows": options.rows, "seconds_undisturbed": round(seconds, 1), "killed_after": kills, "finished": ends}
    return finish("predict_killed", options, claims, figures)


def run(words: Sequence[str]) -> None:
    """Run a command to its end; 3 says that rows were left out, which here there are."""
    code = subprocess.run(words, check=False).returncode
    if code != 3:
        raise SystemExit(f"exit code {code}")


def run_killed(words: Sequence[str], moments: Sequence[float], out: Path, whole: Path) -> list[tuple[float, bool]]:
    """Run a command, killed after each number of seconds, until it has named its output.

    Returns:
        Per kill that hit: its moment, and whether an output that is not whole had its name.
    """
    hits = []
    for moment in moments:
        process = subprocess.Popen(words)
        try:
            process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            hits.append((round(moment, 2), out.exists() and fingerprint_file(out) != fingerprint_file(whole)))
        if out.exists():  # a run after this would begin anew
            return hits
    run(words)
    return hits


def same(one: Path, other: Path) -> bool:
    """Whether two outputs and their side files are equal, byte for byte."""
    pairs = [(one, other), *[tuple(p.with_name(f"{p.name}.rejected.jsonl") for p in (one, other))]]
    return all(fingerprint_file(a) == fingerprint_file(b) for a, b in pairs)


if __name__ == "__main__":
    sys.exit(main())
