"""Labeling large tables: every format, bad rows, constant results after a kill, folders and pipes."""

from __future__ import annotations

import io
import json
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import fit_strategy, separable_texts, tiny_task
from headstart.data.partial import PartialFile, journal_of, pending
from headstart.data.textfile import open_text
from headstart.errors import ConfigError, DataError, StorageError
from headstart.models import folder as model_folder
from headstart.models import labeling
from headstart.models.labeling import predict_file
from headstart.models.runtime import Runtime


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> dict[str, Any]:
    made = {}
    for name in ("tfidf", "full"):
        task = tiny_task(encoder=tiny_encoder, values=("neg", "pos"))
        folder = tmp_path_factory.mktemp("models") / name
        fitted = fit_strategy(name, task)
        model_folder.save(fitted.classifier, folder, text=task.text, check=task.validation, card={"strategy": name})
        made[name] = model_folder.load(folder, runtime=Runtime())
    return made


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labeling, "CHUNK_ROWS", 7)


def test_the_next_chunk_is_tokenized_while_one_is_scored(
    models: dict[str, Any], tmp_path: Path, small_chunks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = models["full"].classifier
    prepare, score = classifier.prepare, classifier.score
    begun: list[int] = []
    second = threading.Event()

    def preparing(examples: Any) -> Any:
        begun.append(len(examples))
        if len(begun) == 2:
            second.set()
        return prepare(examples)

    def scoring(prepared: Any, *given: Any) -> Any:
        assert second.wait(30), "the second chunk waits for the first to be scored"
        return score(prepared, *given)

    monkeypatch.setattr(classifier, "prepare", preparing)
    monkeypatch.setattr(classifier, "score", scoring)
    predict_file(models["full"], write(rows(14), tmp_path / "in.csv"), tmp_path / "out.csv")
    assert begun == [7, 7]


def rows(n: int) -> pd.DataFrame:
    texts, y = separable_texts(n, seed=3)
    return pd.DataFrame({"id": range(n), "text": texts, "truth": y})


def write(frame: pd.DataFrame, file: Path) -> Path:
    if file.suffix == ".parquet":
        frame.to_parquet(file, index=False)
    elif file.suffix == ".jsonl":
        frame.to_json(file, orient="records", lines=True)
    else:
        frame.to_csv(file, index=False)
    return file


def read(file: Path) -> pd.DataFrame:
    if file.suffix == ".parquet":
        return pd.read_parquet(file)
    return pd.read_json(file, lines=True) if file.suffix == ".jsonl" else pd.read_csv(file)


@pytest.mark.parametrize("out", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("source", [".csv", ".jsonl", ".parquet"])
def test_every_format_to_every_other(models, small_chunks, tmp_path, source, out):
    frame = rows(40)
    done = predict_file(models["full"], write(frame, tmp_path / f"in{source}"), tmp_path / f"out{out}")
    found = read(done.out)
    proba = models["full"].predict_proba(list(frame["text"]))
    assert list(found) == ["id", "text", "truth", "prediction", "p_neg", "p_pos"]
    np.testing.assert_allclose(found[["p_neg", "p_pos"]], proba, atol=1e-6)
    assert list(found["id"].astype(int)) == list(range(40))
    assert list(found["text"]) == list(frame["text"])
    assert sum(done.counts.values()) == done.rows == 40
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_bad_rows_go_to_the_side_file_and_the_rest_goes_on(models, small_chunks, tmp_path):
    lines = [f"good film {i},x" for i in range(20)]
    raw = "\n".join(["text,label", *lines]).encode().split(b"\n")
    raw[3] = b"good,film,with,commas"  # row 3
    raw[5] = b" ,y"
    raw[8] = b"caf\xe9,y"
    raw[9] = "café,y".encode()
    raw[10] = "naïve,y".encode()
    raw[15] = b'"closed" badly,y'
    raw[20] = b'"never closed,y'
    raw.append(b"the last film,z")
    (tmp_path / "in.csv").write_bytes(b"\n".join(raw) + b"\n")
    done = predict_file(models["tfidf"], tmp_path / "in.csv", tmp_path / "out.csv")
    side = [json.loads(line) for line in done.rejected_file.read_text().splitlines()]
    assert [(s["row"], s["file"]) for s in side] == [(n, "in.csv") for n in (3, 5, 8, 15, 20)]
    words = ["4 columns where the header has 2", "no text in 'text'", "bytes that are no text", "after a closing quote",
             "never closed"]  # fmt: skip
    assert all(word in s["reason"] for word, s in zip(words, side, strict=True))
    assert side[2]["content"] == "caf\\xe9,y"
    found = pd.read_csv(done.out)
    assert (done.rows, done.rejected, len(found)) == (16, 5, 16)
    assert list(found["text"])[-1] == "the last film"
    assert "café" in set(found["text"])


def test_bad_json_lines(models, tmp_path):
    broken = ["{half", "[1, 2]", '{"text": null}', '{"text": ["a"]}']
    more = '{"text": "bad film", "n": NaN, "more": {"a": [1]}}'
    lines = [
        '{"text": "good film"}',
        *broken,
        "",
        '{"other": 1}',
        more,
        '{"text": "x", "prediction": 1}',
        '{"text": 5}',
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match="'prediction'"):
        predict_file(models["tfidf"], tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    (tmp_path / "in.jsonl").write_text("\n".join([*lines[:8], lines[9]]))
    done = predict_file(models["tfidf"], tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    found = [json.loads(line) for line in done.out.read_text().splitlines()]
    assert [f["text"] for f in found] == ["good film", "bad film", 5]
    assert (found[1]["n"], found[1]["more"]) == (None, {"a": [1]})
    assert [json.loads(line)["row"] for line in done.rejected_file.read_text().splitlines()] == [2, 3, 4, 5, 6]


def test_keys_that_come_late_are_kept_or_said(models, small_chunks, tmp_path):
    lines = ['{"text": "good film"}'] * 1000 + ['{"text": "bad film", "late": 1}', '{"text": "a", "p_neg": 1}']
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    done = predict_file(models["tfidf"], tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert json.loads(done.out.read_text().splitlines()[-1])["late"] == 1
    assert done.rejected == 1
    done = predict_file(models["tfidf"], tmp_path / "in.jsonl", tmp_path / "out.csv")
    assert "has a 'late', which the first rows have not" in done.rejected_file.read_text()
    assert (done.rows, done.rejected) == (1000, 2)


def test_a_side_file_of_an_earlier_run_does_not_stay(models, tmp_path):
    (tmp_path / "in.csv").write_text("text,n\ngood,1\n,2\n")
    done = predict_file(models["tfidf"], tmp_path / "in.csv", tmp_path / "out.csv")
    assert done.rejected_file.name == "out.csv.rejected.jsonl"
    (tmp_path / "in.csv").write_text("text,n\ngood,1\n")
    again = predict_file(models["tfidf"], tmp_path / "in.csv", tmp_path / "out.csv")
    assert again.rejected_file is None
    assert not done.rejected_file.exists()


def test_a_folder_is_one_table(models, small_chunks, tmp_path):
    frame = rows(30)
    (tmp_path / "parts/b").mkdir(parents=True)
    write(frame[:12], tmp_path / "parts/a.parquet")
    write(frame[12:], tmp_path / "parts/b/c.parquet")
    (tmp_path / "parts/_SUCCESS").touch()
    write(frame, tmp_path / "parts/.hidden.parquet")
    done = predict_file(models["tfidf"], tmp_path / "parts", tmp_path / "out.csv")
    assert list(pd.read_csv(done.out)["id"]) == list(range(30))
    write(frame.rename(columns={"id": "other"}), tmp_path / "parts/d.parquet")
    with pytest.raises(DataError, match=r"d\.parquet has other columns"):
        predict_file(models["tfidf"], tmp_path / "parts", tmp_path / "out.csv")
    write(frame, tmp_path / "parts/d.csv")
    with pytest.raises(DataError, match="several kinds"):
        predict_file(models["tfidf"], tmp_path / "parts", tmp_path / "out.csv")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_parts_of_a_folder_without_rows_are_passed_over(models, small_chunks, tmp_path, suffix):
    frame, parts = rows(30), tmp_path / "parts"
    parts.mkdir()
    for name, part in (("a", frame[:0]), ("b", frame[:12]), ("c", frame[:0]), ("d", frame[12:])):
        write(part, parts / f"{name}{suffix}")
    done = predict_file(models["tfidf"], parts, tmp_path / "out.csv")
    assert list(pd.read_csv(done.out)["id"]) == list(range(30))
    assert any(f"2 files have no rows: a{suffix}, c{suffix}" in note for note in done.notes)
    for name in ("b", "d"):
        (parts / f"{name}{suffix}").unlink()
    with pytest.raises(DataError, match=r"2 files, none with rows"):
        predict_file(models["tfidf"], parts, tmp_path / "other.csv")
    assert not (tmp_path / "other.csv").exists()


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_standard_input_to_standard_output(models, small_chunks, tmp_path, monkeypatch, capfdbinary, kind):
    source = write(rows(20), tmp_path / f"in.{kind}")
    predict_file(models["tfidf"], source, tmp_path / f"out.{kind}")
    piped = SimpleNamespace(buffer=io.BytesIO(source.read_bytes()))
    monkeypatch.setattr(sys, "stdin", piped)
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=out))
    assert predict_file(models["tfidf"], "-", "-").rows == 20
    assert out.getvalue() == (tmp_path / f"out.{kind}").read_bytes()


def test_parquet_types_are_kept(models, small_chunks, tmp_path):
    table = pa.table(
        {
            "text": pa.array(["good", "bad"] * 10).dictionary_encode(),
            "when": pa.array([1, None] * 10, type=pa.timestamp("us", tz="UTC")),
            "n": pa.array([None] * 14 + [2**60] * 6, type=pa.int64()),
            "list": pa.array([["a"], []] * 10),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    done = predict_file(models["tfidf"], tmp_path / "in.parquet", tmp_path / "out.parquet")
    found = pq.read_table(done.out)
    assert found.column("n").to_pylist() == table.column("n").to_pylist()
    assert found.schema.field("when").type == pa.timestamp("us", tz="UTC")
    assert found.column("list").to_pylist() == table.column("list").to_pylist()
    assert found.schema.field("prediction").type == pa.string()


def late_misfits(place: Path) -> Path:
    """JSON lines whose column `n` holds numbers at first and, after the first chunk, other things too."""
    lines = [{"text": f"good film {i}", "n": i} for i in range(30)]
    lines[20]["n"], lines[22]["n"], lines[23]["text"] = "twenty", {"a": 1}, ""
    place.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return place


def test_a_value_that_does_not_fit_parquet_is_a_bad_row(models, small_chunks, tmp_path):
    source = late_misfits(tmp_path / "in.jsonl")
    done = predict_file(models["tfidf"], source, tmp_path / "out.parquet")
    side = [json.loads(line) for line in done.rejected_file.read_text().splitlines()]
    assert [line["row"] for line in side] == [21, 23, 24]
    assert "'n': does not fit int64" in side[0]["reason"]
    assert (done.rows, done.rejected, sum(done.counts.values())) == (27, 3, 27)
    found = pd.read_parquet(done.out)
    assert list(found["n"]) == [i for i in range(30) if i not in (20, 22, 23)]
    whole = predict_file(models["tfidf"], source, tmp_path / "out.csv")
    assert whole.rows == 29, "a CSV file can hold them"


@pytest.mark.parametrize("kept", [1, 3])
def test_misfits_are_the_same_after_an_interruption(models, small_chunks, tmp_path, monkeypatch, kept):
    source = late_misfits(tmp_path / "in.jsonl")
    whole = predict_file(models["tfidf"], source, tmp_path / "whole.parquet")
    real, calls = PartialFile.commit, []

    def commit(self: PartialFile, *given: Any) -> None:
        if len(calls) == kept:
            raise StorageError("the disk is full")
        calls.append(1)
        real(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(PartialFile, "commit", commit)
        with pytest.raises(StorageError):
            predict_file(models["tfidf"], source, tmp_path / "out.parquet")
    done = predict_file(models["tfidf"], source, tmp_path / "out.parquet")
    assert done.resumed == 7 * kept
    assert done.out.read_bytes() == whole.out.read_bytes()
    assert done.rejected_file.read_bytes() == whole.rejected_file.read_bytes()


@pytest.mark.parametrize("out", ["out.csv", "-"])
@pytest.mark.parametrize("wrong", ["in.csv", "notes.txt", "folder", "out.csv", "other.jsonl", "notes.txt/side.jsonl"])
def test_a_side_file_never_takes_another_files_place(models, tmp_path, wrong, out):
    (tmp_path / "in.csv").write_text("text,n\ngood,1\nbad,2\n")
    (tmp_path / "notes.txt").write_text("what I must not lose")
    (tmp_path / "other.jsonl").write_text('{"file": 1}\n')
    (tmp_path / "out.csv").write_text("old")
    (tmp_path / "folder").mkdir()
    before = {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    with pytest.raises((ConfigError, StorageError), match="--rejected"):
        predict_file(
            models["tfidf"], tmp_path / "in.csv", out if out == "-" else tmp_path / out, rejected=tmp_path / wrong
        )
    assert {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


def test_rows_left_out_can_be_read_again_without_losing_them(models, tmp_path):
    (tmp_path / "in.csv").write_text("text,n\ngood,1\n,2\n")
    side = predict_file(models["tfidf"], tmp_path / "in.csv", tmp_path / "out.csv").rejected_file
    with pytest.raises(ConfigError, match="is the input itself"):
        predict_file(models["tfidf"], side, tmp_path / "out.csv", text=["content"])
    assert side.exists()


def test_a_side_file_goes_to_a_new_folder_and_replaces_its_own(models, tmp_path, capfdbinary):
    (tmp_path / "in.csv").write_text("text,n\ngood,1\n,2\n")
    side = tmp_path / "new/folder/side.jsonl"
    for out in (tmp_path / "out.csv", "-", tmp_path / "out.csv"):
        assert predict_file(models["tfidf"], tmp_path / "in.csv", out, rejected=side).rejected_file == side
        assert json.loads(side.read_text())["row"] == 2


def test_a_side_file_on_another_disk(tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    real = Path.stat

    def stat(self: Path, **given: Any) -> Any:
        found = real(self, **given)
        return SimpleNamespace(st_dev=-1) if self == other else found

    grown = PartialFile(tmp_path / "out.csv", other / "side", None)
    grown.commit(b"row", b"bad row", {})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", stat)
        grown.finish()
    assert (other / "side").read_bytes() == b"bad row"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["other", "out.csv", "side"]


class Killed(BaseException):
    """Stands for a kill: nothing is tidied up after it."""


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("point", [0, 1, 3, 5])
def test_taken_up_after_a_kill_the_file_is_the_same(models, small_chunks, tmp_path, monkeypatch, suffix, point):
    frame = rows(40)
    frame.loc[[4, 20], "text"] = None
    source = write(frame, tmp_path / f"in{suffix}")
    whole = predict_file(models["full"], source, tmp_path / f"whole{suffix}")
    real, calls = PartialFile.commit, []

    def commit(self: PartialFile, data: bytes, rejected: bytes, progress: dict[str, Any]) -> None:
        if len(calls) == point:  # half of a chunk is on the disk, and half a line of the journal
            self._data.write(data[: len(data) // 2])
            self._left_out.write(rejected[:5])
            self._journal.write(b'{"bytes": 99')
            for handle in (self._data, self._left_out, self._journal):
                handle.flush()
            raise Killed
        calls.append(1)
        real(self, data, rejected, progress)

    out = tmp_path / f"out{suffix}"
    with monkeypatch.context() as patch:
        patch.setattr(PartialFile, "commit", commit)
        patch.setattr(PartialFile, "close", lambda self: self._open.close())
        with pytest.raises(Killed):
            predict_file(models["full"], source, out)
    assert not out.exists()
    assert pending(out) is not None
    done = predict_file(models["full"], source, out)
    assert out.read_bytes() == whole.out.read_bytes()
    assert done.rejected_file.read_bytes() == whole.rejected_file.read_bytes()
    assert done.resumed == 7 * point
    assert (done.rows, done.counts) == (whole.rows, whole.counts)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_killed_while_files_take_their_names(models, tmp_path, monkeypatch):
    source = write(rows(10), tmp_path / "in.csv")
    whole = predict_file(models["tfidf"], source, tmp_path / "whole.csv").out.read_bytes()

    def killed(*_: object) -> None:
        raise Killed

    for name, after in (("replace", False), ("unlink", True)):
        out = tmp_path / f"{name}.csv"
        with monkeypatch.context() as patch:
            patch.setattr("headstart.data.partial.os.replace" if not after else "pathlib.Path.unlink", killed)
            patch.setattr(PartialFile, "close", lambda self: self._open.close())
            with pytest.raises(Killed):
                predict_file(models["tfidf"], source, out)
        done = predict_file(models["tfidf"], source, out)
        assert done.rows == 10
        assert out.read_bytes() == whole
        assert not journal_of(out).exists()


def test_other_data_is_begun_anew(models, small_chunks, tmp_path, monkeypatch):
    source = write(rows(20), tmp_path / "in.csv")

    def full(*_: object) -> None:
        raise StorageError("the disk is full")

    real = labeling._Run._labeled
    with monkeypatch.context() as patch:
        patch.setattr(labeling._Run, "_labeled", lambda self, c: full() if self.progress.read == 7 else real(self, c))
        with pytest.raises(StorageError):
            predict_file(models["tfidf"], source, tmp_path / "out.csv")
    assert pending(tmp_path / "out.csv")["files"][0][0].endswith("in.csv")
    write(rows(21), source)
    done = predict_file(models["tfidf"], source, tmp_path / "out.csv")
    assert (done.resumed, done.rows) == (0, 21)
    assert any("begun anew" in note for note in done.notes)


def test_two_processes_do_not_write_one_file(tmp_path):
    first = PartialFile(tmp_path / "out.csv", tmp_path / "side", {})
    with pytest.raises(StorageError, match="another process"):
        PartialFile(tmp_path / "out.csv", tmp_path / "side", {})
    first.close()
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=60, deadline=None)
@given(
    chunks=st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=8)), max_size=6),
    kept=st.integers(0, 6),
    torn=st.tuples(st.binary(max_size=9), st.binary(max_size=9), st.binary(max_size=30)),
)
def test_what_is_torn_is_cut_off(chunks, kept, torn, tmp_path_factory):
    folder = tmp_path_factory.mktemp("torn")
    out, side = folder / "out", folder / "side"
    kept = min(kept, len(chunks))
    grown = PartialFile(out, side, {"a": 1})
    for i, (data, rejected) in enumerate(chunks[:kept]):
        grown.commit(data, rejected, {"read": i + 1})
    grown._open.close()
    for file, tail in zip((grown._partial, grown._side, grown._journal_file), torn, strict=True):
        with file.open("ab") as handle:
            handle.write(tail.replace(b"\n", b""))
    grown = PartialFile(out, side, {"a": 1})
    assert grown.progress.get("read", 0) == kept
    for i, (data, rejected) in enumerate(chunks[kept:], start=kept):
        grown.commit(data, rejected, {"read": i + 1})
    grown.finish()
    assert out.read_bytes() == b"".join(d for d, _ in chunks)
    rejected = b"".join(r for _, r in chunks)
    assert (side.read_bytes() if side.exists() else b"") == rejected


@given(st.text(min_size=1), st.sampled_from(["utf-8", "utf-16", "utf-32", "cp1252"]), st.booleans())
def test_a_stream_reads_what_was_written(text, encoding, named):
    text = f"head,{text}" if encoding != "cp1252" else "head,café\nnaïve"
    try:
        raw = text.encode(encoding)
    except UnicodeEncodeError:
        return
    stream = open_text(io.BytesIO(raw), "f", encoding=encoding if named else None, newline="")
    assert stream.lines.read() == text
    assert stream.head == text
