"""AdamW that spends nothing on embedding rows that no text of the step holds, and clips in the pass that moves."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from headstart.training.layered import Layered

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8


class Optimizer:
    """AdamW (Loshchilov & Hutter 2019) over the trained parameters; lazy Adam over the rows of the token embedding.

    A step of short texts holds some hundred of 30,000 tokens. Rows without a gradient are left alone: neither their
    moments nor they move, where plain AdamW would let old momentum move them on. This saves a tenth of a step of
    short texts (docs/performance.md).

    Args:
        model: its parameters that require a gradient are trained.
        weight_decay: for matrices (embeddings of positions and types are some), never for biases and norms, nor for the
            token embeddings.
        layered: shares of the rate per parameter, where they differ.

    Attributes:
        steps: how many were made.
    """

    def __init__(self, model: nn.Module, *, weight_decay: float, layered: Layered | None = None) -> None:
        shares = {} if layered is None else layered.shares()
        table = _token_table(model)
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        self._dense: list[nn.Parameter] = []
        self._rows: list[nn.Parameter] = []
        self._lazy: list[torch.optim.Optimizer] = []
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            share = shares.get(name, 1.0)
            if parameter is table:
                self._rows.append(parameter)
                self._lazy.append(torch.optim.SparseAdam([{"params": [parameter], "share": share}], betas=_BETAS))
            else:
                self._dense.append(parameter)
                groups.setdefault((share, parameter.ndim >= 2), []).append(parameter)
        self._adamw = torch.optim.AdamW(
            [
                {"params": parameters, "share": share, "weight_decay": weight_decay if matrices else 0.0}
                for (share, matrices), parameters in groups.items()
            ],
            betas=_BETAS,
            eps=_EPSILON,
            fused=True,
        )
        self._all: list[torch.optim.Optimizer] = [self._adamw, *self._lazy]
        self.steps = 0

    @property
    def groups(self) -> list[dict[str, Any]]:
        """All groups of parameters with their rates."""
        return [group for optimizer in self._all for group in optimizer.param_groups]

    def state(self, parameter: nn.Parameter) -> dict[str, Any]:
        """Return what is kept of a parameter's past (steps, moments); it may be changed in place."""
        owner = next(o for o in self._all if any(parameter is p for g in o.param_groups for p in g["params"]))
        kept: dict[str, Any] = owner.state[parameter]
        return kept

    def step(self, rate: float, max_norm: float) -> None:
        """Move by the gradients, scaled down to a norm of at most ``max_norm``, at ``rate``; then drop them."""
        self.steps += 1
        for group in self.groups:
            group["lr"] = rate * group["share"]
        for optimizer in self._lazy:  # it adds epsilon before correcting the second moment's bias, AdamW after
            optimizer.param_groups[0]["eps"] = _EPSILON * math.sqrt(1 - _BETAS[1] ** self.steps)
        rows = [p.grad.coalesce() for p in self._rows if p.grad is not None]
        dense = [p.grad for p in self._dense if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([*dense, *(r.values() for r in rows)])
        over = (norm / max_norm).clamp(min=1.0)
        # The fused kernel divides by this as it reads the gradients: clipping costs no pass of its own.
        self._adamw.grad_scale = over  # type: ignore[attr-defined]
        for parameter, gradient in zip([p for p in self._rows if p.grad is not None], rows, strict=True):
            parameter.grad = gradient / over
        for optimizer in self._all:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def _token_table(model: nn.Module) -> torch.Tensor | None:
    """Return the token embedding's table, whose gradient is kept by rows from now on; None where there is none."""
    try:
        embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):
        return None
    if type(embedding) is not nn.Embedding or not embedding.weight.requires_grad:
        return None
    uses = sum(p is embedding.weight for _, p in model.named_parameters(remove_duplicate=False))
    if uses != 1 or embedding.scale_grad_by_freq:
        return None
    embedding.sparse = True
    table: torch.Tensor = embedding.weight
    return table
