"""The stage ``adapt+``: which texts, one encoder for all, what the record says; and `headstart adapt`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import headstart
from conftest import separable_texts
from headstart.adaptation.seen import SEEN, count_seen, read_seen, write_seen
from headstart.cli.main import run
from headstart.data.config import DataConfig
from headstart.data.examples import Examples
from headstart.data.load import load_data
from headstart.data.pool import adaptation_texts
from headstart.errors import ConfigError, DataError, StorageError
from headstart.experiment.comparison import stage_gains
from headstart.experiment.progress import Silent
from headstart.models import cache
from headstart.models.cache import cache_folder
from headstart.records import read_json

FAST = {"epochs": 1, "batch_size": 8}
SETTINGS = {"full": FAST, "source": FAST, "adapt": {"epochs": 1, "batch_tokens": 256}}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    texts, y = separable_texts(140, seed=2, words=9)
    frame = pd.DataFrame({"text": texts, "label": ["pos" if c else "neg" for c in y]}).drop_duplicates("text")
    frame[:60].to_csv(tmp_path / "labeled.csv", index=False)
    frame[60:90][["text"]].to_csv(tmp_path / "pool.csv", index=False)
    frame[90:].to_csv(tmp_path / "other.csv", index=False)
    return {name: str(tmp_path / f"{name}.csv") for name in ("labeled", "pool", "other")}


def compare(files: dict[str, str], encoder: Path, out: Path, strategies: str, **more: Any) -> Any:
    return headstart.compare(
        files["labeled"], encoder=str(encoder), strategies=strategies, out=str(out), tracking=False,
        precision="float32", threads=1, max_length=32, **{"unlabeled": files["pool"], "settings": SETTINGS, **more},
    )  # fmt: skip


def loaded(files: dict[str, str], **more: Any) -> Any:
    return load_data(DataConfig(data=files["labeled"], **more), seed=0).splits


def test_pool_is_without_holdout_and_validation_unless_asked_for(files: dict[str, str], tmp_path: Path) -> None:
    both = pd.concat([pd.read_csv(files["labeled"])[["text"]], pd.read_csv(files["pool"])])
    both.to_csv(tmp_path / "all.csv", index=False)  # a pool that holds every text of the labeled file too
    plain = loaded(files, unlabeled=str(tmp_path / "all.csv"))
    texts = adaptation_texts(plain)
    assert not set(texts) & set(plain.holdout.texts)
    assert not set(texts) & set(plain.validation.texts)
    assert set(plain.train.texts) <= set(texts)
    assert set(pd.read_csv(files["pool"])["text"]) <= set(texts)
    assert set(plain.unlabeled.y) == {-1}
    wanted = loaded(files, unlabeled=files["pool"], transductive=True)
    assert set(wanted.holdout.texts) <= set(adaptation_texts(wanted))
    assert set(wanted.unlabeled.y) == {-1}, "the holdout's labels stay behind"
    assert not set(adaptation_texts(wanted)) & set(wanted.validation.texts)


def test_a_pool_without_the_text_column_is_said(files: dict[str, str], tmp_path: Path) -> None:
    pd.DataFrame({"body": ["a", "b"]}).to_csv(tmp_path / "odd.csv", index=False)
    with pytest.raises(DataError, match="no column 'text'"):
        loaded(files, unlabeled=str(tmp_path / "odd.csv"))


def test_one_adapted_encoder_serves_all_and_the_record_says_what_it_changed(
    files: dict[str, str], tiny_encoder: Path, tmp_path: Path
) -> None:
    names = "tfidf,full,linear-probe,adapt+full,adapt+linear-probe"
    found = compare(files, tiny_encoder, tmp_path / "out", names, seeds=2)
    rows = {row["name"]: row for row in found.record["strategies"]}
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert len(list((cache_folder() / "adapted").iterdir())) == 1
    about = found.record["adaptation"]
    assert about["transductive"] is found.record["transductive"] is False
    assert about["texts_without_labels"] == found.record["rows"]["unlabeled"] > 0
    assert about["texts"] == found.record["rows"]["train"] + found.record["rows"]["unlabeled"]
    assert about["epochs"][-1]["held_out_loss"] > 0
    gains = {(g["strategy"], g["without"]): g for g in found.record["stages"]}
    assert set(gains) == {("adapt+full", "full"), ("adapt+linear-probe", "linear-probe")}
    for (one, other), gain in gains.items():
        difference = rows[one]["metrics"]["macro_f1"]["value"] - rows[other]["metrics"]["macro_f1"]["value"]
        assert gain["value"] == pytest.approx(difference)
        assert gain["low"] <= gain["value"] <= gain["high"]
    assert "adapt+full minus full: macro-F1" in found._repr_html_()
    again = compare(files, tiny_encoder, tmp_path / "again", "full,adapt+full")
    assert len(list((cache_folder() / "adapted").iterdir())) == 1, "taken from the cache"
    assert again.record["adaptation"] == about
    third = compare(files, tiny_encoder, tmp_path / "third", "full,adapt+full", transductive=True)
    assert third.record["transductive"] is True
    assert len(list((cache_folder() / "adapted").iterdir())) == 2, "other texts, another encoder"


@pytest.mark.parametrize(("kind", "strategy"), [("adapted", "adapt+linear-probe"), ("sources", "source+linear-probe")])
def test_a_damaged_entry_is_made_again(
    kind: str, strategy: str, files: dict[str, str], tiny_encoder: Path, tmp_path: Path
) -> None:
    given = {"source": files["other"]} if kind == "sources" else {}
    first = compare(files, tiny_encoder, tmp_path / "one", strategy, **given)
    (folder,) = (cache_folder() / kind).iterdir()
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for file, content in ((weights, whole[: len(whole) // 2]), (folder / "config.json", b'{"model_type": ')):
        file.write_bytes(content)
        again = compare(files, tiny_encoder, tmp_path / file.name, strategy, **given)
        assert weights.read_bytes() == whole
        assert again.record["strategies"][0]["metrics"] == first.record["strategies"][0]["metrics"]


_SHARER = """
import sys
import headstart
labeled, pool, encoder, out = sys.argv[1:]
found = headstart.compare(
    labeled, encoder=encoder, strategies="adapt+full,adapt+linear-probe", unlabeled=pool, out=out, tracking=False,
    precision="float32", threads=1, max_length=32, seeds=8,
    settings={"full": {"epochs": 3, "batch_size": 8}, "adapt": {"epochs": 1, "batch_tokens": 256}},
)
reasons = [row["reason"] for row in found.record["strategies"]]
assert reasons == ["", ""], reasons
"""


def test_processes_share_a_cache_from_which_a_third_drops_all_it_may(
    files: dict[str, str], tiny_encoder: Path, tmp_path: Path
) -> None:
    """Two comparisons adapt to the same texts at once, and a third process wants the room as soon as it is written."""
    folder = tmp_path / "cache"
    environment = {**os.environ, "HEADSTART_CACHE": str(folder)}
    given = [sys.executable, "-c", _SHARER, files["labeled"], files["pool"], str(tiny_encoder)]
    outs = [tmp_path / "one", tmp_path / "two"]
    running = [subprocess.Popen([*given, str(out)], env=environment) for out in outs]
    seen: dict[Path, float] = {}
    refused = 0
    try:
        while any(process.poll() is None for process in running):
            for path in (p for p in (folder / "adapted").glob("*") if not p.name.startswith(".")):
                if time.monotonic() - seen.setdefault(path, time.monotonic()) > 1:  # by now it is in use
                    os.utime(path, (1, 1))
                    gone = [e.path for e in cache.evict(folder, limit=0)]
                    refused += path not in gone and any(process.poll() is None for process in running)
            time.sleep(0.02)
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert [process.returncode for process in running] == [0, 0]
    assert refused
    one, two = (read_json(out / "comparison.json")["adaptation"] for out in outs)
    assert one == two
    for path in (folder / "adapted").glob("*"):
        os.utime(path, (1, 1))
    cache.evict(folder, limit=0)
    assert not list((folder / "adapted").glob("*"))


def test_a_source_classifier_that_is_used_again_counts_as_used(
    files: dict[str, str], tiny_encoder: Path, tmp_path: Path
) -> None:
    compare(files, tiny_encoder, tmp_path / "one", "source+full", source=files["other"])
    (folder,) = (cache_folder() / "sources").iterdir()
    os.utime(folder, (1, 1))
    compare(files, tiny_encoder, tmp_path / "two", "source+full", source=files["other"])
    assert folder.stat().st_mtime > 1


def test_what_gradual_and_contrastive_change_is_recorded_too(
    files: dict[str, str], tiny_encoder: Path, tmp_path: Path
) -> None:
    settings = {**SETTINGS, "gradual": FAST, "contrastive": {"steps": 4}}
    names = "full,gradual,linear-probe,contrastive"
    found = compare(files, tiny_encoder, tmp_path / "out", names, settings=settings)
    rows = {row["name"]: row["metrics"]["macro_f1"]["value"] for row in found.record["strategies"]}
    gains = {(g["strategy"], g["without"]): g for g in found.record["stages"]}
    assert set(gains) == {("gradual", "full"), ("contrastive", "linear-probe")}
    for (one, other), gain in gains.items():
        assert gain["value"] == pytest.approx(rows[one] - rows[other])
        assert gain["low"] <= gain["value"] <= gain["high"]


class Heard(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)

    warn = say


def test_without_texts_without_labels_it_is_said(files: dict[str, str], tiny_encoder: Path, tmp_path: Path) -> None:
    listener = Heard()
    found = compare(
        files, tiny_encoder, tmp_path / "out", "linear-probe,adapt+linear-probe", unlabeled=None, reporter=listener
    )
    (warned,) = [line for line in listener.said if "no texts without labels" in line]
    assert f"the {found.record['rows']['train']} training texts alone" in warned
    assert found.record["adaptation"]["texts_without_labels"] == 0


def test_a_stage_that_cannot_be_judged_is_said(files: dict[str, str], tiny_encoder: Path, tmp_path: Path) -> None:
    both = pd.concat([pd.read_csv(files["labeled"])[["text"]], pd.read_csv(files["pool"])])
    both.to_csv(tmp_path / "all.csv", index=False)
    listener = Heard()
    more: dict[str, Any] = {"unlabeled": str(tmp_path / "all.csv"), "reporter": listener}
    found = compare(files, tiny_encoder, tmp_path / "out", "gradual,adapt+linear-probe", **more)
    alone = [line for line in listener.said if "beside it" in line]
    assert [line.split(" beside it")[0] for line in alone] == [
        "'gradual' without 'full'",
        "'adapt+linear-probe' without 'linear-probe'",
    ]
    unknown = {"value": None, "low": None, "high": None}
    assert found.record["stages"] == [
        {"strategy": "gradual", "stage": "gradual", "without": "full", **unknown}
        | {"reason": "'full' is not in the comparison"},
        {"strategy": "adapt+linear-probe", "stage": "adapt", "without": "linear-probe", **unknown}
        | {"reason": "'linear-probe' is not in the comparison"},
    ]
    about, sizes = found.record["adaptation"], found.record["rows"]
    assert about["texts_of_validation_left_out"] == sizes["validation"]
    assert about["texts"] == sizes["train"] + sizes["unlabeled"] - sizes["validation"]
    assert about["texts_without_tokens"] == 0


def test_an_encoder_that_saw_the_texts_that_judge_is_told(
    files: dict[str, str], tiny_encoder: Path, tmp_path: Path
) -> None:
    headstart.adapt(files["labeled"], out=tmp_path / "saw", encoder=str(tiny_encoder), epochs=1, batch_tokens=256)
    headstart.adapt(files["pool"], out=tmp_path / "fair", encoder=str(tiny_encoder), epochs=1, batch_tokens=256)
    for name in ("saw", "fair"):
        listener = Heard()
        found = compare(files, tmp_path / name, tmp_path / f"{name}-out", "linear-probe", reporter=listener)
        about, sizes = found.record["encoder_adapted_on"], found.record["rows"]
        told = [line for line in listener.said if "adapted on texts that judge here" in line]
        if name == "saw":
            assert (about["validation"], about["holdout"]) == (sizes["validation"], sizes["holdout"])
            assert f"{sizes['holdout']} of {sizes['holdout']} held out" in told[0]
        else:
            assert about == {"texts": len(set(pd.read_csv(files["pool"])["text"])), "validation": 0, "holdout": 0}
            assert told == []
    assert compare(files, tiny_encoder, tmp_path / "plain", "majority").record["encoder_adapted_on"] is None


def test_of_a_pair_one_text_is_enough_to_have_been_seen(tmp_path: Path) -> None:
    write_seen(tmp_path, ["a warm film ", "one\nother"])
    write_seen(tmp_path, ["a long film"], read_seen(tmp_path) or ())
    seen = read_seen(tmp_path)
    assert seen is not None
    assert len(seen) == 3
    assert count_seen(Examples.of(["a warm film", "a cold film", " a long film"]), seen) == 2
    pairs = replace(Examples.of(["a", "one", "one", "x"]), pairs=("a warm film", "other", "another", "y"))
    assert count_seen(pairs, seen) == 2
    assert read_seen(tmp_path / "none") is None


def test_what_the_encoder_before_was_adapted_on_is_not_forgotten(
    files: dict[str, str], tiny_encoder: Path, tmp_path: Path
) -> None:
    quick: dict[str, Any] = {"epochs": 1, "batch_tokens": 256}
    headstart.adapt(files["labeled"], out=tmp_path / "one", encoder=str(tiny_encoder), **quick)
    headstart.adapt(files["pool"], out=tmp_path / "two", encoder=str(tmp_path / "one"), **quick)
    texts = [text for name in ("labeled", "pool") for text in pd.read_csv(files[name])["text"]]
    assert count_seen(Examples.of(texts), read_seen(tmp_path / "two") or frozenset()) == len(texts)
    (tmp_path / "two" / SEEN).unlink()  # as by a version that did not write it
    headstart.adapt(files["pool"], out=tmp_path / "two", encoder=str(tmp_path / "one"), **quick)
    assert count_seen(Examples.of(texts), read_seen(tmp_path / "two") or frozenset()) == len(texts)


def test_adaptation_comes_before_the_source_classifier(
    files: dict[str, str], tiny_encoder: Path, tmp_path: Path
) -> None:
    names = "source+full,adapt+full,adapt+source+full"
    found = compare(files, tiny_encoder, tmp_path / "out", names, source=files["other"])
    assert {row["status"] for row in found.record["strategies"]} == {"ok"}
    assert len(list((cache_folder() / "sources").iterdir())) == 2
    pairs = {(g["strategy"], g["stage"], g["without"]) for g in found.record["stages"] if g["value"] is not None}
    assert pairs == {
        ("adapt+source+full", "adapt", "source+full"),
        ("adapt+source+full", "source", "adapt+full"),
    }


def test_what_cannot_be_adapted_is_skipped_and_the_rest_goes_on(
    files: dict[str, str], tiny_encoder: Path, tmp_path: Path
) -> None:
    settings = {**SETTINGS, "adapt": {"top_layers": 9}}
    found = compare(files, tiny_encoder, tmp_path / "out", "tfidf,full,adapt+full", settings=settings)
    rows = {row["name"]: row for row in found.record["strategies"]}
    assert rows["full"]["status"] == "ok"
    assert rows["adapt+full"]["status"] == "skipped"
    assert "2 layers" in rows["adapt+full"]["reason"]
    with pytest.raises(ConfigError, match="Did you mean 'masking'"):
        compare(files, tiny_encoder, tmp_path / "odd", "adapt+full", settings={"adapt": {"maskin": "span"}})


def test_command_writes_an_encoder_that_compare_takes(
    files: dict[str, str], tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "adapted"
    words = ["adapt", files["pool"], "--encoder", str(tiny_encoder), "--out", str(out), "--masking", "whole-word"]
    words += ["--set", "adapt.epochs=1", "--precision", "float32", "--threads", "1"]
    assert run(words) == 0
    said = capsys.readouterr().err
    assert "held-out loss" in said
    assert f"headstart compare FILE --encoder {out}" in said
    assert read_json(out / "adaptation.json")["settings"]["masking"] == "whole-word"
    assert run(words) == 0
    assert "done before" in capsys.readouterr().err
    compare(files, out, tmp_path / "out", "linear-probe")
    assert run([*words, "--set", "full.epochs=2"]) == 2
    assert run([*words[:-6], "--masking", "words"]) == 2
    assert "words" in capsys.readouterr().err


def test_python_door_takes_texts_and_refuses_a_folder_of_something_else(tiny_encoder: Path, tmp_path: Path) -> None:
    texts = separable_texts(30)[0]
    options: dict[str, Any] = {"encoder": str(tiny_encoder), "precision": "float32", "threads": 1, "epochs": 1}
    done = headstart.adapt(texts, out=tmp_path / "out", **options)
    assert done.card["texts"] == 30
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file.txt").write_text("x")
    with pytest.raises(StorageError, match="not empty"):
        headstart.adapt(texts, out=tmp_path / "mine", **options)
    with pytest.raises(ConfigError, match="Did you mean 'epochs'"):
        headstart.adapt(texts, out=tmp_path / "other", encoder=str(tiny_encoder), epoch=1)


def test_a_stage_beside_one_that_failed_has_a_reason() -> None:
    rows = [{"name": "adapt+full", "status": "ok"}, {"name": "full", "status": "failed"}]
    splits: Any = None
    (gain,) = stage_gains(rows, {}, splits, "macro_f1", seed=0)
    assert (gain["value"], gain["reason"]) == (None, "'full' was not fitted")
