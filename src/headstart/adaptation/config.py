"""Settings of an adaptation."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Masking = Literal["token", "whole-word", "span"]
MASKINGS: tuple[str, ...] = ("token", "whole-word", "span")


class AdaptConfig(BaseModel):
    """How an encoder is trained further on texts without labels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    masking: Masking = Field("token", description="what is masked as one: token, whole-word or span")
    mask_share: float = Field(0.15, gt=0, lt=1, description="share of positions to predict (0-1)")
    rows: Literal["texts", "blocks"] = Field(
        "blocks", description="blocks: texts joined and cut into blocks of one length; texts: each on its own"
    )
    max_length: int | None = Field(
        None, ge=8, description="most tokens per row, longer texts go on in further rows; by default as all texts"
    )
    learning_rate: float = Field(2e-5, gt=0, description="peak learning rate of the encoder")
    epochs: int = Field(3, ge=1, description="most passes over the texts")
    batch_tokens: int = Field(2048, ge=16, description="padded tokens per optimizer step")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of steps with rising rate")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's decay of weight matrices")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are scaled down to this norm")
    checkpointing: bool = Field(
        False, description="compute activations again in the backward pass: less memory for big encoders, slower"
    )
    head_epochs: int = Field(
        1, ge=0, description="passes that train a fresh language-model head alone, before the encoder moves"
    )
    head_learning_rate: float = Field(1e-3, gt=0, description="peak learning rate of those passes")
    embeddings: bool = Field(True, description="train the token embeddings too (they are the head's output weights)")
    top_layers: int | None = Field(None, ge=1, description="train this many top layers only; by default all")
    held_out: float = Field(0.05, gt=0, lt=1, description="share of the texts (0-1) that only measures the loss")
    patience: int = Field(1, ge=1, description="epochs without a lower held-out loss before stopping")
