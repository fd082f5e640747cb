"""A server as a process of its own: started, asked, told to stop."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from stands import open_model, save, texts

from headstart.cli.main import run
from headstart.data.examples import Examples
from headstart.errors import ConfigError
from headstart.models.exporting import export_model
from headstart.serving.server import serve
from headstart.serving.settings import ServingSettings, is_loopback, read_token
from headstart.serving.shelf import wanted

_PATIENCE_SECONDS = 120


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny_encoder):
    return save(tmp_path_factory.mktemp("served") / "films", "full", tiny_encoder)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextlib.contextmanager
def server(*arguments: object, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yield a running server and its address; its log lies beside the model."""
    port = free_port()
    words = [sys.executable, "-m", "headstart.cli.main", "serve", *map(str, arguments), "--port", str(port)]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment
    )
    url = f"http://127.0.0.1:{port}"
    try:
        give_up = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < give_up and process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/ready").status_code == 200:
                    break
            time.sleep(0.1)
        yield process, url
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def running(url: str) -> int:
    """Return how many requests for predictions the server has begun and not answered yet."""
    line = re.search(r'headstart_requests_running\{path="/predict"\} (\d+)', httpx.get(f"{url}/metrics").text)
    return int(line[1]) if line else 0


def test_serves_and_finishes_what_runs_when_told_to_stop(model):
    with server(model, "--precision", "float32", "--quiet") as (process, url):
        many = texts(400)
        expected = open_model(model).predict_proba(many)
        answers = []

        def ask() -> None:
            answers.append(httpx.post(f"{url}/predict", json={"texts": many}, timeout=_PATIENCE_SECONDS))

        asking = [threading.Thread(target=ask) for _ in range(4)]
        for thread in asking:
            thread.start()
        while running(url) + len(answers) < len(asking):  # only what the server has begun to read must be answered
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        for thread in asking:
            thread.join()
        out, err = process.communicate(timeout=_PATIENCE_SECONDS)
        assert [a.status_code for a in answers] == [200] * 4
        got = [p["probabilities"]["positive"] for p in answers[0].json()["predictions"]]
        assert got == pytest.approx(expected[:, 1], abs=1e-5)
        assert process.returncode == -signal.SIGTERM
        lines = [json.loads(line) for line in out.splitlines()]
        assert sum(line.get("texts", 0) for line in lines) == 1600
        assert err == ""


def test_as_many_rounds_are_computed_at_a_time_as_there_are_processes(model, monkeypatch):
    given = {}

    def stop(*arguments, **more):
        given.update(more)
        raise KeyboardInterrupt

    monkeypatch.setattr("headstart.serving.app.create_app", stop)
    with pytest.raises(KeyboardInterrupt):
        serve(wanted([str(model)], []), ServingSettings(port=0, workers=1), precision="float32")
    assert given["workers"] == 1


def test_the_onnx_engine_answers_as_torch_does(model, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    folder = shutil.copytree(model, tmp_path / "films")
    export_model(folder, folder / "onnx", examples=Examples.of(texts(20)))
    asked = texts(12, seed=5)
    expected = open_model(folder).classifier.predict_proba(Examples.of(asked))
    with server(folder, "--engine", "onnx") as (_, url):
        answer = httpx.post(f"{url}/predict", json={"texts": asked}, timeout=60)
        assert answer.status_code == 200, answer.text
        alone = httpx.post(f"{url}/predict", json={"texts": asked[0]}, timeout=60).json()
        served = {card["name"] for card in httpx.get(f"{url}/models").json()["models"]}
    found = [list(p["probabilities"].values()) for p in answer.json()["predictions"]]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(list(alone["predictions"][0]["probabilities"].values()), expected[0], atol=1e-4)
    assert served == {"films"}


def test_token_of_a_file_and_of_the_environment(model, tmp_path):
    (tmp_path / "token").write_text("s3cret\n")
    assert read_token(str(tmp_path / "token"), {}).get_secret_value() == "s3cret"
    assert read_token(None, {"HEADSTART_TOKEN": "t"}).get_secret_value() == "t"
    assert read_token(None, {}) is None
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "words").write_text("two words")
    for name in ("empty", "words", "missing"):
        with pytest.raises(ConfigError, match="--token-file"):
            read_token(str(tmp_path / name), {})
    with pytest.raises(ConfigError, match="HEADSTART_TOKEN is empty"):
        read_token(None, {"HEADSTART_TOKEN": ""})
    assert "s3cret" not in repr(ServingSettings(token="s3cret"))


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 lets other machines in, and there is no token"),
        (["--host", "::"], "lets other machines in"),
        (["--max-waiting", "5"], "--max-waiting 5 is smaller than --max-texts 1000"),
        (["--port", "70000"], "--port: must be at most 65535"),
        (["--max-texts", "0"], "--max-texts: must be at least 1"),
        (["--host", "192.0.2.1", "--token-file", "TOKEN"], "cannot listen on 192.0.2.1"),
        (["--token-file", "nowhere"], "--token-file nowhere cannot be read"),
        (["--name", "x"], "NAME=MODEL"),
    ],
)
def test_wrong_settings_are_said(model, tmp_path, capsys, arguments, said):
    (tmp_path / "token").write_text("s3cret")
    given = [str(tmp_path / "token") if a == "TOKEN" else a for a in arguments]
    assert run(["serve", str(model), *given]) == 2
    assert said in capsys.readouterr().err


def test_a_port_that_is_taken_and_a_model_that_is_not_there(model, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert run(["serve", str(model), "--port", port]) == 2
        assert f"port {port}" in capsys.readouterr().err
    assert run(["serve", str(model / "none"), "--port", "0"]) == 2
    assert "there is no model folder" in capsys.readouterr().err


def test_loopback_names() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org", "")))


def test_serving_imports_no_training_half(model) -> None:
    program = (
        "import sys, headstart.serving.app, headstart.serving.server, headstart.serving.switching\n"
        "print([m for m in sys.modules if m.startswith(('headstart.training', 'headstart.strategies', "
        "'headstart.experiment', 'mlflow', 'peft', 'catboost'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_page_lies_in_the_package() -> None:
    import headstart.serving

    page = Path(headstart.serving.__file__).parent / "page"
    assert {f.name for f in page.iterdir()} == {"index.html", "page.css", "page.js", "icon.svg", "card.js", "csv.js"}
