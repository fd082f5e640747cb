"""How good a set of predictions is, and how sure one can be: metrics with bootstrap intervals."""

from __future__ import annotations

from headstart.evaluation.intervals import Evaluation, Interval, evaluate, is_tie, paired_difference
from headstart.evaluation.metrics import METRICS, Metric, score

__all__ = ["METRICS", "Evaluation", "Interval", "Metric", "evaluate", "is_tie", "paired_difference", "score"]
