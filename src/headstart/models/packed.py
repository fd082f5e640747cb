"""Layers in bfloat16 whose weights lie as the processor's kernels read them.

A product lays its weights out anew at every call, which for one short text is a quarter of the time and for 2,048
tokens a twentieth. Weights that only score are laid out once, and a GELU behind a product is computed with it. The two
operators are those that torch's own compiler emits for processors; torch has no public door to them, so where they are
missing layers stay as they are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from headstart.models.attention import attend
from headstart.models.bert_layers import bert_layers, is_gelu, is_plain, linears
from headstart.models.first_token import gives_first_token_only


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
        layers: whose weights (O, I) and biases (O,) are taken; of several, outputs stand side by side.

    Attributes:
        width_in: I.
        activation: ``none``, or ``gelu``, computed with the product.
    """

    def __init__(self, *layers: Any) -> None:
        super().__init__()
        weight = torch.cat([layer.weight.detach().to(torch.bfloat16) for layer in layers])
        self.width_in = weight.shape[1]
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        biases = [layer.bias.detach().to(torch.bfloat16) for layer in layers if layer.bias is not None]
        self.bias = torch.cat(biases) if biases else None
        self.activation = "none"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (..., O) of ``x`` (..., I)."""
        how = "none" if self.activation == "gelu" else ""  # of GELU: by erf, not by tanh
        found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            x.to(torch.bfloat16), self.packed, self.bias, self.activation, [], how
        )
        return found


class PackedLayer(nn.Module):
    """A layer of BERT to score with: its products one by one in two thirds of the calls.

    The input is rounded once for queries, keys and values, which are one product and are laid out by heads together.
    transformers does not know it for a layer, and collects no ``hidden_states`` from it.

    Args:
        layer: of transformers, whose weights are taken.
        first_only: give the first token's state alone (`models.first_token`).
    """

    def __init__(self, layer: Any, *, first_only: bool) -> None:
        super().__init__()
        attention, parts = layer.attention.self, linears(layer)
        together = (["query"], ["key", "value"]) if first_only else (["query", "key", "value"],)
        self.asked = nn.ModuleList(PackedLinear(*(parts[name] for name in names)) for names in together)
        self.context, self.up, self.down = (PackedLinear(parts[name]) for name in ("context", "up", "down"))
        self.up.activation = "gelu"
        self.norms = nn.ModuleList([layer.attention.output.LayerNorm, layer.output.LayerNorm])
        self.heads, self.scale = attention.num_attention_heads, attention.scaling

    def forward(
        self, hidden: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any
    ) -> torch.Tensor:
        """States (B, T, D) of the layer below, and a mask that is one for all tokens of a text, to states (B, Q, D)."""
        half = hidden.to(torch.bfloat16)
        asking = hidden if len(self.asked) == 1 else hidden[:, :1]
        given = [half] if len(self.asked) == 1 else [half[:, :1], half]
        query, key, value = (
            x for product, states in zip(self.asked, given, strict=True) for x in self._by_head(product(states))
        )
        mask = None if attention_mask is None else attention_mask[:, :, :1]
        contexts = attend(query, key, value, mask, self.scale)  # (B, H, Q, D / H)
        state = self.norms[0](self.context(contexts.transpose(1, 2).flatten(2)).float().add_(asking))
        found: torch.Tensor = self.norms[1](self.down(self.up(state)).float().add_(state))
        return found

    def _by_head(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, n D) to (n, B, H, T, D / H), in one copy."""
        width = self.context.width_in // self.heads
        return x.view(*x.shape[:2], -1, self.heads, width).permute(2, 0, 3, 1, 4).contiguous()


def _is_watched(layer: Any) -> bool:
    """Tell whether somebody has hooks on a layer, or lets it compute something else than its whole or first states."""
    other = "forward" in vars(layer) and not gives_first_token_only(layer)
    return bool(other or layer._forward_hooks or layer._forward_pre_hooks)


def pack(model: nn.Module) -> nn.Module:
    """Exchange the linear layers of a network that is only scored with, in place, and BERT's layers whole; return it.

    A layer under an adapter (PEFT's ``base_layer``) stays as it is, and so do the adapter's: they ask for weights.
    """
    layers = bert_layers(model)
    for at, layer in enumerate(layers):
        if is_plain(layer) and not _is_watched(layer):
            layers[at] = PackedLayer(layer, first_only=gives_first_token_only(layer))
    under = {id(part) for module in model.modules() if hasattr(module, "base_layer") for part in module.modules()}
    for parent in list(model.modules()):
        if id(parent) in under:
            continue
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear:
                setattr(parent, name, PackedLinear(layer))
        dense, activation = getattr(parent, "dense", None), getattr(parent, "intermediate_act_fn", None)
        if isinstance(dense, PackedLinear) and is_gelu(activation):
            dense.activation = "gelu"
            parent.intermediate_act_fn = nn.Identity()
    return model
