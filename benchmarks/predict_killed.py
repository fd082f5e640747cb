"""Killed with kill -9 at random moments, labeling ends with the same file, byte for byte.

200,000 rows are labeled undisturbed by a tiny classifier with random weights. Then again, killed at a random moment
after it began to label and started again with the same command, ten times, until the file is finished; should it end
before the tenth kill, all this over again. After every kill the output must not be there yet, or be whole already (a
process that has named its output still takes a moment to end); at every end it must equal the undisturbed one.

    python benchmarks/predict_killed.py --json benchmarks/results/predict_killed.json
    python benchmarks/predict_killed.py --rows 20000 --kills 3 --format .parquet
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common import MAIN, Claim, finish, new_parser, phrases_file, tiny_model
from headstart.data.partial import journal_of
from headstart.records import fingerprint_file

# On average, kills take so much of the labeling that the file is not finished before the last of them.
_SHARE_KILLED = 0.7
_LOOK_SECONDS = 0.01


def main() -> int:
    parser = new_parser(__doc__, out="predict_killed")
    parser.add_argument("--rows", type=int, default=200_000, metavar="N", help="(%(default)s)")
    parser.add_argument("--kills", type=int, default=10, metavar="N", help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments (%(default)s)")
    parser.add_argument("--format", default=".csv", metavar="SUFFIX", help="of input and output (%(default)s)")
    options = parser.parse_args()
    folder = Path(options.out)
    shutil.rmtree(folder, ignore_errors=True)
    model = tiny_model(folder / "model")
    source = phrases_file(folder / f"rows{options.format}", options.rows, spoil_every=1000)
    whole, killed = folder / f"whole{options.format}", folder / f"killed{options.format}"
    words = [sys.executable, "-c", MAIN, "predict", str(model), str(source), "--quiet", "--precision", "float32"]
    words += ["--threads", str(options.threads)] if options.threads else []
    start = time.monotonic()
    began = begun(subprocess.Popen([*words, "--out", str(whole)]), whole)
    seconds, labeling = time.monotonic() - start, time.monotonic() - began

    moments = random.Random(options.seed)
    most = _SHARE_KILLED * 2 * labeling / options.kills
    kills: list[Kill] = []
    ends, unlike = 0, 0
    while len(kills) < options.kills or not ends:
        killed.unlink(missing_ok=True)
        left = options.kills - len(kills)
        kills += run_killed([*words, "--out", str(killed)], [moments.uniform(0, most) for _ in range(left)], killed)
        ends += 1
        unlike += not same(whole, killed)
        if not options.quiet:
            print(f"{len(kills)} kills, {ends} files finished", file=sys.stderr)
    early = sum(kill.named not in (None, fingerprint_file(whole)) for kill in kills)
    left_over = [p.name for p in folder.iterdir() if p.name.startswith(".")]
    claims = [
        Claim("kills that hit a running process", str(options.kills), str(len(kills)), len(kills) >= options.kills),
        Claim("kills after which an unfinished file had its name", "0", str(early), not early),
        Claim(f"of {ends} finished files, those unlike the undisturbed one", "0", str(unlike), not unlike),
        Claim("hidden files left over", "0", str(len(left_over)), not left_over),
    ]
    figures = {
        "rows": options.rows,
        "seconds_undisturbed": round(seconds, 1),
        "seconds_labeling": round(labeling, 1),
        "killed_after": [{"seconds_labeling": kill.seconds, "bytes_written": kill.written} for kill in kills],
        "finished": ends,
    }
    return finish("predict_killed", options, claims, figures)


@dataclass(frozen=True)
class Kill:
    """One kill: seconds since labeling began, bytes of the unfinished output, and what had the output's name."""

    seconds: float
    written: int
    named: str | None


def begun(process: subprocess.Popen[bytes], out: Path) -> float:
    """Wait for the end of a process; return when it began to label, which its journal tells."""
    seen = wait_for_journal(process, out, journal_time(out))
    end(process)
    return seen


def end(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a process; 3 says that rows were left out, which here there are."""
    code = process.wait()
    if code != 3:
        raise SystemExit(f"exit code {code}")


def journal_time(out: Path) -> int:
    """Return when the journal of an output was last written, in nanoseconds; 0 where there is none."""
    try:
        return journal_of(out).stat().st_mtime_ns
    except OSError:
        return 0


def wait_for_journal(process: subprocess.Popen[bytes], out: Path, before: int) -> float:
    """Wait until a process writes its journal, or ends; return that moment."""
    while process.poll() is None and journal_time(out) in (0, before):
        time.sleep(_LOOK_SECONDS)
    return time.monotonic()


def run_killed(words: Sequence[str], moments: Sequence[float], out: Path) -> list[Kill]:
    """Run a command, killed each time so many seconds after it began to label, until it has named its output."""
    kills = []
    for moment in moments:
        before = journal_time(out)
        process = subprocess.Popen(words)
        wait_for_journal(process, out, before)
        try:
            process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            unfinished = out.with_name(f".{out.name}.partial")
            written = unfinished.stat().st_size if unfinished.exists() else 0
            kills.append(Kill(round(moment, 2), written, fingerprint_file(out) if out.exists() else None))
        else:
            end(process)
        if out.exists():  # a run after this would begin anew
            return kills
    end(subprocess.Popen(words))
    return kills


def same(one: Path, other: Path) -> bool:
    """Whether two outputs and their side files are equal, byte for byte."""
    pairs = [(one, other), *[tuple(p.with_name(f"{p.name}.rejected.jsonl") for p in (one, other))]]
    return all(fingerprint_file(a) == fingerprint_file(b) for a, b in pairs)


if __name__ == "__main__":
    sys.exit(main())
