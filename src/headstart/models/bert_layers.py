"""Where the layers of BERT and its kin are, and whether one is as transformers made it."""

from __future__ import annotations

from typing import Any

from torch import nn

# Architectures with BERT's layer, whose sequence-classification head reads position 0.
_KIN = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "electra"})


def bert_layers(model: Any) -> nn.ModuleList:
    """Return the layers of a model with BERT's, lowest first; none of another architecture, or of a decoder."""
    config = getattr(model, "config", None)
    if getattr(config, "model_type", None) not in _KIN or getattr(config, "is_decoder", False):
        return nn.ModuleList()
    encoder = getattr(model.base_model, "encoder", None)
    return nn.ModuleList() if encoder is None else encoder.layer


def linears(layer: Any) -> dict[str, nn.Module]:
    """Return the six products of a layer by what they make."""
    attention = layer.attention
    return {
        "query": attention.self.query,
        "key": attention.self.key,
        "value": attention.self.value,
        "context": attention.output.dense,
        "up": layer.intermediate.dense,
        "down": layer.output.dense,
    }


def is_plain(layer: Any) -> bool:
    """Tell whether a layer is there, its products have a bias and no adapter, and its activation is the exact GELU."""
    if not hasattr(layer, "attention"):  # `models.prefix` leaves layers out
        return False
    plain = all(type(product) is nn.Linear and product.bias is not None for product in linears(layer).values())
    return plain and is_gelu(layer.intermediate.intermediate_act_fn)


def is_gelu(activation: Any) -> bool:
    """Tell whether an activation is the exact GELU, as transformers or torch have it."""
    exact = isinstance(activation, nn.GELU) and activation.approximate == "none"
    return exact or getattr(activation, "act", None) is nn.functional.gelu
