"""A scan of every file that this project writes, by every command that writes: none is a pickle, none runs code."""

from __future__ import annotations

import importlib.util
import json
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import QUICK, separable_texts
from headstart.cli.main import run
from headstart.data.examples import Examples

STRATEGIES = ("majority", "tfidf", "scratch-gru", "linear-probe", "boosted", "full", "lora")
STAGES = ("gradual", "contrastive", "tfidf+self-train", "source+linear-probe", "adapt+source+full", "as-is")
_KNOWN = {".json", ".jsonl", ".safetensors", ".cbm", ".onnx", ".parquet", ".csv", ".txt", ".jinja", ".html", ".db"}
# What MLflow keeps beside: MLmodel, its environments, and the source that opens a model without headstart.
_KNOWN_TO_MLFLOW = {"", ".yaml", ".py"}

# gzip, bzip2, xz, and zlib at each of its levels.
_COMPRESSED = (b"\x1f\x8b", b"BZ", b"\xfd7", b"x\x01", b"x\x5e", b"x\x9c", b"x\xda")


def pickle_in(raw: bytes) -> str | None:
    """Return what makes bytes a pickle or a container of pickles, or None."""
    if raw[:2] == b"PK" or b"PK\x03\x04" in raw[:64]:
        return "a zip archive (torch.save, npz)"
    if raw[:6] == b"\x93NUMPY" and b"|O" in raw[:128]:
        return "a NumPy array of objects"
    if raw[:2] in _COMPRESSED or raw[:4] == b"ZF0x":
        return "compressed, as joblib does"
    if raw[:1] == b"\x80" and 2 <= raw[1] <= 5:
        return "a pickle of protocol 2 to 5"
    try:
        if list(pickletools.genops(raw)):
            return "a pickle of protocol 0 or 1"
    except Exception:  # anything else is no pickle
        return None
    return None


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Path:
    """Folder of all that a comparison with every kind of model, a prediction and an export leave behind."""
    pytest.importorskip("catboost")
    pytest.importorskip("onnxruntime")
    import headstart
    from headstart.models.exporting import export_model
    from headstart.models.labeling import predict_file
    from headstart.models.predicting import open_model

    folder = tmp_path_factory.mktemp("written")
    texts, y = separable_texts(90, seed=2)
    frame = pd.DataFrame({"text": texts, "label": [("neg", "pos")[c] for c in y]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(folder / "cache"))
        headstart.compare(
            frame, strategies=list(STRATEGIES), encoder=str(tiny_encoder), max_length=32, keep_models=True,
            settings={n: {**values, **({"epochs": 2} if "epochs" in values else {})} for n, values in QUICK.items()
                      if n in STRATEGIES},
            out=str(folder / "run"), precision="float32", tracking=False,
        )  # fmt: skip
    models = {p.parent.parent.parent.name: p.parent for p in folder.glob("run/fits/*/*/model/headstart.json")}
    assert set(models) == set(STRATEGIES)
    frame.loc[3, "text"] = None
    frame.to_csv(folder / "in.csv", index=False)
    for name, model in models.items():
        for suffix in (".csv", ".jsonl", ".parquet"):
            predict_file(open_model(model), folder / "in.csv", folder / f"{name}{suffix}")
    for name in ("full", "linear-probe", "scratch-gru"):
        export_model(models[name], folder / f"onnx-{name}")
    rows = Examples.of(texts, list(y))
    export_model(models["full"], folder / "int8", examples=rows, int8=True, force=True)
    frame.dropna().to_csv(folder / "labeled.csv", index=False)
    judged = [str(models["full"]), str(models["tfidf"]), "--data", str(folder / "labeled.csv"), "--label", "label"]
    assert run(["evaluate", *judged, "--out", str(folder / "judged.csv"), "--quiet"]) == 0
    return folder


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Path:
    """Folder of what adaptation, stages and a comparison with tracking leave, a broken-off adaptation's state too."""
    import headstart
    from headstart.adaptation.adapt import adapt_encoder
    from headstart.adaptation.config import AdaptConfig
    from headstart.adaptation.state import StateStore
    from headstart.models.encoders import Encoder
    from headstart.models.runtime import Runtime

    folder = tmp_path_factory.mktemp("adapted")
    texts, y = separable_texts(150, seed=3, words=9)
    frame = pd.DataFrame({"text": texts, "label": [("neg", "pos")[c] for c in y]}).drop_duplicates("text")
    frame[:60].to_csv(folder / "films.csv", index=False)
    frame[60:80][["text"]].to_csv(folder / "pool.csv", index=False)
    once = {"epochs": 1, "batch_size": 8}
    settings = {
        "adapt": {"epochs": 1, "batch_tokens": 256}, "source": once, "full": once, "gradual": once,
        "contrastive": {"steps": 2, "texts": 4},
    }  # fmt: skip

    def broken_off(figures: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        headstart.compare(
            frame[80:], strategies=list(STAGES), encoder=str(tiny_encoder), max_length=32, keep_models=True,
            source=str(folder / "films.csv"), unlabeled=str(folder / "pool.csv"), settings=settings,
            out=str(folder / "run"), precision="float32", tracking=importlib.util.find_spec("mlflow") is not None,
        )  # fmt: skip
        patch.setattr(StateStore, "is_due", lambda self: True)
        encoder, config = Encoder("tiny", tiny_encoder), AdaptConfig(epochs=2, batch_tokens=256)
        adapt_encoder(encoder, texts, folder / "encoder", config, runtime=Runtime(), threads=1)
        with pytest.raises(KeyboardInterrupt):
            adapt_encoder(
                encoder, texts, folder / "unfinished", config, runtime=Runtime(), threads=1, on_epoch=broken_off
            )
    assert len(list(folder.glob("run/fits/*/*/model/headstart.json"))) == len(STAGES)
    assert list(folder.rglob("state.safetensors"))
    return folder


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory, model_of: Any) -> Path:
    """Folder of a registry with two versions, each an MLflow model, evaluated and promoted."""
    if importlib.util.find_spec("mlflow") is None:
        pytest.skip("needs the extra [mlflow]")
    from headstart.data.read import read_table
    from headstart.models.runtime import Runtime
    from headstart.registry import Registry
    from headstart.registry.promoting import promote
    from headstart.registry.registering import register

    folder = tmp_path_factory.mktemp("registered")
    registry = Registry.open(f"sqlite:///{folder / 'registry.db'}")
    texts, y = separable_texts(40, seed=4)
    table = read_table(pd.DataFrame({"text": texts, "label": [("neg", "pos")[c] for c in y]}))
    for kind in ("full", "boosted"):
        version = register(registry, str(model_of(kind)), "reviews")
        promote(registry, version, table=table, runtime=Runtime(), force=True)
    assert list(folder.rglob("predictions.parquet"))
    return folder


@pytest.fixture(params=["written", "adapted", "registered"])
def place(request: pytest.FixtureRequest) -> Path:
    return Path(request.getfixturevalue(request.param))


def test_no_file_is_a_pickle(place):
    files = [p for p in place.rglob("*") if p.is_file()]
    assert len(files) > 60
    found = {str(p.relative_to(place)): pickle_in(p.read_bytes()) for p in files}
    assert {name: what for name, what in found.items() if what} == {}
    assert not [p for p in files if zipfile.is_zipfile(p)]


def test_every_file_is_of_a_kind_that_is_known(place):
    cache, kept = place / "cache", place / "mlartifacts"
    files = [p for p in place.rglob("*") if p.is_file() and not p.is_relative_to(cache)]
    assert {p.suffix for p in files if not p.is_relative_to(kept)} - _KNOWN == set()
    assert {p.suffix for p in files} - _KNOWN - _KNOWN_TO_MLFLOW == set()
    for file in place.rglob("*.json"):
        assert json.loads(file.read_text(encoding="utf-8")) is not None


def test_the_scan_finds_what_it_looks_for(tmp_path):
    import pickle

    import joblib
    import torch

    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pt")
    np.savez(tmp_path / "b.npz", a=np.zeros(2))
    np.save(tmp_path / "c.npy", np.asarray([{}], dtype=object))
    joblib.dump({"a": 1}, tmp_path / "d.joblib", compress=3)
    for protocol in range(6):
        (tmp_path / f"e{protocol}.bin").write_bytes(pickle.dumps({"a": [1]}, protocol=protocol))
    assert all(pickle_in(p.read_bytes()) for p in tmp_path.iterdir() if p.is_file())
    assert pickle_in(b'{"a": 1}') is None
    np.save(tmp_path / "plain.npy", np.zeros(3))
    assert pickle_in((tmp_path / "plain.npy").read_bytes()) is None
