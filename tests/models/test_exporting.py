"""Export to ONNX: the same answers for every kind that can be exported, one reason for each that cannot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from conftest import fit_strategy, separable_texts, tiny_task
from headstart.cli.main import run
from headstart.data.examples import Examples
from headstart.errors import ConfigError, ModelError
from headstart.models import exporting, onnx_graph
from headstart.models import folder as model_folder
from headstart.models.batching import collate
from headstart.models.exporting import export_model
from headstart.models.labeling import predict_file
from headstart.models.onnx_classifier import new_session
from headstart.models.predicting import open_model
from headstart.models.runtime import Runtime

CASES = [("full", "bert"), ("full", "distilbert"), ("full", "roberta"), ("full", "modernbert"),
         ("linear-probe", "bert"), ("linear-probe", "mpnet"), ("scratch-gru", "bert")]  # fmt: skip


@pytest.fixture(scope="module")
def saved(checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    @cache
    def make(strategy: str, architecture: str = "bert") -> Path:
        task = tiny_task(24, 12, encoder=checkpoint(architecture), values=("neg", "pos"))
        fit = fit_strategy(strategy, task, **({"epochs": 2} if strategy in ("full", "scratch-gru") else {}))
        folder = tmp_path_factory.mktemp("saved") / strategy
        model_folder.save(fit.classifier, folder, text=task.text, check=task.validation, card={"strategy": strategy})
        return folder

    return make


@pytest.fixture
def texts() -> list[str]:
    """Texts of every length from none to more than is kept."""
    made, _ = separable_texts(20, seed=9)
    return [*made, "", "good", "bad " * 50, "the film " * 12]


@pytest.mark.parametrize(("strategy", "architecture"), CASES)
def test_the_graph_gives_the_models_probabilities(strategy, architecture, saved, texts, tmp_path):
    source = saved(strategy, architecture)
    done = export_model(source, tmp_path / "onnx")
    model, exported = model_folder.load(source, runtime=Runtime()), open_model(tmp_path / "onnx")
    assert exported.classifier.kind == "onnx"
    assert exported.labels == model.labels
    np.testing.assert_allclose(exported.predict_proba(texts), model.predict_proba(texts), atol=1e-5)
    for text in texts[-4:]:
        np.testing.assert_allclose(exported.predict_proba([text]), model.predict_proba([text]), atol=1e-5)
    assert done.report["largest_difference"] < 1e-4
    assert {p.suffix for p in (tmp_path / "onnx").iterdir()} <= {".json", ".onnx", ".txt", ".jinja"}
    assert len(list((tmp_path / "onnx").glob("*.onnx"))) == 1


@pytest.mark.parametrize(("strategy", "architecture"), [CASES[0], CASES[3], CASES[4], CASES[6]])
@pytest.mark.parametrize("int8", [False, True])
def test_any_runtime_reads_the_graph(strategy, architecture, int8, saved, texts, tmp_path):
    """Only standard operators; the reference implementation of ONNX, which is plain NumPy, gives the same answers."""
    from onnx.reference import ReferenceEvaluator

    export_model(saved(strategy, architecture), tmp_path / "onnx", int8=int8, examples=labeled(), force=True)
    assert {node.domain for node in graph_of(tmp_path / "onnx").node} <= {"", "ai.onnx"}
    exported = open_model(tmp_path / "onnx")
    one: Any = exported.classifier
    batch = collate(one.tokenize(Examples.of(texts[:6])), np.arange(6), one.tokenizer)
    evaluator = ReferenceEvaluator(str(tmp_path / "onnx" / "model.onnx"))
    (logits,) = evaluator.run(None, {name: batch[name].numpy() for name in evaluator.input_names})
    expected = exported.predict_proba(texts[:6])
    np.testing.assert_allclose(softmax(logits, axis=1), expected, atol=2e-3 if int8 else 1e-5)


@pytest.mark.parametrize(("strategy", "words"), [("tfidf", "TF-IDF is no network"), ("majority", "the same answer"),
                                                 ("boosted", "gradient-boosted trees")])  # fmt: skip
def test_what_cannot_be_exported_is_refused_with_the_reason(strategy, words, saved, tmp_path):
    with pytest.raises(ModelError, match=words):
        export_model(saved(strategy), tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def labeled(n: int = 40) -> Examples:
    found, y = separable_texts(n, seed=4)
    return Examples.of(found, y)


def test_int8_is_measured_and_refused_where_it_is_not_worth_it(saved, tmp_path, monkeypatch):
    slow = {"batches_ratio": 0.9, "single_ratio": 1.5, "texts_per_second": {}, "single_text_ms": {}, "texts": 40}
    monkeypatch.setattr(exporting, "speeds", lambda *_: slow)
    with pytest.raises(ModelError, match=r"0\.90 times as fast.*1/1\.50.*--force"):
        export_model(saved("full"), tmp_path / "onnx", int8=True, examples=labeled())
    assert not (tmp_path / "onnx").exists()
    done = export_model(saved("full"), tmp_path / "onnx", int8=True, examples=labeled(), force=True)
    report = json.loads((tmp_path / "onnx" / "export.json").read_text())
    assert report == done.report
    assert report["forced"]
    assert len(report["faults"]) == 2
    assert report["accuracy"]["torch"] == pytest.approx(
        report["accuracy"]["onnx"] + report["accuracy"]["points_lost"] / 100
    )
    operators = {node.op_type for node in graph_of(tmp_path / "onnx").node}
    assert operators & {"MatMulInteger", "QAttention", "DynamicQuantizeMatMul"}
    fast = {**slow, "batches_ratio": 1.2, "single_ratio": 2.0}
    monkeypatch.setattr(exporting, "speeds", lambda *_: fast)
    assert not export_model(saved("full"), tmp_path / "onnx", int8=True, examples=labeled()).report["forced"]


def test_scores_of_the_model_are_not_those_of_its_int8_export(saved, tmp_path):
    source = shutil.copytree(saved("full"), tmp_path / "source")
    card = json.loads((source / "headstart.json").read_text())
    (source / "headstart.json").write_text(json.dumps({**card, "metrics": {"holdout": {"accuracy": 0.9}}}))
    export_model(source, tmp_path / "float")
    export_model(source, tmp_path / "int8", int8=True, examples=labeled(), force=True)
    cards = [json.loads((tmp_path / name / "headstart.json").read_text()) for name in ("float", "int8")]
    assert cards[0]["metrics"] == {"holdout": {"accuracy": 0.9}}
    assert "metrics" not in cards[1]


def test_narrowing_products_can_be_left_in_float32(saved: Callable[[str], Path], tmp_path: Path) -> None:
    import onnx

    export_model(saved("full"), tmp_path / "float")
    products = {}
    for narrowing in (True, False):
        onnx_graph.quantized(tmp_path / "float" / "model.onnx", tmp_path / "int8.onnx", narrowing=narrowing)
        made = onnx.load(str(tmp_path / "int8.onnx")).graph
        shapes = {tensor.name: tuple(tensor.dims) for tensor in made.initializer}
        kept = [shapes.get(node.input[1], ()) for node in made.node if node.op_type == "MatMul"]
        products[narrowing] = [shape for shape in kept if len(shape) == 2]
    assert products[True] == []
    assert products[False]
    assert all(rows > columns for rows, columns in products[False])


def graph_of(folder: Path) -> Any:
    import onnx

    return onnx.load(str(folder / "model.onnx")).graph


def test_a_loss_of_accuracy_is_a_fault():
    speed = {"batches_ratio": 2.0, "single_ratio": 3.0}
    assert exporting._faults({"points_lost": 0.5}, speed) == []
    assert "0.51 points" in exporting._faults({"points_lost": 0.51}, speed)[0]


def test_without_labels_other_answers_are_a_fault(saved, tmp_path, monkeypatch):
    speed = {"batches_ratio": 2.0, "single_ratio": 3.0, "texts_per_second": {}, "single_text_ms": {}, "texts": 40}
    assert exporting._faults(None, speed, same_label=0.995) == []
    assert "99.0% of the texts" in exporting._faults(None, speed, same_label=0.99)[0]
    monkeypatch.setattr(exporting, "speeds", lambda *_: speed)
    monkeypatch.setattr(exporting, "_share_alike", lambda *_: 0.9)
    texts = Examples.of(labeled().texts)
    with pytest.raises(ModelError, match=r"90\.0% of the texts.*--force"):
        export_model(saved("full"), tmp_path / "onnx", int8=True, examples=texts)
    report = export_model(saved("full"), tmp_path / "onnx", int8=True, examples=texts, force=True).report
    assert (report["accuracy"], report["same_label"], report["forced"]) == (None, 0.9, True)


@pytest.mark.parametrize(("calibrated", "judging"), [(12, 28), (20, 20), (21, 40)])
def test_texts_that_chose_the_graph_do_not_judge_it(saved, tmp_path, monkeypatch, calibrated, judging):
    monkeypatch.setattr(exporting, "_CALIBRATED", calibrated)
    found = export_model(saved("full"), tmp_path / "onnx", int8=True, examples=labeled(), force=True).report
    assert found["calibration"]["texts"] == calibrated
    assert found["accuracy"]["texts"] == judging


def test_the_label_column_of_training_is_looked_for(saved, tmp_path, capsys):
    found, y = separable_texts(24, seed=4)
    card = json.loads((saved("full") / "headstart.json").read_text())
    model = Path(shutil.copytree(saved("full"), tmp_path / "model"))
    (model / "headstart.json").write_text(json.dumps({**card, "label_column": "mood"}))
    frame = pd.DataFrame({"text": found, "mood": [("neg", "pos")[c] for c in y]})
    frame.to_csv(tmp_path / "with.csv", index=False)
    frame[["text"]].to_csv(tmp_path / "without.csv", index=False)
    words = ["export", str(model), "--data"]
    assert run([*words, str(tmp_path / "with.csv"), "--out", str(tmp_path / "a")]) == 0
    report = json.loads((tmp_path / "a" / "export.json").read_text())
    assert report["accuracy"]["texts"] == 24
    assert report["speed"]["texts"] == 24
    assert report["speed"]["batches_ratio"] > 0
    assert "built-in" not in capsys.readouterr().err
    assert run([*words, str(tmp_path / "without.csv"), "--out", str(tmp_path / "b")]) == 0
    assert json.loads((tmp_path / "b" / "export.json").read_text())["accuracy"] is None
    assert "no column 'mood'" in capsys.readouterr().err
    assert run([*words, str(tmp_path / "with.csv"), "--label", "moood", "--out", str(tmp_path / "c")]) == 2
    assert run(["export", str(model), "--out", str(tmp_path / "d")]) == 0
    assert "built-in texts" in capsys.readouterr().err
    assert json.loads((tmp_path / "d" / "export.json").read_text())["speed"] is None


def testspeeds_are_measured_in_turn(saved):
    model = model_folder.load(saved("full"), runtime=Runtime())
    found = exporting.speeds(model.classifier, model.classifier, labeled(8))
    assert found["batches_ratio"] == pytest.approx(
        found["texts_per_second"]["onnx"] / found["texts_per_second"]["torch"], rel=0.05
    )


def test_int8_needs_texts(saved, tmp_path):
    with pytest.raises(ConfigError, match="--data"):
        export_model(saved("full"), tmp_path / "onnx", int8=True)


def test_a_graph_that_gives_other_numbers_is_not_written(saved, tmp_path, monkeypatch):
    real = onnx_graph.graph_module

    def wrong(classifier: Any) -> Any:
        module = real(classifier)
        module.network.classifier.bias.data += 0.5 * torch.arange(2)
        return module

    monkeypatch.setattr(exporting, "graph_module", wrong)
    monkeypatch.setattr(exporting, "EXPORTERS", {"torchscript": onnx_graph.EXPORTERS["torchscript"]})
    with pytest.raises(ModelError, match=r"differs from torch by 0\.\d+ in probability"):
        export_model(saved("full"), tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_other_folders_are_not_overwritten(saved, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").touch()
    with pytest.raises(ConfigError, match="is no export"):
        export_model(saved("full"), tmp_path / "mine")
    with pytest.raises(ConfigError, match="is no export"):
        export_model(saved("full"), saved("full"))


def test_engines(saved, tmp_path, texts):
    source = Path(shutil.copytree(saved("full"), tmp_path / "model"))
    with pytest.raises(ModelError, match="headstart export"):
        open_model(source, engine="onnx")
    with pytest.raises(ConfigError, match=r"'onxx'.*Did you mean 'onnx'"):
        open_model(source, engine="onxx")
    plain = Path(shutil.copytree(source, tmp_path / "plain"))
    (plain / "headstart.json").unlink()  # what any transformers program writes
    with pytest.raises(ModelError, match="has not been exported"):
        open_model(plain, engine="onnx")
    export_model(source, source / "onnx")
    exported = open_model(source, engine="onnx")
    assert exported.classifier.kind == "onnx"
    assert open_model(source, engine="torch").classifier.kind == "network"
    with pytest.raises(ModelError, match="is an ONNX export"):
        open_model(source / "onnx", engine="torch")
    (tmp_path / "in.csv").write_text("text\n" + "\n".join(t for t in texts if t))
    opened = {e: open_model(source, engine=e, precision="float32") for e in ("torch", "onnx")}
    answers = [predict_file(o, tmp_path / "in.csv", tmp_path / f"{e}.jsonl").out for e, o in opened.items()]
    shares = [[json.loads(line)["p_pos"] for line in a.read_text().splitlines()] for a in answers]
    np.testing.assert_allclose(*shares, atol=1e-5)
    shutil.copyfile(saved("full", "roberta") / "model.safetensors", source / "model.safetensors")
    with pytest.raises(ModelError, match="exported from other weights"):
        open_model(source, engine="onnx")


def test_damaged_graphs_and_weights_elsewhere_are_refused(saved, tmp_path):
    import onnx
    from onnx.external_data_helper import convert_model_to_external_data

    graph = export_model(saved("full"), tmp_path / "onnx").folder / "model.onnx"
    whole = graph.read_bytes()
    graph.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="damaged"):
        open_model(tmp_path / "onnx")
    graph.write_bytes(whole)
    made = onnx.load(str(graph))
    convert_model_to_external_data(made, location="weights.data", size_threshold=0)
    onnx.save(made, str(graph))
    with pytest.raises(ModelError, match="weights in other files"):
        open_model(tmp_path / "onnx")
    graph.unlink()
    with pytest.raises(ModelError, match="missing"):
        open_model(tmp_path / "onnx")


@pytest.mark.parametrize("place", ["constant", "branch", "function"])
def test_weights_elsewhere_are_found_wherever_they_hang(place, tmp_path):
    """A Constant's attribute, a branch of an If and the body of a function hold tensors too."""
    import onnx
    from onnx import helper

    number = onnx.TensorProto.FLOAT
    tensor = helper.make_tensor("away", number, [1], [1.0])
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret")
    out = helper.make_tensor_value_info("y", number, [1])
    constant = helper.make_node("Constant", [], ["y"], value=tensor)
    flag = helper.make_tensor_value_info("flag", onnx.TensorProto.BOOL, [])
    nodes = {
        "constant": [constant],
        "branch": [
            helper.make_node("If", ["flag"], ["y"], **{
                side: helper.make_graph([constant], side, [], [out]) for side in ("then_branch", "else_branch")
            })
        ],
        "function": [helper.make_node("Own", [], ["y"], domain="own")],
    }[place]  # fmt: skip
    functions = [helper.make_function("own", "Own", [], ["y"], [constant], [helper.make_opsetid("", 17)])]
    made = helper.make_model(
        helper.make_graph(nodes, "g", [flag], [out]),
        functions=functions if place == "function" else [],
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("own", 1)],
    )
    (tmp_path / "model.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(ModelError, match=r"weights in other files \(away\)"):
        new_session(tmp_path / "model.onnx")
