"""MLflow models of every kind of winner, in every MLflow that is to be had: one folder, the same answers everywhere.

A model of each kind is fitted on film snippets and written as an MLflow model. Each Python named with `--python` (an
environment with some version of MLflow and what the model's requirements.txt names, without headstart unless it is the
one that runs this) opens it with `mlflow.pyfunc.load_model` (a DataFrame, a Series, strings alone), asks
`mlflow.models.predict`, serves it with `mlflow models serve` and, where PySpark is, runs it as a Spark UDF. `headstart
serve` is asked the same texts. Answers are compared with `headstart predict` in float32.

    python -m venv mlflow217
    mlflow217/bin/pip install mlflow==2.17.2 "pyspark<4" -r REQUIREMENTS  # those of the packaged models
    mlflow222/bin/pip install mlflow==2.22.1 "pyspark<4" "fastapi<0.116" -r REQUIREMENTS
    python benchmarks/mlflow_versions.py --python .venv/bin/python --python mlflow217/bin/python --json FILE
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import headstart
from common import MAIN, Claim, finish, new_parser
from headstart.catalog import sample_frame
from headstart.models.predicting import predict_table
from headstart.registry.packaging import write_mlflow_model

KINDS = ("full", "linear-probe", "boosted", "tfidf", "scratch-gru")
BOUND = 1e-5
# The versions that the platform of the tutorial supports and uses, and the doors that each must have been asked by.
VERSIONS = ("2.17.2", "2.22.1")
DOORS = ("load_model", "models.predict", "models serve", "spark_udf")
OURS = "headstart serve"
_START_SECONDS = 300
# Runs in the other environment, with nothing of ours on its path (but in our own); prints one line of JSON.
_ASK = """
import importlib.util, json, os, sys, warnings
warnings.simplefilter("ignore")
os.environ["PYSPARK_PYTHON"] = sys.executable
bare = importlib.util.find_spec("headstart") is None
assert bare or sys.argv[3] == "own", "headstart is installed here: nothing would be learnt about what is carried along"
import mlflow, pandas as pd
folder, texts, out = sys.argv[1], json.load(open(sys.argv[2])), {"mlflow": mlflow.__version__, "bare": bare}
frame = pd.DataFrame({"text": texts})
opened = mlflow.pyfunc.load_model(folder)
out["load_model"] = opened.predict(frame).to_dict("list")
out["load_model, strings as a Series"] = opened.predict(pd.Series(texts, name="text")).to_dict("list")
out["load_model, strings alone"] = opened.unwrap_python_model().predict(None, texts).to_dict("list")
mlflow.models.predict(folder, input_data=frame, env_manager="local", output_path="predicted.json")
predicted = json.load(open("predicted.json"))["predictions"]
out["models.predict"] = pd.DataFrame(predicted).to_dict("list")
if importlib.util.find_spec("pyspark") is not None:
    from pyspark.sql import SparkSession
    from pyspark.sql.functions import col, struct
    spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    shares = [name for name in out["load_model"] if name != "prediction"]
    kind = ", ".join(["prediction string", *(f"`{name}` double" for name in shares)])
    ask = mlflow.pyfunc.spark_udf(spark, folder, env_manager="local", result_type=kind)
    asked = spark.createDataFrame([(i, t) for i, t in enumerate(texts)], ["id", "text"])
    answered = asked.withColumn("answer", ask(struct(*map(col, asked.columns)))).select("id", "answer.*")
    out["spark_udf"] = answered.toPandas().sort_values("id").drop(columns="id").to_dict("list")
print("ANSWER" + json.dumps(out))
"""


def main() -> int:
    parser = new_parser(__doc__, out="mlflow_versions")
    parser.add_argument("--python", action="append", metavar="FILE", help="an environment's Python; may be repeated")
    parser.add_argument("--kinds", default=",".join(KINDS), metavar="NAME,...", help="kinds of winner (%(default)s)")
    parser.add_argument("--labeled", type=int, default=200, metavar="N", help="labels (%(default)s)")
    parser.add_argument("--texts", type=int, default=50, metavar="N", help="texts asked about (%(default)s)")
    parser.add_argument("--no-serve", action="store_true", help="leave out `mlflow models serve`, and ours")
    options = parser.parse_args()
    folder = Path(options.out).resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    frame = sample_frame("film-snippets").sample(options.labeled + 60 + options.texts, random_state=0)
    asked = [str(text) for text in frame["text"].iloc[: options.texts]]
    (folder / "texts.json").write_text(json.dumps(asked))
    rows: list[dict[str, Any]] = []
    for kind in options.kinds.split(","):
        model = fit(kind, frame.iloc[options.texts :], folder / kind)
        packaged = write_mlflow_model(model, folder / f"{kind}.mlflow")
        ours = predict_table(headstart.load(model, precision="float32"), pd.DataFrame({"text": asked}))
        asked_here = [] if options.no_serve else [{"door": OURS, "answer": served_by_us(model, asked, folder)}]
        for python in [Path(p).absolute() for p in options.python or [sys.executable]]:
            asked_here += ask(python, packaged, folder, serve=not options.no_serve)
        for row in asked_here:
            gap = difference(row.pop("answer"), ours)
            rows.append({"kind": kind, **row, "largest_difference": gap})
            if not options.quiet:
                print(rows[-1], file=sys.stderr)
    return finish("mlflow_versions", options, claims_of(rows, options.kinds.split(",")), {"rows": rows})


def claims_of(rows: Sequence[Mapping[str, Any]], kinds: Sequence[str]) -> list[Claim]:
    """Return what was asked for every kind, and per door the largest difference over all kinds."""
    claims = []
    for version in VERSIONS:
        asked = {(row["kind"], row["door"]) for row in rows if row.get("mlflow") == version and row["bare"]}
        doors = [door for door in DOORS if all((kind, door) in asked for kind in kinds)]
        title = f"MLflow {version} without headstart: doors asked for every kind ({', '.join(kinds)})"
        claims.append(Claim(title, ", ".join(DOORS), ", ".join(doors) or "none", doors == list(DOORS)))
    by_door: dict[str, list[float]] = {}
    for row in rows:
        where = f"MLflow {row['mlflow']}, {row['door']}" if "mlflow" in row else row["door"]
        by_door.setdefault(where, []).append(row["largest_difference"])
    if OURS not in by_door:
        claims.append(Claim(f"{OURS} was asked", "yes", "no", met=False))
    for where, gaps in by_door.items():
        title = f"{where}: largest difference in probability over {len(gaps)} kinds"
        claims.append(Claim(title, f"<= {BOUND:g}", f"{max(gaps):.2g}", max(gaps) <= BOUND))
    return claims


def fit(kind: str, frame: pd.DataFrame, out: Path) -> Path:
    """Fit a small model of a kind; return its folder."""
    settings = {kind: {"epochs": 1}} if kind in ("full", "scratch-gru") else {}
    found = headstart.compare(
        frame, strategies=[kind], holdout_size=30, validation_size=30, max_length=32, settings=settings,
        encoder="minilm", tracking=False, out=str(out),
    )  # fmt: skip
    return found.folder / "best"


def ask(python: Path, packaged: Path, folder: Path, *, serve: bool) -> list[dict[str, Any]]:
    """Return what an environment's MLflow answers by each of its doors."""
    own = python == Path(sys.executable).absolute()
    environment = {name: value for name, value in os.environ.items() if own or name != "PYTHONPATH"}
    environment["DO_NOT_TRACK"] = "true"
    words = [str(python), "-c", _ASK, str(packaged), str(folder / "texts.json"), "own" if own else "bare"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment, cwd=folder)
    line = next((line for line in done.stdout.splitlines() if line.startswith("ANSWER")), None)
    if line is None:
        raise SystemExit(f"{python}: exit code {done.returncode}\n{done.stderr[-3000:]}")
    found = json.loads(line.removeprefix("ANSWER"))
    about = {"python": python.parts[-3], "mlflow": found.pop("mlflow"), "bare": found.pop("bare")}
    if serve:
        found["models serve"] = served(python, packaged, folder, environment)
    return [{**about, "door": door, "answer": answer} for door, answer in found.items()]


def served(python: Path, packaged: Path, folder: Path, environment: dict[str, str]) -> dict[str, list[Any]]:
    """Start `mlflow models serve`, ask once, stop it."""
    words = [str(python), "-m", "mlflow", "models", "serve", "-m", str(packaged), "--env-manager", "local"]
    words += ["--host", "127.0.0.1", "--workers", "1"]
    texts = json.loads((folder / "texts.json").read_text())
    body = {"dataframe_split": {"columns": ["text"], "data": [[text] for text in texts]}}
    path = f"{python.parent}{os.pathsep}{environment['PATH']}"
    found = asked_once(words, "/ping", "/invocations", body, folder / "serve.log", environment | {"PATH": path})
    return pd.DataFrame(found["predictions"]).to_dict("list")


def served_by_us(model: Path, texts: Sequence[str], folder: Path) -> dict[str, list[Any]]:
    """Start `headstart serve` in float32, ask once, stop it."""
    words = [sys.executable, "-c", MAIN, "serve", str(model.absolute()), "--precision", "float32", "--quiet"]
    found = asked_once(words, "/ready", "/predict", {"texts": list(texts)}, folder / "ours.log", dict(os.environ))
    answers = [
        {"prediction": one["label"], **{f"p_{name}": share for name, share in one["probabilities"].items()}}
        for one in found["predictions"]
    ]
    return pd.DataFrame(answers).to_dict("list")


def asked_once(
    words: Sequence[str], ready: str, place: str, body: Mapping[str, Any], log: Path, environment: dict[str, str]
) -> dict[str, Any]:
    """Start a server on a free port, post a body when it is ready, stop the server; return the answer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("wb") as handle:
        process = subprocess.Popen(
            [*words, "--port", str(port)], stdout=handle, stderr=handle, env=environment, cwd=log.parent,
            start_new_session=True,
        )  # fmt: skip
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(f"{address}{ready}", process, log)
        request = urllib.request.Request(
            f"{address}{place}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=_START_SECONDS) as answer:
            return dict(json.load(answer))
    finally:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself, and with a reason
            os.killpg(process.pid, 9)
        process.wait()


def wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server answers.

    Raises:
        SystemExit: it did not start.
    """
    give_up = time.monotonic() + _START_SECONDS
    while time.monotonic() < give_up and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    raise SystemExit(f"the server did not start:\n{log.read_text(errors='replace')[-3000:]}")


def difference(answer: dict[str, list[Any]], ours: pd.DataFrame) -> float:
    """Return the largest difference in probability; infinite where a label differs."""
    theirs = pd.DataFrame(answer)
    shares = [name for name in theirs if name.startswith("p_")]
    if [str(v) for v in theirs["prediction"]] != [str(v) for v in ours["prediction"]]:
        return float("inf")
    return float((theirs[shares].astype(float) - ours[shares].reset_index(drop=True)).abs().to_numpy().max())


if __name__ == "__main__":
    sys.exit(main())
