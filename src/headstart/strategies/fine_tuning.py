"""What every trained network shares: tokenize once, train, judge on validation, perhaps train again on both."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from headstart.data.examples import Examples
from headstart.models.loading import load_classifier, load_tokenizer
from headstart.models.network import NetworkClassifier
from headstart.models.store import content_keys
from headstart.strategies.task import Fitted, Task
from headstart.training.data import Data
from headstart.training.dropout import NO_ATTENTION_DROPOUT
from headstart.training.frozen import FrozenStart
from headstart.training.layered import Layered
from headstart.training.loop import History, TrainingConfig, train


def pretrained(task: Task) -> tuple[NetworkClassifier, set[str]]:
    """Load the task's encoder under a classification head; return it and the names of its fresh parameters."""
    encoder = task.start
    changes = {name: value for name, value in NO_ATTENTION_DROPOUT.items() if hasattr(encoder.config, name)}
    model, fresh = load_classifier(
        encoder.folder, task.labels, seed=task.seed, keep_head=task.keep_head, changes=changes
    )
    if task.keep_head and task.source is not None and task.source.order is not None:
        order_head(model, task.source.order)
    return NetworkClassifier(model, load_tokenizer(encoder.folder), task.labels, task.text, task.runtime), fresh


def fine_tune(
    task: Task,
    build: Callable[[], NetworkClassifier],
    config: TrainingConfig,
    finish: Callable[[NetworkClassifier], None] | None = None,
    layered: Callable[[Any], Layered] | None = None,
) -> Fitted:
    """Train what ``build`` makes, early-stopped on validation.

    Args:
        task: the task.
        build: makes a network with ``requires_grad`` set on what is to be trained; called again for a refit.
        config: rates and lengths.
        finish: changes the trained network in place before it is handed out (merging adapters, say).
        layered: tells rates and thawing of a model's layers, where they differ.
    """
    classifier = build()
    layers = None if layered is None else layered(classifier.model)
    held = _data(classifier, task.validation)
    frozen = _frozen(task, classifier)
    history = _train(task, classifier, task.train, held, config, layers, frozen)
    notes: dict[str, Any] = {"best_epoch": history.best_epoch, "refit": config.refit}
    if layers is not None:
        layers.thaw(classifier.model, history.best_epoch)  # layers thawed later are again as they were
        notes["layers_trained"] = [group.name for group in layers.groups[: layers.thawed(history.best_epoch)]]
    names = trained_names(classifier.model)
    trained = sum(p.numel() for p in classifier.model.parameters() if p.requires_grad)
    assert history.validation is not None  # an epoch was judged
    if config.refit:
        classifier = build()
        frozen = _frozen(task, classifier)
        # The rates stay those that the best epoch was found with: planned for fewer epochs they would fall too early.
        both = task.train.concat(task.validation)
        _train(task, classifier, both, None, config, layers, frozen, stop=history.best_epoch)
    if frozen is not None:
        classifier.prefix = frozen.kept()
        if frozen.why_whole:
            notes["frozen_layers"] = frozen.why_whole
    if finish is not None:
        finish(classifier)
    classifier.keep_weights()
    return Fitted(classifier, history.validation, trained, history.epochs, names, notes)


def trained_names(model: Any) -> tuple[str, ...] | None:
    """Return the names that trained parameters will be saved under; None where every one is trained.

    An adapter counts as its layer's weight, which it is merged into.
    """
    parameters = dict(model.named_parameters())
    if all(p.requires_grad for p in parameters.values()):
        return None
    names = (name.removeprefix("base_model.model.") for name, p in parameters.items() if p.requires_grad)
    return tuple(dict.fromkeys(re.sub(r"\.lora_\w+(\.default)?(\.weight)?$", ".weight", name) for name in names))


def _train(
    task: Task,
    classifier: NetworkClassifier,
    examples: Examples,
    held: Data | None,
    config: TrainingConfig,
    layered: Layered | None,
    frozen: FrozenStart | None,
    stop: int | None = None,
) -> History:
    return train(
        classifier,
        _data(classifier, examples),
        held,
        config,
        seed=task.seed,
        class_weights=task.class_weights,
        layered=layered,
        frozen=frozen,
        stop=stop,
        advance=task.advance,
        on_epoch=task.on_epoch if held is not None else None,
    )


def _frozen(task: Task, classifier: NetworkClassifier) -> FrozenStart | None:
    """Return the store for what frozen layers give, keyed by the weights that they were loaded with."""
    if task.encoder is None:
        return None
    return FrozenStart(classifier, key=task.encoder.fingerprint, cache=task.cache)


def _data(classifier: NetworkClassifier, examples: Examples) -> Data:
    return Data(classifier.tokenize(examples), examples.y, tuple(content_keys(examples)))


def order_head(model: Any, order: tuple[int, ...]) -> None:
    """Put the head's class rows into target order, in place: class ``c`` of the target is ``order[c]`` of the head."""
    import torch

    if order == tuple(range(len(order))):
        return
    prefix = model.base_model_prefix + "."
    rows = torch.as_tensor(np.asarray(order))
    last = [n for n, p in model.named_parameters() if not n.startswith(prefix) and p.shape[0] == len(order)]
    module_name = last[-1].rpartition(".")[0]  # the output layer is declared last in every architecture's head
    with torch.no_grad():
        for parameter in model.get_submodule(module_name).parameters():
            parameter.copy_(parameter[rows].clone())
