from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import call

from headstart.models.cache import in_use
from headstart.models.store import TextStore


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "kept"))
    for kind in ("features", "states"):
        store = TextStore(tmp_path / "kept" / kind / "a", 8, np.float32)
        store.add([bytes(16)], [np.ones((100, 8), dtype=np.float32)], seconds=1.0)
    return tmp_path / "kept"


def test_shows_what_is_kept(folder: Path) -> None:
    code, out, err = call("cache")
    assert (code, err) == (0, "")
    assert "features" in out
    assert "states" in out
    assert str(folder) in out
    assert "5,000 MB" in out


def test_json_says_bytes_as_they_lie_on_disk(folder: Path) -> None:
    code, out, _ = call("cache", "--json", "--kind", "states")
    found = json.loads(out)
    assert code == 0
    assert found["bytes"] == sum(p.stat().st_size for p in (folder / "states").rglob("*") if p.is_file())
    assert [k["kind"] for k in found["kinds"]] == ["states"]
    assert found["limit"] == 5 * 10**9


def test_clears_one_kind_then_everything(folder: Path) -> None:
    assert call("cache", "--clear", "--kind", "states")[0] == 0
    assert [p.parent.parent.name for p in folder.rglob("*.safetensors")] == ["features"]
    code, out, _ = call("cache", "--clear")
    assert (code, "dropped" in out) == (0, True)
    assert not list(folder.rglob("*.safetensors"))
    assert "0.0 MB kept" in call("cache")[1]


def test_what_is_in_use_is_left_and_said(folder: Path) -> None:
    model = folder / "adapted" / "k"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    with in_use(model):
        assert "1 entry left, which a running process uses or writes" in call("cache", "--clear")[1]
    assert model.is_dir()
    assert "1 entry left" not in call("cache", "--clear")[1]
    assert not model.exists()


def test_unknown_kind_and_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = call("cache", "--kind", "state")
    assert code == 2
    assert "Did you mean 'states'?" in err
    monkeypatch.setenv("HEADSTART_CACHE_SIZE", "big")
    code, _, err = call("cache")
    assert code == 2
    assert "HEADSTART_CACHE_SIZE" in err
