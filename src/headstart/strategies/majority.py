"""``majority``: the class shares of the training texts; the floor of every table."""

from __future__ import annotations

import numpy as np

from headstart.models.baselines import MajorityClassifier
from headstart.strategies.task import Fitted, NoConfig, Task


def fit(task: Task, config: NoConfig) -> Fitted:
    """Count the classes."""
    counts = np.bincount(task.train.y, minlength=len(task.labels)).astype(np.float64)
    # One imagined text per class, so that no class has probability zero (Laplace's rule of succession).
    classifier = MajorityClassifier((counts + 1) / (counts + 1).sum(), task.labels)
    return Fitted(classifier, classifier.predict_proba(task.validation), len(task.labels))
