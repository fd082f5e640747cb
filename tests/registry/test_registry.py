"""Versions, aliases, promotion and the way back: in a file, on a server, and through the command line."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import headstart
from conftest import separable_texts
from headstart.cli.main import run
from headstart.data.read import read_table
from headstart.errors import ConfigError, ModelError
from headstart.models.folder import load, read_card
from headstart.models.runtime import Runtime
from headstart.registry import Registry, current_version, resolve
from headstart.registry.names import Reference, parse, store_uris
from headstart.registry.promoting import evaluate_versions, promote, rollback
from headstart.registry.registering import register

# Not importorskip: an import of MLflow by the test would switch its telemetry on in this process.
needs_mlflow = pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="needs the extra [mlflow]")
pytestmark = [needs_mlflow, pytest.mark.filterwarnings("ignore")]  # MLflow's own warnings


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    """Work in a folder where a stray file would be seen."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


@pytest.fixture
def registry(own_registry):
    return Registry.open()


@pytest.fixture(scope="module")
def weak(model_of, tmp_path_factory):
    """A model folder that calls everything negative: whatever learnt something is better."""
    folder = tmp_path_factory.mktemp("weak") / "best"
    shutil.copytree(model_of("majority"), folder)
    return folder


@pytest.fixture
def data(tmp_path):
    """Labeled texts of the kind that the models were fitted on."""
    texts, y = separable_texts(80, seed=9)
    file = tmp_path / "later.csv"
    pd.DataFrame({"text": texts, "label": [("neg", "pos")[c] for c in y]}).to_csv(file, index=False)
    return file


def judged(data):
    return {"table": read_table(data, text=["text"]), "runtime": Runtime()}


def test_registering_makes_versions_that_open(registry, model_of):
    first = register(registry, str(model_of("tfidf")), "reviews")
    second = register(registry, str(model_of("full")), "reviews")
    assert [(v.number, v.aliases) for v in registry.versions("reviews")] == [(2, ("challenger",)), (1, ())]
    assert registry.names() == ["reviews"]
    assert second.tags["headstart.strategy"] == "full"
    assert second.tags["headstart.target"] == "label"
    assert second.tags["headstart.prediction_type"] == "string"
    assert second.read("headstart.labels") == ["neg", "pos"]
    assert second.read("headstart.fingerprints") == read_card(model_of("full"))["fingerprints"]
    assert second.read("headstart.metrics")["macro_f1"] == {"value": 0.875, "low": None, "high": None}
    texts = ["a good film", "a bad film"]
    for version, folder in ((first, model_of("tfidf")), (second, model_of("full"))):
        ours = load(folder).predict_proba(texts)
        assert np.abs(headstart.load(str(version)).predict_proba(texts) - ours).max() < 1e-6
    assert not list(Path.cwd().iterdir())


def test_it_is_a_model_to_mlflow_too(registry, model_of, monkeypatch):
    import mlflow

    register(registry, str(model_of("tfidf")), "reviews")
    registry.point("reviews", "champion", 1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.place)
    answer = mlflow.pyfunc.load_model("models:/reviews@champion").predict(pd.DataFrame({"text": ["a good film"]}))
    ours = load(model_of("tfidf")).predict_proba(["a good film"])
    np.testing.assert_allclose(answer[["p_neg", "p_pos"]].to_numpy(), ours)


def test_resolve_takes_versions_aliases_and_folders(registry, model_of, tmp_path):
    register(registry, str(model_of("tfidf")), "reviews")
    register(registry, str(model_of("full")), "reviews")
    registry.point("reviews", "champion", 1)
    kinds = {
        name: read_card(resolve(f"models:/reviews{name}"))["strategy"]
        for name in ("@champion", "@challenger", "/1", "/2", "/latest")
    }
    assert kinds == {"@champion": "tfidf", "@challenger": "full", "/1": "tfidf", "/2": "full", "/latest": "full"}
    assert current_version("models:/reviews@champion") == 1
    registry.point("reviews", "champion", 2)
    assert current_version("models:/reviews@champion") == 2
    assert resolve(tmp_path / "any") == tmp_path / "any"
    assert resolve("minilm") == Path("minilm")


@pytest.mark.parametrize(
    "name, words",
    [
        ("models:/reviews@champ", "no alias 'champ'; it has: challenger"),
        ("models:/reviews/7", "no version 7; it has: 1"),
        ("models:/review@challenger", "Did you mean 'reviews'"),
        ("models:/other/1", "no registered model is called 'other'"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(name, words, registry, model_of):
    register(registry, str(model_of("majority")), "reviews")
    with pytest.raises(ModelError, match=words):
        resolve(name)
    with pytest.raises(ModelError, match=words):
        current_version(name)


@pytest.mark.parametrize(
    "name", ["models:/", "models:/reviews", "models:/a/b/c", "models:/a@", "models:/a/-1", "models:/a/x"]
)
def test_a_name_that_is_none_is_refused_without_asking(name):
    with pytest.raises(ConfigError, match="names no registered model"):
        parse(f"models:/{name}")


def test_references_are_written_as_they_are_read():
    for name in ("models:/reviews@champion", "models:/my reviews/3", "models:/r/latest"):
        assert str(parse(name)) == name


def test_addresses_follow_mlflows_variables(monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    own = f"sqlite:///{tmp_path / 'headstart' / 'registry.db'}"
    assert store_uris() == (own, own)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking")
    assert store_uris() == ("http://tracking", "http://tracking")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "databricks-uc")
    assert store_uris() == ("http://tracking", "databricks-uc")
    assert store_uris("sqlite:///given.db") == ("sqlite:///given.db", "sqlite:///given.db")


def test_a_registry_that_does_not_answer_is_said_at_once():
    began = time.monotonic()
    with pytest.raises(ConfigError, match="check --registry") as caught:
        Registry.open("http://user:secret@127.0.0.1:9")
    assert time.monotonic() - began < 15
    assert "secret" not in str(caught.value)


def test_only_a_better_challenger_is_promoted(registry, model_of, weak, data):
    register(registry, str(weak), "reviews")
    register(registry, str(model_of("tfidf")), "reviews")
    register(registry, str(weak), "reviews")
    first = promote(registry, registry.version(Reference("reviews", 1)))
    assert (first.promoted, first.reason) == (True, "'reviews' had no champion")
    better = registry.version(Reference("reviews", 2))
    with pytest.raises(ConfigError, match="--data FILE"):
        promote(registry, better)
    second = promote(registry, better, **judged(data))
    assert second.promoted
    assert "is better than models:/reviews/1: Macro-F1 +" in second.reason
    difference = second.evaluated.record["models"][1]["difference"]["macro_f1"]
    assert difference["low"] > 0
    third = promote(registry, registry.version(Reference("reviews", 3)), **judged(data))
    assert not third.promoted
    assert "is worse than models:/reviews/2" in third.reason
    assert current_version("models:/reviews@champion") == 2
    assert [v.aliases for v in registry.versions("reviews")] == [("challenger",), ("champion",), ()]
    forced = promote(registry, registry.version(Reference("reviews", 3)), force=True)
    assert forced.promoted
    assert current_version("models:/reviews@champion") == 3


def test_a_tie_is_not_a_promotion(registry, model_of, data):
    for _ in range(2):
        register(registry, str(model_of("tfidf")), "reviews")
    promote(registry, registry.version(Reference("reviews", 1)))
    verdict = promote(registry, registry.version(Reference("reviews", 2)), **judged(data))
    assert not verdict.promoted
    assert "not better than models:/reviews/1 beyond chance: Macro-F1 +0.000" in verdict.reason


def test_other_labels_cannot_be_set_against_each_other(registry, model_of, tmp_path):
    register(registry, str(model_of("majority")), "reviews")
    register(registry, str(model_of("majority", values=("neg", "pos", "mid"))), "reviews")
    promote(registry, registry.version(Reference("reviews", 1)))
    table = read_table(pd.DataFrame({"text": ["a film", "a plot"], "label": ["neg", "pos"]}))
    verdict = promote(registry, registry.version(Reference("reviews", 2)), table=table)
    assert not verdict.promoted
    assert "its labels are not those of" in verdict.reason


def test_rollback_walks_back_and_stops(registry, model_of):
    for _ in range(3):
        register(registry, str(model_of("majority")), "reviews")
    for number in (1, 2, 3):
        promote(registry, registry.version(Reference("reviews", number)), force=True)
    assert [v.number for v in rollback(registry, "reviews")] == [2, 3]
    assert [v.number for v in rollback(registry, "reviews")] == [1, 2]
    with pytest.raises(ModelError, match="no champion of 'reviews' before models:/reviews/1"):
        rollback(registry, "reviews")
    assert current_version("models:/reviews@champion") == 1
    promote(registry, registry.version(Reference("reviews", 3)), force=True)
    assert [v.number for v in rollback(registry, "reviews")] == [1, 3]


def test_rollback_goes_the_way_that_was_come_also_where_a_version_was_champion_twice(registry, model_of):
    for _ in range(2):
        register(registry, str(model_of("majority")), "reviews")
    for number in (1, 2, 1):
        promote(registry, registry.version(Reference("reviews", number)), force=True)
    assert [[v.number for v in rollback(registry, "reviews")] for _ in range(2)] == [[2, 1], [1, 2]]
    with pytest.raises(ModelError, match="no champion of 'reviews' before"):
        rollback(registry, "reviews")


def test_a_champion_made_elsewhere_is_in_the_history(registry, model_of):
    for _ in range(4):
        register(registry, str(model_of("majority")), "reviews")
    for number in (1, 2):
        promote(registry, registry.version(Reference("reviews", number)), force=True)
    registry.point("reviews", "champion", 3)  # by MLflow's own page, say
    promote(registry, registry.version(Reference("reviews", 4)), force=True)
    assert [[v.number for v in rollback(registry, "reviews")] for _ in range(3)] == [[3, 4], [2, 3], [1, 2]]


def test_the_champion_can_be_scored_by_asking_for_it_again(registry, model_of, data):
    register(registry, str(model_of("tfidf")), "reviews")
    promote(registry, registry.version(Reference("reviews", 1)))
    verdict = promote(registry, registry.version(Reference("reviews", 1)), **judged(data))
    assert (verdict.promoted, verdict.reason) == (True, "models:/reviews/1 is the champion already")
    assert verdict.evaluated.record["rows"] == 80
    assert [key for key in verdict.version.tags if "evaluation.later_csv" in key]


def test_texts_stay_out_of_the_registry(registry, model_of, data, tmp_path):
    """A text column may be called `p_review`, and two files may have one name."""
    version = register(registry, str(model_of("tfidf")), "reviews")
    frame = pd.read_csv(data).rename(columns={"text": "p_review"})
    frame.to_csv(data, index=False)
    (tmp_path / "other").mkdir()
    frame[:50].to_csv(tmp_path / "other" / data.name, index=False)
    kept = {}
    for file in (data, tmp_path / "other" / data.name):
        evaluate_versions(registry, [version], read_table(file, text=["p_review"]), Runtime(), text=["p_review"])
    for key in registry.version(Reference("reviews", 1)).tags:
        if key.startswith("headstart.evaluation."):
            place = f"evaluations/{key.removeprefix('headstart.evaluation.')}"
            kept[key] = pd.read_parquet(
                registry.fetch_from_run(version.run_id, place, tmp_path) / "predictions.parquet"
            )
    assert sorted(map(len, kept.values())) == [50, 80]
    assert all(list(rows) == ["row", "prediction", "p_neg", "p_pos"] for rows in kept.values())


def test_an_evaluation_is_attached(registry, model_of, data, tmp_path):
    version = register(registry, str(model_of("tfidf")), "reviews")
    evaluated = evaluate_versions(registry, [version], read_table(data, text=["text"]), Runtime())
    place = f"later_csv-{evaluated.record['fingerprint'][:8]}"
    kept = registry.version(Reference("reviews", 1)).read(f"headstart.evaluation.{place}")
    assert kept["rows"] == 80
    assert kept["fingerprint"] == evaluated.record["fingerprint"]
    own = evaluated.record["models"][0]["metrics"]["accuracy"]
    assert kept["metrics"]["accuracy"] == {end: own[end] for end in ("value", "low", "high")}
    files = registry.fetch_from_run(version.run_id, f"evaluations/{place}", tmp_path)
    rows = pd.read_parquet(files / "predictions.parquet")
    assert list(rows) == ["row", "prediction", "p_neg", "p_pos"]
    assert json.loads((files / "evaluation.json").read_text())["metrics"]["accuracy"] == own
    assert list(rows["row"]) == list(range(1, 81))


def test_a_comparison_and_its_run_can_be_registered(registry, tmp_path, monkeypatch):
    texts, y = separable_texts(160, seed=2)
    frame = pd.DataFrame({"body": texts, "verdict": y})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.place)
    done = headstart.compare(
        frame, text=["body"], label="verdict", strategies=["tfidf"], metric="accuracy", out=str(tmp_path / "out")
    )
    from_folder = register(registry, str(done.folder), "reviews")
    assert from_folder.tags["headstart.target"] == "verdict"
    assert from_folder.tags["headstart.metric"] == "accuracy"
    assert from_folder.tags["headstart.prediction_type"] == "long"
    assert from_folder.read("headstart.metrics")["accuracy"]["low"] is not None
    home = registry._client.get_experiment_by_name(done.record["name"]).experiment_id
    parent = next(r for r in registry._client.search_runs([home]) if "mlflow.parentRunId" not in r.data.tags)
    from_run = register(registry, parent.info.run_id, "reviews")
    assert from_run.run_id == parent.info.run_id
    assert from_run.tags["headstart.target"] == "verdict"
    assert from_run.tags["headstart.metric"] == "accuracy"
    ours, theirs = (
        headstart.load(str(v)).predict_proba(pd.DataFrame({"body": texts})) for v in (from_folder, from_run)
    )
    assert np.abs(ours - theirs).max() < 1e-9


@pytest.mark.parametrize("model", ["nowhere/best", "0" * 32])
def test_what_is_no_model_is_not_registered(model, registry):
    with pytest.raises(ModelError, match="folder"):
        register(registry, model, "reviews")
    assert registry.names() == []


def test_a_server_keeps_the_files_and_they_are_fetched_once(mlflow_server, model_of, monkeypatch, data):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    registry = Registry.open()
    for kind in ("tfidf", "majority"):
        register(registry, str(model_of(kind)), "served reviews")
    promote(registry, registry.version(Reference("served reviews", 1)))
    verdict = promote(registry, registry.version(Reference("served reviews", 2)), **judged(data))
    assert not verdict.promoted
    first = resolve("models:/served reviews@champion")
    assert first.is_relative_to(os.environ["HEADSTART_CACHE"])
    written = (first / "headstart.json").stat().st_mtime_ns
    assert resolve("models:/served reviews/1") == first
    assert (first / "headstart.json").stat().st_mtime_ns == written
    ours = load(model_of("tfidf")).predict_proba(["a good film"])
    np.testing.assert_allclose(headstart.load("models:/served reviews@champion").predict_proba(["a good film"]), ours)


def test_removed_files_are_said(registry, model_of, own_registry):
    register(registry, str(model_of("majority")), "reviews")
    shutil.rmtree(own_registry.parent / "mlartifacts")
    with pytest.raises(ModelError, match="are gone from"):
        resolve("models:/reviews/1")


def test_a_registered_model_is_a_source(registry, model_of):
    from headstart.experiment.source import existing_source, is_labeled_data

    register(registry, str(model_of("full")), "films")
    register(registry, str(model_of("linear-probe")), "films")
    assert not is_labeled_data("models:/films/1")
    encoder, labels = existing_source("models:/films/1")
    assert labels.names == ("neg", "pos")
    assert encoder.folder == resolve("models:/films/1")
    with pytest.raises(ModelError, match="a fine-tuned one is needed"):
        existing_source("models:/films@challenger")


def test_a_registered_model_is_an_encoder(registry, model_of, tmp_path):
    register(registry, str(model_of("full")), "films")
    texts = [f"a {word} film about {thing}" for word in ("good", "bad") for thing in "abcdefghij"]
    made = headstart.adapt(texts, out=tmp_path / "adapted", encoder="models:/films/1", epochs=1, batch_tokens=256)
    assert made.card["encoder"] == str(resolve("models:/films/1"))
    found = headstart.compare(
        pd.DataFrame({"text": texts, "label": ["good", "bad"] * 10}), encoder="models:/films/1", threads=1,
        strategies="linear-probe", out=str(tmp_path / "out"), tracking=False, precision="float32",
    )  # fmt: skip
    assert found.record["config"]["encoder"] == "models:/films/1"
    assert found.winner == "linear-probe"


def test_other_tasks_take_a_registered_model(registry, model_of):
    register(registry, str(model_of("full")), "films")
    named, plain = (
        headstart.infer("sentiment", ["a good film"], model=name) for name in ("models:/films/1", str(model_of("full")))
    )
    assert named == plain


def test_resolving_stays_light(own_registry, registry, model_of):
    register(registry, str(model_of("majority")), "reviews")
    code = (
        "import sys; from headstart.registry import resolve, current_version\n"
        "print(resolve('models:/reviews/1'), current_version('models:/reviews/1'))\n"
        "heavy = {'torch', 'transformers', 'headstart.models.folder', 'headstart.training'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]
    assert done.stdout.endswith("best 1\n")


def test_the_commands(own_registry, model_of, weak, data, capsys, tmp_path):
    def call(*words, code=0):
        assert run([str(word) for word in words]) == code, capsys.readouterr().err
        return capsys.readouterr()

    call("register", weak, "--name", "reviews")
    call("promote", "reviews", "1")
    told = json.loads(call("register", model_of("tfidf"), "--name", "reviews", "--data", data, "--json", "-q").out)
    assert (told["version"], told["aliases"], told["target"]) == (2, ["challenger"], "label")
    (place,) = told["evaluations"]
    assert place.startswith("later_csv-")
    assert told["evaluations"][place]["rows"] == 80
    told = call("register", weak, "--name", "reviews", "--data", data, "--label", "lable", code=2)
    assert "lable" in told.err
    told = call("register", weak, "--name", "unheard of", "--data", tmp_path / "none.csv", code=2)
    assert "none.csv" in told.err
    listed = json.loads(call("models", "--json").out)
    assert "unheard of" not in str(listed), "what cannot be scored leaves nothing behind"
    assert "models:/reviews/3" not in str(listed)
    with pytest.raises(ModelError):
        Registry.open().version(Reference("reviews", 3))
    said = call("promote", "reviews", "@challenger", "--data", data)
    assert "Macro-F1" in said.out
    assert "promoted: models:/reviews/2 is better than models:/reviews/1" in said.err
    said = call("promote", "reviews", "1", "--data", data, "--json", "-q", code=1)
    assert json.loads(said.out)["promoted"] is False
    shown = call("models").out
    assert "champion" in shown
    assert "on later_csv" in shown
    assert [v["version"] for v in json.loads(call("models", "reviews", "--json").out)] == [2, 1]
    call("predict", "models:/reviews@champion", data, "--out", tmp_path / "labeled.csv")
    labeled = pd.read_csv(tmp_path / "labeled.csv")
    assert (labeled["prediction"] == labeled["label"]).mean() > 0.9
    call("evaluate", "models:/reviews/1", "models:/reviews@champion", "--data", data, "--out", tmp_path / "rows.csv")
    rows = pd.read_csv(tmp_path / "rows.csv")
    columns = ["row", "text", "label", "prediction_1", "p_1_neg", "p_1_pos", "prediction_2", "p_2_neg", "p_2_pos"]
    assert list(rows) == columns
    assert list(rows["prediction_2"]) == list(labeled["prediction"])
    call("evaluate", "models:/reviews/1", "models:/reviews@champion", weak, "--data", data, "--attach", "-q")
    of_first = json.loads(call("models", "reviews", "--json").out)[1]["evaluations"]
    assert [one["metrics"]["accuracy"]["value"] for one in of_first.values()] == [0.5]
    assert "--attach" in call("evaluate", weak, "--data", data, "--attach", code=2).err
    assert "tfidf" in call("inspect", "models:/reviews@champion").out
    assert "models:/reviews/1 is the champion again" in call("rollback", "reviews").err
    assert call("models", "other", code=2).err.startswith("error: no registered model")
    assert "neither the number" in call("promote", "reviews", "champion", code=2).err
    assert "--name" in call("register", weak, "--name", "a/b", code=2).err


def test_every_command_on_models_takes_the_registrys_address(own_registry, model_of, data, capsys, tmp_path):
    """The user's own registry stays empty: what is found was found at the address."""
    there = ["--registry", f"sqlite:///{tmp_path / 'elsewhere' / 'registry.db'}"]

    def call(*words, code=0):
        assert run([str(word) for word in (*words, *there)]) == code, capsys.readouterr().err
        return capsys.readouterr()

    told = call("register", model_of("tfidf"), "--name", "films")
    assert f"next: headstart promote films 1 {' '.join(there)}" in told.err
    call("promote", "films", "1")
    name = "models:/films@champion"
    call("predict", name, data, "--out", tmp_path / "labeled.csv")
    assert len(pd.read_csv(tmp_path / "labeled.csv")) == 80
    call("evaluate", name, "--data", data, "--attach", "-q")
    assert json.loads(call("models", "films", "--json").out)[0]["evaluations"]
    assert "tfidf" in call("inspect", name).out
    assert "cannot be exported" in call("export", name, "--out", tmp_path / "onnx", code=2).err
    answered = call("infer", "--task", "sentiment", "--model", name, "a warm film")
    assert json.loads(answered.out)["label"] in ("neg", "pos")
    assert run(["models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_an_empty_registry_says_how_to_fill_it(own_registry, capsys):
    assert run(["models"]) == 0
    assert "headstart register" in capsys.readouterr().out
