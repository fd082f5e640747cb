"""The same seed twice gives identical records; another seed gives different ones.

A small comparison of all strategies runs as three processes, each with an empty cache of its own: seed 0, seed 0
again, seed 1. Records are compared after times, rates, memory and identifiers are taken out (`VOLATILE` in
headstart.records); the probabilities of every fit are compared number by number, the winner's weights byte by byte.

    python benchmarks/same_seed.py --json benchmarks/results/same_seed.json
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

from common import Claim, command, differing, finish, new_parser, records_of, run_to_end, same_files
from headstart.catalog import sample_frame

_ALL = (
    "majority,tfidf,scratch-gru,scratch-transformer,as-is,linear-probe,boosted,partial,full,lora,"
    "source+full,source+lora"
)
_SHOWN = 10


def main() -> int:
    parser = new_parser(__doc__, out="same_seed")
    parser.add_argument("--labeled", type=int, default=200, metavar="N", help="labels (%(default)s)")
    parser.add_argument("--holdout", type=int, default=400, metavar="N", help="held out (%(default)s)")
    parser.add_argument("--source-rows", type=int, default=600, metavar="N", help="source texts (%(default)s)")
    parser.add_argument("--epochs", type=int, default=2, metavar="N", help="epochs of trained networks (%(default)s)")
    parser.add_argument("--strategies", default=_ALL, metavar="NAME,...", help="(all)")
    options = parser.parse_args()
    folder = Path(options.out)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    experiment = write_experiment(folder, options)
    one, again, other = (
        run(experiment, folder / name, seed) for name, seed in (("seed-0", 0), ("seed-0-again", 0), ("seed-1", 1))
    )
    differences = list(differing(records_of(one), records_of(again)))
    probabilities, unlike = same_files(one, again, "fits/**/predictions.parquet")
    weights, changed = same_files(one, again, "best/*.safetensors")
    claims = [
        Claim("same seed: places where the records differ", "0", str(len(differences)), not differences),
        Claim(f"same seed: {probabilities} files of probabilities that differ", "0", str(len(unlike)), not unlike),
        Claim(f"same seed: {weights} weight files of the winner that differ", "0", str(len(changed)), not changed),
        other_seed(one, other),
    ]
    for line in (*differences[:_SHOWN], *unlike[:_SHOWN], *changed[:_SHOWN]):
        print(f"  differs: {line}")
    return finish(
        "same_seed", options, claims, {"strategies": options.strategies.split(","), "differences": differences}
    )


def write_experiment(folder: Path, options: Any) -> Path:
    """Write a small source file and an experiment file; return the latter."""
    source = folder / "source.csv"
    sample_frame("film-snippets").sample(options.source_rows, random_state=0).to_csv(source, index=False)
    training = {"epochs": options.epochs}
    trained = ("scratch-gru", "scratch-transformer", "partial", "full", "lora", "source")
    experiment: dict[str, Any] = {
        "name": "same_seed",
        "data": "film-reviews",
        "source": str(source),
        "labeled": options.labeled,
        "holdout_size": options.holdout,
        "max_length": 64,
        "strategies": options.strategies.split(","),
        "settings": {name: training for name in trained},
    }
    if options.threads is not None:
        experiment["threads"] = options.threads
    if not any(name == "as-is" or name.startswith("source+") for name in experiment["strategies"]):
        del experiment["source"]
    file = folder / "experiment.yaml"
    file.write_text(yaml.safe_dump(experiment, sort_keys=False), encoding="utf-8")
    return file


def run(experiment: Path, out: Path, seed: int) -> Path:
    """Run the comparison in a process of its own; return its folder."""
    words = command(experiment, out, "--seed", str(seed), "--no-tracking")
    run_to_end(words, cache=out.with_suffix(".cache"), log=out.with_suffix(".log"))
    return out


def other_seed(one: Path, other: Path) -> Claim:
    """Return the claim that every strategy's probabilities change with the seed (so do the rows it is fitted on)."""
    names = [file.parent.parent.relative_to(one / "fits") for file in one.glob("fits/**/predictions.parquet")]
    same = [
        str(name)
        for name in names
        if (one / "fits" / name / "seed-0" / "predictions.parquet").read_bytes()
        == (other / "fits" / name / "seed-1" / "predictions.parquet").read_bytes()
    ]
    return Claim(f"other seed: {len(names)} fits that are the same", "0", str(len(same)), bool(names) and not same)


if __name__ == "__main__":
    sys.exit(main())
