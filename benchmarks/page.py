"""Write docs/benchmarks.md and docs/defaults.md from benchmarks/results/*.json: no figure is typed by hand.

python benchmarks/page.py            # write both pages
python benchmarks/page.py --check    # exit code 1 if a page is not what the results say
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import RESULTS, ROOT
from headstart.adaptation.config import AdaptConfig
from headstart.records import read_json
from headstart.report.words import count, seconds, size
from headstart.strategies.table import config_for, plan

Result = Mapping[str, Any]
BENCHMARKS_PAGE = ROOT / "docs" / "benchmarks.md"
DEFAULTS_PAGE = ROOT / "docs" / "defaults.md"
_NOT_RUN = "*No results yet: run the command above, then `python benchmarks/page.py`.*"


@dataclass(frozen=True)
class Section:
    """One benchmark on the page.

    Attributes:
        stem: name of its result file, without ``.json``.
        title: heading.
        text: what it shows.
        command: how it is run.
    """

    stem: str
    title: str
    text: str
    command: str


_SECTIONS = (
    Section(
        "film_to_hotel",
        "Film snippets to hotel remarks",
        "8,530 critics' snippets are the source, 600 hotel remarks the labels, 2,000 are held out; three seeds. "
        "Explained in [examples/hotel_remarks.md](../examples/hotel_remarks.md).",
        "python benchmarks/film_to_hotel.py --json benchmarks/results/film_to_hotel.json",
    ),
    Section(
        "film_to_hotel_gru",
        "The same with a GRU as encoder",
        "No pretrained encoder: a GRU is trained on the snippets and transferred. "
        "Explained in [examples/hotel_remarks_gru.md](../examples/hotel_remarks_gru.md).",
        "python benchmarks/film_to_hotel.py --encoder gru --json benchmarks/results/film_to_hotel_gru.json",
    ),
    Section(
        "hotel_few_labels",
        "Hotel remarks with 100 labels",
        "80 remarks to train on, 20 to choose with, 2,000 held out; five seeds, each with labels of its own; the "
        "others are the unlabeled pool. Explained in [examples/hotel_few_labels.md](../examples/hotel_few_labels.md).",
        "python benchmarks/hotel_few_labels.py --json benchmarks/results/hotel_few_labels.json",
    ),
    Section(
        "setfit_race",
        "`contrastive` against SetFit",
        "The same pairs, steps and rate on 100 hotel remarks: ours, and SetFit's recipe with sentence-transformers' "
        "loss in a plain loop, on these pairs and on pairs drawn as SetFit draws them, all without dropout; and SetFit "
        "itself, as it comes.",
        "python benchmarks/setfit_race.py --python VENV/bin/python --json benchmarks/results/setfit_race.json",
    ),
    Section(
        "finance_to_fashion",
        "Finance headlines to clothing reviews",
        "Three classes, 600 labels, 2,000 held out, three seeds, judged by macro-F1. "
        "Explained in [examples/clothing_reviews.md](../examples/clothing_reviews.md).",
        "python benchmarks/finance_to_fashion.py --json benchmarks/results/finance_to_fashion.json",
    ),
    Section(
        "sst2",
        "SST-2, the whole train set",
        "Every weight of MiniLM is fine-tuned; dev is the holdout and chooses nothing. "
        "Explained in [examples/sst2.md](../examples/sst2.md).",
        "python benchmarks/sst2.py --json benchmarks/results/sst2.json",
    ),
    Section(
        "mlflow_versions",
        "One MLflow model, every MLflow",
        "A winner of every kind as an MLflow model, in the environments given: loaded, served, and as a Spark UDF, "
        "compared with `headstart predict`. Explained in [registry.md](registry.md).",
        "python benchmarks/mlflow_versions.py --python mlflow217/bin/python --python mlflow222/bin/python "
        "--python .venv/bin/python --json benchmarks/results/mlflow_versions.json",
    ),
    Section(
        "portuguese_reviews",
        "Portuguese reviews: from scratch, pretrained, pretrained further",
        "600 labels, 1,000 held out, the rest unlabeled, three seeds; then with 150 and 50 labels. "
        "Explained in [examples/portuguese_reviews.md](../examples/portuguese_reviews.md).",
        "python benchmarks/portuguese_reviews.py --json benchmarks/results/portuguese_reviews.json",
    ),
    Section(
        "adapt_race",
        "Adaptation against transformers' Trainer",
        "The same texts, settings, objective and start; seconds of training to the same held-out loss. "
        "Explained in [adaptation.md](adaptation.md).",
        "python benchmarks/adapt_race.py --json benchmarks/results/adapt_race.json",
    ),
    Section(
        "adapt_rows",
        "Short reviews one by one, or joined into blocks",
        "1,000 reviews, three seeds, the same tokens a step; the loss is that of held-out single texts at the same "
        "masked positions. Explained in [adaptation.md](adaptation.md).",
        "python benchmarks/adapt_rows.py --json benchmarks/results/adapt_rows.json",
    ),
    Section(
        "adapt_killed",
        "Adaptation, killed at random points",
        "`headstart adapt`, undisturbed and killed three times with `kill -9`.",
        "python benchmarks/adapt_killed.py --json benchmarks/results/adapt_killed.json",
    ),
    Section(
        "same_seed",
        "The same seed twice",
        "Three processes with empty caches: seed 0, seed 0 again, seed 1. "
        "Explained in [examples/same_seed.md](../examples/same_seed.md).",
        "python benchmarks/same_seed.py --json benchmarks/results/same_seed.json",
    ),
    Section(
        "killed",
        "Killed at three points",
        "The demo, undisturbed and killed three times with `kill -9`. "
        "Explained in [examples/interrupted.md](../examples/interrupted.md).",
        "python benchmarks/killed.py --json benchmarks/results/killed.json",
    ),
    Section(
        "recipe_race",
        "Against the tutorials' recipe",
        "600 snippets, 5 epochs, 2,000 texts scored after each: transformers' `Trainer` as the notebooks use it, and "
        "the same work here. The ratios claimed are for a processor with bfloat16 products.",
        "python benchmarks/recipe_race.py --json benchmarks/results/recipe_race.json",
    ),
    Section(
        "precision_noise",
        "bfloat16 against float32",
        "Accuracy of `full` in both precisions, five seeds, against what another seed changes.",
        "python benchmarks/precision_noise.py --json benchmarks/results/precision_noise.json",
    ),
    Section(
        "useful_arithmetic",
        "Useful arithmetic",
        "Matrix products of a plain loop over real tokens, over the processor's rate of such products in the same run.",
        "python benchmarks/useful_arithmetic.py --json benchmarks/results/useful_arithmetic.json",
    ),
    Section(
        "frozen_once",
        "Nothing frozen is computed twice",
        "Encoder passes of `linear-probe` and `boosted` with three seeds each, counted; epochs of `partial` against "
        "epochs of `full`.",
        "python benchmarks/frozen_once.py --json benchmarks/results/frozen_once.json",
    ),
    Section(
        "demo_sum",
        "The demo against its strategies one by one",
        "One comparison, against a process with an empty cache for each strategy.",
        "python benchmarks/demo_sum.py --json benchmarks/results/demo_sum.json",
    ),
    Section(
        "cost_growth",
        "How cost grows",
        "Seconds and memory against the number of texts, their length and the number of strategies.",
        "python benchmarks/cost_growth.py --json benchmarks/results/cost_growth.json --plot docs/cost_growth.png",
    ),
    Section(
        "serve_load",
        "A server under load",
        "Ours, `mlflow models serve` and a plain handler around a pipeline: 32 connections, one sentence per request; "
        "then an alias of the registry is moved under the same load.",
        "python benchmarks/serve_load.py --json benchmarks/results/serve_load.json",
    ),
    Section(
        "serve_fuzz",
        "20,000 requests that nobody should send",
        "Made up from the server's description, and mutated; memory is sampled.",
        "python benchmarks/serve_fuzz.py --json benchmarks/results/serve_fuzz.json",
    ),
    Section(
        "serve_start",
        "From starting a server to its first answer",
        "A fresh process on a model of MiniLM's size, five times.",
        "python benchmarks/serve_start.py --json benchmarks/results/serve_start.json",
    ),
    Section(
        "predict_race",
        "Labeling against the pipeline",
        "20,000 phrases of SST-2, from file to file, against transformers' `pipeline(..., batch_size=32)`, in turn. "
        "Explained in [prediction.md](prediction.md).",
        "python benchmarks/predict_race.py --json benchmarks/results/predict_race.json",
    ),
    Section(
        "predict_memory",
        "Memory of labeling a large file",
        "1,000,000 rows against 100,000, a tiny classifier, peak memory of the process.",
        "python benchmarks/predict_memory.py --json benchmarks/results/predict_memory.json",
    ),
    Section(
        "predict_killed",
        "Labeling killed ten times",
        "200,000 rows, `kill -9` at random moments, the same command again.",
        "python benchmarks/predict_killed.py --json benchmarks/results/predict_killed.json",
    ),
    Section(
        "export_int8",
        "int8 export",
        "MiniLM fine-tuned on hotel remarks and on SST-2, exported to int8, against torch. "
        "Explained in [export.md](export.md).",
        "python benchmarks/export_int8.py --json benchmarks/results/export_int8.json",
    ),
)
_BENCHMARKS_HEAD = """# Benchmarks

This page is written by `benchmarks/page.py` from the files in `benchmarks/results/`; do not edit it.

Each command prints what is claimed, the bound, what was found and whether the claim is met, and ends with exit code 1
if one is not. The data of most benchmarks is not part of the repository: it is looked for in `../shared/data` beside
the checkout, or in `$HEADSTART_SHARED/data`.

Scores are means over seeds on the holdout with their 95% interval; rows are sorted by validation, which chooses.
"""
_ADAPT = "adapt."
_DEFAULTS_HEAD = """# How the defaults were chosen

This page is written by `benchmarks/page.py` from `benchmarks/results/defaults_*.json`; do not edit it.

`benchmarks/defaults.py` fits candidates of one strategy's settings on several sets and ranks them within each set by
macro-F1 on rows held out for this purpose; the mean rank over the sets decides, and the mean macro-F1 breaks ties.
Rows that the other benchmarks hold out are removed before anything is drawn, so that no default is chosen on rows
that later qualify a claim. A mean rank is a coarse judge: neighbors in these tables are often equal within chance,
and then the cheaper setting or the usual one was kept.

The column *default* marks the candidate that equals the defaults in the code.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; say which pages are out of date")
    check = parser.parse_args().check
    stale = [page for page, text in pages().items() if not page.is_file() or page.read_text(encoding="utf-8") != text]
    for page in stale:
        print(f"{page.relative_to(ROOT)} {'is out of date: run python benchmarks/page.py' if check else 'written'}")
        if not check:
            page.write_text(pages()[page], encoding="utf-8")
    return 1 if check and stale else 0


def pages(results: Path = RESULTS) -> dict[Path, str]:
    """Return each page's text as the result files say it."""
    found = {file.stem: read_json(file) for file in sorted(results.glob("*.json"))}
    return {BENCHMARKS_PAGE: benchmarks_page(found), DEFAULTS_PAGE: defaults_page(found)}


def benchmarks_page(results: Mapping[str, Result]) -> str:
    """Return the text of docs/benchmarks.md."""
    parts = [_BENCHMARKS_HEAD]
    for section in _SECTIONS:
        result = results.get(section.stem)
        body = _NOT_RUN if result is None else "\n\n".join(_result_parts(result))
        parts.append(f"## {section.title}\n\n{section.text}\n\n```text\n{section.command}\n```\n\n{body}\n")
    return "\n".join(parts)


def _result_parts(result: Result) -> list[str]:
    parts = [_claims(result["claims"])]
    if result.get("speed"):
        speed = result["speed"]
        parts.append(
            f"Trained on {speed['samples']:,} texts in {speed['seconds']:.0f} seconds, scoring of validation included: "
            f"{speed['samples_per_second']:.0f} texts per second."
        )
    if result.get("table"):
        parts.append(_scores(result["table"]))
        parts.append(f"Winner by validation: `{result['winner']}`.{_ties(result['ties'])}")
    if result.get("by_seed"):
        parts.append(_by_seed(result["by_seed"]))
    if result.get("growth"):
        parts.append(_growth(result["growth"]))
        parts.append("![seconds and memory over texts, length and strategies](cost_growth.png)")
    if result.get("against"):
        parts.append(_leads(result["against"]))
    if result.get("told"):
        parts.append("\n".join(f"- {sentence}" for sentence in result["told"]))
    if result.get("kills"):
        parts.append(_kills(result))
    parts.append(_machine(result))
    return parts


def _claims(claims: Sequence[Result]) -> str:
    rows = [[c["claim"], c["bound"], c["got"], "yes" if c["met"] else "**no**"] for c in claims]
    return markdown(["claim", "bound", "got", "met"], rows)


def _scores(rows: Sequence[Result]) -> str:
    cells = [
        [
            f"`{row['strategy']}`",
            *(_interval(row[metric]) for metric in ("macro_f1", "accuracy", "roc_auc")),
            seconds(row["seconds_fit"]),
            count(row["texts_per_second"]),
            size(row["peak_memory_bytes"]),
            count(row["parameters_trained"]),
        ]
        if row["status"] == "ok"
        else [f"`{row['strategy']}`", f"{row['status']}: {row['reason']}", *[""] * 6]
        for row in rows
    ]
    names = ["strategy", "macro-F1", "accuracy", "ROC AUC", "fit", "texts/s", "memory", "trained"]
    return markdown(names, cells)


def _by_seed(accuracies: Mapping[str, Sequence[float]]) -> str:
    """Return accuracies on the holdout, seed by seed and their mean, the best mean first."""
    means = {name: sum(found) / len(found) for name, found in accuracies.items()}
    order = sorted(means, key=lambda name: -means[name])
    cells = [[f"`{name}`", f"{means[name]:.4f}", *(f"{one:.4f}" for one in accuracies[name])] for name in order]
    seeds = range(len(accuracies[order[0]]))
    return markdown(["strategy", "accuracy, mean", *(f"seed {seed}" for seed in seeds)], cells)


def _growth(rows: Sequence[Result]) -> str:
    cells = [
        [
            row["of"],
            *(str(row[name]) for name in ("times", "texts", "tokens", "strategies")),
            seconds(row["seconds_fit"]),
            seconds(row["seconds"]),
            size(row["peak_memory_bytes"]),
        ]
        for row in rows
    ]
    heads = ["times", "texts", "tokens at most", "strategies", "seconds to fit", "whole process", "peak memory"]
    return markdown(["grown", *heads], cells)


def _interval(ends: Sequence[float | None]) -> str:
    value, low, high = ends
    if value is None:
        return "–"  # noqa: RUF001  # a dash for what is not defined
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _leads(against: Mapping[str, Any]) -> str:
    """Return each contender's lead in accuracy over each yardstick, with Holm's interval."""
    rows = [
        [f"`{name}`", f"`{yardstick}`", _interval([lead["value"], lead["low"], lead["high"]]), f"{lead['p_holm']:.4f}"]
        for yardstick, metrics in against.items()
        for name, lead in metrics["accuracy"].items()
    ]
    return markdown(["strategy", "against", "lead in accuracy, Holm-adjusted interval", "adjusted p"], rows)


def _ties(names: Sequence[str]) -> str:
    return f" The holdout cannot tell it from {', '.join(f'`{name}`' for name in names)}." if names else ""


def _kills(result: Result) -> str:
    rows = [[f"{kill['seconds']:.0f}", str(len(kill["fits_finished"]))] for kill in result["kills"]]
    table = markdown(["killed after seconds of running", "fits finished by then"], rows)
    return f"Undisturbed it took {result['seconds_undisturbed']:.0f} seconds.\n\n{table}"


def _machine(result: Result) -> str:
    machine, used = result["machine"], result.get("runtime") or {}
    measured_rates = used.get("product_rates") or result.get("product_rates") or {}
    rates = ", ".join(f"{name} {rate:.0f}" for name, rate in measured_rates.items())
    arithmetic = f"; {used['precision']}, {used['threads']} threads" if used else ""
    measured = f"; matrix products measured at GFLOP/s: {rates}" if rates else ""
    names = ("python", "headstart", "torch", "transformers")
    versions = ", ".join(f"{name} {result['versions'][name]}" for name in names if name in result["versions"])
    return (
        f"{result['date']}, {machine['processor']}, {machine['cores']} cores, "
        f"{size(machine['memory_bytes'])} of memory{arithmetic}{measured}; {versions}."
    )


def defaults_page(results: Mapping[str, Result]) -> str:
    """Return the text of docs/defaults.md."""
    found = [result for stem, result in results.items() if stem.startswith("defaults_")]
    parts = [_DEFAULTS_HEAD, *(_ranking(result) for result in found)]
    if not found:
        command = "python benchmarks/defaults.py --strategy full --set learning_rate=5e-5,1e-4,2e-4 \\\n"
        command += "    --json benchmarks/results/defaults_full.json"
        parts.append(f"```text\n{command}\n```\n\n{_NOT_RUN}\n")
    return "\n".join(parts)


def _ranking(result: Result) -> str:
    sets = result["datasets"]
    rows = [
        [
            ", ".join(f"{key}={_short(value)}" for key, value in row["candidate"].items()) or "(defaults)",
            "yes" if is_default(result["strategy"], row["candidate"]) else "",
            f"{row['rank']:.2f}",
            f"{row['macro_f1']:.4f}",
            f"{row['log_loss']:.4f}",
            f"{row['seconds']:.1f}",
            *(f"{row['per_dataset'][name]:.4f}" for name in sets),
        ]
        for row in result["ranking"]
    ]
    names = ["settings", "default", "mean rank", "mean macro-F1", "mean log loss", "seconds", *sets]
    note = f"{result['labeled']} labels, {result['seeds']} seeds. {_machine(result)}"
    return f"## `{result['strategy']}`\n\n```text\n{result['command']}\n```\n\n{markdown(names, rows)}\n\n{note}\n"


def is_default(strategy: str, candidate: Mapping[str, Any]) -> bool:
    """Whether a candidate of a strategy equals its defaults in the code; unknown where it sets another's."""
    adapting = {key.removeprefix(_ADAPT): value for key, value in candidate.items() if key.startswith(_ADAPT)}
    own = {key: value for key, value in candidate.items() if not key.startswith(_ADAPT)}
    if any("." in key for key in own):
        return False
    chosen = plan(strategy)
    same = config_for(chosen, {}) == config_for(chosen, {strategy: own})
    return same and AdaptConfig(**adapting) == AdaptConfig()


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def markdown(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
