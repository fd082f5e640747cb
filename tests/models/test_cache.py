"""The cache folder: its size is bounded, the least recently used goes first, and it can be cleared."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.errors import ConfigError
from headstart.models import cache
from headstart.models.cache import cache_folder, cache_limit
from headstart.models.store import TextStore


def key(number: int) -> bytes:
    return number.to_bytes(16, "little")


def filled(folder: Path, numbers: range, rows: int = 4) -> TextStore:
    store = TextStore(folder, 8, np.float16)
    values = [np.full((rows, 8), n, dtype=np.float16) for n in numbers]
    store.add([key(n) for n in numbers], values, seconds=2.0)
    return store


def aged(folder: Path, seconds: int) -> None:
    for file in folder.glob("*.safetensors"):
        os.utime(file, (file.stat().st_atime - seconds, file.stat().st_mtime - seconds))


def test_cache_folder_is_the_users_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("HEADSTART_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "headstart"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "headstart"


@pytest.mark.parametrize(
    ("given", "size"), [("5GB", 5 * 10**9), ("800 mb", 8 * 10**8), ("1.5T", 15 * 10**11), ("1000", 1000), ("0", 0)]
)
def test_limit_is_the_users_choice(given: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_CACHE_SIZE", given)
    assert cache_limit() == size


@pytest.mark.parametrize("given", ["", "much", "-1GB", "5 PB"])
def test_limit_that_is_no_size(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_CACHE_SIZE", given)
    with pytest.raises(ConfigError, match=r"HEADSTART_CACHE_SIZE .* 5GB"):
        cache_limit()


def test_least_recently_used_goes_first(tmp_path: Path) -> None:
    for age, name in ((300, "oldest"), (200, "old"), (100, "new")):
        filled(tmp_path / "states" / name, range(10))
        aged(tmp_path / "states" / name, age)
    TextStore(tmp_path / "states" / "oldest", 8, np.float16)  # opening it is using it
    one = cache.entries(tmp_path)[0].bytes
    dropped = cache.evict(tmp_path, limit=2 * one)
    assert [e.path.parent.name for e in dropped] == ["old"]
    assert sorted(e.path.parent.name for e in cache.entries(tmp_path)) == ["new", "oldest"]
    assert not (tmp_path / "states" / "old").exists()


def test_adding_keeps_the_limit_and_what_was_just_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path / "states" / "a", range(100))
    monkeypatch.setenv("HEADSTART_CACHE_SIZE", "10KB")
    store = filled(tmp_path / "states" / "b", range(100))
    assert [e.path.parent.name for e in cache.entries(tmp_path)] == ["b"]
    assert (store[key(7)] == 7).all()


def test_a_folder_that_is_dropped_while_a_segment_is_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import numpy as safetensors_numpy

    write = safetensors_numpy.save_file

    def late(tensors: Any, filename: str, metadata: Any) -> None:
        Path(filename).parent.rmdir()
        write(tensors, filename, metadata)

    monkeypatch.setattr(safetensors_numpy, "save_file", late)
    store = filled(tmp_path / "states" / "a", range(10))
    assert (store[key(7)] == 7).all()


def test_what_is_larger_than_the_limit_stays_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_CACHE_SIZE", "1KB")
    store = filled(tmp_path / "states" / "a", range(100))
    assert (store[key(99)] == 99).all()
    assert cache.entries(tmp_path) == []


def test_a_dropped_segment_goes_on_being_read(tmp_path: Path) -> None:
    filled(tmp_path / "states" / "a", range(50))
    store = TextStore(tmp_path / "states" / "a", 8, np.float16)
    assert len(cache.clear(tmp_path)) == 1
    assert (store[key(49)] == 49).all()
    assert key(49) not in TextStore(tmp_path / "states" / "a", 8, np.float16)


def test_two_stores_of_one_folder_find_what_the_other_adds(tmp_path: Path) -> None:
    first = filled(tmp_path / "states" / "a", range(10))
    second = TextStore(tmp_path / "states" / "a", 8, np.float16)
    assert key(3) in second
    second.add([key(20)], [np.full((2, 8), 20, dtype=np.float16)], seconds=1.0)
    assert key(20) not in first
    first.refresh()
    assert (first[key(20)] == 20).all()
    assert first.seconds([key(3)]) == pytest.approx(0.2)
    assert first.seconds([key(3), key(20)]) == pytest.approx(1.2)


def a_model(folder: Path, size: int = 1000, age: float = 0.0) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(b" " * size)
    used = time.time() - age
    os.utime(folder, (used, used))
    return folder


def test_what_an_interruption_leaves_takes_room_and_is_dropped(tmp_path: Path) -> None:
    state = tmp_path / "adapted" / ".abc.adapting"
    state.mkdir(parents=True)
    (state / "state.safetensors").write_bytes(bytes(5000))
    half = tmp_path / "states" / "a" / ".x.safetensors.4.tmp"
    half.parent.mkdir(parents=True)
    half.write_bytes(bytes(3000))
    assert sum(e.bytes for e in cache.entries(tmp_path)) == 8000
    assert cache.evict(tmp_path, limit=0) == [], "someone may be at it"
    assert [e.path for e in cache.clear(tmp_path)] == [state], "the file may be in the making"
    state.mkdir()
    (state / "state.safetensors").write_bytes(bytes(5000))
    past = time.time() - 4000
    for path in (state, half):
        os.utime(path, (past, past))
    assert {e.path for e in cache.evict(tmp_path, limit=0)} == {state, half}
    assert not list(tmp_path.rglob("*.*"))


def test_rows_of_texts_go_before_what_took_minutes(tmp_path: Path) -> None:
    model = a_model(tmp_path / "adapted" / "k", age=9000)
    filled(tmp_path / "states" / "a", range(10))
    assert [e.kind for e in cache.evict(tmp_path, limit=1000)] == ["states"]
    assert model.is_dir()
    assert [e.kind for e in cache.evict(tmp_path, limit=999)] == ["adapted"]


def test_what_was_just_written_or_touched_is_not_dropped_by_others(tmp_path: Path) -> None:
    a_model(tmp_path / "adapted" / "new", age=5)
    old = a_model(tmp_path / "adapted" / "old", age=500)
    cache.touch(old)
    assert cache.evict(tmp_path, limit=0) == []


_HOLDER = """
import sys, time
from pathlib import Path
from headstart.models.cache import in_use
with in_use(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_that_another_process_uses_stays_until_that_process_ends(tmp_path: Path) -> None:
    used, other = (a_model(tmp_path / "adapted" / name, age=9000) for name in ("used", "other"))
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, str(used)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        assert [e.path for e in cache.evict(tmp_path, limit=0)] == [other]
        assert cache.clear(tmp_path) == []
        assert (used / "config.json").is_file()
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert [e.path for e in cache.evict(tmp_path, limit=0)] == [used]


def test_clear_one_kind(tmp_path: Path) -> None:
    filled(tmp_path / "states" / "a", range(10))
    filled(tmp_path / "features" / "a", range(10))
    model = tmp_path / "sources" / "abc"
    model.mkdir(parents=True)
    (model / "headstart.json").write_text("{}")
    assert sorted(e.kind for e in cache.entries(tmp_path)) == ["features", "sources", "states"]
    assert [e.kind for e in cache.clear(tmp_path, "sources")] == ["sources"]
    assert not model.exists()
    assert len(cache.clear(tmp_path)) == 2
    assert cache.entries(tmp_path) == []
