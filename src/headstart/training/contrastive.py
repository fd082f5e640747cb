"""Training an encoder on pairs of labeled texts: one class close together, two classes at right angles.

The encoder step of SetFit (Tunstall et al. 2022, https://arxiv.org/abs/2209.11055): the squared difference between the
cosine of two texts' mean-pooled states and 1 (same class) or 0. SetFit encodes both texts of each of its 16 pairs; here
a step draws texts and pairs them among each other, so that each is encoded once however many pairs it is in.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from headstart.errors import HeadstartError
from headstart.models.batching import Rows, Tokens, collate, split_by_tokens
from headstart.models.classifier import Advance
from headstart.models.features import FeatureExtractor
from headstart.models.runtime import seeded
from headstart.training import rates
from headstart.training.dropout import use_byte_dropout
from headstart.training.optimizer import Optimizer
from headstart.training.pairs import Pairs, PairSampler

# Texts of a step are computed in pieces of this many padded tokens, shortest first: less padding, same result.
_STEP_TOKENS = 1024


class PairTrainingConfig(BaseModel):
    """How an encoder is trained on pairs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    learning_rate: float = Field(5e-5, gt=0, description="peak learning rate")
    steps: int = Field(60, ge=1, description="optimizer steps")
    texts: int = Field(16, ge=4, description="texts per step, classes in equal shares")
    pairs: int = Field(128, ge=2, description="most pairs of these texts per step, half of them of one class")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of steps with rising rate")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's decay of weight matrices")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are scaled down to this norm")
    dropout: bool = Field(False, description="train with the encoder's own dropout; without it a step is faster")


def train_on_pairs(
    extractor: FeatureExtractor,
    tokens: Tokens,
    y: npt.NDArray[np.int64],
    config: PairTrainingConfig,
    *,
    seed: int,
    advance: Advance | None = None,
) -> list[dict[str, float]]:
    """Train the encoder's parameters that require a gradient, in place.

    Args:
        extractor: encoder, tokenizer, pooling and runtime.
        tokens: N training texts.
        y: their classes, shape (N,); at least two.
        config: rates and sizes.
        seed: of the pairs drawn and of dropout.
        advance: told how many texts were encoded.

    Returns:
        ``epoch`` and ``train_loss`` per N texts encoded, the last part perhaps shorter.

    Raises:
        HeadstartError: training diverged.
    """
    body = extractor.body.to(extractor.runtime.device)
    use_byte_dropout(body, seed)
    sampler = PairSampler(y, texts=config.texts, pairs=config.pairs, generator=np.random.default_rng(seed))
    optimizer = Optimizer(body, weight_decay=config.weight_decay)
    losses: list[float] = []
    body.train(config.dropout)
    with seeded(seed):
        for done in range(config.steps):
            drawn = sampler()
            loss = pair_loss(encode(extractor, tokens, drawn.rows), drawn)
            loss.backward()
            rate = config.learning_rate * rates.linear(done, config.steps, config.warmup)
            optimizer.step(rate, config.max_grad_norm)
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                raise HeadstartError(f"training diverged in step {done + 1}: lower learning_rate")
            if advance is not None:
                advance(len(drawn.rows))
    body.eval()
    return _epochs(losses, math.ceil(len(y) / config.texts))


def encode(extractor: FeatureExtractor, tokens: Tokens, rows: Rows) -> torch.Tensor:
    """Return features (B, D) of the given rows, in their order; texts of like length are computed together."""
    order = np.argsort(tokens.lengths[rows], kind="stable")
    parts = []
    with extractor.runtime.autocast():
        for piece in split_by_tokens(rows[order], tokens.lengths, _STEP_TOKENS):
            parts.append(extractor.answers(collate(tokens, piece, extractor.tokenizer, extractor.runtime.device)))
    return torch.cat(parts)[torch.from_numpy(np.argsort(order))]


def pair_loss(features: torch.Tensor, drawn: Pairs) -> torch.Tensor:
    """Return the mean squared difference between cosine and 1 (one class) or 0 (two) of features (B, D)."""
    unit = nn.functional.normalize(features, dim=1)
    cosines = (unit[torch.from_numpy(drawn.first)] * unit[torch.from_numpy(drawn.second)]).sum(dim=1)  # (P,)
    return nn.functional.mse_loss(cosines, torch.from_numpy(drawn.same).to(cosines))


def _epochs(losses: list[float], steps: int) -> list[dict[str, float]]:
    starts = range(0, len(losses), steps)
    return [{"epoch": i + 1.0, "train_loss": float(np.mean(losses[s : s + steps]))} for i, s in enumerate(starts)]
