"""A model folder whose head and card are of two models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import fit_strategy, tiny_task
from headstart import load
from headstart.errors import ModelError
from headstart.models import folder as model_folder


@pytest.mark.parametrize("strategy", ["majority", "tfidf", "linear-probe", "boosted", "full", "scratch-gru"])
@pytest.mark.parametrize("labels", [["a", "b"], ["a", "b", "c", "d"]], ids=["fewer", "more"])
def test_labels_that_are_not_those_of_the_head_are_refused(
    strategy: str, labels: list[str], tmp_path: Path, tiny_encoder: Path
) -> None:
    if strategy == "boosted":
        pytest.importorskip("catboost", reason="needs headstart[boosted]")
    task = tiny_task(24, 12, values=("a", "b", "c"), encoder=tiny_encoder)
    quick = {"boosted": {"trees": 5}, "full": {"epochs": 1}, "scratch-gru": {"epochs": 1}}.get(strategy, {})
    fitted = fit_strategy(strategy, task, **quick)
    folder = tmp_path / "model"
    model_folder.save(fitted.classifier, folder, text=task.text, check=task.validation, card={"strategy": strategy})
    card = json.loads((folder / "headstart.json").read_text())
    card["labels"] = {"values": labels, "names": labels, "type": "str"}
    (folder / "headstart.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match=rf"3.*{len(labels)}|{len(labels)}.*3"):
        load(folder)
