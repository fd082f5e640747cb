"""A finished comparison given again: what failed is tried once more, and the end is as if it had never failed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_run import FAST, Listening, csv

import headstart
from headstart.records import stable
from headstart.strategies import table


def break_down(monkeypatch: pytest.MonkeyPatch, name: str, seeds: tuple[int, ...]) -> None:
    """Let a strategy fail with some seeds, as if a library had run out of something."""
    row = table.STRATEGIES[name]

    def fit(task: Any, config: Any) -> Any:
        if task.seed in seeds:
            raise RuntimeError("out of luck")
        return row.fit(task, config)

    monkeypatch.setitem(table.STRATEGIES, name, replace(row, fit=fit))


@pytest.mark.parametrize("keep_models", [False, True])
@pytest.mark.parametrize(
    ("failing", "seeds"), [("tfidf", (0, 1)), ("tfidf", (1,)), ("majority", (0, 1)), ("majority", (0,))]
)
def test_the_same_command_tries_again_what_failed(
    failing: str, seeds: tuple[int, ...], keep_models: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = csv(tmp_path)
    settings: dict[str, Any] = {
        "encoder": None, "strategies": ["majority", "tfidf"], "seeds": 2, "keep_models": keep_models, "name": "x",
        **FAST,
    }  # fmt: skip
    unbroken = headstart.compare(data, out=str(tmp_path / "unbroken"), **settings)
    settings["out"] = str(tmp_path / "run")
    with monkeypatch.context() as patch:
        break_down(patch, failing, seeds)
        first = headstart.compare(data, **settings)
    assert first.failed == [failing]
    other = {"tfidf": "majority", "majority": "tfidf"}[failing]
    kept = [tmp_path / "run" / "fits" / other / f"seed-{seed}" / "record.json" for seed in (0, 1)]
    before = [file.stat().st_mtime_ns for file in kept]

    heard = Listening()
    again = headstart.compare(data, reporter=heard, **settings)
    assert any(f"tried again, for it failed: {failing}" in sentence for sentence in heard.said)
    assert [file.stat().st_mtime_ns for file in kept] == before
    assert again.failed == []
    mine, theirs = stable(again.record), stable(unbroken.record)
    assert {k: v for k, v in mine.items() if k != "config"} == {k: v for k, v in theirs.items() if k != "config"}
    assert again.winner == "tfidf"
    assert again.best.predict(["a great lovely film", "a dull awful film"]) == ["positive", "negative"]
    assert (tmp_path / "run/best/headstart.json").read_text() == (tmp_path / "unbroken/best/headstart.json").read_text()

    heard = Listening()
    headstart.compare(data, reporter=heard, **settings)
    assert any("nothing to do" in sentence for sentence in heard.said)


def test_a_winner_whose_model_was_lost_is_fitted_again_with_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = csv(tmp_path), tmp_path / "run"
    settings: dict[str, Any] = {"encoder": None, "strategies": ["majority", "tfidf"], "out": str(out), **FAST}
    with monkeypatch.context() as patch:
        break_down(patch, "majority", (0,))
        headstart.compare(data, **settings)
    (out / "best" / "headstart.json").unlink()
    again = headstart.compare(data, **settings)
    assert (again.failed, again.winner) == ([], "tfidf")
    assert again.best.predict(["a great lovely film"]) == ["positive"]
