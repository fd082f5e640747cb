"""What the command line's tests share: one way to run a command, and small files."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Sequence
from pathlib import Path

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


def call(*arguments: object) -> tuple[int, str, str]:
    """Run one command; return its exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(a) for a in arguments])
    return code, out.getvalue(), err.getvalue()
