"""What the server's tests share: tiny models of every kind, and an application around them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from starlette.testclient import TestClient

from conftest import fit_strategy, separable_texts, tiny_task
from headstart.data.examples import Examples
from headstart.data.labels import Labels
from headstart.models import folder as model_folder
from headstart.models.classifier import Prepared
from headstart.models.runtime import Runtime
from headstart.serving.app import create_app
from headstart.serving.settings import ServingSettings
from headstart.serving.shelf import FolderPlace, Served, Shelf, Wanted
from headstart.serving.switching import opened

JSON = {"content-type": "application/json"}


def save(folder: Path, name: str, encoder: Path, **changes: Any) -> Path:
    """Fit a strategy on separable texts and save it."""
    task = tiny_task(encoder=encoder, **changes)
    fitted = fit_strategy(name, task)
    card = {"strategy": name, "text_columns": ["title", "body"] if changes.get("pairs") else ["text"]}
    model_folder.save(fitted.classifier, folder, text=task.text, check=task.validation, card=card)
    return folder


def open_model(folder: Path) -> model_folder.Model:
    """Open a model in float32."""
    return model_folder.load(folder, runtime=Runtime())


def served(folder: Path, name: str = "films", version: str = "1", alias: str | None = None) -> Served:
    """Open a model as the server does."""
    return opened(Wanted(name, FolderPlace(folder, version), alias), open_model)


@contextlib.contextmanager
def client(*models: Served, token: str | None = None, **settings: Any) -> Iterator[TestClient]:
    """Yield a client of an application with these models."""
    app = create_app(Shelf(models), ServingSettings(token=token, **settings))
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as found:
        yield found


class Site:
    """A server on a port of its own, in a thread.

    Args:
        models: what it serves.
        settings: of the server.
    """

    def __init__(self, *models: Served, **settings: Any) -> None:
        self.bound = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.bound.getsockname()[1]}/"
        app = create_app(Shelf(models), ServingSettings(**settings))
        self.server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none"))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.bound]})

    def __enter__(self) -> str:
        self.thread.start()
        return self.url

    def __exit__(self, *problem: object) -> None:
        self.server.should_exit = True
        self.thread.join()
        self.bound.close()


class Slow:
    """A classifier whose answers can be held back; it keeps what it was given.

    Args:
        wait: called before every batch.
    """

    kind = "majority"
    labels = Labels.of(["no", "yes"])

    def __init__(self, wait: Any = lambda: None) -> None:
        self.wait = wait
        self.batches: list[list[str]] = []

    def prepare(self, examples: Examples) -> Prepared:
        return Prepared(examples)

    def score(self, prepared: Prepared, advance: Any = None) -> Any:
        return self.predict_proba(prepared.examples)

    def predict_proba(self, examples: Examples, advance: Any = None) -> Any:
        self.wait()
        self.batches.append(list(examples.texts))
        if any("broken" in text for text in examples.texts):
            raise RuntimeError("a text that breaks the model: broken")
        yes = np.asarray([len(t) % 100 / 100 for t in examples.texts])
        return np.stack([1 - yes, yes], axis=1)

    def parameters(self) -> int:
        return 0


def slow_model(classifier: Slow) -> Served:
    """Return a slow classifier as a served model."""
    text = {"columns": ["text"], "max_length": 8, "truncate": "head"}
    card = {"kind": "majority", "strategy": "slow", "text": text, "about": {}}
    return Served("slow", "1", None, model_folder.Model(classifier, card))


def texts(n: int, seed: int = 3) -> list[str]:
    """Return N texts."""
    return separable_texts(n, seed=seed)[0]
