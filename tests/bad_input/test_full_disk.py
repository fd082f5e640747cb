"""A disk that fills up while something is written: one error, nothing half-written, and the same command goes on."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest
from broken import Call, World, half_written, snapshot
from safetensors import SafetensorError

from headstart.records import read_json, stable

pytest_plugins = ("places",)

_FIT = "compare reviews.csv --strategies tfidf --no-tracking --precision float32 --encoder ENCODER"


def filling_up(after: int, *, code: int = errno.ENOSPC) -> Callable[[int], None]:
    """Return an ``fsync`` that works so many times and then no more."""
    done, real = [0], os.fsync

    def fsync(handle: int) -> None:
        done[0] += 1
        if done[0] > after:
            raise OSError(code, os.strerror(code))
        real(handle)

    return fsync


@pytest.fixture
def undisturbed(world: World, call: Call) -> tuple[dict[str, object], int]:
    """The record of a comparison on a healthy disk, and how many files were written for it."""
    written = [0]
    with pytest.MonkeyPatch.context() as patch:
        real = os.fsync
        patch.setattr(os, "fsync", lambda handle: (written.__setitem__(0, written[0] + 1), real(handle)))
        assert call(world, f"{_FIT} --out healthy")[0] == 0
    return stable(read_json(world.folder / "healthy" / "comparison.json")), written[0]


def test_wherever_the_disk_fills_up_the_same_command_ends_with_the_same_record(
    world: World, call: Call, undisturbed: tuple[dict[str, object], int]
) -> None:
    record, writes = undisturbed
    assert writes > 5
    for after in range(writes):
        out = world.folder / f"full-{after}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", filling_up(after))
            code, said, err = call(world, f"{_FIT} --out {out.name}")
        assert (code, said) == (2, ""), err
        errors = [line for line in err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, err
        assert all(word in errors[0] for word in ("cannot write", out.name, "the disk is full", "--out")), err
        assert half_written(world.folder) == []
        assert not (out / "comparison.json").exists()
        assert call(world, f"{_FIT} --out {out.name}")[0] == 0
        assert stable(read_json(out / "comparison.json")) == record


@pytest.mark.parametrize(("code", "words"), [(errno.EROFS, "not writable"), (errno.EDQUOT, "the disk is full")])
def test_other_reasons_not_to_write_are_told_apart(world: World, call: Call, code: int, words: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", filling_up(2, code=code))
        exit_code, said, err = call(world, _FIT)
    assert (exit_code, said) == (2, "")
    assert words in err
    assert err.count("error: ") == 1
    assert half_written(world.folder) == []


_IN_RUST = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
_IN_PYTHON = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        ("safetensors.numpy.save_file", _IN_RUST),  # the model, by a library with an error of its own
        ("pandas.DataFrame.to_parquet", _IN_PYTHON),  # the predictions
        ("shutil.copyfile", _IN_PYTHON),  # the winner's copy: shutil gathers errors in one of its own
    ],
)
def test_a_full_disk_ends_the_run_and_not_only_the_strategy(
    world: World, call: Call, monkeypatch: pytest.MonkeyPatch, where: str, problem: Exception
) -> None:
    """A row "failed" would be a finished comparison, which the same command never takes up again."""

    def full(*_: object, **__: object) -> None:
        raise problem

    with monkeypatch.context() as patch:
        patch.setattr(where, full)
        code, said, err = call(world, f"{_FIT} --out run")
    assert (code, said) == (2, "")
    assert "error: cannot write run/" in err
    assert "the disk is full" in err
    assert err.count("error: ") == 1
    assert half_written(world.folder) == []
    assert call(world, f"{_FIT} --out run")[0] == 0
    assert {row["status"] for row in read_json(world.folder / "run" / "comparison.json")["strategies"]} == {"ok"}


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_labels_written_on_a_full_disk_leave_the_older_file_as_it_was(world: World, call: Call, suffix: str) -> None:
    world.copied_model("tfidf")
    world.file(f"out.{suffix}", "labels of yesterday\n")
    before = snapshot(world.folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", filling_up(0))
        code, said, err = call(world, f"predict model reviews.csv --out out.{suffix}")
    assert (code, said) == (2, "")
    assert f"cannot write out.{suffix}" in err
    assert "the disk is full" in err
    assert err.count("error: ") == 1
    assert snapshot(world.folder) == before


def test_a_cache_that_cannot_be_written_costs_time_and_nothing_else(
    world: World, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = "compare reviews.csv --strategies linear-probe --no-tracking --precision float32 --encoder ENCODER"
    assert call(world, f"{command} --out cached")[0] == 0
    world.file("taken", "mine\n")
    monkeypatch.setenv("HEADSTART_CACHE", str(world.folder / "taken" / "cache"))
    assert call(world, f"{command} --out uncached")[0] == 0
    monkeypatch.setenv("HEADSTART_CACHE", str(world.folder / "fresh"))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("numpy.save", full)
    assert call(world, f"{command} --out full")[0] == 0
    records = [stable(read_json(world.folder / n / "comparison.json")) for n in ("cached", "uncached", "full")]
    assert records[0] == records[1] == records[2]
    assert half_written(world.folder) == []


_ON_A_SMALL_DISK = """
import subprocess, sys
from pathlib import Path
from headstart.cli.main import run

def attempt():
    code = run(sys.argv[1:])
    wanted = ("record.json", "comparison.json")
    left = sorted(p for p in Path("out").rglob("*") if p.suffix == ".tmp" or p.name in wanted)
    print(code, *left)

subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", "out"], check=True)
attempt()
subprocess.run(["mount", "-o", "remount,size=9m", "out"], check=True)
attempt()
"""


def test_on_a_disk_that_is_really_full(world: World) -> None:
    """By the system itself: a memory disk too small for the encoder's copy, then made larger."""
    (world.folder / "out").mkdir()
    alone = ["unshare", "--user", "--map-root-user", "--mount"]
    trial = [*alone, "mount", "-t", "tmpfs", "tmpfs", "out"]
    if shutil.which("unshare") is None or subprocess.run(trial, capture_output=True, cwd=world.folder).returncode:
        pytest.skip("needs a Linux that lets users mount memory disks of their own")
    command = (
        "compare reviews.csv --strategies tfidf,linear-probe --no-tracking --precision float32 --encoder ENCODER "
        "--out out/run --quiet"
    )
    done = subprocess.run(
        [*alone, sys.executable, "-c", _ON_A_SMALL_DISK, *world.arguments(command)],
        capture_output=True, text=True, timeout=300, cwd=world.folder,
    )  # fmt: skip
    fits = ["out/run/fits/linear-probe/seed-0/record.json", "out/run/fits/tfidf/seed-0/record.json"]
    first, *_, last = done.stdout.splitlines()
    assert first.split() == ["2", fits[1]], done.stderr
    assert last.split() == ["0", "out/run/comparison.json", *fits], done.stderr
    assert done.stderr.count("error: ") == 1
    assert "error: cannot write out/run/fits/linear-probe/seed-0/model: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
