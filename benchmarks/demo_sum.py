"""The demo in one comparison against its strategies fitted one by one, each from an empty cache.

Both are processes as a user starts them, in turn. What a comparison saves is the source classifier trained once, frozen
features and states computed once, texts read, checked and tokenized once, and the start of a process.

    python benchmarks/demo_sum.py --json benchmarks/results/demo_sum.json
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

from common import EXAMPLES, Claim, command, finish, median_at_most, new_parser, run_to_end
from headstart.experiment.config import read_yaml


def main() -> int:
    parser = new_parser(__doc__, out="demo_sum")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="runs of each (%(default)s)")
    parser.add_argument("--strategies", metavar="NAME,...", help="only these, for a first look")
    parser.add_argument("--holdout", type=int, metavar="N", help="fewer texts held out, for a first look")
    options = parser.parse_args()
    names = list(read_yaml(EXAMPLES / "film_reviews.yaml")["strategies"])
    if options.strategies:
        names = options.strategies.split(",")
    rounds = []
    for number in range(options.rounds):
        together = seconds_of(names, options, "together")
        alone = {name: seconds_of([name], options, name) for name in names}
        rounds.append(
            {
                "seconds": round(together, 1),
                "seconds_one_by_one": {name: round(s, 1) for name, s in alone.items()},
                "sum": round(sum(alone.values()), 1),
                "ratio": round(together / sum(alone.values()), 3),
            }
        )
        if not options.quiet:
            print(f"round {number + 1}: {rounds[-1]}", file=sys.stderr)
    return finish("demo_sum", options, claims_of(rounds), {"rounds": rounds})


def claims_of(rounds: list[dict[str, Any]]) -> list[Claim]:
    """Return what must show; four minutes are for a processor with bfloat16 products."""
    ratios, seconds = ([one[key] for one in rounds] for key in ("ratio", "seconds"))
    return [
        median_at_most("the comparison over the sum of its strategies one by one", ratios, 0.6),
        median_at_most("seconds of the demo", seconds, 240),
        median_at_most("seconds of the demo, the first bound", seconds, 360),
    ]


def seconds_of(names: list[str], options: Any, title: str) -> float:
    """Return the wall time of a comparison of these strategies in a process of its own, from an empty cache."""
    out = Path(options.out) / title
    shutil.rmtree(out, ignore_errors=True)
    more = ["--strategies", ",".join(names)]
    more += [] if options.holdout is None else ["--holdout-size", str(options.holdout)]
    more += [] if options.threads is None else ["--threads", str(options.threads)]
    start = time.perf_counter()
    run_to_end(command(EXAMPLES / "film_reviews.yaml", out / "run", *more), cache=out / "cache", log=Path(f"{out}.log"))
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
