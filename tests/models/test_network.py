"""A network's batches: few shapes where requests are small, and the same answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conftest import tiny_task
from headstart.models import batching
from headstart.models.loading import load_classifier, load_tokenizer
from headstart.models.network import NetworkClassifier
from headstart.models.runtime import Runtime


@pytest.mark.parametrize(("precision", "multiple"), [("bfloat16", 8), ("float32", 1)])
def test_small_requests_in_bfloat16_have_few_widths(
    precision: str, multiple: int, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = tiny_task(n=9, encoder=tiny_encoder)
    model, _ = load_classifier(tiny_encoder, task.labels, seed=0)
    runtime = Runtime(precision=precision)  # type: ignore[arg-type]
    classifier = NetworkClassifier(model, load_tokenizer(tiny_encoder), task.labels, task.text, runtime)
    tokens = classifier.tokenize(task.train)
    widths: list[int] = []
    collate = batching.collate

    def noted(*given: object, **more: object) -> dict[str, object]:
        batch = collate(*given, **more)  # type: ignore[arg-type]
        widths.append(batch["input_ids"].shape[1])
        return batch  # type: ignore[return-value]

    monkeypatch.setattr(batching, "collate", noted)
    together = classifier.logits(tokens)
    assert widths
    assert all(width % multiple == 0 for width in widths)
    widths.clear()
    alone = np.concatenate([classifier.logits(tokens.take([row])) for row in range(len(tokens))])  # type: ignore[arg-type]
    assert widths == tokens.lengths.tolist()  # one text is not padded
    np.testing.assert_allclose(alone, together, atol=2e-2)
