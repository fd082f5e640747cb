"""Model folders: ordinary transformers checkpoints, whole or not there, read back before they count."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from conftest import fit_strategy, tiny_task
from headstart.data.labels import Labels
from headstart.errors import DataError, ModelError
from headstart.models import folder as model_folder
from headstart.models.classifier import softmax
from headstart.models.runtime import Runtime
from headstart.strategies.task import Fitted, Task

FINE_TUNED = ("full", "lora", "partial", "source+full", "as-is")
TOLERANCES = {"float32": 1e-5, "bfloat16": 0.02}


def save(fitted: Fitted, task: Task, folder: Path, **card: Any) -> Path:
    model_folder.save(fitted.classifier, folder, text=task.text, check=task.validation, card={"strategy": "x", **card})
    return folder


@pytest.fixture(scope="module")
def saved(
    tiny_encoder: Path, sources: Callable[[int], Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], tuple[Path, Task, Fitted]]:
    """Return a function from strategy and precision to a saved fit."""
    made: dict[tuple[str, str], tuple[Path, Task, Fitted]] = {}

    def make(strategy: str, precision: str = "float32") -> tuple[Path, Task, Fitted]:
        if (strategy, precision) not in made:
            options: dict[str, Any] = {"encoder": tiny_encoder, "runtime": Runtime("cpu", precision)}  # type: ignore[arg-type]
            if strategy in ("as-is", "source+full"):
                source = sources(2)
                options |= {"source": source, "encoder": source.encoder.folder, "keep_head": strategy != "as-is"}
            task = tiny_task(n=24, n_validation=12, **options)
            settings = {"epochs": 1} if strategy not in ("as-is", "linear-probe", "tfidf", "boosted") else {}
            fitted = fit_strategy(strategy, task, **settings)
            folder = tmp_path_factory.mktemp("saved") / "model"
            made[strategy, precision] = save(fitted, task, folder), task, fitted
        return made[strategy, precision]

    return make


@pytest.mark.parametrize("precision", list(TOLERANCES))
@pytest.mark.parametrize("strategy", FINE_TUNED)
def test_transformers_reads_our_names_and_probabilities(
    strategy: str, precision: str, saved: Callable[..., tuple[Path, Task, Fitted]]
) -> None:
    folder, task, fitted = saved(strategy, precision)
    texts = list(task.validation.texts)
    ours = fitted.classifier.predict_proba(task.validation)

    model, info = AutoModelForSequenceClassification.from_pretrained(str(folder), output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.config.id2label == {0: "negative", 1: "positive"}
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    with torch.no_grad():
        logits = model.eval()(**tokenizer(texts, padding=True, return_tensors="pt")).logits
    np.testing.assert_allclose(softmax(logits.float().numpy()), ours, atol=TOLERANCES[precision])

    answers = pipeline("text-classification", model=str(folder), device="cpu")(texts, top_k=None)
    theirs = [{a["label"]: a["score"] for a in answer} for answer in answers]
    for row, answer in enumerate(theirs):
        assert answer.keys() == set(task.labels.names)
        for c, name in enumerate(task.labels.names):
            assert answer[name] == pytest.approx(ours[row, c], abs=TOLERANCES[precision])


def test_precision_makes_the_difference_that_is_allowed_for(saved: Callable[..., tuple[Path, Task, Fitted]]) -> None:
    """The tolerance for bfloat16 is not idle: the two precisions do differ."""
    folder, task, _ = saved("full")
    texts = list(task.validation.texts)
    wide, narrow = (model_folder.load(folder, precision=p).predict_proba(texts) for p in TOLERANCES)
    assert 1e-6 < np.abs(wide - narrow).max() < TOLERANCES["bfloat16"]


@pytest.mark.parametrize("strategy", ["tfidf", "linear-probe", "boosted", "full", "scratch-gru", "lora"])
def test_only_safetensors_json_and_text_are_written(
    strategy: str, saved: Callable[..., tuple[Path, Task, Fitted]]
) -> None:
    if strategy == "boosted":
        pytest.importorskip("catboost")
    folder, _, _ = saved(strategy)
    suffixes = {p.suffix for p in folder.rglob("*") if p.is_file()}
    assert suffixes <= {".safetensors", ".json", ".txt", ".cbm", ".jinja"}
    assert (folder / "headstart.json").is_file()
    assert not [p for p in folder.parent.iterdir() if p != folder], "no temporary folder is left"


def test_card_holds_what_transformers_has_no_place_for(tiny_encoder: Path, tmp_path: Path) -> None:
    task = tiny_task(n=16, n_validation=8, encoder=tiny_encoder, values=(3, 7))
    fitted = fit_strategy("full", task, epochs=1)
    save(fitted, task, tmp_path / "m", metrics={"holdout": {"accuracy": 0.5}}, text_columns=["remark"])
    card = json.loads((tmp_path / "m" / "headstart.json").read_text())
    assert card["labels"] == {"values": [3, 7], "names": ["3", "7"], "type": "int"}
    assert card["text"] == {"columns": ["remark"], "max_length": 32, "truncate": "head"}
    assert card["metrics"] == {"holdout": {"accuracy": 0.5}}
    assert card["format"] == model_folder.FORMAT
    assert json.loads((tmp_path / "m" / "tokenizer_config.json").read_text())["model_max_length"] == 32


@pytest.mark.parametrize("values", [("no", "yes"), (0, 1), (False, True), (0.0, 1.5)])
def test_predictions_have_the_labels_own_type(values: tuple[Any, ...], tmp_path: Path) -> None:
    task = tiny_task(n=16, n_validation=8, values=values)
    model = model_folder.load(save(fit_strategy("tfidf", task), task, tmp_path / "m"), runtime=Runtime())
    predicted = model.predict(list(task.validation.texts))
    assert {type(p) for p in predicted} == {type(values[0])}
    assert set(predicted) <= set(values)
    assert model.predict([]) == []
    assert repr(model) == f"Model(x: {values[0]}, {values[1]})"


def test_texts_in_every_form_and_missing_ones(saved: Callable[..., tuple[Path, Task, Fitted]]) -> None:
    folder, task, _ = saved("full")
    model = model_folder.load(folder, runtime=Runtime())
    texts = list(task.validation.texts)
    expected = model.predict_proba(texts)
    for form in (pd.Series(texts), np.array(texts), pd.DataFrame({"text": texts, "other": 1})):
        np.testing.assert_array_equal(model.predict_proba(form), expected)
    np.testing.assert_array_equal(model.predict_proba([None, float("nan")]), model.predict_proba(["", ""]))
    np.testing.assert_array_equal(model.predict_proba(texts[0]), model.predict_proba([texts[0]]))
    with pytest.raises(DataError, match=r"column 'text' is missing.*Did you mean 'txt'"):
        model.predict(pd.DataFrame({"txt": texts}))


def test_pairs_need_both_columns(tiny_encoder: Path, tmp_path: Path) -> None:
    task = tiny_task(n=16, n_validation=8, pairs=True, encoder=tiny_encoder)
    fitted = fit_strategy("full", task, epochs=1)
    folder = save(fitted, task, tmp_path / "m", text_columns=["question", "answer"])
    model = model_folder.load(folder, runtime=Runtime())
    frame = pd.DataFrame({"answer": task.validation.pairs, "question": task.validation.texts})
    np.testing.assert_allclose(model.predict_proba(frame), fitted.classifier.predict_proba(task.validation), atol=1e-6)
    with pytest.raises(DataError, match="reads pairs"):
        model.predict(["one text"])


def test_a_long_text_is_cut_as_in_training(tiny_encoder: Path, tmp_path: Path) -> None:
    from headstart.models.batching import TextSettings

    task = tiny_task(n=16, n_validation=8, encoder=tiny_encoder, text=TextSettings(8, "tail"))
    fitted = fit_strategy("full", task, epochs=1)
    model = model_folder.load(save(fitted, task, tmp_path / "m"), runtime=Runtime())
    long = "good good good film film film film film film"
    same_end = "bad bad bad film film film film film film"
    np.testing.assert_array_equal(model.predict_proba([long]), model.predict_proba([same_end]))


# --- whole or not at all -------------------------------------------------------------------------------------


class Forgetful:
    """A classifier that reads back as another one."""

    kind = "majority"

    def __init__(self, labels: Labels) -> None:
        self.labels = labels

    def predict_proba(self, examples: Any, advance: Any = None) -> np.ndarray:
        return np.tile([0.25, 0.75], (len(examples), 1))

    def write(self, folder: Path) -> dict[str, Any]:
        return {"shares": [0.5, 0.5]}

    def parameters(self) -> int:
        return 2


def test_a_model_that_reads_back_different_is_not_saved(tmp_path: Path) -> None:
    task = tiny_task(n=8, n_validation=4)
    good = save(fit_strategy("majority", task), task, tmp_path / "m")
    before = (good / "headstart.json").read_bytes()
    with pytest.raises(ModelError, match=r"differs from the fitted one by 0\.25"):
        model_folder.save(Forgetful(task.labels), good, text=task.text, check=task.validation, card={"strategy": "x"})
    assert (good / "headstart.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".tmp")] == []


def test_a_model_that_gives_nan_is_not_saved(tiny_encoder: Path, tmp_path: Path) -> None:
    task = tiny_task(n=8, n_validation=4, encoder=tiny_encoder)
    fitted = fit_strategy("full", task, epochs=1)
    with torch.no_grad():
        fitted.classifier.model.classifier.bias.fill_(float("nan"))
    with pytest.raises(ModelError):
        save(fitted, task, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_model_in_the_way_is_replaced(tmp_path: Path) -> None:
    task = tiny_task(n=16, n_validation=8)
    save(fit_strategy("tfidf", task), task, tmp_path / "m")
    save(fit_strategy("majority", task), task, tmp_path / "m")
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["headstart.json"]


# --- folders that are not ours -------------------------------------------------------------------------------


def test_an_ordinary_sequence_classifier_opens(saved: Callable[..., tuple[Path, Task, Fitted]], tmp_path: Path) -> None:
    import shutil

    folder, task, fitted = saved("full")
    shutil.copytree(folder, tmp_path / "plain")
    (tmp_path / "plain" / "headstart.json").unlink()
    model = model_folder.load(tmp_path / "plain", runtime=Runtime())
    assert model.labels.names == ("negative", "positive")
    texts = list(task.validation.texts)
    np.testing.assert_allclose(model.predict_proba(texts), fitted.classifier.predict_proba(task.validation), atol=1e-6)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda f: (f / "headstart.json").write_text("{"), "headstart.json.*damaged"),
        (lambda f: (f / "headstart.json").write_text("[]"), "damaged"),
        (lambda f: _edit(f, format=99), "format 99.*upgrade"),
        (lambda f: _edit(f, kind="ensemble"), "kind 'ensemble'.*known: majority"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 99), "damaged|truncated"),
        (lambda f: (f / "model.safetensors").unlink(), "no safetensors weights"),
        (lambda f: _edit(f, name="config.json", auto_map={"AutoModel": "x.Y"}), "code of its own"),
        (lambda f: (f / "config.json").unlink(), "no config.json"),
    ],
)
def test_damaged_folders(
    change: Callable[[Path], Any], words: str, saved: Callable[..., tuple[Path, Task, Fitted]], tmp_path: Path
) -> None:
    import shutil

    copied = Path(shutil.copytree(saved("full")[0], tmp_path / "m"))
    change(copied)
    with pytest.raises(ModelError, match=words):
        model_folder.load(copied, runtime=Runtime())


def _edit(folder: Path, name: str = "headstart.json", **values: Any) -> None:
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**content, **values}))


def test_nothing_there_and_an_encoder_without_a_head(tiny_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model folder at"):
        model_folder.load(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="encoder without a classification head"):
        model_folder.load(tiny_encoder)


def test_frozen_features_are_read_at_the_same_layer(tiny_encoder: Path, tmp_path: Path) -> None:
    task = tiny_task(n=24, n_validation=12, encoder=tiny_encoder)
    task = dataclasses.replace(task, cache=tmp_path / "cache")
    fitted = fit_strategy("linear-probe", task, layer=1)
    model = model_folder.load(save(fitted, task, tmp_path / "m"), runtime=Runtime())
    assert model.card["about"]["layer"] == 1
    texts = list(task.validation.texts)
    np.testing.assert_array_equal(model.predict_proba(texts), fitted.classifier.predict_proba(task.validation))
