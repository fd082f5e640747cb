"""Data sets of the `datasets` library: folders it saved, and its cache as the hub fills it; nothing hangs offline."""

from __future__ import annotations

import time

import pytest

from headstart.data.config import DataConfig
from headstart.data.hub import read_hub
from headstart.data.load import load_data, load_source
from headstart.data.read import read_table
from headstart.errors import DataError

datasets = pytest.importorskip("datasets", reason="the optional library `datasets` is not installed")

CARD = """---
configs:
- config_name: sst2
  data_files:
  - {split: train, path: sst2/train.parquet}
  - {split: validation, path: sst2/validation.parquet}
  - {split: test, path: sst2/test.parquet}
---
"""


def part(name, size, label=None):
    features = datasets.Features(
        {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["negative", "positive"])}
    )
    labels = [i % 2 if label is None else label for i in range(size)]
    return datasets.Dataset.from_dict(
        {"sentence": [f"{name} {i}" for i in range(size)], "label": labels}, features=features
    )


def glue():
    return datasets.DatasetDict(train=part("train", 40), validation=part("dev", 8), test=part("test", 8, label=-1))


@pytest.fixture
def hub_cache(tmp_path):
    """A cache laid out as after load_dataset("glue", "sst2") from the hub, made from a local copy of its repository."""
    repository = tmp_path / "glue"
    (repository / "sst2").mkdir(parents=True)
    for name, split in glue().items():
        split.to_parquet(str(repository / "sst2" / f"{name}.parquet"))
    (repository / "README.md").write_text(CARD)
    datasets.load_dataset(str(repository), "sst2", cache_dir=str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_hub_name_with_configuration_is_read_from_the_cache(hub_cache):
    table = read_hub("glue/sst2", cache_dir=hub_cache)
    assert table.label_names == {"label": ["negative", "positive"]}
    assert table.frame["label"].tolist()[:2] == ["negative", "positive"]
    assert len(table.frame) == 40
    assert len(table.splits["holdout"]) == 8
    assert table.splits["holdout"]["sentence"][0] == "dev 0"
    assert "test split has no labels: its validation split is held out" in table.notes[0]


def test_hub_name_that_is_not_cached_fails_at_once(tmp_path):
    start = time.perf_counter()
    for name in ("glue/nosuch", "someone/some-set", "someone/some-set/part", "nosuchset"):
        with pytest.raises(DataError, match="save_to_disk"):
            read_hub(name, cache_dir=tmp_path)
    assert time.perf_counter() - start < 10
    with pytest.raises(DataError, match="neither a file or folder here nor a data set"):
        read_table("glue/sst2")


def test_offline_switches_are_put_back(tmp_path, monkeypatch):
    monkeypatch.setattr("headstart.data.hub._reach", lambda repository: "offline")
    before = datasets.config.HF_HUB_OFFLINE
    with pytest.raises(DataError):
        read_hub("glue/sst2", cache_dir=tmp_path)
    assert before == datasets.config.HF_HUB_OFFLINE


def test_saved_folder_with_splits(tmp_path):
    folder = tmp_path / "saved"
    glue().save_to_disk(str(folder))
    config = DataConfig(data=str(folder), text="sentence")
    loaded = load_data(config, seed=0)
    assert loaded.splits.labels.values == ("negative", "positive")
    assert (len(loaded.splits.train), len(loaded.splits.validation), len(loaded.splits.holdout)) == (32, 8, 8)
    assert all(text.startswith("dev") for text in loaded.splits.holdout.texts)
    source = load_source(config, seed=0)
    assert len(source.splits.holdout) == 0
    assert all(text.startswith("train") for text in source.splits.train.texts)


def test_saved_folder_with_labelled_test_and_an_unlabelled_pool(tmp_path):
    folder = tmp_path / "saved"
    parts = datasets.DatasetDict(
        train=part("train", 20), validation=part("dev", 8), test=part("test", 6), unsupervised=part("pool", 5, label=-1)
    )
    parts.save_to_disk(str(folder))
    splits = load_data(DataConfig(data=str(folder), text=("sentence",)), seed=0).splits
    assert (len(splits.train), len(splits.validation), len(splits.holdout), len(splits.unlabeled)) == (20, 8, 6, 5)
    assert splits.unlabeled.y.tolist() == [-1] * 5
    assert splits.unlabeled.texts[0] == "pool 0"


def test_saved_folder_of_one_split(tmp_path):
    folder = tmp_path / "saved"
    part("train", 30).save_to_disk(str(folder))
    splits = load_data(DataConfig(data=str(folder), text=("sentence",)), seed=0).splits
    assert len(splits.train) + len(splits.validation) + len(splits.holdout) == 30


def test_damaged_saved_folder(tmp_path):
    folder = tmp_path / "saved"
    part("train", 30).save_to_disk(str(folder))
    next(folder.glob("*.arrow")).unlink()
    with pytest.raises(DataError, match="is not a whole `datasets` folder"):
        read_table(folder)
