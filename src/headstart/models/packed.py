"""Linear layers in bfloat16 whose weights lie as the processor's kernels read them.

A product lays its weights out anew at every call, which for one short text is a quarter of the time and for 2,048
tokens a twentieth. Weights that only score are laid out once, and a GELU behind a product is computed with it. The two
operators are those that torch's own compiler emits for processors; torch has no public door to them, so where they are
missing layers stay as they are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def available(device: str) -> bool:
    """Tell whether this torch, processor and device have the operators."""
    if torch.device(device).type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    found = torch.ops.mkldnn
    names = ("_linear_pointwise", "_reorder_linear_weight", "_is_mkldnn_bf16_supported")
    return all(hasattr(found, name) for name in names) and bool(found._is_mkldnn_bf16_supported())


class PackedLinear(nn.Module):
    """A linear layer to score with: ``activation(x W' + b)`` in bfloat16.

    Args:
        layer: whose weights (O, I) and bias (O,) are taken.

    Attributes:
        activation: ``none``, or ``gelu``, computed with the product.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight = layer.weight.detach().to(torch.bfloat16)
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        self.bias = None if layer.bias is None else layer.bias.detach().to(torch.bfloat16)
        self.activation = "none"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (..., O) of ``x`` (..., I)."""
        how = "none" if self.activation == "gelu" else ""  # of GELU: by erf, not by tanh
        found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            x.to(torch.bfloat16), self.packed, self.bias, self.activation, [], how
        )
        return found


def pack(model: nn.Module) -> nn.Module:
    """Exchange the linear layers of a network that is only scored with, in place; return it.

    A layer under an adapter (PEFT's ``base_layer``) stays as it is, and so do the adapter's: they ask for weights.
    """
    under = {id(part) for module in model.modules() if hasattr(module, "base_layer") for part in module.modules()}
    for parent in list(model.modules()):
        if id(parent) in under:
            continue
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear:
                setattr(parent, name, PackedLinear(layer))
        dense, activation = getattr(parent, "dense", None), getattr(parent, "intermediate_act_fn", None)
        if isinstance(dense, PackedLinear) and _is_gelu(activation):
            dense.activation = "gelu"
            parent.intermediate_act_fn = nn.Identity()
    return model


def _is_gelu(activation: Any) -> bool:
    """Tell whether an activation is the exact GELU, as transformers or torch have it."""
    exact = isinstance(activation, nn.GELU) and activation.approximate == "none"
    return exact or getattr(activation, "act", None) is nn.functional.gelu
