"""How defaults are chosen: candidates of one strategy's settings on several sets, by mean rank.

Every candidate is fitted on 600 labels of each set with two seeds and judged by macro-F1 on 1,000 held-out rows.
Within a set candidates are ranked; the mean rank over the sets decides, the mean macro-F1 breaks ties. Rows that
the other benchmarks hold out are removed first, so that no default is chosen on rows that later qualify a claim.

    python benchmarks/defaults.py --strategy full --set learning_rate=5e-5,1e-4,2e-4 --set epochs=5
    python benchmarks/defaults.py --strategy lora --set rank=8,16 --set 'targets=null;dense' --datasets hotel,finance
    python benchmarks/defaults.py --strategy as-is --source film-snippets --set source.epochs=1,2,3 --datasets hotel
    python benchmarks/defaults.py --strategy adapt+full --set adapt.rows=texts,blocks --datasets portuguese

Values are separated by commas, or by semicolons where a value holds a comma. Finished candidates are not run again.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from rich.console import Console

import headstart
from common import EXAMPLES, finish, new_parser, shared_data, shared_encoder
from headstart.catalog import sample_frame
from headstart.cli.reporting import LineReporter
from headstart.cli.tables import show, table
from headstart.data.load import load_data
from headstart.errors import unknown_name
from headstart.experiment.config import parse, read_yaml
from headstart.records import fingerprint_json

# Set -> its file (None: the packaged film reviews), and the examples whose holdouts are kept out of it.
DATASETS: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "hotel": ("hotel_reviews.parquet", ("hotel_remarks.yaml", "hotel_few_labels.yaml")),
    "finance": ("finance_headlines.parquet", ()),
    "fashion": ("fashion_reviews.parquet", ("clothing_reviews.yaml",)),
    "ag_news": ("ag_news.parquet", ()),
    "banking20": ("banking77.parquet", ()),
    "film-reviews": (None, ("film_reviews.yaml",)),
    "portuguese": ("reviews_pt.parquet", ("portuguese_reviews.yaml",)),
}
_NOT_ENGLISH = ("portuguese",)
_BANKING_CLASSES = 20
Candidate = dict[str, Any]


def main() -> int:
    options = _parser().parse_args()
    candidates = grid(options.set or [])
    names = options.datasets.split(",")
    unknown = [name for name in names if name not in DATASETS]
    if unknown:
        raise SystemExit(unknown_name("set", unknown[0], DATASETS, "--datasets"))
    rows = []
    for name in names:
        frame = tuning_frame(name)
        if options.rows is not None:
            frame = frame.sample(min(options.rows, len(frame)), random_state=0).reset_index(drop=True)
        rows += [score(name, frame, candidate, options) for candidate in candidates]
    ranking = ranked(rows, candidates)
    if not options.quiet:
        show_ranking(ranking, names, options.strategy)
    figures = {"strategy": options.strategy, "datasets": names, "labeled": options.labeled, "seeds": options.seeds}
    return finish(f"defaults_{options.strategy}", options, [], figures | {"ranking": ranking, "fits": rows})


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__, out="defaults")
    parser.add_argument("--strategy", required=True, metavar="NAME", help="the strategy, or source+NAME")
    parser.add_argument("--set", action="append", metavar="KEY=A,B,...", help="values to try; may be repeated")
    english = ",".join(name for name in DATASETS if name not in _NOT_ENGLISH)
    parser.add_argument("--datasets", default=english, metavar="NAME,...", help="(%(default)s; portuguese)")
    parser.add_argument("--rows", type=int, metavar="N", help="most rows of a set; what has no label is the pool")
    parser.add_argument("--source", metavar="FILE", help="for strategies that need one")
    parser.add_argument("--labeled", type=int, default=600, metavar="N", help="labels (%(default)s)")
    parser.add_argument("--holdout", type=int, default=1000, metavar="N", help="held out (%(default)s)")
    parser.add_argument("--seeds", type=int, default=2, metavar="N", help="seeds (%(default)s)")
    parser.add_argument("--max-length", type=int, default=128, metavar="T", help="tokens per text (%(default)s)")
    return parser


def grid(pairs: Sequence[str]) -> list[Candidate]:
    """Return every combination of ``key=a,b`` and ``key=c;d``; one empty candidate without any.

    Raises:
        SystemExit: a pair is not of that form.
    """
    keys, choices = [], []
    for pair in pairs:
        key, sign, values = pair.partition("=")
        if not sign or not values:
            raise SystemExit(f"--set must look like learning_rate=5e-5,1e-4; got '{pair}'")
        keys.append(key.strip())
        choices.append([_number(part) for part in values.split(";" if ";" in values else ",")])
    return [dict(zip(keys, chosen, strict=True)) for chosen in itertools.product(*choices)]


def _number(text: str) -> Any:
    """Read a value as YAML; 5e-5, which YAML takes for text, is a number here."""
    try:
        return float(text) if "e-" in text else yaml.safe_load(text)
    except ValueError:
        return text


def tuning_frame(name: str) -> pd.DataFrame:
    """Return a set's texts and labels without the rows that a benchmark holds out."""
    file, examples = DATASETS[name]
    frame = sample_frame("film-reviews") if file is None else pd.read_parquet(shared_data(file))
    frame = frame[["text", "label"]]
    if name == "banking20":
        first = sorted(frame["label"].unique())[:_BANKING_CLASSES]
        frame = frame[frame["label"].isin(first)]
    for example in examples:
        frame = frame[~frame["text"].isin(held_out(example, file))]
    return frame.reset_index(drop=True)


def held_out(example: str, file: str | None) -> set[str]:
    """Return the texts that an example's comparison holds out."""
    values = read_yaml(EXAMPLES / example)
    if file is not None:
        values["data"] = str(shared_data(file))
        values.pop("encoder", None)  # the rows do not depend on it, and it may lie elsewhere
    config = parse(values)
    return set(load_data(config, seed=config.seed).splits.holdout.texts)


def score(name: str, frame: pd.DataFrame, candidate: Candidate, options: argparse.Namespace) -> dict[str, Any]:
    """Fit one candidate on one set; return its macro-F1, mean over seeds, and its seconds."""
    out = Path(options.out) / options.strategy / name / fingerprint_json([candidate, options.labeled, options.seeds])
    settings: dict[str, dict[str, Any]] = {}
    for key, found in candidate.items():
        owner, dot, own = key.rpartition(".")
        settings.setdefault(owner if dot else options.strategy, {})[own] = found
    comparison = headstart.compare(
        frame,
        name=name,
        strategies=[options.strategy],
        settings=settings,
        source=options.source,
        encoder=shared_encoder() if name in _NOT_ENGLISH else "minilm",
        labeled=options.labeled,
        holdout_size=options.holdout,
        seeds=options.seeds,
        max_length=options.max_length,
        threads=options.threads,
        tracking=False,
        out=str(out),
        reporter=LineReporter(Console(stderr=True), "macro_f1", quiet=options.quiet),
    )
    shutil.rmtree(out / "best", ignore_errors=True)  # many candidates' models would fill the disk
    row = comparison.record["strategies"][0]
    if row["status"] != "ok":
        raise SystemExit(f"{options.strategy} on {name} with {candidate}: {row['status']}: {row['reason']}")
    return {
        "dataset": name,
        "candidate": candidate,
        "macro_f1": row["metrics"]["macro_f1"]["value"],
        "accuracy": row["metrics"]["accuracy"]["value"],
        "log_loss": row["metrics"]["log_loss"]["value"],
        "validation": row["validation"]["macro_f1"],
        "seconds_fit": row["seconds_fit"],
    }


def ranked(rows: Sequence[dict[str, Any]], candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Return the candidates, best first: mean rank over sets (1 is best, ties share), then mean macro-F1."""
    frame = pd.DataFrame(
        {
            "dataset": [row["dataset"] for row in rows],
            "at": [candidates.index(row["candidate"]) for row in rows],
            "macro_f1": [row["macro_f1"] for row in rows],
            "log_loss": [row["log_loss"] for row in rows],
            "seconds": [row["seconds_fit"] for row in rows],
        }
    )
    frame["rank"] = frame.groupby("dataset")["macro_f1"].rank(ascending=False)
    means = frame.groupby("at")[["rank", "macro_f1", "log_loss", "seconds"]].mean()
    means = means.sort_values(["rank", "macro_f1"], ascending=[True, False])
    found = []
    for at, mean in means.iterrows():
        own = frame[frame["at"] == at].set_index("dataset")["macro_f1"]
        found.append({"candidate": candidates[int(str(at))], **mean.to_dict(), "per_dataset": own.to_dict()})
    return found


def show_ranking(ranking: Sequence[dict[str, Any]], names: Sequence[str], strategy: str) -> None:
    """Print the ranking."""
    lines = [
        [
            ", ".join(f"{key}={found}" for key, found in row["candidate"].items()) or "(defaults)",
            f"{row['rank']:.2f}",
            f"{row['macro_f1']:.4f}",
            f"{row['log_loss']:.4f}",
            f"{row['seconds']:.1f}",
            *(f"{row['per_dataset'][name]:.4f}" for name in names),
        ]
        for row in ranking
    ]
    show(table(["settings", "mean rank", "mean F1", "log loss", "seconds", *names], lines), strategy)


if __name__ == "__main__":
    sys.exit(main())
