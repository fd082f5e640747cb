"""What looks broken but can be read is read, and said; and what the whole program does, seen from outside."""

from __future__ import annotations

import codecs
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from broken import Call, World, half_written, lines, snapshot, truncate

from headstart.records import read_json

pytest_plugins = ("places",)

_RUN = "--strategies majority --no-tracking --precision float32 --encoder ENCODER"
_TEXTS = lines(40).replace("film", "café")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("latin-1", _TEXTS.encode("latin-1"), "not UTF-8 (byte 0xe9 at offset 19, line 2), read as cp1252"),
        ("utf-8 with a mark", codecs.BOM_UTF8 + _TEXTS.encode(), "encoding utf-8-sig (by its byte-order mark)"),
        ("utf-16 with a mark", _TEXTS.encode("utf-16"), "encoding utf-16 (by its byte-order mark)"),
        ("utf-32 with a mark", _TEXTS.encode("utf-32"), "encoding utf-32 (by its byte-order mark)"),
        ("semicolons", _TEXTS.replace(",", ";").encode(), "separator semicolon"),
        ("Excel's first line", b"sep=;\r\n" + _TEXTS.replace(",", ";").encode(), "separator semicolon"),
        ("carriage returns", _TEXTS.replace("\n", "\r").encode(), "separator comma"),
    ],
)
def test_encodings_and_separators_are_found_and_said(world: World, call: Call, name: str, content: bytes, words: str):
    world.file("odd.csv", content)
    code, _, err = call(world, f"compare odd.csv {_RUN}")
    assert code == 0, err
    assert words in err
    record = read_json(world.folder / "runs" / "odd" / "comparison.json")
    assert sum(record["rows"].values()) == 40
    assert record["labels"]["values"] == ["neg", "pos"]


def test_a_cell_of_ten_megabytes_is_cut_and_said(world: World, call: Call) -> None:
    cell = "a good film " * 900_000
    assert len(cell) > 10_000_000
    world.file("long.csv", lines(60) + f'"{cell}",pos\n')
    options = "--no-tracking --precision float32 --encoder ENCODER --strategies tfidf,linear-probe"
    code, _, err = call(world, f"compare long.csv {options}")
    assert code == 0, err
    words = "long.csv: row 61, column 'text': 10,800,000 characters cut to the first and last 50,000"
    assert err.count(words) == 1
    world.copied_model("frozen")
    code, _, err = call(world, "predict model long.csv --out out.csv")
    assert code == 0, err
    assert err.count(words) == 1
    assert (world.folder / "out.csv").stat().st_size < 200_000


def test_a_source_with_other_labels_skips_as_is_and_gives_a_new_head(world: World, call: Call) -> None:
    """Labels that do not match are no error: the row says why, and how they could be made to."""
    world.copied_model("network", "source")
    world.file("other.csv", lines(40).replace(",neg", ",refused").replace(",pos", ",accepted"))
    quick = "--no-tracking --precision float32 --max-length 32 --set full.epochs=1"
    command = f"compare other.csv --strategies majority,as-is,source+full --source source --encoder ENCODER {quick}"
    code, _, err = call(world, command)
    assert code == 0, err
    found = {s["name"]: s for s in read_json(world.folder / "runs" / "other" / "comparison.json")["strategies"]}
    assert {name: s["status"] for name, s in found.items()} == {
        "majority": "ok", "as-is": "skipped", "source+full": "ok",
    }  # fmt: skip
    for word in ("neg, pos", "accepted, refused", "--map-labels"):
        assert word in found["as-is"]["reason"]
    assert f"as-is, seed 0: skipped: {found['as-is']['reason']}" in err
    mapped = f"{command} --map-labels neg=refused,pos=accepted --out mapped"
    assert call(world, mapped)[0] == 0
    assert {s["status"] for s in read_json(world.folder / "mapped" / "comparison.json")["strategies"]} == {"ok"}


def test_mending_is_counted_and_only_when_told_to(world: World, call: Call) -> None:
    world.file("messy.csv", lines(60) + ",pos\n" + lines(60).split("\n")[1] + "\nodd one,Pos \n")
    code, _, err = call(world, f"compare messy.csv {_RUN}")
    assert code == 2
    assert "--mend merge-labels" in err
    code, _, err = call(world, f"compare messy.csv {_RUN} --mend all")
    assert code == 0, err
    record = read_json(world.folder / "runs" / "messy" / "comparison.json")
    assert {k: n for k, n in record["mended"].items() if n} == {
        "merge-labels": 1,
        "drop-empty": 1,
        "drop-duplicates": 1,
    }
    assert sum(record["rows"].values()) == 61


def test_a_damaged_record_of_one_fit_is_fitted_again(world: World, call: Call) -> None:
    command = f"compare reviews.csv {_RUN} --out run"
    assert call(world, command)[0] == 0
    run = world.folder / "run"
    before = read_json(run / "comparison.json")["strategies"][0]["metrics"]
    (run / "comparison.json").unlink()
    truncate(run / "fits" / "majority" / "seed-0" / "record.json")
    assert call(world, command)[0] == 0
    assert read_json(run / "comparison.json")["strategies"][0]["metrics"] == before


@pytest.mark.parametrize(
    ("strategy", "setting", "words"),
    [
        ("scratch-gru", "learning_rate=1e30", "training diverged in epoch 1: the loss is not a number. Lower"),
        ("tfidf", "min_count=1000", "lower min_count"),
        ("scratch-transformer", "heads=7", "is not a multiple of heads 7"),
        ("linear-probe", "layer=9", "layer 9 is not there: this encoder has states 0 to 2"),
        ("partial", "pattern=nothing", "'nothing' names no parameter of this encoder"),
    ],
)
def test_a_strategy_that_cannot_be_fitted_says_why_and_the_others_go_on(
    world: World, call: Call, strategy: str, setting: str, words: str
) -> None:
    options = f"--no-tracking --precision float32 --encoder ENCODER --set {strategy}.{setting} --out run"
    code, _, err = call(world, f"compare reviews.csv --strategies {strategy},majority {options}")
    assert code == 0, err
    failed, fitted = read_json(world.folder / "run" / "comparison.json")["strategies"]
    assert failed["status"] in ("failed", "skipped")
    assert words in failed["reason"]
    assert failed["reason"] in err
    assert fitted["status"] == "ok"
    assert not (world.folder / "run" / "fits" / strategy / "seed-0" / "predictions.parquet").exists()
    assert half_written(world.folder) == []


# --- from outside: a process of its own ------------------------------------------------------------------------


def program(world: World, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "headstart.cli.main", *world.arguments(command)],
        capture_output=True, text=True, timeout=120, cwd=world.folder, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (f"compare reviews.csv --label lable {_RUN} --json", ["reviews.csv", "'lable'", "Did you mean 'label'?"]),
        ("predict model reviews.csv --out out.csv", ["model.safetensors", "truncated", "again"]),
    ],
)
def test_the_program_says_it_in_one_line_and_leaves_nothing(world: World, command: str, words: list[str]) -> None:
    truncate(world.copied_model("network") / "model.safetensors")
    before = snapshot(world.folder)
    done = program(world, command)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ")
    assert [word for word in words if word not in done.stderr] == []
    assert snapshot(world.folder) == before
    assert half_written(world.folder) == []


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Address of a server that takes every connection and never answers, as networks with a log-in page do."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_hub_that_never_answers_is_given_up_on(
    world: World, call: Call, silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", silent_server)
    monkeypatch.setattr("headstart.models.encoders._CONNECT_SECONDS", 0.5)
    start = time.monotonic()
    code, _, err = call(world, "compare reviews.csv --strategies linear-probe --encoder nobody/nothing")
    assert time.monotonic() - start < 15
    assert code == 2
    assert "the hub cannot be reached" in err
    assert "--encoder ./folder" in err


def test_offline_a_missing_hub_name_fails_at_once(world: World, call: Call) -> None:
    start = time.monotonic()
    code, _, err = call(world, "compare nobody/texts --strategies linear-probe --encoder nobody/nothing")
    assert time.monotonic() - start < 5
    assert code == 2
    assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 2


def test_json_on_stdout_is_whole_or_not_there(world: World, call: Call) -> None:
    code, out, _ = call(world, f"compare reviews.csv {_RUN} --json --quiet")
    assert code == 0
    assert json.loads(out)["winner"] == "majority"
    code, out, _ = call(world, f"compare reviews.csv {_RUN} --json --quiet --seed 1 --out runs/reviews")
    assert (code, out) == (2, "")
