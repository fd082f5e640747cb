"""How cost grows: seconds and memory against the number of texts, their length and the number of strategies.

Real film reviews and MiniLM. Texts are added 4 and 16 times over, cut at 4 times the length, and strategies are added
one by one. Each measurement is a process of its own with an empty cache, and the median of three; told are the seconds
to fit, over all strategies, and those of the whole process, which also starts, reads, and scores what is held out.

    python benchmarks/cost_growth.py --json benchmarks/results/cost_growth.json --plot docs/cost_growth.png
"""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from common import Claim, command, finish, new_parser, run_to_end
from headstart.records import read_json

TEXTS = (1, 4, 16)
LENGTHS = (1, 4)
STRATEGIES = ("tfidf", "linear-probe", "partial", "full")


def main() -> int:
    parser = new_parser(__doc__, out="cost_growth")
    parser.add_argument("--labeled", type=int, default=100, metavar="N", help="labels at x1 (%(default)s)")
    parser.add_argument("--length", type=int, default=32, metavar="N", help="tokens at x1 (%(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=3, metavar="N", help="runs of each, of which medians (%(default)s)"
    )
    parser.add_argument("--plot", metavar="FILE", type=Path, help="where the plot goes; by default the output folder")
    options = parser.parse_args()
    cells: list[tuple[str, int, dict[str, Any]]] = [
        *(("texts", times, {"labeled": times * options.labeled}) for times in TEXTS),
        *(("length", times, {"length": times * options.length}) for times in LENGTHS),
        *(("strategies", count, {"strategies": STRATEGIES[:count]}) for count in range(1, len(STRATEGIES) + 1)),
    ]
    rows: list[dict[str, Any]] = []
    for of, times, given in cells:
        runs = [measure(options, **{"labeled": 4 * options.labeled, **given}) for _ in range(options.rounds)]
        rows.append({"of": of, "times": times, **middle(runs)})
        if not options.quiet:
            print(f"{of} x {times}: {rows[-1]['seconds_fit']} s, {rows[-1]['peak_memory_bytes'] / 1e9:.2f} GB")
    plot(rows, options.plot or Path(options.out) / "cost_growth.png")
    return finish("cost_growth", options, claims_of(rows), {"growth": rows})


def claims_of(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return that cost is linear where it should be: at most in proportion, with a fifth to spare.

    Memory may grow with the length of the texts, which a step holds, and hardly with their number.
    """
    claims = []
    for of, times in (("texts", 16), ("length", 4)):
        found = {r["times"]: r["seconds_fit"] for r in rows if r["of"] == of}
        grown = found[times] / found[1]
        words = f"seconds to fit at {times} times the {of}, over those at once"
        claims.append(Claim(words, f"<= {1.2 * times:.3g}", f"{grown:.2f}", grown <= 1.2 * times))
    for of, times, bound in (("texts", 16, 2.0), ("length", 4, 4.8)):
        memory = {r["times"]: r["peak_memory_bytes"] for r in rows if r["of"] == of}
        grown = memory[times] / memory[1]
        words = f"peak memory at {times} times the {of}, over that at once"
        claims.append(Claim(words, f"<= {bound:.3g}", f"{grown:.2f}", grown <= bound))
    return claims


def measure(
    options: Any, *, labeled: int, length: int | None = None, strategies: tuple[str, ...] = ("full",)
) -> dict[str, Any]:
    """Run one comparison; return its seconds, those to fit over all strategies, and the highest peak memory."""
    out = Path(options.out) / "run"
    shutil.rmtree(out, ignore_errors=True)
    more = ["--strategies", ",".join(strategies), "--labeled", str(labeled)]
    more += ["--max-length", str(length or options.length), "--holdout-size", "200"]
    more += [] if options.threads is None else ["--threads", str(options.threads)]
    experiment = Path(options.out) / "growth.yaml"
    experiment.parent.mkdir(parents=True, exist_ok=True)
    experiment.write_text(
        "data: film-reviews\nencoder: minilm\nsettings: {full: {epochs: 2, patience: 2}, partial: {epochs: 2}}\n",
        encoding="utf-8",
    )
    start = time.perf_counter()
    run_to_end(command(experiment, out / "found", *more), cache=out / "cache", log=Path(options.out) / "run.log")
    seconds = time.perf_counter() - start
    rows = read_json(out / "found" / "comparison.json")["strategies"]
    return {
        "texts": labeled,
        "tokens": length or options.length,
        "strategies": len(strategies),
        "seconds": round(seconds, 1),
        "seconds_fit": round(sum(r["seconds_fit"] for r in rows), 2),
        "peak_memory_bytes": max(r["peak_memory_bytes"] for r in rows),
    }


def middle(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians of runs of the same, and the seconds of each."""
    medians = {name: statistics.median_low(run[name] for run in runs) for name in runs[0]}
    return medians | {"runs": [run["seconds_fit"] for run in runs]}


def plot(rows: list[dict[str, Any]], file: Path) -> None:
    """Draw seconds and memory over each of the three; straight lines of slope one are what is expected."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for axis, of in zip(axes, ("texts", "length", "strategies"), strict=True):
        found = [r for r in rows if r["of"] == of]
        x = [r["times"] for r in found]
        axis.plot(x, [r["seconds_fit"] for r in found], "o-", color="#1f6f8b", label="seconds to fit")
        axis.plot(x, [r["seconds"] for r in found], "^:", color="#5a9367", label="seconds of the whole process")
        axis.set_xlabel({"texts": "texts (times)", "length": "tokens (times)", "strategies": "strategies"}[of])
        axis.set_ylabel("seconds")
        axis.set_ylim(bottom=0)
        other = axis.twinx()
        other.plot(x, [r["peak_memory_bytes"] / 1e9 for r in found], "s--", color="#b5651d", label="peak memory")
        other.set_ylabel("peak memory, GB")
        other.set_ylim(bottom=0)
        axis.set_xticks(x)
    handles = [*axes[0].get_lines(), *figure.axes[3].get_lines()]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
