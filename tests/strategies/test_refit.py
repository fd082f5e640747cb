"""`refit`: the same training with the validation texts in it, up to the epoch that was best without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conftest import fit_strategy, tiny_task
from headstart.strategies import fine_tuning


@pytest.mark.parametrize("strategy", ["full", "gradual", "partial"])
def test_a_refit_follows_the_same_plan_up_to_the_best_epoch(
    strategy: str, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = tiny_task(encoder=tiny_encoder)
    calls: list[tuple[Any, Any, dict[str, Any]]] = []
    train = fine_tuning.train

    def noted(classifier: Any, data: Any, validation: Any, config: Any, **options: Any) -> Any:
        calls.append((data, config, options))
        return train(classifier, data, validation, config, **options)

    monkeypatch.setattr(fine_tuning, "train", noted)
    fitted = fit_strategy(strategy, task, epochs=5, refit=True)
    (first, config, options), (both, again, refit) = calls
    assert (len(first.y), len(both.y)) == (len(task.train), len(task.train) + len(task.validation))
    assert again == config
    assert (options["stop"], refit["stop"]) == (None, fitted.notes["best_epoch"])
    assert refit["layered"] is options["layered"]
