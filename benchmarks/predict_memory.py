"""Memory of labeling does not grow with the file: the peak on 1,000,000 rows against that on 100,000.

The classifier is a tiny one with random weights, for only memory is looked at; the texts are phrases of the SST-2
train set, over and over, each in a row with its number. Each file is labeled by a process of its own, whose largest
memory is read while it runs: VmHWM of /proc/PID/status, for what `wait4` tells begins at the peak of the process that
started it, which has torch loaded.

    python benchmarks/predict_memory.py --json benchmarks/results/predict_memory.json
    python benchmarks/predict_memory.py --rows 2000 20000 --format .parquet
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common import MAIN, Claim, finish, new_parser, phrases_file, tiny_model

_GROWTH = 1.10
_SAMPLED_SECONDS = 0.05


def main() -> int:
    parser = new_parser(__doc__, out="predict_memory")
    parser.add_argument("--rows", type=int, nargs=2, default=[100_000, 1_000_000], metavar="N", help="(%(default)s)")
    parser.add_argument("--format", default=".csv", metavar="SUFFIX", help="of input and output (%(default)s)")
    options = parser.parse_args()
    folder = Path(options.out)
    model = tiny_model(folder / "model")
    runs = []
    for rows in options.rows:
        source = phrases_file(folder / f"{rows}{options.format}", rows)
        runs.append(peak(model, source, folder / f"labeled-{rows}{options.format}", options.threads))
        source.unlink()
        if not options.quiet:
            last = runs[-1]
            print(f"{rows:,} rows: {last['peak_bytes'] / 1e6:.0f} MB, {last['seconds']:.0f} s", file=sys.stderr)
    ratio = runs[1]["peak_bytes"] / runs[0]["peak_bytes"]
    claim = f"peak memory on {options.rows[1]:,} rows over that on {options.rows[0]:,}"
    return finish(
        "predict_memory", options, [Claim(claim, f"<= {_GROWTH}", f"{ratio:.3f}", ratio <= _GROWTH)],
        {"rows": options.rows, "runs": runs},
    )  # fmt: skip


def peak(model: Path, source: Path, out: Path, threads: int | None) -> dict[str, Any]:
    """Label a file in a process of its own; return its peak memory in bytes and its seconds.

    Raises:
        SystemExit: it failed.
    """
    words = [sys.executable, "-c", MAIN, "predict", str(model), str(source), "--out", str(out), "--quiet"]
    words += ["--precision", "float32", *(["--threads", str(threads)] if threads else [])]
    start = time.perf_counter()
    process = subprocess.Popen(words)
    largest = 0
    while process.poll() is None:
        largest = max(largest, peak_so_far(process.pid))
        time.sleep(_SAMPLED_SECONDS)
    if process.returncode:
        raise SystemExit(f"predict ended with status {process.returncode}")
    out.unlink()
    return {"peak_bytes": largest, "seconds": round(time.perf_counter() - start, 1)}


def peak_so_far(process: int) -> int:
    """Return the largest memory in bytes that a program has had resident since it began; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


if __name__ == "__main__":
    sys.exit(main())
