"""How soon a fresh server answers.

`headstart serve` is started on a model of MiniLM's size, several times over, and asked for a label until it gives
one; what counts is the time from starting the process to the first answer.

    python benchmarks/serve_start.py --json benchmarks/results/serve_start.json
    python benchmarks/serve_start.py --runs 1
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from common import Claim, finish, new_parser
from servers import free_port, headstart_words, minilm_model, post, serving

BOUND_SECONDS = 10.0


def main() -> int:
    parser = new_parser(__doc__, out="serve_start")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="starts (%(default)s)")
    options = parser.parse_args()
    model = minilm_model(Path(options.out) / "model")
    more = [] if options.threads is None else ["--threads", options.threads]
    found = []
    for _ in range(options.runs):
        found.append(round(first_answer(model, more, Path(options.out) / "server.log"), 2))
        if not options.quiet:
            print(f"first answer after {found[-1]:.1f} s", file=sys.stderr)
    slowest = max(found)
    claim = "seconds from starting to the first answer, the slowest start"
    claims = [Claim(claim, f"<= {BOUND_SECONDS:g}", f"{slowest:.1f}", slowest <= BOUND_SECONDS)]
    return finish("serve_start", options, claims, {"seconds": found})


def first_answer(model: Path, more: list[object], log: Path) -> float:
    """Start a server, return the seconds to its first answer, and stop it."""
    port = free_port()
    body = json.dumps({"texts": "A quiet, lovely film."}).encode()
    began = time.perf_counter()
    with serving(headstart_words(model, "--port", port, "--quiet", *more), port, log=log) as server:
        answer = post(f"{server.url}/predict", body)
        seconds = time.perf_counter() - began
    if answer is None:
        raise SystemExit(f"no answer:\n{log.read_text(errors='replace')[-2000:]}")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
