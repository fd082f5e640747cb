"""Attention as plain batched products where those are faster than the fused kernel.

torch's fused attention for processors is written for long sequences in float32. In bfloat16 its backward pass takes 3
to 5 times as long as the two products and the softmax that it fuses, and its forward pass twice as long for texts of 30
tokens (docs/performance.md). So bfloat16 on a processor is computed here, everything else by torch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

NAME = "headstart"
# Scores computed at once, (texts, heads, T, T): more of them fall out of the processor's cache.
_MOST_SCORES = 1_200_000
# Scores of one text, (heads, T, T): beyond them the fused kernel, which never holds them all, is as fast.
_MOST_SCORES_OF_A_TEXT = 4_000_000
# Narrower rows of bfloat16 do not fill a vector of the processor: their softmax's gradient takes ten times as long.
_WIDE_ROW = 32
_MASKED = -1e9  # finite, so that a row with nothing to look at is no division by zero


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
    *,
    dropout: float = 0.0,
) -> torch.Tensor:
    """Return softmax(scale Q K' + mask) V (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, equation 1).

    Args:
        query: (B, H, Q, D).
        key: (B, H, K, D).
        value: (B, H, K, D).
        mask: broadcastable to (B, 1, Q, K): boolean (True: may be looked at) or added to the scores; or None.
        scale: of the scores.
        dropout: share of probabilities (0-1) that is dropped.

    Returns:
        Contexts (B, H, Q, D).
    """
    many = query.shape[1] * query.shape[2] * key.shape[2] > _MOST_SCORES_OF_A_TEXT
    if many or dropout or query.dtype is not torch.bfloat16 or query.device.type != "cpu":
        return nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=scale, dropout_p=dropout
        )
    added = _added(mask, len(query))
    if not torch.is_grad_enabled():
        return _contexts(query, key, value, added, scale)
    found: torch.Tensor = _Products.apply(query, key, value, added, scale)
    return found


def use_products(model: Any) -> Any:
    """Let the attention of a transformers model be computed by `attend`, in place; return the model.

    Architectures that compute attention in their own way (DeBERTa, MPNet, XLNet) are left alone.
    """
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
    from transformers.modeling_utils import AttentionInterface

    config = getattr(model, "config", None)
    if getattr(config, "_attn_implementation", None) == "sdpa" and getattr(model, "_supports_attention_backend", False):
        AttentionInterface.register(NAME, _forward)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)
    return model


def _forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Do what transformers' `sdpa_attention_forward` does; contexts come out as (B, T, H, D)."""
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    plain = (
        query.shape[1] == key.shape[1]
        and others.get("position_bias") is None
        and not (causal and attention_mask is None)
    )
    if not plain or dropout or query.dtype is not torch.bfloat16:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        found: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=is_causal, **others
        )
        return found
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return attend(query, key, value, attention_mask, scale).transpose(1, 2).contiguous(), None


def _added(mask: torch.Tensor | None, texts: int) -> torch.Tensor | None:
    """Return a mask as float32 numbers to add to scores, (B, 1, Q or 1, K)."""
    if mask is None:
        return None
    if mask.dtype is torch.bool:
        mask = torch.zeros(mask.shape).masked_fill_(~mask, _MASKED)
    return mask.float().expand(texts, -1, -1, -1)


def _contexts(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
    kept: list[torch.Tensor] | None = None,
) -> torch.Tensor:
    """Return contexts (B, H, Q, D) by two products with a softmax in float32 between them, a few texts at a time.

    Args:
        query: (B, H, Q, D), and so on as for `attend`.
        key: as for `attend`.
        value: as for `attend`.
        mask: float32, (B, 1, Q or 1, K).
        scale: of the scores.
        kept: takes the probabilities (b * H, Q, K) of each few texts.
    """
    contexts = []
    for some in _slices(query, key):
        q, k, v = _flat(query[some]), _flat(key[some]), _flat(value[some])  # (b * H, Q or K, D)
        scores = torch.bmm(q, k.transpose(1, 2)).view(*query[some].shape[:-1], -1)  # (b, H, Q, K)
        scores = scores.float().mul_(scale) if mask is None else torch.add(mask[some], scores, alpha=scale)
        p = torch.softmax(scores, dim=-1).to(query.dtype).flatten(0, 1)
        contexts.append(torch.bmm(p, v).view(query[some].shape))
        if kept is not None:
            kept.append(p)
    return contexts[0] if len(contexts) == 1 else torch.cat(contexts)


class _Products(torch.autograd.Function):
    """`_contexts` with gradients; the probabilities are kept."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scale: float
    ) -> torch.Tensor:
        ctx.scale = scale
        kept: list[torch.Tensor] = []
        contexts = _contexts(query, key, value, mask, scale, kept if any(ctx.needs_input_grad) else None)
        if kept:
            ctx.save_for_backward(query, key, value, *kept)
        return contexts

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, *kept = ctx.saved_tensors
        found: list[list[torch.Tensor]] = []
        for some, p in zip(_slices(query, key), kept, strict=True):
            q, k, v, g = _flat(query[some]), _flat(key[some]), _flat(value[some]), _flat(grads[0][some])
            dp = torch.bmm(g, v.transpose(1, 2))  # (b * H, Q, K)
            ds = _scores_gradient(dp, p).mul_(ctx.scale)
            three = torch.bmm(ds, k), torch.bmm(ds.transpose(1, 2), q), torch.bmm(p.transpose(1, 2), g)
            found.append([d.view(x[some].shape) for d, x in zip(three, (query, key, value), strict=True)])
        parts = [torch.cat(d) if len(d) > 1 else d[0] for d in zip(*found, strict=True)]
        return (*parts, None, None)


def _scores_gradient(grad: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Return the gradient of scores from that of their softmax ``p`` (..., K)."""
    if p.shape[-1] >= _WIDE_ROW:
        return torch._softmax_backward_data(grad, p, -1, p.dtype)
    return torch._softmax_backward_data(grad.float(), p.float(), -1, torch.float32).to(p.dtype)


def _slices(query: torch.Tensor, key: torch.Tensor) -> list[slice]:
    at_once = max(1, _MOST_SCORES // (query.shape[1] * query.shape[2] * key.shape[2]))
    return [slice(start, start + at_once) for start in range(0, len(query), at_once)]


def _flat(x: torch.Tensor) -> torch.Tensor:
    """(b, H, T, D) to (b * H, T, D)."""
    return x.reshape(-1, *x.shape[2:])
