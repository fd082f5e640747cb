"""Model folders: what was fitted comes back, other tools read it, no file runs code, nothing is half saved."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import pickle
import shutil
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import ARCHITECTURES, fit_strategy, tiny_task
from headstart.data.examples import Examples
from headstart.data.labels import Labels
from headstart.errors import ModelError, StorageError
from headstart.models import folder as model_folder
from headstart.models.baselines import MajorityClassifier
from headstart.models.batching import TextSettings
from headstart.models.loading import load_body, load_classifier, load_tokenizer
from headstart.models.network import NetworkClassifier
from headstart.models.runtime import Runtime
from headstart.strategies.task import Fitted, Task

KINDS = ["majority", "tfidf", "linear-probe", "boosted", "full", "scratch-gru"]
LABEL_VALUES: list[tuple[Any, ...]] = [("no", "yes", "äöü"), (3, 1, 20), (True, False), (0.5, 1.5)]
every_kind = pytest.mark.parametrize("name", KINDS)
Made = tuple[Task, Fitted, Path]


@pytest.fixture(scope="module")
def made(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Made]:
    """Return a function from a strategy and label values to a task, its fit and the saved folder, made once."""

    @cache
    def make(name: str, values: tuple[Any, ...] = ("negative", "positive")) -> Made:
        task = tiny_task(24, 12, values=values, encoder=tiny_encoder)
        epochs = {"epochs": 1} if name in ("full", "scratch-gru") else {}
        fit = fit_strategy(name, task, **epochs)
        folder = tmp_path_factory.mktemp("models") / name
        model_folder.save(fit.classifier, folder, text=task.text, check=task.validation, card={"strategy": name})
        return task, fit, folder

    return make


@pytest.fixture
def copied(made: Callable[..., Made], tmp_path: Path) -> Callable[[str], Path]:
    """Return a function from a strategy to a copy of its folder, which may be damaged."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(made(name)[2], tmp_path / "copied"))

    return copy


def load(folder: Path) -> model_folder.Model:
    return model_folder.load(folder, runtime=Runtime())


# --- what was saved comes back


@every_kind
@pytest.mark.parametrize("values", LABEL_VALUES, ids=["text", "int", "bool", "float"])
def test_round_trip(name: str, values: tuple[Any, ...], made: Callable[..., Made]) -> None:
    task, fit, folder = made(name, values)
    model = load(folder)
    expected = fit.classifier.predict_proba(task.validation)
    texts = list(task.validation.texts)
    np.testing.assert_allclose(model.predict_proba(texts), expected, atol=1e-6)
    assert model.labels == task.labels
    predicted = model.predict(texts)
    assert {type(p) for p in predicted} == {type(values[0])}
    assert predicted == [task.labels.values[c] for c in expected.argmax(axis=1)]
    assert model.classifier.kind == fit.classifier.kind
    assert model.classifier.parameters() == fit.classifier.parameters()


@every_kind
def test_saved_twice_is_the_same(name: str, made: Callable[..., Made], tmp_path: Path) -> None:
    task, _fit, folder = made(name)
    again = load(folder)
    card = {"strategy": name}
    model_folder.save(again.classifier, tmp_path / "m", text=task.text, check=task.validation, card=card)
    first = {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix == ".safetensors"}
    assert {p.name: p.read_bytes() for p in (tmp_path / "m").iterdir() if p.suffix == ".safetensors"} == first
    assert (tmp_path / "m" / "headstart.json").read_bytes() == (folder / "headstart.json").read_bytes()


def test_boosted_model_keeps_its_columns(tiny_encoder: Path, tmp_path: Path) -> None:
    task = tiny_task(24, 12, encoder=tiny_encoder)

    def with_columns(examples: Examples) -> Examples:
        city = pd.Series(["Rome", None, "Oslo"] * (len(examples) // 3), name="city")
        stars = pd.Series(np.where(examples.y == 1, 4.5, np.nan), name="stars")
        return Examples.of(examples.texts, examples.y, columns=pd.concat([stars, city], axis=1))

    task = tiny_task(
        24, 12, encoder=tiny_encoder, train=with_columns(task.train), validation=with_columns(task.validation)
    )
    fit = fit_strategy("boosted", task)
    model_folder.save(
        fit.classifier, tmp_path / "m", text=task.text, check=task.validation, card={"strategy": "boosted"}
    )
    table = task.validation.columns.assign(text=list(task.validation.texts))
    expected = fit.classifier.predict_proba(task.validation)
    np.testing.assert_allclose(load(tmp_path / "m").predict_proba(table), expected, atol=1e-9)
    blank = table.assign(stars=np.nan)
    assert np.abs(load(tmp_path / "m").predict_proba(blank) - expected).max() > 0.01


def test_settings_and_card_come_back(made: Callable[..., Made], tmp_path: Path) -> None:
    _task, fit, _folder = made("full")
    text = TextSettings(17, "head-tail")
    card = {"strategy": "full", "metrics": {"accuracy": 0.5}, "text_columns": ["review"]}
    check = Examples.of(["a good film"])
    written = model_folder.save(fit.classifier, tmp_path / "m", text=fit.classifier.text, check=check, card=card)
    assert card["text_columns"] == ["review"]  # the caller's own is left as it was
    assert written == json.loads((tmp_path / "m" / "headstart.json").read_text())
    assert written["text"]["columns"] == ["review"]
    assert written["metrics"] == {"accuracy": 0.5}
    plain = MajorityClassifier(np.array([0.25, 0.75]), Labels.of(["a", "b"]))
    model_folder.save(plain, tmp_path / "p", text=text, check=check, card={"strategy": "majority"})
    assert load(tmp_path / "p").card["text"] == {"columns": ["text"], "max_length": 17, "truncate": "head-tail"}


def test_long_texts_are_cut_as_when_fitted(made: Callable[..., Made]) -> None:
    _task, fit, folder = made("full")
    long = Examples.of(["a good film " * 40, "bad " * 100])
    np.testing.assert_allclose(
        load(folder).predict_proba(list(long.texts)), fit.classifier.predict_proba(long), atol=1e-6
    )


# --- other tools read them


@pytest.fixture(scope="module")
def tuned(checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Made]:
    """Return a function from an architecture and a precision to a fine-tuned model, made once."""

    @cache
    def make(architecture: str, precision: str) -> Made:
        runtime = Runtime(precision=precision)  # type: ignore[arg-type]
        task = tiny_task(24, 12, encoder=checkpoint(architecture), values=("so", "no", "la"), runtime=runtime)
        fit = fit_strategy("full", task, epochs=2)
        folder = tmp_path_factory.mktemp("tuned") / architecture
        model_folder.save(fit.classifier, folder, text=task.text, check=task.validation, card={"strategy": "full"})
        return task, fit, folder

    return make


NEAR = {"float32": 1e-5, "bfloat16": 0.02}
both_precisions = pytest.mark.parametrize("precision", list(NEAR))


@both_precisions
@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_transformers_gives_our_probabilities(architecture: str, precision: str, tuned: Callable[..., Made]) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    task, fit, folder = tuned(architecture, precision)
    model = AutoModelForSequenceClassification.from_pretrained(str(folder)).eval()
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    with torch.inference_mode():
        logits = model(**tokenizer(list(task.validation.texts), padding=True, return_tensors="pt")).logits
    ours = fit.classifier.predict_proba(task.validation)
    np.testing.assert_allclose(torch.softmax(logits.float(), dim=1).numpy(), ours, atol=NEAR[precision])
    assert model.config.id2label == {0: "la", 1: "no", 2: "so"}
    assert np.ptp(ours, axis=0).max() > 5e-3  # what is compared is not one constant


@both_precisions
@pytest.mark.parametrize("architecture", ["bert", "roberta", "deberta-v2", "xlnet", "modernbert"])
def test_pipeline_gives_our_labels_and_probabilities(
    architecture: str, precision: str, tuned: Callable[..., Made]
) -> None:
    from transformers import pipeline

    task, fit, folder = tuned(architecture, precision)
    classify = pipeline("text-classification", str(folder), top_k=None, device="cpu")
    ours = fit.classifier.predict_proba(task.validation)
    for row, scores in enumerate(classify(list(task.validation.texts))):
        found = {score["label"]: score["score"] for score in scores}
        assert set(found) == {"la", "no", "so"}
        np.testing.assert_allclose([found[n] for n in task.labels.names], ours[row], atol=NEAR[precision])


def test_pipeline_reads_pairs_as_we_do(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    from transformers import pipeline

    task = tiny_task(24, 12, encoder=checkpoint("bert"), pairs=True)
    fit = fit_strategy("full", task, epochs=2)
    card = {"strategy": "full", "text_columns": ["first", "second"]}
    model_folder.save(fit.classifier, tmp_path / "m", text=task.text, check=task.validation, card=card)
    pairs = zip(task.validation.texts, task.validation.pairs, strict=True)
    classify = pipeline("text-classification", str(tmp_path / "m"), top_k=None, device="cpu")
    scores = classify([{"text": first, "text_pair": second} for first, second in pairs])
    theirs = [[{s["label"]: s["score"] for s in row}[n] for n in task.labels.names] for row in scores]
    np.testing.assert_allclose(theirs, fit.classifier.predict_proba(task.validation), atol=1e-5)


def test_frozen_encoder_is_an_ordinary_folder(made: Callable[..., Made], tiny_encoder: Path) -> None:
    _task, _fit, folder = made("linear-probe")
    expected = load_body(tiny_encoder).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in load_body(folder).state_dict().items())


def test_plain_transformers_classifier_opens(tiny_encoder: Path, tmp_path: Path) -> None:
    labels = Labels.of(["x", "y", "z"])
    model, _fresh = load_classifier(tiny_encoder, labels, seed=1)
    model.save_pretrained(str(tmp_path))
    load_tokenizer(tiny_encoder).save_pretrained(str(tmp_path))
    opened = load(tmp_path)
    assert opened.labels.values == ("x", "y", "z")
    assert opened.card["text"] == {"columns": ["text"], "max_length": 64, "truncate": "head"}
    texts = ["a good film", "bad", ""]
    with torch.inference_mode():
        logits = model.eval()(**load_tokenizer(tiny_encoder)(texts, padding=True, return_tensors="pt")).logits
    np.testing.assert_allclose(opened.predict_proba(texts), torch.softmax(logits, dim=1).numpy(), atol=1e-5)
    assert opened.predict_proba(["good " * 500]).shape == (1, 3)


def test_encoder_without_a_head_is_no_classifier(tiny_encoder: Path) -> None:
    with pytest.raises(ModelError, match=r"without a classification head.*--encoder"):
        load(tiny_encoder)


# --- nothing in them runs code


class Planted:
    """A pickle of this writes a file when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.write_text, (self.marker, "read")


@every_kind
def test_no_file_is_a_pickle(name: str, made: Callable[..., Made]) -> None:
    from safetensors import safe_open

    files = [p for p in made(name)[2].rglob("*") if p.is_file()]
    assert files
    for file in files:
        start = file.read_bytes()[:4]
        assert start[:2] != b"PK"
        if file.suffix == ".safetensors":
            with safe_open(str(file), framework="np") as tensors:
                assert list(tensors.keys())
        elif file.suffix == ".cbm":
            assert start == b"CBM1"
        else:
            assert start[:1] != b"\x80"
            assert file.suffix in (".json", ".txt")
            assert file.suffix == ".txt" or json.loads(file.read_text(encoding="utf-8")) is not None


@every_kind
@pytest.mark.parametrize(
    "planted", ["pytorch_model.bin", "model.pt", "head.pkl", "tfidf.joblib", "vocab.txt", "a/b.npy"]
)
def test_planted_pickles_are_refused(name: str, planted: str, copied: Callable[[str], Path]) -> None:
    folder = copied(name)
    marker = folder.parent / "marker"
    content = pickle.dumps(Planted(marker))
    (folder / planted).parent.mkdir(exist_ok=True)
    (folder / planted).write_bytes(content)
    with pytest.raises(ModelError, match=f"{planted} is a pickle, or may hold one.*Remove the file"):
        load(folder)
    assert not marker.exists()
    pickle.loads(content)  # it would have shown
    assert marker.exists()


@pytest.mark.parametrize("packed", [bytes, gzip.compress, bz2.compress, lzma.compress, zlib.compress])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("planted", ["notes", "vocab.txt", "extra.json", "model.safetensors.index"])
def test_pickles_of_any_protocol_are_refused_by_any_name(
    planted: str, protocol: int, packed: Callable[[bytes], bytes], copied: Callable[[str], Path]
) -> None:
    folder = copied("majority")
    (folder / planted).write_bytes(packed(pickle.dumps(Planted(folder.parent / "marker"), protocol=protocol)))
    with pytest.raises(ModelError, match=f"{planted} is a pickle, or may hold one.*Remove the file"):
        load(folder)


@pytest.mark.parametrize("content", ["", ".", ".hidden files\n", "[PAD]\n[UNK]\nthe\n", "I like it.\n", "# A model.\n"])
def test_texts_are_not_taken_for_pickles(content: str, copied: Callable[[str], Path]) -> None:
    folder = copied("majority")
    (folder / "notes.txt").write_text(content)
    load(folder)


@every_kind
def test_links_that_lead_out_are_refused(name: str, copied: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copied(name)
    card = folder / "headstart.json"
    (folder / "inside.json").symlink_to(card)
    load(folder)
    card.rename(tmp_path / "elsewhere.json")
    card.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(ModelError, match=r"(headstart|inside)\.json is a link that leads out"):
        load(folder)


@pytest.mark.parametrize(
    ("file", "settings", "words"),
    [
        ("config.json", {"auto_map": {"AutoModel": "m.M"}}, "code of its own"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["t.T", None]}}, "code of its own"),
        ("tokenizer_config.json", {"vocab_file": "../../etc/passwd"}, "outside the folder"),
        ("headstart.json", {"about": {"graph": "/etc/passwd"}}, "outside the folder"),
        ("model.safetensors.index.json", {"weight_map": {"w": "../other.safetensors"}}, "outside the folder"),
        ("adapter_config.json", {"base_model_name_or_path": "/elsewhere"}, "adapter"),
    ],
)
def test_settings_that_lead_out_or_ask_for_code_are_refused(
    file: str, settings: dict[str, Any], words: str, copied: Callable[[str], Path]
) -> None:
    path = copied("full") / file
    before = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**before, **settings}))
    with pytest.raises(ModelError, match=words):
        load(path.parent)


def test_code_beside_the_model_is_refused(copied: Callable[[str], Path]) -> None:
    folder = copied("full")
    (folder / "modeling_mine.py").write_text("print('run')")
    with pytest.raises(ModelError, match=r"modeling_mine\.py is code"):
        load(folder)


@pytest.mark.parametrize("name", ["full", "scratch-gru", "linear-probe"])
def test_pickles_in_place_of_weights_are_refused(name: str, copied: Callable[[str], Path]) -> None:
    folder = copied(name)
    marker = folder.parent / "marker"
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Planted(marker)))
    with pytest.raises(ModelError, match=r"pytorch_model\.bin is a pickle"):
        load(folder)
    (folder / "pytorch_model.bin").rename(folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"model\.safetensors is a pickle"):
        load(folder)
    assert not marker.exists()


def _doors(folder: Path) -> dict[str, Callable[[], object]]:
    """Every way to a model folder but `load`: none of them may use what `load` refuses."""
    from headstart.experiment.source import existing_source
    from headstart.inference.api import infer
    from headstart.models.encoders import find_encoder
    from headstart.models.exporting import export_model
    from headstart.models.inspecting import find
    from headstart.models.predicting import open_model
    from headstart.registry import Registry
    from headstart.registry.packaging import write_mlflow_model
    from headstart.registry.registering import register

    out = folder.parent / "out"
    return {
        "register": lambda: register(Registry.open(), str(folder), "reviews"),
        "package": lambda: write_mlflow_model(folder, out),
        "infer": lambda: infer("sentiment", "a film", model=str(folder)),
        "source": lambda: existing_source(str(folder)),
        "encoder": lambda: find_encoder(str(folder)),
        "inspect": lambda: find(str(folder)),
        "export": lambda: export_model(folder, out),
        "engine": lambda: open_model(folder, engine="onnx"),
    }


@pytest.mark.parametrize("what", ["pickle", "link", "outside", "code"])
def test_every_door_refuses_what_loading_refuses(
    what: str, copied: Callable[[str], Path], own_registry: Path, tmp_path: Path
) -> None:
    folder = copied("full")
    if what == "pickle":
        (folder / "training_args.bin").write_bytes(pickle.dumps([1]))
    elif what == "link":
        (tmp_path / "elsewhere").mkdir()
        (folder / "onnx").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    elif what == "outside":
        (folder / "tokenizer_config.json").write_text('{"vocab_file": "../../secret"}')
    else:
        (folder / "modeling.py").write_text("raise SystemExit")
    for door in _doors(folder).values():
        with pytest.raises(ModelError, match=r"it is not loaded"):
            door()


def test_an_exported_folder_behind_a_link_is_refused(copied: Callable[[str], Path], tmp_path: Path) -> None:
    from headstart.models.exporting import export_model
    from headstart.models.predicting import open_model

    pytest.importorskip("onnxruntime")
    folder = copied("full")
    export_model(folder, tmp_path / "elsewhere")
    (folder / "onnx").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(ModelError, match="onnx is a link that leads out"):
        open_model(folder, engine="onnx")


# --- damaged folders

MISSING = object()
CARDS: dict[str, dict[str, Any]] = {
    "newer format": {"format": 2},
    "format as text": {"format": "1"},
    "no format": {"format": MISSING},
    "no kind": {"kind": MISSING},
    "unknown kind": {"kind": "magic"},
    "kind is a list": {"kind": ["tfidf"]},
    "no labels": {"labels": MISSING},
    "labels are null": {"labels": None},
    "labels without type": {"labels": {"values": ["a", "b"], "names": ["a", "b"]}},
    "labels of an unknown type": {"labels": {"values": ["a", "b"], "names": ["a", "b"], "type": "complex"}},
    "labels that are no numbers": {"labels": {"values": ["a", "b"], "names": ["a", "b"], "type": "int"}},
    "fewer names than labels": {"labels": {"values": ["a", "b"], "names": ["a"], "type": "str"}},
    "more labels than weights": {"labels": {"values": ["a", "b", "c"], "names": ["a", "b", "c"], "type": "str"}},
    "no labels at all": {"labels": {"values": [], "names": [], "type": "str"}},
    "no text settings": {"text": MISSING},
    "text without a limit": {"text": {"columns": ["text"], "truncate": "head"}},
    "limit is text": {"text": {"columns": ["text"], "max_length": "long", "truncate": "head"}},
    "limit is negative": {"text": {"columns": ["text"], "max_length": -3, "truncate": "head"}},
    "unknown cut": {"text": {"columns": ["text"], "max_length": 32, "truncate": "middle"}},
    "no text columns": {"text": {"max_length": 32, "truncate": "head"}},
    "about is null": {"about": None},
    "no about": {"about": MISSING},
}


@pytest.mark.parametrize("name", ["tfidf", "full", "linear-probe"])
@pytest.mark.parametrize("damage", list(CARDS))
def test_damaged_card_gets_one_clear_error(damage: str, name: str, copied: Callable[[str], Path]) -> None:
    folder = copied(name)
    card = {**json.loads((folder / "headstart.json").read_text()), **CARDS[damage]}
    (folder / "headstart.json").write_text(json.dumps({k: v for k, v in card.items() if v is not MISSING}))
    with pytest.raises(ModelError) as caught:
        load(folder).predict_proba(["a good film", "bad"])
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"3", b"\xff\xfe{}", b'"format"', b"[" * 100_000])
def test_card_that_is_no_card(content: bytes, copied: Callable[[str], Path]) -> None:
    folder = copied("tfidf")
    (folder / "headstart.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"headstart\.json is damaged"):
        load(folder)


@every_kind
def test_every_missing_or_truncated_weight_file_is_noticed(
    name: str, made: Callable[..., Made], copied: Callable[[str], Path]
) -> None:
    weights = [p.name for p in made(name)[2].iterdir() if p.suffix in (".safetensors", ".cbm")]
    assert bool(weights) == (name != "majority")
    for file in weights:
        for damage in (lambda p: p.write_bytes(p.read_bytes()[:-20]), lambda p: p.unlink()):
            folder = copied(name)
            damage(folder / file)
            with pytest.raises(ModelError):
                load(folder)
            shutil.rmtree(folder)


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model folder at"):
        load(tmp_path / "nothing")
    with pytest.raises(ModelError, match=r"no config\.json"):
        load(tmp_path)


# --- saved whole and as it was, or not at all


class Altered(MajorityClassifier):
    """Writes other numbers than it predicts with."""

    change = 1e-4

    def write(self, folder: Path) -> dict[str, Any]:
        (folder / "extra.json").write_text("{}")
        return MajorityClassifier(self.shares + np.array([self.change, -self.change]), self.labels).write(folder)


class Failing(MajorityClassifier):
    """Cannot be written to the end."""

    def write(self, folder: Path) -> dict[str, Any]:
        (folder / "half.json").write_text("{")
        raise OSError(28, "No space left on device")


def save(classifier: Any, folder: Path) -> None:
    text, check = TextSettings(32), Examples.of(["a good film", "bad", "the room"])
    model_folder.save(classifier, folder, text=text, check=check, card={"strategy": "x"})


@pytest.mark.parametrize("change", [1e-4, 0.5, np.nan])
def test_a_model_that_comes_back_different_is_not_saved(change: float, tmp_path: Path) -> None:
    classifier = Altered(np.array([0.25, 0.75]), Labels.of(["a", "b"]))
    classifier.change = change
    with pytest.raises((ModelError, ValueError)):
        save(classifier, tmp_path / "m")
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "headstart-cache"])


def test_difference_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"differs from the fitted one by 0\.0001 .*was not saved"):
        save(Altered(np.array([0.25, 0.75]), Labels.of(["a", "b"])), tmp_path / "m")


def test_a_network_that_comes_back_different_is_not_saved(tiny_encoder: Path, tmp_path: Path) -> None:
    class Forgetful(NetworkClassifier):
        def write(self, folder: Path) -> dict[str, Any]:
            kept = self.model.classifier.weight.detach().clone()
            with torch.no_grad():
                self.model.classifier.weight.add_(0.1 * torch.arange(2.0)[:, None])
            about = super().write(folder)
            with torch.no_grad():
                self.model.classifier.weight.copy_(kept)
            return about

    labels = Labels.of(["a", "b"])
    model, _fresh = load_classifier(tiny_encoder, labels, seed=0)
    parts = (model, load_tokenizer(tiny_encoder), labels, TextSettings(32), Runtime())
    with pytest.raises(ModelError, match="differs from the fitted one"):
        save(Forgetful(*parts), tmp_path / "m")
    assert not [p for p in tmp_path.iterdir() if p.name != "headstart-cache"]
    save(NetworkClassifier(*parts), tmp_path / "m")
    assert load(tmp_path / "m").labels == labels


@pytest.mark.parametrize(("bad", "error"), [(Altered, ModelError), (Failing, StorageError)])
def test_what_stood_there_before_stays(bad: Any, error: type[Exception], tmp_path: Path) -> None:
    shares, labels = np.array([0.25, 0.75]), Labels.of(["a", "b"])
    save(MajorityClassifier(shares, labels), tmp_path / "m")
    before = {p.name: p.read_bytes() for p in (tmp_path / "m").iterdir()}
    with pytest.raises(error):
        save(bad(shares, labels), tmp_path / "m")
    assert {p.name: p.read_bytes() for p in (tmp_path / "m").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir() if p.name != "headstart-cache"] == ["m"]


def test_a_later_model_replaces_the_whole_folder(made: Callable[..., Made], copied: Callable[[str], Path]) -> None:
    folder = copied("full")
    save(MajorityClassifier(np.array([0.25, 0.75]), Labels.of(["a", "b"])), folder)
    assert [p.name for p in folder.iterdir()] == ["headstart.json"]
    np.testing.assert_array_equal(load(folder).predict_proba(["x", "y"]), [[0.25, 0.75]] * 2)
