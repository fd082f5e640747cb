"""MLflow models of every kind of winner, in every MLflow that is to be had: one folder, the same answers everywhere.

A model of each kind is fitted on film snippets and written as an MLflow model. Each Python named with `--python` (an
environment with some version of MLflow and what the model requires; headstart need not be there) opens it with
`mlflow.pyfunc.load_model` (a DataFrame, a Series, strings alone), asks `mlflow.models.predict`, serves it with
`mlflow models serve` and, where PySpark is, runs it as a Spark UDF. Answers are compared with `headstart predict` in
float32.

    python benchmarks/mlflow_versions.py --python .venv/bin/python --python mlflow217/bin/python --json FILE
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pandas as pd

import headstart
from common import Claim, finish, new_parser
from headstart.catalog import sample_frame
from headstart.models.predicting import predict_table
from headstart.registry.packaging import write_mlflow_model

KINDS = ("full", "linear-probe", "boosted", "tfidf", "scratch-gru")
BOUND = 1e-5
_START_SECONDS = 300
# Runs in the other environment, with nothing of ours on its path; prints one line of JSON.
_ASK = """
import importlib.util, json, os, sys, warnings
warnings.simplefilter("ignore")
os.environ["PYSPARK_PYTHON"] = sys.executable
import mlflow, pandas as pd
folder, texts, out = sys.argv[1], json.load(open(sys.argv[2])), {"mlflow": mlflow.__version__}
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
    parser.add_argument("--no-serve", action="store_true", help="leave `mlflow models serve` out")
    options = parser.parse_args()
    folder = Path(options.out).resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    frame = sample_frame("film-snippets").sample(options.labeled + 60 + options.texts, random_state=0)
    asked = [str(text) for text in frame["text"].iloc[: options.texts]]
    (folder / "texts.json").write_text(json.dumps(asked))
    claims: list[Claim] = []
    rows: list[dict[str, Any]] = []
    for kind in options.kinds.split(","):
        model = fit(kind, frame.iloc[options.texts :], folder / kind)
        packaged = write_mlflow_model(model, folder / f"{kind}.mlflow")
        ours = predict_table(headstart.load(model, precision="float32"), pd.DataFrame({"text": asked}))
        for python in options.python or [sys.executable]:
            for row in ask(python, packaged, folder, serve=not options.no_serve):
                gap = difference(row.pop("answer"), ours)
                rows.append({"kind": kind, "python": Path(python).parts[-3], **row, "largest_difference": gap})
                title = f"{kind}, MLflow {row['mlflow']}, {row['door']}: largest difference in probability"
                claims.append(Claim(title, f"<= {BOUND:g}", f"{gap:.2g}", gap <= BOUND))
    return finish("mlflow_versions", options, claims, {"rows": rows})


def fit(kind: str, frame: pd.DataFrame, out: Path) -> Path:
    """Fit a small model of a kind; return its folder."""
    settings = {kind: {"epochs": 1}} if kind in ("full", "scratch-gru") else {}
    found = headstart.compare(
        frame, strategies=[kind], holdout_size=30, validation_size=30, max_length=32, settings=settings,
        encoder="minilm", tracking=False, out=str(out),
    )  # fmt: skip
    return found.folder / "best"


def ask(python: str, packaged: Path, folder: Path, *, serve: bool) -> list[dict[str, Any]]:
    """Return what an environment's MLflow answers by each of its doors."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"DO_NOT_TRACK": "true"}
    words = [python, "-c", _ASK, str(packaged), str(folder / "texts.json")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment, cwd=folder)
    line = next((line for line in done.stdout.splitlines() if line.startswith("ANSWER")), None)
    if line is None:
        raise SystemExit(f"{python}: exit code {done.returncode}\n{done.stderr[-3000:]}")
    found = json.loads(line.removeprefix("ANSWER"))
    rows = [{"mlflow": found["mlflow"], "door": door, "answer": found[door]} for door in found if door != "mlflow"]
    if serve:
        answer = served(python, packaged, folder, environment)
        rows.append({"mlflow": found["mlflow"], "door": "models serve", "answer": answer})
    return rows


def served(python: str, packaged: Path, folder: Path, environment: dict[str, str]) -> dict[str, list[Any]]:
    """Start `mlflow models serve`, ask once, stop it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [python, "-m", "mlflow", "models", "serve", "-m", str(packaged), "--env-manager", "local"]
    words += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    path = f"{Path(python).parent}{os.pathsep}{environment['PATH']}"
    log = folder / "serve.log"
    with log.open("wb") as handle:
        process = subprocess.Popen(
            words, stdout=handle, stderr=handle, env=environment | {"PATH": path}, cwd=folder, start_new_session=True
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", process, log)
        texts = json.loads((folder / "texts.json").read_text())
        body = json.dumps({"dataframe_split": {"columns": ["text"], "data": [[text] for text in texts]}})
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations", body.encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=_START_SECONDS) as answer:
            return pd.DataFrame(json.load(answer)["predictions"]).to_dict("list")
    finally:
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
    raise SystemExit(f"mlflow models serve did not start:\n{log.read_text(errors='replace')[-3000:]}")


def difference(answer: dict[str, list[Any]], ours: pd.DataFrame) -> float:
    """Return the largest difference in probability; infinite where a label differs."""
    theirs = pd.DataFrame(answer)
    shares = [name for name in theirs if name.startswith("p_")]
    if [str(v) for v in theirs["prediction"]] != [str(v) for v in ours["prediction"]]:
        return float("inf")
    return float((theirs[shares].astype(float) - ours[shares].reset_index(drop=True)).abs().to_numpy().max())


if __name__ == "__main__":
    sys.exit(main())
