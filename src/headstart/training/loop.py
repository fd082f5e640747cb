"""The training loop: AdamW, warm-up and linear decay, early stopping on validation log loss."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from headstart.errors import ConfigError, HeadstartError
from headstart.models.batching import Rows, collate, split_by_tokens, step_pieces, training_batches
from headstart.models.classifier import Advance, Probabilities, softmax
from headstart.models.network import NetworkClassifier
from headstart.models.runtime import return_freed_memory, seeded
from headstart.training import rates
from headstart.training.data import Data
from headstart.training.dropout import use_byte_dropout
from headstart.training.frozen import FrozenStart
from headstart.training.layered import Layered
from headstart.training.optimizer import Optimizer


class TrainingConfig(BaseModel):
    """How a network is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    learning_rate: float = Field(5e-5, gt=0, description="peak learning rate")
    epochs: int = Field(8, ge=1, description="most passes over the training texts")
    batch_size: int = Field(16, ge=2, description="texts per optimizer step")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of steps with rising rate")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's decay of weight matrices")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are scaled down to this norm")
    patience: int = Field(2, ge=1, description="epochs without a better validation log loss before stopping")
    step_tokens: int = Field(4096, ge=1, description="most padded tokens computed at once; a step over it is split")
    checkpointing: bool = Field(
        False, description="compute activations again in the backward pass: less memory for big encoders, slower"
    )
    keep: Literal["best", "last"] = Field(
        "best", description="whose weights are handed out: the epoch's of least validation log loss, or the last one's"
    )
    refit: bool = Field(
        False, description="train again on train + validation up to the best epoch, at the same rates epoch by epoch"
    )

    def slope(self, done: int, planned: int) -> float:
        """Return the share of the peak rate at step ``done``: linear up over the warm-up, then linear down to zero."""
        return rates.linear(done, planned, self.warmup)


@dataclass
class History:
    """What happened, epoch by epoch.

    Attributes:
        epochs: per epoch: ``epoch``, ``train_loss``, and where there is validation ``validation_log_loss``,
            ``validation_accuracy``.
        best_epoch: epoch (from 1) whose weights were kept.
        texts: texts trained on, over all epochs.
        validation: class probabilities (N, C) of the validation texts in the best epoch.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    texts: int = 0
    validation: Probabilities | None = None


def train(
    classifier: NetworkClassifier,
    data: Data,
    validation: Data | None,
    config: TrainingConfig,
    *,
    seed: int,
    class_weights: npt.NDArray[np.float64] | None = None,
    layered: Layered | None = None,
    frozen: FrozenStart | None = None,
    stop: int | None = None,
    advance: Advance | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> History:
    """Train the parameters that require a gradient, in place; the weights of the best epoch, or the last, are left.

    A step is always ``batch_size`` texts; over ``step_tokens``, or where that saves padding, it is computed in pieces
    whose gradients are weighted by size, which equals the undivided step. Frozen modules run in evaluation mode.

    Args:
        classifier: network, tokenizer and runtime.
        data: N training texts.
        validation: texts for early stopping on log loss; without them the last epoch is kept, and so it is with
            ``keep`` = ``last``, which never stops early.
        config: rates and lengths.
        seed: of order and dropout.
        class_weights: weight per class, shape (C,), or None.
        layered: rates and thawing layer by layer; patience then counts from the epoch in which all are trained.
        frozen: keeps what frozen lower layers give, so that it is computed once; None computes it every time.
        stop: last epoch, where that is before ``config.epochs``, which the rates are planned for.
        advance: told how many training texts were done.
        on_epoch: told each epoch's figures.

    Raises:
        HeadstartError: training diverged.
        ConfigError: ``checkpointing`` is wanted of an architecture that has none.
    """
    model = classifier.model.to(classifier.runtime.device)
    if not config.checkpointing:  # which draws the same random numbers twice, and can only do so with torch's own
        use_byte_dropout(model, seed)
    generator = np.random.default_rng(seed)
    step = _Step(classifier, data, config, class_weights, layered)
    history = History()
    keeper = _Keeper(model)
    started = 1 if layered is None else layered.complete
    with seeded(seed), checkpointed(model, config.checkpointing, instead="step_tokens"):
        for epoch in range(1, (stop or config.epochs) + 1):
            batches = training_batches(data.tokens.lengths, config.batch_size, generator)
            step.plan(len(batches) * config.epochs)
            if layered is not None:
                layered.thaw(model, epoch)
            whole = contextlib.nullcontext((data, validation))
            with whole if frozen is None else frozen.left_out(data, validation) as (given, held):
                set_modes(model)
                losses = [step(rows, given) for rows in _told(batches, advance)]
                figures = {"epoch": float(epoch), "train_loss": float(np.mean(losses))}
                _refuse_divergence(figures)
                history.texts += len(data.y)
                judged = None
                if held is not None:
                    judged = softmax(classifier.logits(held.tokens))
                    if epoch == 1:
                        return_freed_memory()  # what scoring leaves in pieces, training finds too small
                    figures |= _judge(judged, held)
                    _refuse_divergence(figures)
            history.epochs.append(figures)
            if on_epoch is not None:
                on_epoch(figures)
            if keeper.see(epoch, figures.get("validation_log_loss") if config.keep == "best" else None):
                history.validation = judged
            if epoch - max(keeper.best_epoch, started - 1) >= config.patience:
                break
    keeper.restore()
    history.best_epoch = keeper.best_epoch
    model.eval()
    return history


def set_modes(model: nn.Module) -> None:
    """Put what is trained into training mode and what is wholly frozen into evaluation mode (no dropout)."""
    model.train()

    def visit(module: nn.Module) -> None:
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()
            return
        for child in module.children():
            visit(child)

    visit(model)


@contextlib.contextmanager
def checkpointed(model: Any, wanted: bool, *, instead: str) -> Iterator[None]:
    """Keep only the states between layers inside the block (Chen et al. 2016, https://arxiv.org/abs/1604.06174).

    Args:
        model: of transformers.
        wanted: whether to; otherwise nothing happens.
        instead: the setting to lower where the architecture cannot.

    Raises:
        ConfigError: the architecture cannot.
    """
    if not wanted:
        yield
        return
    if not getattr(model, "supports_gradient_checkpointing", False):
        kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
        raise ConfigError(f"a '{kind}' cannot be trained with checkpointing; lower {instead} instead")
    renamed = hasattr(model, "activation_checkpointing_enable")  # since transformers 5.23
    name = "activation_checkpointing" if renamed else "gradient_checkpointing"
    getattr(model, f"{name}_enable")(**{f"{name}_kwargs": {"use_reentrant": False}})
    try:
        yield
    finally:
        getattr(model, f"{name}_disable")()


def _told(batches: list[Rows], advance: Advance | None) -> Iterator[Rows]:
    for rows in batches:
        yield rows
        if advance is not None:
            advance(len(rows))


def _refuse_divergence(figures: dict[str, float]) -> None:
    """Stop where the loss is no number any more: nothing after it could be one."""
    if not all(math.isfinite(value) for value in figures.values()):
        raise HeadstartError(
            f"training diverged in epoch {figures['epoch']:.0f}: the loss is not a number. Lower learning_rate"
        )


def _judge(probabilities: Probabilities, validation: Data) -> dict[str, float]:
    likelihood = probabilities[np.arange(len(validation.y)), validation.y]
    return {
        "validation_log_loss": float(-np.log(np.clip(likelihood, 1e-12, None)).mean()),
        "validation_accuracy": float((probabilities.argmax(axis=1) == validation.y).mean()),
    }


class _Step:
    """One optimizer step over ``batch_size`` texts."""

    def __init__(
        self,
        classifier: NetworkClassifier,
        data: Data,
        config: TrainingConfig,
        class_weights: npt.NDArray[np.float64] | None,
        layered: Layered | None = None,
    ) -> None:
        self.classifier, self.data, self.config = classifier, data, config
        self.lengths = data.tokens.lengths
        device = classifier.runtime.device
        self.weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32).to(device)
        self.optimizer = Optimizer(classifier.model, weight_decay=config.weight_decay, layered=layered)
        # Batch norm is told of the texts of a piece only: pieces are made where there is no room for the whole.
        normed = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in classifier.model.modules())
        self.split = split_by_tokens if normed else step_pieces
        self.planned, self.done = 1, 0

    def plan(self, steps: int) -> None:
        """Fix the number of steps that the schedule runs over."""
        self.planned = steps

    def __call__(self, rows: Rows, data: Data) -> float:
        """Move the weights by one step over the given rows of ``data``; return their mean loss."""
        rate = self.config.learning_rate * self.config.slope(self.done, self.planned)
        weight = self._weight(rows)
        pieces = self.split(rows, self.lengths, self.config.step_tokens)
        loss = sum(self._piece(piece, data, weight) for piece in pieces)
        self.optimizer.step(rate, self.config.max_grad_norm)
        self.done += 1
        return float(loss)

    def _weight(self, rows: Rows) -> float:
        if self.weights is None:
            return float(len(rows))
        return float(self.weights[torch.from_numpy(self.data.y[rows])].sum())

    def _piece(self, rows: Rows, data: Data, weight: float) -> float:
        runtime = self.classifier.runtime
        batch = collate(data.tokens, rows, self.classifier.tokenizer, runtime.device)
        y = torch.from_numpy(data.y[rows]).to(runtime.device)
        with runtime.autocast():
            logits = self.classifier.model(**batch).logits.float()  # (B, C)
        loss = nn.functional.cross_entropy(logits, y, weight=self.weights, reduction="sum") / weight
        loss.backward()
        return float(loss.detach())


class _Keeper:
    """Holds the best epoch's weights (and batch-norm statistics) while training goes on."""

    def __init__(self, model: nn.Module) -> None:
        self.tensors = [p for p in model.parameters() if p.requires_grad] + list(model.buffers())
        self.best = float("inf")
        self.best_epoch = 0
        self.last_epoch = 0
        self.copies: list[torch.Tensor] = []

    def see(self, epoch: int, loss: float | None) -> bool:
        """Keep the epoch if it is the best so far, as each is without a loss; return whether it is."""
        self.last_epoch = epoch
        if loss is None:
            self.best_epoch = epoch
            return True
        if loss >= self.best:
            return False
        self.best, self.best_epoch = loss, epoch
        if self.copies:
            for copy, tensor in zip(self.copies, self.tensors, strict=True):
                copy.copy_(tensor.detach())
        else:
            self.copies = [t.detach().clone() for t in self.tensors]
        return True

    def restore(self) -> None:
        if self.last_epoch == self.best_epoch:
            return
        with torch.no_grad():
            for tensor, copy in zip(self.tensors, self.copies, strict=True):
                tensor.copy_(copy)
