"""A model folder as an MLflow model: the same answers as ours in MLflow's own loaders, and no pickle inside."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from headstart.data.examples import Examples
from headstart.errors import ModelError
from headstart.models.exporting import export_model
from headstart.models.folder import load, read_card
from headstart.models.predicting import predict_table
from headstart.registry.packaging import input_columns, requirements, write_mlflow_model
from headstart.registry.resolving import folder_inside

KINDS = ("full", "lora", "linear-probe", "boosted", "tfidf", "scratch-gru", "majority")
ROOT = Path(__file__).resolve().parents[2]
# Not importorskip: an import of MLflow by the test would switch its telemetry on in this process.
needs_mlflow = pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="needs the extra [mlflow]")
pytestmark = [needs_mlflow, pytest.mark.filterwarnings("ignore")]  # MLflow's own warnings


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    """Work in a folder where a stray file would be seen."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


@pytest.fixture
def frame():
    """Texts as a user's table has them: other columns, an index of its own, an empty cell, an emoji."""
    texts = ["a good and warm film", "bad , dull plot", "", "the plot \U0001f600 was great", "a \u201cbad\u201d film"]
    return pd.DataFrame({"id": range(5), "text": texts}, index=[7, 9, 11, 13, 15])


@pytest.fixture(scope="module")
def packaged(model_of, tmp_path_factory):
    """Return a function from a kind to an MLflow model, made once."""
    made = {}

    def make(kind):
        if kind not in made:
            made[kind] = write_mlflow_model(model_of(kind), tmp_path_factory.mktemp("packaged") / kind)
        return made[kind]

    return make


def expected(folder, frame):
    return predict_table(load(folder, precision="float32"), frame).drop(columns=list(frame))


@pytest.mark.parametrize("kind", KINDS)
def test_mlflow_gives_what_predict_gives(kind, packaged, model_of, frame):
    import mlflow.pyfunc

    ours = expected(model_of(kind), frame)
    theirs = mlflow.pyfunc.load_model(str(packaged(kind))).predict(frame)
    assert list(theirs) == ["prediction", "p_neg", "p_pos"]
    assert list(theirs["prediction"]) == list(ours["prediction"])
    np.testing.assert_allclose(theirs[["p_neg", "p_pos"]], ours[["p_neg", "p_pos"]], atol=1e-5)
    assert list(theirs.index) == list(frame.index)


@pytest.mark.parametrize("kind", KINDS)
def test_mlflows_server_gives_what_predict_gives(kind, packaged, model_of, frame):
    """The application that `mlflow models serve` runs, asked in two of the forms it reads."""
    import mlflow.pyfunc
    from fastapi.testclient import TestClient
    from mlflow.pyfunc.scoring_server import init

    ours = expected(model_of(kind), frame)
    with TestClient(init(mlflow.pyfunc.load_model(str(packaged(kind))))) as client:
        texts = frame[["text"]]
        for body in (
            {"dataframe_split": texts.to_dict("split")},
            {"inputs": {"text": list(frame["text"])}},
        ):
            answer = client.post("/invocations", json=body)
            assert answer.status_code == 200, answer.text
            theirs = pd.DataFrame(answer.json()["predictions"])
            assert list(theirs["prediction"]) == list(ours["prediction"])
            np.testing.assert_allclose(theirs[["p_neg", "p_pos"]], ours[["p_neg", "p_pos"]], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_inside_is_a_pickle_or_knows_this_machine(kind, model_of, tmp_path):
    folder = write_mlflow_model(model_of(kind), tmp_path / kind)  # one never opened: Python keeps bytecode beside code
    files = [path for path in folder.rglob("*") if path.is_file()]
    kinds = {".safetensors", ".json", ".cbm", ".py", ".txt", ".yaml", ""}
    assert {path.suffix for path in files} <= kinds
    assert [path.name for path in files if not path.suffix] == ["MLmodel"]
    for path in files:
        assert not path.read_bytes().startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")), path
    text = (folder / "MLmodel").read_text()
    assert str(model_of(kind).parent) not in text
    assert str(ROOT) not in text
    assert not list(folder.rglob("__pycache__"))
    assert folder_inside(folder) == folder / "artifacts" / "best"
    assert read_card(folder_inside(folder)) == read_card(model_of(kind))


def test_signature_example_and_requirements(packaged, frame):
    import mlflow.pyfunc

    folder = packaged("full")
    opened = mlflow.pyfunc.load_model(str(folder))
    inputs, outputs = opened.metadata.signature.inputs, opened.metadata.signature.outputs
    assert [(c.name, c.type.name) for c in inputs] == [("text", "string")]
    assert [(c.name, c.type.name) for c in outputs] == [
        ("prediction", "string"),
        ("p_neg", "double"),
        ("p_pos", "double"),
    ]
    answer = opened.predict(opened.metadata.load_input_example(str(folder)))
    assert list(answer) == ["prediction", "p_neg", "p_pos"]
    required = (folder / "requirements.txt").read_text().split()
    assert {re.split(r"[<>=]", line)[0] for line in required} == {
        "mlflow", "numpy", "pandas", "safetensors", "tokenizers", "torch", "transformers",
    }  # fmt: skip


def test_whole_numbers_as_labels_stay_whole_numbers(model_of, tmp_path, frame):
    import mlflow.pyfunc

    folder = write_mlflow_model(model_of("tfidf", values=(0, 1)), tmp_path / "packaged")
    opened = mlflow.pyfunc.load_model(str(folder))
    assert opened.metadata.signature.outputs.inputs[0].type.name == "long"
    assert set(opened.predict(frame)["prediction"]) <= {0, 1}


def test_pairs_are_two_columns(model_of, tmp_path, frame):
    import mlflow.pyfunc

    model = model_of("full", pairs=True)
    folder = write_mlflow_model(model, tmp_path / "packaged")
    both = frame.assign(answer=frame["text"].str[::-1])
    theirs = mlflow.pyfunc.load_model(str(folder)).predict(both)
    np.testing.assert_allclose(theirs["p_pos"], expected(model, both)["p_pos"], atol=1e-5)


def test_strings_are_read_where_mlflow_passes_them_on(packaged, model_of, frame):
    import mlflow.pyfunc

    opened = mlflow.pyfunc.load_model(str(packaged("tfidf")))
    ours = expected(model_of("tfidf"), frame)["p_pos"].to_numpy()
    as_series = opened.predict(pd.Series(list(frame["text"]), name="text"))
    directly = opened.unwrap_python_model().predict(None, list(frame["text"]))
    np.testing.assert_allclose(as_series["p_pos"], ours)
    np.testing.assert_allclose(directly["p_pos"], ours)
    assert len(opened.unwrap_python_model().predict(None, "one text")) == 1


def test_an_export_is_packaged_with_all_that_it_needs(model_of, frame, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    import mlflow.pyfunc

    export_model(model_of("full"), tmp_path / "onnx", examples=Examples.of(list(frame["text"])))
    packaged = write_mlflow_model(tmp_path / "onnx", tmp_path / "packaged")
    theirs = mlflow.pyfunc.load_model(str(packaged)).predict(frame)
    np.testing.assert_allclose(theirs["p_pos"], expected(model_of("full"), frame)["p_pos"], atol=1e-4)
    wanted = {line.split(">")[0] for line in (packaged / "requirements.txt").read_text().split()}
    assert {"onnx", "onnxruntime"} <= wanted


def test_feature_columns_are_part_of_the_signature():
    head = {"kind": "boosted", "columns": ["stars", "city"], "categorical": ["city"]}
    card = {"kind": "frozen", "text": {"columns": ["text"]}, "about": {"head": head}}
    assert input_columns(card) == {"text": "string", "stars": "double", "city": "string"}
    assert requirements(card)[-1].startswith("catboost")


def test_bounds_are_the_projects_own():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    known = {*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)}
    boosted = {"kind": "frozen", "about": {"head": {"kind": "boosted"}}}
    for card in ({"kind": "tfidf", "about": {}}, {"kind": "onnx", "about": {}}, boosted):
        assert set(requirements(card)) <= known


@pytest.mark.parametrize(
    "kind, without",
    [("full", "sklearn"), ("boosted", "sklearn"), ("tfidf", "catboost")],
)
def test_it_opens_without_headstart_installed(kind, without, packaged, model_of, frame, tmp_path):
    """With the carried source only, and without packages that its requirements do not name."""
    code = f"""
import json, os, sys
sys.path[:] = [p for p in sys.path if not os.path.exists(os.path.join(p or ".", "headstart"))]
import importlib.util
assert importlib.util.find_spec("headstart") is None
for name in ("peft", "typer", "datasets", {without!r}):
    sys.modules[name] = None
import pandas as pd
import mlflow.pyfunc
opened = mlflow.pyfunc.load_model({str(packaged(kind))!r})
answer = opened.predict(pd.DataFrame({{"text": {list(frame["text"])!r}}}))
import headstart
assert "code" in headstart.__file__, headstart.__file__
print(json.dumps(list(answer["p_pos"])))
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True, text=True, check=False, cwd=tmp_path, env={**environment, "DO_NOT_TRACK": "true"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    np.testing.assert_allclose(json.loads(done.stdout), expected(model_of(kind), frame)["p_pos"], atol=1e-5)


def test_an_installed_headstart_goes_first(packaged, tmp_path):
    """A notebook that opens a model through MLflow can still import the rest of headstart."""
    code = (
        f"import mlflow.pyfunc; mlflow.pyfunc.load_model({str(packaged('tfidf'))!r}); "
        "import headstart; print(headstart.__file__); headstart.compare"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "DO_NOT_TRACK": "true"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True, text=True, check=True, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert Path(done.stdout.strip()) == ROOT / "src" / "headstart" / "__init__.py"


def test_a_foreign_or_tampered_mlflow_model_is_refused(tmp_path, packaged):
    with pytest.raises(ModelError, match="no MLflow model that headstart wrote"):
        folder_inside(tmp_path)
    (tmp_path / "MLmodel").write_text("flavors: {sklearn: {pickled_model: model.pkl}}")
    with pytest.raises(ModelError, match="no MLflow model that headstart wrote"):
        folder_inside(tmp_path)
    described = yaml.safe_load((packaged("tfidf") / "MLmodel").read_text())
    described["flavors"]["python_function"]["artifacts"]["model"]["path"] = "../elsewhere"
    (tmp_path / "MLmodel").write_text(yaml.safe_dump(described))
    with pytest.raises(ModelError, match="outside of itself"):
        folder_inside(tmp_path)


def test_what_is_no_model_is_not_packaged(tmp_path):
    with pytest.raises(ModelError):
        write_mlflow_model(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
