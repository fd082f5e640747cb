"""``lora``: low-rank adapters in the attention projections, and the head; merged into ordinary weights at the end.

Hu et al. 2021, https://arxiv.org/abs/2106.09685: W' = W + (alpha / rank) B A, with B starting at zero (section 4.1).
Unlike PEFT's own classification recipe, every freshly initialized parameter is trained too (a pooler that the
checkpoint lacks would otherwise stay random), and the result is an ordinary checkpoint without adapters.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

from pydantic import Field
from torch import nn

from headstart.errors import ConfigError, StrategyError
from headstart.models.network import NetworkClassifier
from headstart.models.runtime import seeded
from headstart.strategies.fine_tuning import fine_tune, pretrained
from headstart.strategies.task import Fitted, Task
from headstart.training.loop import TrainingConfig

# Names that architectures give to the query, key and value projections (and to all three in one).
_PROJECTIONS = re.compile(
    r"(^|[._])(query|key|value|query_proj|key_proj|value_proj|[qkv]_proj|[qkv]_lin|[qkv]|qkv|in_proj|c_attn|"
    r"query_key_value|Wqkv)$",
    re.IGNORECASE,
)


class LoraConfig(TrainingConfig):
    """Settings of ``lora``."""

    learning_rate: float = Field(2e-3, gt=0, description="peak learning rate")
    epochs: int = Field(5, ge=1, description="most passes over the training texts")
    rank: int = Field(8, ge=1, description="rank of the adapters")
    alpha: float = Field(16.0, gt=0, description="adapters are scaled by alpha / rank")
    dropout: float = Field(0.05, ge=0, lt=1, description="dropout before the adapters")
    targets: str | None = Field(
        None, description="regular expression over linear layers to adapt; by default the attention projections"
    )
    dora: bool = Field(False, description="weight-decomposed adapters (DoRA)")
    rslora: bool = Field(False, description="scale by alpha / sqrt(rank) (rsLoRA)")


def fit(task: Task, config: LoraConfig) -> Fitted:
    """Train adapters and fresh parameters, then merge."""
    return fine_tune(task, lambda: _adapted(task, config), config, finish=_merge)


def _adapted(task: Task, config: LoraConfig) -> NetworkClassifier:
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model

    classifier, fresh = pretrained(task)
    model = classifier.model
    prefix = model.base_model_prefix + "."
    trained = [p for n, p in model.named_parameters() if n in fresh or not n.startswith(prefix)]
    peft = PeftConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=target_modules(model, config.targets),
        use_dora=config.dora,
        use_rslora=config.rslora,
    )
    with seeded(task.seed), warnings.catch_warnings():
        # PEFT asks transformers for an attribute by its old name; nothing a user could change.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        classifier.model = get_peft_model(model, peft)
    for parameter in trained:
        parameter.requires_grad_(True)
    return classifier


def _merge(classifier: NetworkClassifier) -> None:
    classifier.model = classifier.model.merge_and_unload().eval()


def target_modules(model: Any, pattern: str | None) -> list[str]:
    """Return full names of the linear layers to adapt: those inside the encoder that ``pattern`` names.

    Raises:
        ConfigError: the pattern names none.
        StrategyError: the architecture has no attention projections that can be adapted.
    """
    linear = [
        name
        for name, module in model.named_modules()
        if name.startswith(model.base_model_prefix + ".") and isinstance(module, nn.Linear)
    ]
    if pattern is not None:
        chosen = [name for name in linear if re.search(pattern, name)]
        if not chosen:
            raise ConfigError(
                f"targets '{pattern}' names no linear layer of this encoder; they are {', '.join(linear[:6])}, ... "
                "(settings: lora: {targets: ...})"
            )
        return chosen
    chosen = [name for name in linear if _PROJECTIONS.search(name)]
    if not chosen and linear:
        # XLNet and its like keep projections as bare tensors; their feed-forward layers can be adapted instead.
        chosen = [name for name in linear if not name.startswith(f"{model.base_model_prefix}.pooler")]
    if not chosen:
        raise StrategyError(f"a '{model.config.model_type}' has no linear layers to adapt")
    return chosen
