"""What the benchmarks share: where the data lies, claims and how they are printed, results as JSON."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

import headstart
from headstart.cli.reporting import LineReporter
from headstart.experiment.comparison import Comparison
from headstart.experiment.config import read_yaml
from headstart.models.runtime import choose_runtime, keep_freed_memory, keep_kernels
from headstart.records import hardware, read_json, stable, versions, write_json
from headstart.report.leaderboard import ordered
from headstart.report.render import render_table

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
RESULTS = ROOT / "benchmarks" / "results"
MAIN = "import sys; from headstart.cli.main import main; sys.exit(main())"

_SHOWN = ("macro_f1", "accuracy", "roc_auc", "log_loss")
_COSTS = ("seconds_fit", "texts_per_second", "peak_memory_bytes", "size_bytes", "parameters_trained")


@dataclass(frozen=True)
class Claim:
    """One thing a benchmark checks.

    Attributes:
        claim: what is claimed, in words.
        bound: what it takes.
        got: what was found.
        met: whether it holds.
    """

    claim: str
    bound: str
    got: str
    met: bool


def shared_data(name: str) -> Path:
    """Return a file of the shared data folder: ``$HEADSTART_SHARED/data``, or ``../shared/data`` beside the checkout.

    Raises:
        SystemExit: it is not there.
    """
    given = os.environ.get("HEADSTART_SHARED")
    folder = (Path(given).expanduser() if given else ROOT.parent / "shared") / "data"
    if not (folder / name).is_file():
        raise SystemExit(
            f"{folder / name} is missing. This benchmark reads a shared set that is not part of the repository: "
            "put it there, or set HEADSTART_SHARED to the folder above data/."
        )
    return folder / name


def shared_encoder() -> str:
    """Return the folder of the shared encoder that knows English and Portuguese.

    Raises:
        SystemExit: it is not there.
    """
    folder = shared_data("reviews_pt.parquet").parent.parent / "models" / "e5-small-enpt"
    if not folder.is_dir():
        raise SystemExit(f"{folder} is missing; put it there, or name another with --encoder")
    return str(folder)


def new_parser(text: str | None, *, out: str) -> argparse.ArgumentParser:
    """Return a parser with the flags that every benchmark has.

    Args:
        text: the script's docstring.
        out: default output folder below ``runs/benchmarks``.
    """
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", type=Path, help="write claims, figures, machine and versions here")
    parser.add_argument("--quiet", action="store_true", help="only the claims")
    parser.add_argument("--out", metavar="DIR", default=f"runs/benchmarks/{out}", help="output folder (%(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="processor threads; by default all cores")
    return parser


def add_sizes(parser: argparse.ArgumentParser, *, labeled: int | None, holdout: int | None, seeds: int) -> None:
    """Add flags that make a benchmark smaller, for a first look, or go on with it; claims are about the defaults."""
    if labeled is not None:
        parser.add_argument("--labeled", type=int, default=labeled, metavar="N", help="labels (%(default)s)")
    if holdout is not None:
        parser.add_argument("--holdout", type=int, default=holdout, metavar="N", help="held out (%(default)s)")
    parser.add_argument("--seeds", type=int, default=seeds, metavar="N", help="seeds (%(default)s)")
    parser.add_argument("--strategies", metavar="NAME,...", help="fewer strategies; their claims are left out")
    parser.add_argument("--resume", action="store_true", help="go on with what an interrupted run left in --out")


def run_example(file: str, options: argparse.Namespace, *, without: Sequence[str] = (), **changes: Any) -> Comparison:
    """Run an experiment of ``examples/`` with some settings changed; ``None`` leaves a setting as it is.

    Args:
        file: the experiment.
        options: of the command line: ``out``, ``threads``, ``quiet``, and ``resume`` where there is one.
        without: settings of the file that are left out.
        changes: settings that win over the file's.
    """
    values = {key: value for key, value in read_yaml(EXAMPLES / file).items() if key not in without}
    values |= {key: value for key, value in changes.items() if value is not None}
    values |= {"out": options.out, "tracking": False}
    if not getattr(options, "resume", False):
        shutil.rmtree(options.out, ignore_errors=True)  # a finished comparison there would be taken for this one
    if options.threads is not None:
        values["threads"] = options.threads
    data = values.pop("data")
    # As the command line does.
    keep_freed_memory()
    keep_kernels()
    reporter = LineReporter(Console(stderr=True), values.get("metric", "macro_f1"), quiet=options.quiet)
    comparison = headstart.compare(data, reporter=reporter, **values)
    if not options.quiet:
        Console(width=150).print(render_table(comparison.record))
    return comparison


def value(comparison: Comparison, strategy: str, metric: str) -> float | None:
    """Return a strategy's mean over seeds on the holdout; None where it was not fitted."""
    for row in comparison.record["strategies"]:
        if row["name"] == strategy and row["status"] == "ok":
            found = row["metrics"][metric]["value"]
            return None if found is None else float(found)
    return None


def at_least(claim: str, got: float | None, bound: float, *, none: str = "not fitted") -> Claim:
    """Return the claim that ``got`` is at least ``bound``; ``none`` says why there is nothing to compare."""
    return Claim(claim, f">= {bound:.4g}", none if got is None else said(got), got is not None and got >= bound)


def median_at_least(claim: str, values: Sequence[float], bound: float, *, none: str = "not measured") -> Claim:
    """Return the claim that the median of values is at least ``bound``; what was got tells the range too."""
    met = bool(values) and statistics.median(values) >= bound
    return Claim(claim, f">= {bound:.4g}", spread(values) if values else none, met)


def median_at_most(claim: str, values: Sequence[float], bound: float) -> Claim:
    """Return the claim that the median of values is at most ``bound``; what was got tells the range too."""
    return Claim(claim, f"<= {bound:.4g}", spread(values), statistics.median(values) <= bound)


def spread(values: Sequence[float]) -> str:
    """Return median, smallest and largest, ``5.61 (5.4 to 5.93)``; one value stands alone."""
    middle = f"{statistics.median(values):.4g}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.4g} to {max(values):.4g})"


def above(claim: str, got: float | None, other: float | None) -> Claim:
    """Return the claim that ``got`` is above ``other``."""
    met = got is not None and other is not None and got > other
    return Claim(claim, f"> {said(other)}", said(got), met)


def said(number: float | None) -> str:
    """Return four decimals, or that there is none."""
    return "not fitted" if number is None else f"{number:.4f}"


def table_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the leaderboard as JSON: per strategy its metrics with intervals and its costs."""
    return [
        {
            "strategy": row["name"],
            "status": row["status"],
            "reason": row["reason"],
            **{metric: _ends(row, metric) for metric in _SHOWN},
            "validation": row["validation"].get(record["metric"]),
            **{key: row.get(key) for key in _COSTS},
        }
        for row in ordered(record)
    ]


def _ends(row: Mapping[str, Any], metric: str) -> list[float | None]:
    found = row["metrics"].get(metric) or {}
    return [found.get("value"), found.get("low"), found.get("high")]


def comparison_result(comparison: Comparison) -> dict[str, Any]:
    """Return what is kept of a comparison in a result file."""
    record = comparison.record
    keys = ("metric", "winner", "ties", "rows", "source", "cut", "runtime")
    return {"table": table_rows(record), **{key: record[key] for key in keys}}


def finish(name: str, options: argparse.Namespace, claims: Sequence[Claim], figures: Mapping[str, Any]) -> int:
    """Print claims, the processor and its product rates, write the result file; return 1 if a claim is not met."""
    machine = hardware()
    rates = figures.get("product_rates") or choose_runtime().product_rates
    for claim in claims:
        print(f"{'met    ' if claim.met else 'NOT MET'}  {claim.claim}: {claim.got} (bound {claim.bound})")
    print(f"{machine['processor']}, {machine['cores']} cores; products of (1024, 384, 1536) in GFLOP/s: {rates}")
    if options.json is not None:
        result = {
            "benchmark": name,
            "command": _command_line(sys.argv),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "claims": [asdict(claim) for claim in claims],
            **figures,
            "product_rates": rates,
            "machine": machine,
            "versions": versions(),
        }
        write_json(options.json, result)
    return 0 if all(claim.met for claim in claims) else 1


def _command_line(words: Sequence[str]) -> str:
    """Return the command without the flags that only say where its output goes."""
    kept = [f"benchmarks/{Path(words[0]).name}"]
    rest = iter(words[1:])
    for word in rest:
        if word in ("--json", "--out"):
            next(rest, None)
        elif word != "--quiet" and not word.startswith(("--json=", "--out=")):
            kept.append(word)
    return shlex.join(["python", *kept])


# --- files and models to label, where only the labeling counts -------------------------------------------------


def phrases_file(path: Path, rows: int, *, spoil_every: int = 0) -> Path:
    """Write rows of phrases of the SST-2 train set, over and over, each with its number.

    Args:
        path: .csv or .parquet.
        rows: how many.
        spoil_every: of so many rows one has no text; 0: none.
    """
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    phrases = pa.parquet.read_table(shared_data("sst2_train.parquet")).column("text").to_pylist()
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([("id", pa.int64()), ("text", pa.string())])
    parquet = path.suffix == ".parquet"
    with pa.parquet.ParquetWriter(path, schema) if parquet else pa.csv.CSVWriter(path, schema) as writer:
        for start in range(0, rows, 50_000):
            ids = range(start, min(rows, start + 50_000))
            texts = [" " if spoil_every and i % spoil_every == 7 else phrases[i % len(phrases)] for i in ids]
            writer.write_table(pa.table([pa.array(ids), pa.array(texts)], schema=schema))
    return path


def tiny_model(folder: Path) -> Path:
    """Write a classifier of one layer and width 32 with random weights and MiniLM's tokenizer."""
    from headstart.data.examples import Examples
    from headstart.data.labels import Labels
    from headstart.models import folder as model_folder
    from headstart.models.batching import TextSettings
    from headstart.models.encoders import find_encoder
    from headstart.models.loading import load_config, load_tokenizer, new_classifier
    from headstart.models.network import NetworkClassifier
    from headstart.models.runtime import Runtime

    encoder = find_encoder("minilm").folder
    config = load_config(encoder)
    config.update({"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64})
    labels, text = Labels.of(["negative", "positive"]), TextSettings(64)
    model = new_classifier(config, labels, seed=1)
    classifier = NetworkClassifier(model, load_tokenizer(encoder), labels, text, Runtime())
    model_folder.save(classifier, folder, text=text, check=Examples.of(["a film"]), card={"strategy": "random"})
    return folder


# --- runs as a user has them: a process of its own, with a cache of its own ------------------------------------


def command(experiment: Path, out: Path, *more: str) -> list[str]:
    """Return the command line of ``headstart compare``, with this Python."""
    return [sys.executable, "-c", MAIN, "compare", str(experiment), "--out", str(out), "--quiet", *more]


def start(words: Sequence[str], *, cache: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a command with an own cache folder; what it prints is added to ``log``."""
    cache.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as handle:
        return subprocess.Popen(
            words, stdout=handle, stderr=subprocess.STDOUT, env={**os.environ, "HEADSTART_CACHE": str(cache)}
        )


def run_to_end(words: Sequence[str], *, cache: Path, log: Path) -> None:
    """Run a command to its end.

    Raises:
        SystemExit: it failed; the end of its log is shown.
    """
    code = start(words, cache=cache, log=log).wait()
    if code:
        raise SystemExit(f"exit code {code}:\n{log.read_text(errors='replace')[-2000:]}")


def add_sides(parser: argparse.ArgumentParser, sides: Sequence[str]) -> None:
    """Add the flags that `run_apart` gives to a race's own script: which side to run, and its seed."""
    parser.add_argument("--side", choices=sides, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)


def run_apart(
    script: str, options: argparse.Namespace, side: str, *, seed: int, names: Sequence[str]
) -> dict[str, Any]:
    """Run one side of a race in a process of its own; return the figures that it prints last, as JSON.

    Args:
        script: the race's own file.
        options: as given to the race; those in ``names``, and ``threads``, are handed on.
        side: which one.
        seed: of this run.
        names: flags of sizes.
    """
    words = [sys.executable, script, "--side", side, "--seed", str(seed)]
    given = {name: getattr(options, name) for name in (*names, "threads")}
    words += [word for name, number in given.items() if number is not None for word in (f"--{name}", str(number))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-2000:]}")
    last = done.stdout.strip().splitlines()[-1]
    if not options.quiet:
        print(side, last, file=sys.stderr)
    return dict(json.loads(last))


def differing(one: Any, other: Any, at: str = "") -> Iterator[str]:
    """Yield the places where two JSON values differ, as ``strategies[3].metrics.accuracy.value: 0.8 / 0.9``."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in sorted({*one, *other}):
            yield from differing(one.get(key), other.get(key), f"{at}.{key}" if at else key)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for place, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from differing(left, right, f"{at}[{place}]")
    elif one != other:
        yield f"{at}: {json.dumps(one)[:60]} / {json.dumps(other)[:60]}"


def records_of(folder: Path) -> dict[str, Any]:
    """Return the stable part of a comparison's record and of every fit's, by their place in the folder."""
    files = [folder / "comparison.json", *sorted((folder / "fits").rglob("record.json"))]
    return {str(file.relative_to(folder)): stable(read_json(file)) for file in files}


def same_files(one: Path, other: Path, pattern: str) -> tuple[int, list[str]]:
    """Return how many files match ``pattern`` in a folder, and which are not byte for byte the same in the other."""
    names = sorted(str(file.relative_to(one)) for file in one.glob(pattern) if file.is_file())
    names += [
        n for n in sorted(str(f.relative_to(other)) for f in other.glob(pattern) if f.is_file()) if n not in names
    ]
    return len(names), [name for name in names if not _same_bytes(one / name, other / name)]


def _same_bytes(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and one.read_bytes() == other.read_bytes()
