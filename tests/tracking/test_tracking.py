"""What is written into MLflow, read back with a client of the test's own, from SQLite and from a running server."""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from headstart import errors
from headstart.errors import ConfigError, StorageError
from headstart.tracking import FitLog, NullTracker, Tracker, open_tracker, output_columns

# Not importorskip: an import outside of `open_tracker` would switch MLflow's telemetry on in this process.
pytestmark = pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="needs the extra [mlflow]")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    """No tracking address from outside, and a working folder in which a stray file would be seen."""
    for name in list(os.environ):
        if name.startswith("MLFLOW_"):
            monkeypatch.delenv(name)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


@pytest.fixture(scope="session")
def tables(tmp_path_factory):
    """A database of MLflow's without runs: making its tables takes longer than all a test does with them."""
    folder = tmp_path_factory.mktemp("tables")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        open_tracker(folder, experiment="another")
    return folder / "mlflow.db"


@pytest.fixture
def out(tmp_path, tables):
    """An output folder whose database has its tables."""
    (tmp_path / "out").mkdir()
    shutil.copy(tables, tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def files(tmp_path):
    """A record and a model folder."""
    model = tmp_path / "model"
    (model / "deep").mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (model / "deep" / "weights.safetensors").write_bytes(b"\x00" * 100)
    (tmp_path / "record.json").write_text('{"status": "ok"}')
    return [tmp_path / "record.json", model]


def fit_log(files, name="full seed 0", **changes):
    values = {
        "name": name,
        "params": {"rate": 2e-5, "lora": {"rank": 8, "targets": ["q", "v"]}, "odd?name": None, "long": "x" * 9000},
        "epochs": [{"loss": 0.7, "f1": None}, {"loss": 0.5, "f1": 0.6}],
        "final": {"macro_f1": 0.62, "roc_auc": None, "log_loss": math.nan},
        "artifacts": files,
        "inputs": {"text": "string", "stars": "long"},
        "outputs": output_columns(["neg", "pos"]),
    }
    return FitLog(**{**values, **changes})


def write_comparison(folder, files, key="k1"):
    tracker, notice = open_tracker(folder, experiment="films")
    assert notice is None
    parent = tracker.start("films", key, {"seeds": 2}, {"headstart.version": "0.1.0"})
    fits = [tracker.log_fit(fit_log(files, f"source+full seed {k}")) for k in range(2)]
    tracker.finish("finished", {"winner_macro_f1": 0.62}, files[:1])
    return parent, fits


def client_of(folder):
    from mlflow import MlflowClient

    return MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder}/mlflow.db")


def runs_of(client, experiment="films"):
    found = client.get_experiment_by_name(experiment)
    return client.search_runs([found.experiment_id])


def names(client, run, path=None):
    return {item.path for item in client.list_artifacts(run, path)}


@pytest.mark.parametrize("where", ["sqlite", "server"])
def test_a_comparison_is_written_down(where, tmp_path, files, monkeypatch, request):
    if where == "server":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", request.getfixturevalue("mlflow_server"))
    out = tmp_path / "out"
    parent, fits = write_comparison(out, files)

    client = client_of(out)
    above, below = client.get_run(parent), client.get_run(fits[1])
    assert above.info.run_name == "films"
    assert above.data.tags["headstart.key"] == "k1"
    assert above.data.metrics == {"winner_macro_f1": 0.62}
    assert below.info.run_name == "source+full seed 1"
    assert below.data.tags["mlflow.parentRunId"] == parent
    assert {above.info.status, below.info.status} == {"FINISHED"}
    assert below.data.params["rate"] == "2e-05"
    assert below.data.params["lora.targets"] == '["q", "v"]'
    assert below.data.params["odd_name"] == "null"
    assert set(below.data.params["long"]) == {"x"}
    assert below.data.metrics["final_macro_f1"] == 0.62
    assert math.isnan(below.data.metrics["final_log_loss"])
    assert "final_roc_auc" not in below.data.metrics
    assert [(m.step, m.value) for m in client.get_metric_history(fits[1], "loss")] == [(1, 0.7), (2, 0.5)]
    assert [(m.step, m.value) for m in client.get_metric_history(fits[1], "f1")] == [(2, 0.6)]
    assert names(client, parent) == {"record.json"}
    assert names(client, fits[1]) == {"record.json", "model", "signature.json"}
    assert names(client, fits[1], "model/deep") == {"model/deep/weights.safetensors"}
    kept = Path(client.download_artifacts(fits[1], "signature.json", str(tmp_path)))
    signature = json.loads(kept.read_text())
    assert [c["name"] for c in json.loads(signature["inputs"])] == ["text", "stars"]
    assert [(c["name"], c["type"]) for c in json.loads(signature["outputs"])] == [
        ("prediction", "string"),
        ("p_neg", "double"),
        ("p_pos", "double"),
    ]
    assert (out / "mlflow.db").exists() == (where == "sqlite")
    assert (out / "mlartifacts").exists() == (where == "sqlite")
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize("where", ["sqlite", "server"])
def test_an_interrupted_comparison_goes_on_in_its_run(where, tmp_path, out, files, monkeypatch, request):
    if where == "server":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", request.getfixturevalue("mlflow_server"))
    first, _ = open_tracker(out, experiment="cut short")
    parent = first.start("films", "k 'quoted'", {"a": 1}, {})
    whole = first.log_fit(fit_log(files, "full seed 0"))
    (files[0]).rename(tmp_path / "gone")
    assert first.log_fit(fit_log(files, "full seed 1")) == ""  # dies between its metrics and its artifacts
    (tmp_path / "gone").rename(files[0])

    again, _ = open_tracker(out, experiment="cut short")
    assert again.start("films", "k 'quoted'", {"a": 1}, {}) == parent
    assert again.log_fit(fit_log(files, "full seed 0")) == whole
    assert again.log_fit(fit_log(files, "full seed 0")) == whole
    again.log_fit(fit_log(files, "full seed 1"))
    again.finish("finished", {}, [])

    runs = runs_of(client_of(out), "cut short")
    assert sorted(run.info.run_name for run in runs) == ["films", "full seed 0", "full seed 1"]
    assert {run.info.status for run in runs} == {"FINISHED"}


@pytest.mark.parametrize("status, same", [("finished", False), ("cancelled", True), ("failed", True)])
def test_only_a_finished_comparison_is_not_opened_again(out, status, same):
    tracker, _ = open_tracker(out, experiment="films")
    first = tracker.start("films", "k", {}, {})
    tracker.finish(status, {}, [])
    assert (tracker.start("films", "k", {}, {}) == first) is same
    assert tracker.start("films", "other", {}, {}) != first


def test_a_failed_fit_is_written_again(out, files):
    tracker, _ = open_tracker(out, experiment="films")
    tracker.start("films", "k", {}, {})
    failed = tracker.log_fit(fit_log(files, status="failed"))
    assert client_of(out).get_run(failed).info.status == "FAILED"
    tracker.start("films", "k", {}, {})
    tracker.log_fit(fit_log(files))
    assert sorted(run.info.status for run in runs_of(client_of(out))) == ["FINISHED", "RUNNING"]


def test_more_settings_and_epochs_than_fit_in_one_request(out):
    tracker, _ = open_tracker(out, experiment="films")
    tracker.start("films", "k", {f"p{i}": i for i in range(230)}, {})
    run = tracker.log_fit(FitLog("long", epochs=[{"loss": float(i)} for i in range(1100)]))
    client = client_of(out)
    assert len(client.get_metric_history(run, "loss")) == 1100
    parent = client.get_run(client.get_run(run).data.tags["mlflow.parentRunId"])
    assert len(parent.data.params) == 230


def test_nothing_of_the_process_is_changed(out, files, capfd):
    import mlflow

    environment, threads = dict(os.environ), threading.active_count()
    levels = {name: logging.getLogger(name).level for name in ("mlflow", "alembic", "sqlalchemy")}
    write_comparison(out, files)
    assert dict(os.environ) == environment
    assert threading.active_count() == threads
    assert {name: logging.getLogger(name).level for name in levels} == levels
    assert mlflow.active_run() is None
    assert capfd.readouterr() == ("", "")


def test_first_import_of_mlflow_is_silent_and_sends_nothing(tmp_path):
    code = (
        "import os, sys, threading\n"
        "from pathlib import Path\n"
        "from headstart.tracking import open_tracker\n"
        "assert 'mlflow' not in sys.modules\n"
        f"before = dict(os.environ)\ntracker, _ = open_tracker(Path({str(tmp_path)!r}), experiment='x')\n"
        "tracker.start('n', 'k', {}, {})\n"
        "assert dict(os.environ) == before, set(os.environ.items()) ^ set(before.items())\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
        "from mlflow.telemetry import get_telemetry_client\n"
        "assert get_telemetry_client() is None\n"
    )
    outside_ci = {
        name: value
        for name, value in os.environ.items()
        if "MLFLOW" not in name and name not in ("CI", "PYTEST_CURRENT_TEST")
    }
    outside_ci["PYTHONPATH"] = str(Path(errors.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=outside_ci)
    assert done.stderr == ""
    assert (done.returncode, done.stdout) == (0, "")


def test_a_dead_server_is_said_at_once(tmp_path, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{port}")
    began = time.monotonic()
    with pytest.raises(ConfigError, match="unset MLFLOW_TRACKING_URI") as caught:
        open_tracker(tmp_path / "out", experiment="films")
    assert time.monotonic() - began < 15
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_server_that_never_answers_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # the user's own settings win
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(ConfigError, match="unset MLFLOW_TRACKING_URI"):
            open_tracker(tmp_path, experiment="films")
    assert time.monotonic() - began < 15


def test_an_address_of_no_known_kind_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "gopher://example")
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI is gopher://example"):
        open_tracker(tmp_path, experiment="films")


def test_a_database_that_is_none_is_said(tmp_path):
    (tmp_path / "mlflow.db").write_text("not a database, and longer than the header of one " * 10)
    with pytest.raises(StorageError, match=r"mlflow\.db cannot be opened"):
        open_tracker(tmp_path, experiment="films")


def test_a_deleted_experiment_is_said(out):
    open_tracker(out, experiment="films")
    client = client_of(out)
    client.delete_experiment(client.get_experiment_by_name("films").experiment_id)
    with pytest.raises(ConfigError, match="restore"):
        open_tracker(out, experiment="films")


def test_a_later_failure_is_said_once_and_the_comparison_goes_on(tmp_path, out, files):
    said: list[str] = []
    tracker, _ = open_tracker(out, experiment="films", warn=said.append)
    tracker.start("films", "k", {}, {})
    assert tracker.log_fit(fit_log([tmp_path / "missing.json"])) == ""
    assert tracker.log_fit(fit_log(files, "full seed 1")) == ""
    tracker.finish("finished", {}, [])
    assert len(said) == 1
    assert said[0].startswith("tracking stopped, the comparison goes on without it: ")


def test_no_pickle_is_written(out, files):
    write_comparison(out, files)
    kept = [path for path in (out).rglob("*") if path.is_file()]
    assert {path.suffix for path in kept} == {".db", ".json", ".safetensors"}


def test_off_says_nothing_and_writes_nothing(tmp_path, files):
    tracker, notice = open_tracker(tmp_path / "out", experiment="films", enabled=False)
    assert isinstance(tracker, NullTracker)
    assert notice is None
    assert tracker.start("films", "k", {"a": 1}, {}) == ""
    assert tracker.log_fit(fit_log(files)) == ""
    tracker.finish("finished", {}, files)
    assert not (tmp_path / "out").exists()


def test_without_mlflow_it_is_said_once(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)  # how Python itself marks a module that cannot be imported
    tracker, notice = open_tracker(tmp_path / "out", experiment="films")
    assert isinstance(tracker, NullTracker)
    assert 'pip install "headstart[mlflow]"' in notice
    assert not (tmp_path / "out").exists()


def test_output_columns_follow_the_labels():
    assert output_columns(["0", "1"], "int") == {"prediction": "long", "p_0": "double", "p_1": "double"}


def test_both_are_trackers(out):
    def methods(thing):
        return {name for name in dir(thing) if not name.startswith("_")}

    real, _ = open_tracker(out, experiment="films")
    assert methods(Tracker) <= methods(NullTracker())
    assert methods(Tracker) == methods(real)
