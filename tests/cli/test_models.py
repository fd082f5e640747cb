from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from commands import call, labeled_rows, write_csv

from conftest import fit_strategy, tiny_task
from headstart.data.labels import Labels
from headstart.evaluation.intervals import evaluate
from headstart.models import folder as model_folder


def save(folder, name, encoder, **changes):
    task = tiny_task(encoder=encoder, **changes)
    card = {"strategy": name, "text_columns": ["text"]}
    fitted = fit_strategy(name, task)
    model_folder.save(fitted.classifier, folder, text=task.text, check=task.validation, card=card)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory, tiny_encoder):
    """Folder of three models: `full` and `tfidf` know neg and pos, `stars` knows 0 and 1."""
    folder = tmp_path_factory.mktemp("models")
    save(folder / "full", "full", tiny_encoder, values=("neg", "pos"))
    save(folder / "tfidf", "tfidf", tiny_encoder, values=("neg", "pos"))
    save(folder / "stars", "tfidf", tiny_encoder, values=(0, 1))
    return folder


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_csv(tmp_path / "later.csv", [*labeled_rows(40), ("some text", "")])


def test_predict_writes_columns_and_says_what_it_did(models, data):
    code, out, err = call("predict", models / "full", data, "--out", "labeled.csv")
    assert (code, out) == (0, ""), err
    assert "41 texts labeled" in err
    assert "labeled.csv" in err
    found = pd.read_csv("labeled.csv")
    assert list(found) == ["text", "label", "prediction", "p_neg", "p_pos"]
    assert list(found["text"]) == list(pd.read_csv(data)["text"])


def test_predict_leaves_bad_rows_out_and_its_code_tells(models, tmp_path):
    (tmp_path / "odd.csv").write_text("text,label\ngood,x\nbad,y,z\n,x\nwarm,x\n")
    code, out, err = call("predict", models / "tfidf", tmp_path / "odd.csv", "--out", tmp_path / "out.csv")
    assert (code, out) == (3, ""), err
    assert "2 texts labeled" in err
    assert f"2 rows were left out: see {tmp_path / 'out.csv.rejected.jsonl'}" in err
    assert list(pd.read_csv(tmp_path / "out.csv")["text"]) == ["good", "warm"]
    side = tmp_path / "mine.jsonl"
    code, _, _ = call(
        "predict", models / "tfidf", tmp_path / "odd.csv", "--out", tmp_path / "b.csv", "--rejected", side
    )
    assert code == 3
    assert [json.loads(line)["row"] for line in side.read_text().splitlines()] == [2, 3]


def test_predict_faults_have_code_two_and_write_nothing(models, data, tmp_path):
    for arguments in (
        (models / "none", data, "--out", "x.csv"),
        (models / "full", "none.csv", "--out", "x.csv"),
        (models / "full", data, "--out", data),
        (models / "full", data, "--out", "x.doc"),
        (models / "full", data, "--out", "x.csv", "--text", "body"),
        (models / "full", data, "--out", "x.csv", "--device", "nowhere"),
    ):
        code, out, err = call("predict", *arguments)
        assert (code, out) == (2, ""), arguments
        assert err.startswith("error: ")
    assert not (tmp_path / "x.csv").exists()
    assert call("predict", models / "full", data)[0] == 2


def test_evaluate_gives_the_metrics_of_the_predictions(models, data):
    code, out, _ = call("evaluate", models / "full", "--data", data, "--json", "--quiet", "--seed", "4")
    assert code == 0
    record = json.loads(out)
    frame = pd.read_csv(data).dropna()
    proba = model_folder.load(models / "full").predict_proba(frame)
    y = Labels(("neg", "pos"), ("neg", "pos")).encode(frame["label"])
    expected = evaluate(y, proba[None], ["neg", "pos"], seed=4).to_json()
    assert (record["rows"], record["rows_without_label"]) == (40, 1)
    for name, interval in expected["metrics"].items():
        assert record["models"][0]["metrics"][name] == pytest.approx(interval, abs=1e-6), name
    assert record["models"][0]["difference"] is None


def test_evaluate_writes_what_each_of_several_models_says(models, data, tmp_path):
    code, _, err = call("evaluate", models / "tfidf", models / "full", "--data", data)
    place = tmp_path / "runs/evaluations/later.csv"
    assert code == 0
    assert "40 texts with what each model says: runs/evaluations/later.csv" in err
    assert {"text", "label", "prediction_1", "prediction_2"} <= set(pd.read_csv(place))
    place.unlink()
    assert call("evaluate", models / "tfidf", "--data", data)[0] == 0
    assert not place.exists()


def test_evaluate_sets_models_side_by_side(models, data):
    code, out, _ = call("evaluate", models / "tfidf", models / "full", models / "tfidf", "--data", data, "--json", "-q")
    assert code == 0
    first, second, third = json.loads(out)["models"]
    for name, value in second["difference"].items():
        gap = second["metrics"][name]["value"] - first["metrics"][name]["value"]
        assert value["value"] == pytest.approx(gap, abs=1e-12)
        assert value["low"] <= value["high"]
        assert third["difference"][name]["value"] == 0.0
        assert third["difference"][name]["tie"]
    code, out, _ = call("evaluate", models / "tfidf", models / "full", "--data", data)
    assert code == 0
    assert f"{models / 'full'} minus {models / 'tfidf'}" in out
    assert "40 labeled texts; 1 without a label are left out" in out


def test_evaluate_looks_for_the_label_where_it_stood_in_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = pd.read_csv(write_csv(tmp_path / "rows.csv", labeled_rows(60))).rename(columns={"label": "mood"})
    frame.to_csv("moods.csv", index=False)
    assert call("fit", "moods.csv", "--label", "mood", "--strategy", "tfidf", "--no-tracking", "-q")[0] == 0
    model = tmp_path / "runs" / "moods-tfidf"
    code, out, err = call("evaluate", model, "--data", "moods.csv")
    assert (code, "60 labeled texts" in out) == (0, True), err
    frame.rename(columns={"mood": "label"}).to_csv("others.csv", index=False)
    assert "has no column 'mood' (--label)" in call("evaluate", model, "--data", "others.csv")[2]
    assert call("evaluate", model, "--data", "others.csv", "--label", "label")[0] == 0


def test_evaluate_matches_labels_by_their_text(models, tmp_path):
    rows = [(text, {"neg": "0", "pos": "1"}[label]) for text, label in labeled_rows(20)]
    as_text = tmp_path / "text.jsonl"
    as_text.write_text("".join(json.dumps({"text": t, "label": y}) + "\n" for t, y in rows))
    as_number = write_csv(tmp_path / "number.csv", rows)
    records = [
        json.loads(call("evaluate", models / "stars", "--data", file, "--json", "-q")[1])
        for file in (as_text, as_number)
    ]
    assert records[0]["models"][0]["metrics"] == records[1]["models"][0]["metrics"]
    assert records[0]["models"][0]["metrics"]["accuracy"]["value"] > 0.9


def test_evaluate_names_rows_of_a_label_the_model_does_not_know(models, tmp_path):
    file = write_csv(tmp_path / "odd.csv", [*labeled_rows(4), ("a good film", "mixed")])
    code, out, err = call("evaluate", models / "full", "--data", file, "--quiet")
    assert (code, out) == (2, "")
    assert "row 5: 'mixed'" in err
    code, _, err = call("evaluate", models / "full", "--data", file, "--label", "lable")
    assert code == 2
    assert "Did you mean 'label'?" in err


def test_models_of_other_labels_are_not_subtracted():
    from headstart.registry.evaluating import _difference, _Scored

    y, proba = np.asarray([0, 1, 1]), np.asarray([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    first = _Scored(("a", "b"), y, proba)
    swapped = _Scored(("b", "a"), 1 - y, proba[:, ::-1])
    assert all(d["value"] == 0 for d in _difference(swapped, first, "first", 0)["difference"].values())
    other = _difference(_Scored(("a", "c"), y, proba), first, "first", 0)
    assert other == {"difference": None, "reason": "its labels are not those of first"}


def test_inspect_shows_layers_tokens_and_movement(models, tiny_encoder):
    code, out, err = call("inspect", models / "full")
    assert (code, err) == (0, "")
    assert "bert.encoder.layer.1.attention.self.query.weight" in out
    assert "32 x 32" in out
    code, out, _ = call("inspect", models / "full", "--tokens", "a xyzzy film")
    assert code == 0
    assert "unknown" in out
    assert "5 tokens, 1 unknown; at a maximum length of 32, 5 are kept" in out
    code, out, _ = call("inspect", models / "full", "--against", tiny_encoder)
    assert code == 0
    assert "only in" in out
    assert "classifier.weight" in out


def test_inspect_as_json(models, tiny_encoder):
    code, out, _ = call("inspect", models / "full", "--against", tiny_encoder, "--json")
    record = json.loads(out)
    loaded = model_folder.load(models / "full").classifier
    assert code == 0
    assert record["parameters_total"] == loaded.parameters()
    assert record["labels"] == ["neg", "pos"]
    assert record["against"]["total"]["relative"] > 0
    assert call("inspect", "minilmm/none/such")[0] == 2
