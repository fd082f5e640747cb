"""Nothing frozen is computed twice: encoder passes are counted, and epochs of ``partial`` are timed.

`linear-probe` and `boosted` with three seeds each in one comparison: texts that pass through the encoder, over the
texts there are. Then a second comparison on the same texts. Then `partial` with the top third trained against `full`:
seconds of an epoch after the first. Film reviews of the demo, in an empty cache of its own.

    python benchmarks/frozen_once.py --json benchmarks/results/frozen_once.json
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

import headstart
from common import EXAMPLES, Claim, finish, median_at_most, new_parser
from headstart.experiment.comparison import Comparison
from headstart.experiment.config import parse, read_yaml
from headstart.experiment.progress import Silent
from headstart.experiment.setup import set_up
from headstart.strategies import table
from headstart.strategies.task import Task

_ROUNDS = 3


def main() -> int:
    parser = new_parser(__doc__, out="frozen_once")
    parser.add_argument("--labeled", type=int, default=600, metavar="N", help="labels (%(default)s)")
    parser.add_argument("--holdout", type=int, default=2000, metavar="N", help="held out (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds (%(default)s)")
    parser.add_argument("--epochs", type=int, default=4, metavar="N", help="epochs that are timed (%(default)s)")
    options = parser.parse_args()
    out = options.out
    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["HEADSTART_CACHE"] = cache
        passes = []
        for name in ("first", "second"):
            options.out = f"{out}/{name}"
            with counted() as seen:
                comparison = headstart.compare(
                    "film-reviews", encoder="minilm", strategies=["linear-probe", "boosted"], max_length=128,
                    truncate="head-tail", labeled=options.labeled, holdout_size=options.holdout, seeds=options.seeds,
                    threads=options.threads, tracking=False, out=options.out,
                )  # fmt: skip
            passes.append(round(sum(seen) / sum(rows_of(comparison)), 4))
        rounds = [
            {n: epoch_seconds(n, options, Path(cache) / f"{n} {number}") for n in ("partial", "full")}
            for number in range(_ROUNDS)
        ]
    epochs = {n: {k: statistics.median(r[n][k] for r in rounds) for k in ("first", "later")} for n in rounds[0]}
    figures = {
        "passes": {"first comparison": passes[0], "second comparison": passes[1]},
        "seconds_of_heads": {r["name"]: r["seconds_fit"] for r in comparison.record["strategies"]},
        "epoch_seconds": epochs,
        "partial_over_full": [round(r["partial"]["later"] / r["full"]["later"], 3) for r in rounds],
        "rounds": rounds,
    }
    heads = ", ".join(f"`{name}` {seconds:.1f}" for name, seconds in figures["seconds_of_heads"].items())
    figures["told"] = [f"Seconds of a fit whose texts were encoded before, reading the encoder included: {heads}."]
    options.out = out
    return finish("frozen_once", options, claims_of(figures), figures)


def claims_of(figures: dict[str, Any]) -> list[Claim]:
    """Return what must show."""
    first, second = figures["passes"].values()
    return [
        Claim("passes of the encoder over the texts, six fits", "<= 1.05", f"{first:.4f}", 0 < first <= 1.05),
        Claim("passes in a second comparison on the same texts", "<= 0", f"{second:.4f}", second == 0),
        median_at_most("an epoch of partial over an epoch of full", figures["partial_over_full"], 0.4),
    ]


def rows_of(comparison: Comparison) -> list[int]:
    """Return the number of texts of each split."""
    return [int(comparison.record["rows"][split]) for split in ("train", "validation", "holdout")]


@contextlib.contextmanager
def counted() -> Iterator[list[int]]:
    """Yield a list that grows by the number of texts whenever any BERT encoder is run."""
    seen: list[int] = []

    def see(module: nn.Module, given: Any, _: Any) -> None:
        if type(module).__name__ == "BertEncoder":
            seen.append(len(given[0]))

    handle = nn.modules.module.register_module_forward_hook(see)
    try:
        yield seen
    finally:
        handle.remove()


def epoch_seconds(strategy: str, options: Any, cache: Path) -> dict[str, float]:
    """Return the seconds of the first epoch and the median of the later ones; states are kept in ``cache``."""
    values = read_yaml(EXAMPLES / "film_reviews.yaml")
    values |= {"source": None, "strategies": [strategy], "settings": {}, "labeled": options.labeled}
    values |= {"holdout_size": options.holdout, "out": f"{options.out}/{strategy}"}
    setup = set_up(parse(values, ""), Silent(), frame=None, holdout_frame=None)
    ends = [time.perf_counter()]
    task = Task(
        setup.splits.labels, setup.splits.train, setup.splits.validation, setup.text, setup.runtime, seed=0,
        encoder=setup.encoder, cache=cache, on_epoch=lambda _: ends.append(time.perf_counter()),
    )  # fmt: skip
    plan = table.plan(strategy)
    table.fit(plan, task, table.config_for(plan, {strategy: {"epochs": options.epochs, "patience": options.epochs}}))
    spans = [after - before for before, after in itertools.pairwise(ends)]
    return {"first": round(spans[0], 2), "later": round(statistics.median(spans[1:]), 2)}


if __name__ == "__main__":
    sys.exit(main())
