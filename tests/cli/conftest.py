"""Small files and models for the command line's tests."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from headstart.cli.main import run


def write_csv(path: Path, rows: Sequence[Sequence[object]], header: Sequence[str] = ("text", "label")) -> Path:
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([header, *rows])
    return path


def labeled_rows(n: int) -> list[tuple[str, str]]:
    words = {"neg": ("bad", "awful", "dull", "poor"), "pos": ("good", "great", "warm", "bright")}
    made = []
    for i in range(n):
        label = ("neg", "pos")[i % 2]
        made.append((f"this film number {i} is {words[label][i % 4]} and very {words[label][(i + 1) % 4]}", label))
    return made


@pytest.fixture
def reviews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of 80 labeled texts in the folder the command runs in."""
    monkeypatch.chdir(tmp_path)
    return write_csv(tmp_path / "reviews.csv", labeled_rows(80))


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """Return a function that runs one command and returns its exit code, stdout and stderr."""

    def called(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = run([str(a) for a in arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return called
