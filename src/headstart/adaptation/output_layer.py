"""The product with the vocabulary, its cross-entropy and their gradients, in memory that is used again and again.

Logits, their softmax and its gradient are one buffer (M, V), written over; the gradient of tied token embeddings,
dense from the output and by rows from the input, is summed in another (V, D). Fresh memory for each of them, zeroed
by the system at first touch, took longer than their arithmetic. Under autocast the products are in bfloat16, and all
between them in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class OutputLayer:
    """The last linear layer of a language model, which gives a loss in place of logits.

    Args:
        model: its output layer and token embeddings are looked up; where they share weights, the embeddings' gradient
            comes by rows from now on.
    """

    def __init__(self, model: Any) -> None:
        layer = model.get_output_embeddings()
        self.layer: nn.Linear | None = layer if type(layer) is nn.Linear else None
        self._rooms: dict[torch.dtype, torch.Tensor] = {}
        self._low_weight: torch.Tensor | None = None
        self._gradient: torch.Tensor | None = None
        self._waiting = False
        table = model.get_input_embeddings()
        is_plain = type(table) is nn.Embedding and not table.scale_grad_by_freq
        self.is_tied = is_plain and self.layer is not None and table.weight is self.layer.weight
        if self.is_tied:
            table.sparse = True
            table.weight.register_post_accumulate_grad_hook(self._add_rows)

    def loss(self, model: Any, batch: dict[str, torch.Tensor], wanted: torch.Tensor) -> torch.Tensor | None:
        """Return the summed cross-entropy of a batch whose logits would be (1, M, V), or None where it cannot.

        Args:
            model: the language model.
            batch: its input.
            wanted: tokens to predict, shape (M,).
        """
        layer = self.layer
        if layer is None or layer.weight.dtype != torch.float32:
            return None
        kind = layer.weight.device.type
        low = torch.is_autocast_enabled(kind)
        if low and (kind != "cpu" or torch.get_autocast_dtype(kind) is not torch.bfloat16):
            return None
        seen: list[torch.Tensor] = []

        def keep(input: torch.Tensor) -> torch.Tensor:  # named as in nn.Linear
            seen.append(input)
            return input

        layer.forward = keep  # type: ignore[method-assign]
        try:
            found = model(**batch).logits
        finally:
            del layer.forward
        if len(seen) != 1 or found is not seen[0]:  # the model does something to its logits
            self.layer = None
            return None
        with torch.autocast(kind, enabled=False):
            loss: torch.Tensor = _Loss.apply(found[0], layer.weight, layer.bias, wanted, self, low)
        return loss

    def room(self, shape: tuple[int, int], dtype: torch.dtype) -> torch.Tensor:
        """Return room for M x V numbers of a type, the same as at the last call."""
        size = shape[0] * shape[1]
        if dtype not in self._rooms or self._rooms[dtype].numel() < size:
            self._rooms.pop(dtype, None)
            with torch.inference_mode(False):
                self._rooms[dtype] = torch.empty(size, device=self._device, dtype=dtype)
        return self._rooms[dtype][:size].view(shape)

    def low_weight(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the weights (V, D) in bfloat16, in memory that is used again."""
        if self._low_weight is None:
            with torch.inference_mode(False):
                self._low_weight = torch.empty_like(weight, dtype=torch.bfloat16)
        return self._low_weight.copy_(weight)

    def weight_gradient(self, scores: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor | None:
        """Return the gradient (V, D) of the weights; None where it waits to be summed with the embeddings' rows."""
        assert self.layer is not None
        if not self.is_tied:
            return (scores.t() @ hidden).float()
        if self._gradient is None:
            self._gradient = torch.empty_like(self.layer.weight)
        if scores.dtype is self._gradient.dtype:
            torch.mm(scores.t(), hidden, out=self._gradient)
        else:
            self._gradient.copy_(scores.t() @ hidden)
        self._waiting = True
        return None

    @property
    def _device(self) -> torch.device:
        assert self.layer is not None
        return self.layer.weight.device

    def _add_rows(self, table: torch.Tensor) -> None:
        """Sum both gradients of the tied weights, once the embeddings' has come."""
        rows = table.grad
        if not self._waiting or self._gradient is None or rows is None:
            return
        self._waiting = False
        if rows.is_sparse:
            self._gradient.index_add_(0, rows._indices()[0], rows._values())
        else:
            self._gradient.add_(rows)
        table.grad = self._gradient


class _Loss(torch.autograd.Function):
    """Summed cross-entropy of ``hidden W' + b`` (M, V)."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        wanted: torch.Tensor,
        owner: OutputLayer,
        low: bool,
    ) -> torch.Tensor:
        shape = (len(hidden), len(weight))
        scores = owner.room(shape, torch.float32)  # (M, V)
        used = owner.low_weight(weight) if low else weight
        if low:
            scores.copy_(hidden.to(used.dtype) @ used.t())
        else:
            torch.mm(hidden, weight.t(), out=scores)
        if bias is not None:
            scores += bias
        torch.log_softmax(scores, 1, out=scores)
        ctx.save_for_backward(hidden, wanted)
        ctx.scores, ctx.owner, ctx.used = scores, owner, used.detach()
        return -scores.gather(1, wanted[:, None]).sum()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, wanted = ctx.saved_tensors
        scores = ctx.scores.exp_()  # softmax, then its difference to what is wanted: the loss's gradient
        scores[torch.arange(len(wanted), device=scores.device), wanted] -= 1
        (up,) = grads
        bias = scores.sum(0).mul_(up) if ctx.needs_input_grad[2] else None
        if ctx.used.dtype is not scores.dtype:
            scores = ctx.owner.room(tuple(scores.shape), ctx.used.dtype).copy_(scores)
        below = scores.mm(ctx.used).to(hidden.dtype).mul_(up) if ctx.needs_input_grad[0] else None
        own = None
        if ctx.needs_input_grad[1]:
            own = ctx.owner.weight_gradient(scores, (hidden * up).to(scores.dtype))
        return below, own, bias, None, None, None
