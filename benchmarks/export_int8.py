"""int8 export against torch: speed in batches and alone, and what accuracy it costs, on hotel remarks and SST-2.

On each set MiniLM is fine-tuned and exported with `--int8`; the accuracy is that on rows the fit never saw. Torch runs
in bfloat16, whichever precision it would choose on this processor; both run in turn, in one process. How many points it
loses on all held-out rows, and the two ratios, are the claims. Without `--force` an export is refused when it misses
them on the texts that it is given, against torch in the precision that it chooses here, which is told too.

    python benchmarks/export_int8.py --json benchmarks/results/export_int8.json
    python benchmarks/export_int8.py --model sst2=runs/benchmarks/sst2/best --sets sst2 --holdout 200
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd

import headstart
from common import Claim, finish, new_parser, shared_data
from headstart.data.examples import Examples
from headstart.models import folder as model_folder
from headstart.models.exporting import export_model, speeds
from headstart.models.runtime import choose_runtime, keep_freed_memory
from headstart.records import hardware

_POINTS = 0.5
_BATCHES = 1.2
_SINGLE = 2.0
_FITTED_ON = 2000


def main() -> int:
    parser = new_parser(__doc__, out="export_int8")
    parser.add_argument("--sets", default="hotel,sst2", metavar="NAME,...", help="(%(default)s)")
    parser.add_argument("--holdout", type=int, default=4000, metavar="N", help="most held-out rows (%(default)s)")
    parser.add_argument("--model", action="append", default=[], metavar="SET=FOLDER", help="fitted before; any number")
    options = parser.parse_args()
    if options.threads is not None:
        import torch

        torch.set_num_threads(options.threads)
    keep_freed_memory()
    folder, given = Path(options.out), dict(pair.split("=", 1) for pair in options.model)
    claims: list[Claim] = []
    figures: dict[str, Any] = {}
    for name in options.sets.split(","):
        train, held = SETS[name]()
        held = held.sample(min(options.holdout, len(held)), random_state=0)
        model = Path(given[name]) if name in given else fitted(train, folder / name)
        report = exported(model, held, folder / f"{name}-int8")
        report["speed_against_bfloat16"] = against_bfloat16(model, folder / f"{name}-int8", held, report["speed"])
        figures[name] = {
            key: report[key]
            for key in ("accuracy", "speed", "speed_against_bfloat16", "largest_difference", "calibration", "bytes")
        }
        claims += claims_of(name, report)
        print(f"{name}, against bfloat16: {report['speed_against_bfloat16']}")
    runtime = choose_runtime()
    print(hardware()["processor"])
    print(f"products, GFLOP/s at (1024, 384, 1536): {runtime.product_rates}; precision chosen: {runtime.precision}")
    figures |= {"precision": runtime.precision, "product_rates_gflops": runtime.product_rates}
    return finish("export_int8", options, claims, figures)


def claims_of(name: str, report: dict[str, Any]) -> list[Claim]:
    """Return the claims on one set; what misses one of them has to be refused where nobody forces it."""
    speed, lost = report["speed_against_bfloat16"], report["accuracy"]["points_lost"]
    batches, single = speed["batches_ratio"], speed["single_ratio"]
    reached = lost <= _POINTS and batches >= _BATCHES and single >= _SINGLE
    refused = "; ".join(report["faults"])
    return [
        Claim(f"{name}: points of accuracy lost", f"<= {_POINTS}", f"{lost:.2f}", lost <= _POINTS),
        Claim(f"{name}: texts per second over bf16 torch's", f">= {_BATCHES}", f"{batches:.2f}", batches >= _BATCHES),
        Claim(f"{name}: bf16 torch's time for one text over ours", f">= {_SINGLE}", f"{single:.2f}", single >= _SINGLE),
        Claim(
            f"{name}: all three, or refused without --force",
            "yes",
            "yes" if reached else f"refused: {refused}" if refused else "no",
            reached or bool(refused),
        ),
    ]


def against_bfloat16(model: Path, exported: Path, held: pd.DataFrame, speed: dict[str, Any]) -> dict[str, Any]:
    """Return the speeds of an export and of torch in bfloat16: those of the export itself, where it measured that."""
    if speed["torch_precision"] == "bfloat16":
        return speed
    torch_one = model_folder.load(model, precision="bfloat16", device="cpu").classifier
    texts = Examples.of(held["text"].tolist())
    return {"torch_precision": "bfloat16", **speeds(torch_one, model_folder.load(exported).classifier, texts)}


def _sst2() -> tuple[pd.DataFrame, pd.DataFrame]:
    train = pd.read_parquet(shared_data("sst2_train.parquet")).drop_duplicates("text")
    return train.sample(_FITTED_ON, random_state=1), pd.read_parquet(shared_data("sst2_dev.parquet"))


def _hotel() -> tuple[pd.DataFrame, pd.DataFrame]:
    frame = pd.read_parquet(shared_data("hotel_reviews.parquet")).drop_duplicates("text").sample(frac=1, random_state=1)
    return frame[:_FITTED_ON], frame[_FITTED_ON:]


SETS = {"hotel": _hotel, "sst2": _sst2}


def fitted(train: pd.DataFrame, out: Path) -> Path:
    """Fine-tune MiniLM and return the model's folder."""
    settings = {"full": {"epochs": 4}}
    headstart.fit(train, strategy="full", encoder="minilm", settings=settings, out=str(out), tracking=False)
    return out / "best"


def exported(model: Path, held: pd.DataFrame, out: Path) -> dict[str, Any]:
    """Export in int8, measured on the held-out rows; return the report."""
    labels = model_folder.load(model).labels
    examples = Examples.of(held["text"].tolist(), labels.encode(held["label"]))
    return export_model(model, out, int8=True, examples=examples, force=True).report


if __name__ == "__main__":
    sys.exit(main())
