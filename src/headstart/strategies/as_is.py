"""``as-is``: the source classifier's weights used as they are; nothing is trained on the target."""

from __future__ import annotations

from headstart.errors import StrategyError
from headstart.models.loading import load_classifier, load_tokenizer
from headstart.models.network import NetworkClassifier
from headstart.strategies.fine_tuning import order_head
from headstart.strategies.task import Fitted, NoConfig, Task


def fit(task: Task, config: NoConfig) -> Fitted:
    """Put the source's classes into the target's order.

    Raises:
        StrategyError: there is no source, or its labels do not match the target's.
    """
    source = task.source
    if source is None:
        raise StrategyError("needs a source classifier: give --source FILE or --source MODEL")
    if source.order is None:
        raise StrategyError(source.mismatch)
    model, _fresh = load_classifier(source.encoder.folder, task.labels, seed=task.seed, keep_head=True)
    order_head(model, source.order)
    classifier = NetworkClassifier(
        model.eval(), load_tokenizer(source.encoder.folder), task.labels, task.text, task.runtime
    )
    classifier.keep_weights()
    return Fitted(classifier, classifier.predict_proba(task.validation, task.advance), 0)
