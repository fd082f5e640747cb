"""Dropout whose random numbers cost next to nothing.

torch draws one double per element on a processor; a byte is enough. Products of numbers with booleans are slow there
too: what is dropped is blanked bit by bit instead (docs/performance.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

# Attention's own dropout keeps processors from the fused kernel; hidden dropout regularizes enough.
NO_ATTENTION_DROPOUT = {"attention_probs_dropout_prob": 0.0, "attention_dropout": 0.0}

# Whole numbers of as many bytes as an element has.
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class _Drop(torch.autograd.Function):
    """Blank what is not kept and scale the rest; the mask, one byte (0 or 1) per element, is all that is saved."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, keep: torch.Tensor, scale: float) -> torch.Tensor:
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return _blank(x * scale, keep)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (keep,) = ctx.saved_tensors
        return _blank(grads[0] * ctx.scale, keep), None, None


def _blank(x: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Make ``x`` 0 where ``keep`` is 0, in place, and leave it where that is 1; return it."""
    bits = _BITS[x.element_size()]
    x.view(bits).bitwise_and_(keep.to(bits).neg_())
    return x


class ByteDropout(nn.Module):
    """Inverted dropout with one random byte per element, so the rate is rounded to 1/256 (and scaled exactly).

    Args:
        p: share of elements dropped, 0-1.
        source: where random bytes come from; shared by all layers of a network.
    """

    def __init__(self, p: float, source: np.random.SFC64) -> None:
        super().__init__()
        self.p = p
        self.threshold = min(round(256 * p), 255)  # at 256 nothing would be left to scale up
        self.source = source

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` with elements dropped in training mode, as it is in evaluation mode; any shape."""
        if not self.training or not self.threshold:
            return x
        words = np.asarray(self.source.random_raw((x.numel() + 7) // 8))
        keep = np.greater_equal(words.view(np.uint8)[: x.numel()], self.threshold).view(np.int8)
        scale = 256.0 / (256 - self.threshold)
        dropped: torch.Tensor = _Drop.apply(x, torch.from_numpy(keep).view(x.shape), scale)
        return dropped


def use_byte_dropout(model: nn.Module, seed: int) -> np.random.SFC64 | None:
    """Replace every ``nn.Dropout`` inside ``model``, in place, and seed those replaced before anew.

    Elsewhere than on a processor its own dropout is left alone.

    Returns:
        The source of random bytes that all of them share; None where nothing was replaced.
    """
    if any(p.device.type != "cpu" for p in model.parameters()):
        return None
    source = np.random.SFC64(seed)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, ByteDropout) or (type(child) is nn.Dropout and child.p < 1):
                setattr(module, name, ByteDropout(child.p, source).train(child.training))
    return source
