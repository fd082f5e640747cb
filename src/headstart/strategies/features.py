"""The frozen encoder of a task, shared by the strategies that stand on features."""

from __future__ import annotations

from headstart.models.features import FeatureExtractor
from headstart.models.loading import load_body, load_tokenizer
from headstart.strategies.task import Task


def extractor_of(task: Task, *, layer: int = -1) -> FeatureExtractor:
    """Return the task's encoder as a feature extractor with its cache."""
    encoder = task.start
    return FeatureExtractor(
        load_body(encoder.folder),
        load_tokenizer(encoder.folder),
        task.text,
        task.runtime,
        layer=layer,
        key=encoder.fingerprint,
        cache=task.cache,
    )
