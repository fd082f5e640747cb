"""The folder that commands run in, the models there, and one way to call a command."""

from __future__ import annotations

from pathlib import Path

import pytest
from broken import Call, World, lines

from headstart.cli.main import run


@pytest.fixture(scope="session")
def models(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder per kind of model."""
    from conftest import fit_strategy, tiny_task
    from headstart.models import folder as model_folder

    made = {}
    quick = {"tfidf": {}, "linear-probe": {}, "boosted": {"trees": 3}, "full": {"epochs": 1}}
    for kind, strategy in (("tfidf", "tfidf"), ("frozen", "linear-probe"), ("boosted", "boosted"), ("network", "full")):
        task = tiny_task(values=("neg", "pos"), encoder=tiny_encoder)
        folder = tmp_path_factory.mktemp("models") / kind
        fitted = fit_strategy(strategy, task, **quick[strategy])
        model_folder.save(fitted.classifier, folder, text=task.text, check=task.validation, card={"strategy": strategy})
        made[kind] = folder
    return made


@pytest.fixture
def world(tmp_path: Path, tiny_encoder: Path, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> World:
    """The folder that commands run in."""
    monkeypatch.chdir(tmp_path)
    # Read from the environment when the library is imported, which may be before the tests set it.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    made = World(tmp_path, tiny_encoder, models)
    made.file("reviews.csv", lines(80))
    return made


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """Return a function that runs one command and returns its exit code, stdout and stderr.

    Both are read at the file descriptor, so that what libraries in other languages print is seen too.
    """

    def called(world: World, command: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = run(world.arguments(command))
        out, err = capfd.readouterr()
        return code, out, err

    return called
