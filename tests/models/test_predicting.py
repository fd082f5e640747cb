from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import fit_strategy, separable_texts, tiny_task
from headstart.errors import ConfigError, DataError, StorageError
from headstart.models import folder as model_folder
from headstart.models.labeling import predict_file
from headstart.models.predicting import open_model, predict_table


def saved(name: str, folder: Path, encoder: Path, *, columns: tuple[str, ...] = ("text",), **changes: Any) -> Path:
    task = tiny_task(encoder=encoder, pairs=len(columns) == 2, **changes)
    fitted = fit_strategy(name, task)
    card = {"strategy": name, "text_columns": list(columns)}
    model_folder.save(fitted.classifier, folder, text=task.text, check=task.validation, card=card)
    return folder


@pytest.fixture(scope="module")
def full(tmp_path_factory, tiny_encoder):
    return open_model(saved("full", tmp_path_factory.mktemp("models") / "full", tiny_encoder))


@pytest.fixture(scope="module")
def tfidf(tmp_path_factory, tiny_encoder):
    return open_model(saved("tfidf", tmp_path_factory.mktemp("models") / "tfidf", tiny_encoder, values=(0, 1)))


@pytest.fixture
def frame():
    texts, y = separable_texts(30, seed=7)
    return pd.DataFrame({"text": texts, "truth": y}, index=range(100, 130))


def test_columns_rows_and_index_stay_and_answers_are_the_models_own(full, frame):
    before = frame.copy()
    found = predict_table(full, frame)
    assert list(found) == ["text", "truth", "prediction", "p_negative", "p_positive"]
    pd.testing.assert_frame_equal(found[["text", "truth"]], before)
    proba = full.predict_proba(list(frame["text"]))
    np.testing.assert_array_equal(found[["p_negative", "p_positive"]].to_numpy(), proba)
    assert list(found["prediction"]) == full.predict(list(frame["text"]))
    assert (found["prediction"] == np.where(frame["truth"] == 1, "positive", "negative")).mean() >= 0.8


def test_labels_keep_their_type(tfidf, frame):
    found = predict_table(tfidf, frame)
    assert set(found["prediction"]) == {0, 1}
    assert list(found)[-2:] == ["p_0", "p_1"]


def test_other_text_column_even_where_the_models_own_name_means_something_else(tfidf, frame):
    other = frame.rename(columns={"text": "body"}).assign(text="the")
    found = predict_table(tfidf, other, text=("body",))
    np.testing.assert_array_equal(found["p_1"], predict_table(tfidf, frame)["p_1"])


def test_what_cannot_be_read_is_named(tfidf, frame):
    with pytest.raises(DataError, match=r"no column 'text'.*Did you mean 'texts'"):
        predict_table(tfidf, frame.rename(columns={"text": "texts"}))
    with pytest.raises(ConfigError, match="reads 1 text column"):
        predict_table(tfidf, frame, text=("a", "b"))
    with pytest.raises(DataError, match="'prediction', 'p_1'"):
        predict_table(tfidf, frame.assign(prediction=1, p_1=0))


def test_no_rows_give_no_rows(tfidf):
    found = predict_table(tfidf, pd.DataFrame({"text": []}))
    assert list(found) == ["text", "prediction", "p_0", "p_1"]
    assert len(found) == 0


def test_pairs_and_a_missing_second_column(tmp_path, tiny_encoder):
    model = open_model(saved("full", tmp_path / "pairs", tiny_encoder, columns=("question", "answer")))
    texts, _ = separable_texts(8)
    table = pd.DataFrame({"question": texts, "answer": texts})
    assert len(predict_table(model, table)) == 8
    with pytest.raises(DataError, match="answer"):
        predict_table(model, table[["question"]])


def test_texts_cut_are_counted(full, tmp_path):
    (tmp_path / "in.csv").write_text("text\n" + "good " * 62 + "\ngood\n")  # 62 + 2 marks; 32 kept
    done = predict_file(full, tmp_path / "in.csv", tmp_path / "out.csv")
    assert f"50.0% of texts are longer than the model's 32 tokens; {1 - 35 / 67:.1%} of all tokens" in done.notes[-1]


def write_table(frame: pd.DataFrame, target: Path) -> None:
    if target.suffix == ".parquet":
        frame.to_parquet(target, index=False)
    elif target.suffix == ".jsonl":
        frame.to_json(target, orient="records", lines=True)
    else:
        frame.to_csv(target, sep="\t" if target.suffix == ".tsv" else ",", index=False)


def cells(path: Path, separator: str = ",") -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.reader(handle, delimiter=separator))


def test_csv_cells_stay_as_they_were_written(tfidf, tmp_path):
    rows = [["text", "price", "code", "note"], ['good, very\n"good"', "1.50", "007", ""], ["bad", "2", "NA", " x "]]
    with (tmp_path / "in.csv").open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows(rows)
    done = predict_file(tfidf, tmp_path / "in.csv", tmp_path / "out.csv")
    assert [row[:4] for row in cells(done.out)] == rows
    assert (done.rows, sum(done.counts.values())) == (2, 2)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_format_in_and_out_gives_the_same_answers(tfidf, frame, tmp_path, suffix):
    source, out = tmp_path / f"in{suffix}", tmp_path / f"deep/er/out{suffix}"
    write_table(frame, source)
    predict_file(tfidf, source, out)
    if suffix == ".jsonl":
        found = pd.DataFrame([json.loads(line) for line in out.read_text().splitlines()])
    elif suffix == ".parquet":
        found = pd.read_parquet(out)
    else:
        found = pd.read_csv(out, sep="\t" if suffix == ".tsv" else ",")
    expected = predict_table(tfidf, frame).reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-12)


@pytest.mark.parametrize(
    ("out", "problem", "words"),
    [
        ("out.xlsx", ConfigError, "known: .csv"),
        ("in.csv", ConfigError, "input itself"),
        ("", StorageError, "folder"),
        ("in.csv/out.csv", StorageError, "not a folder"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_anything_is_predicted(tfidf, frame, tmp_path, out, problem, words):
    write_table(frame, tmp_path / "in.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(problem, match=words):
        predict_file(tfidf, tmp_path / "in.csv", tmp_path / (out or "folder.csv"))
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "headstart-cache") == ["folder.csv", "in.csv"]


def test_a_comparison_folder_means_its_winner(tmp_path, tiny_encoder):
    saved("majority", tmp_path / "run" / "best", tiny_encoder)
    assert open_model(tmp_path / "run").card["strategy"] == "majority"


def test_a_missing_feature_is_said_to_be_the_models(tfidf, frame):
    card = {**tfidf.card, "about": {**tfidf.card["about"], "head": {"columns": ["price"]}}}
    model = model_folder.Model(tfidf.classifier, card)
    with pytest.raises(DataError, match=r"no column 'price' \(the model was fitted on it\)"):
        predict_table(model, frame)
