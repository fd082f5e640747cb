"""The commands of docs/serving.md, sent to a server."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from stands import client, save, served

from headstart.serving.app import _WRONG
from headstart.serving.settings import ServingSettings

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")


def test_curl_commands_are_answered(tmp_path, tiny_encoder):
    commands = [shlex.split(line) for line in PAGE.splitlines() if line.startswith("curl ")]
    assert len(commands) == 2
    with client(served(save(tmp_path / "m", "tfidf", tiny_encoder), "reviews")) as http:
        for _, url, header, kind, data, body in commands:
            assert (header, data) == ("-H", "-d")
            answer = http.post(url, content=body, headers=dict([kind.split(": ")]))
            assert answer.status_code == 200
            assert answer.json()["model"] == "reviews"
            assert set(answer.json()) == {"model", "version", "predictions"}


def test_paths_statuses_and_defaults_are_those_of_the_code(tmp_path, tiny_encoder):
    assert {int(code) for code in re.findall(r"^\| (\d{3}) \|", PAGE, re.MULTILINE)} == {int(c) for c in _WRONG}
    with client(served(save(tmp_path / "m", "tfidf", tiny_encoder))) as http:
        for path in re.findall(r"^\| `GET (\S+)` \|", PAGE, re.MULTILINE):
            assert http.get(path).status_code == 200, path
    default = ServingSettings()
    for words in (
        f"{default.max_body_bytes // 2**20} MiB",
        f"more than {default.max_texts:,} texts",
        f"more than {default.max_characters:,} characters",
        f"{default.max_waiting:,} texts wait",
        f"at most {default.max_batch} texts",
        f"within {default.gather_seconds * 1000:.0f} milliseconds",
        f"in {default.body_seconds:.0f} seconds",
    ):
        assert words in PAGE, words
