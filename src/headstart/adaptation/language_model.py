"""An encoder under its language-model head, which is computed only where something is to be predicted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from headstart.adaptation.output_layer import OutputLayer
from headstart.errors import ModelError
from headstart.models.attention import use_products
from headstart.models.checkpoint import loading, quiet_transformers, refuse_random_weights
from headstart.models.encoders import Encoder
from headstart.models.first_token import top_layer_at
from headstart.models.loading import layer_list, load_tokenizer
from headstart.models.runtime import seeded
from headstart.training.dropout import NO_ATTENTION_DROPOUT


@dataclass
class LanguageModel:
    """A language model in training.

    Attributes:
        model: transformers model with a language-model head.
        tokenizer: its fast tokenizer.
        causal: predicts the next token (decoder-only); else masked ones.
        fresh: names of the head's parameters that the checkpoint had not.
        kept: weights of the checkpoint that the model has no place for (a pooler), by their full names.
        stored: configuration values to write instead of those trained with.
    """

    model: Any
    tokenizer: Any
    causal: bool
    fresh: frozenset[str]
    kept: dict[str, torch.Tensor]
    stored: dict[str, Any]

    def __post_init__(self) -> None:
        self.output_layer = OutputLayer(self.model)

    def loss(self, batch: dict[str, torch.Tensor], at: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Return the summed cross-entropy at M places of a batch.

        Args:
            batch: what the model reads, (B, T).
            at: the places (M,), counted row by row (row b, position t is b T + t), ascending.
            wanted: tokens to predict there, shape (M,).
        """
        with top_layer_at(self.model, at, batch["input_ids"].shape) as found:

            def chosen(_module: nn.Module, _inputs: Any, output: Any) -> Any:
                output.last_hidden_state = output[0].flatten(0, 1)[found].unsqueeze(0)  # (B, T, D) -> (1, M, D)
                return output

            # Every architecture's head reads the first output of its body; what it is not given it does not compute.
            hook = self.model.base_model.register_forward_hook(chosen)
            try:
                loss = self.output_layer.loss(self.model, batch, wanted)
                if loss is None:
                    logits = self.model(**batch).logits[0].float()  # (M, V)
                    loss = nn.functional.cross_entropy(logits, wanted, reduction="sum")
            finally:
                hook.remove()
        return loss

    def train_only_head(self) -> None:
        """Let the fresh parameters be trained, and nothing else."""
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in self.fresh)

    def train_body(self, *, embeddings: bool, top_layers: int | None) -> None:
        """Let the head and the encoder be trained, the latter as far as wanted.

        Raises:
            ModelError: there are not so many layers, or they cannot be told apart.
        """
        frozen: set[int] = set()
        table = self.model.get_input_embeddings()
        if not embeddings:
            frozen = {id(p) for p in table.parameters()}
        if top_layers is not None:
            _name, layers = layer_list(self.model)
            if top_layers > len(layers):
                raise ModelError(f"top_layers {top_layers}: this encoder has {len(layers)} layers (settings: adapt)")
            trained = {id(p) for layer in list(layers)[-top_layers:] for p in layer.parameters()}
            body = {id(p) for p in self.model.base_model.parameters()}
            frozen |= body - trained - {id(p) for p in table.parameters()}
        for parameter in self.model.parameters():
            parameter.requires_grad_(id(parameter) not in frozen)

    def write(self, folder: Path) -> None:
        """Write an ordinary checkpoint: head, pooler where there was one, and tokenizer, in float32."""
        trained_with = {name: getattr(self.model.config, name) for name in self.stored}
        for name, value in self.stored.items():
            setattr(self.model.config, name, value)
        with quiet_transformers():
            self.model.save_pretrained(str(folder), state_dict={**self.model.state_dict(), **self.kept})
        for name, value in trained_with.items():
            setattr(self.model.config, name, value)
        self.tokenizer.save_pretrained(str(folder))


def load_language_model(encoder: Encoder, *, seed: int) -> LanguageModel:
    """Load an encoder under its language-model head, in float32; a head it lacks is made anew, tied to its embeddings.

    XLNet, which is pretrained by permuted prediction, has no masked-LM class: its own head predicts masked positions.

    Args:
        encoder: where it lies.
        seed: of a fresh head.

    Raises:
        ModelError: the architecture has no language-model head, its tokenizer has no mask token, or weights lack.
    """
    kind, causal = _model_class(encoder)
    tokenizer = load_tokenizer(encoder.folder)
    if not causal and tokenizer.mask_token is None:
        raise ModelError(f"{encoder.folder}: its tokenizer has no mask token, so nothing can be masked; take another")
    stored = {name: getattr(encoder.config, name) for name in NO_ATTENTION_DROPOUT if hasattr(encoder.config, name)}
    changes: dict[str, Any] = {name: NO_ATTENTION_DROPOUT[name] for name in stored}
    model, info = _load(kind, encoder.folder, changes, seed)
    if _lacking(model, info) and not _is_tied(model):  # nothing is known of an output of its own: the embeddings are
        model, info = _load(kind, encoder.folder, {**changes, "tie_word_embeddings": True}, seed)
    lacking = _lacking(model, info)
    refuse_random_weights(encoder.folder, info, ours=lacking)
    fresh = lacking & {name for name, _ in model.named_parameters()}
    if lacking and not _is_tied(model):
        raise ModelError(f"{encoder.folder} has no language-model head, and a '{encoder.config.model_type}' ties none")
    kept = {name: tensor for name, tensor in _poolers(encoder.folder, model).items()}
    return LanguageModel(model, tokenizer, causal, frozenset(fresh), kept, stored)


def _lacking(model: Any, info: Any) -> set[str]:
    """Return the names of the weights outside the encoder that a checkpoint has not."""
    prefix = model.base_model_prefix + "."
    return {name for name in info["missing_keys"] if not name.startswith(prefix)}


def _model_class(encoder: Encoder) -> tuple[Any, bool]:
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    model_type = encoder.config.model_type
    if model_type == "xlnet":
        return AutoModelForCausalLM, False
    if model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return AutoModelForMaskedLM, False
    if model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return AutoModelForCausalLM, True
    raise ModelError(f"a '{model_type}' has no language-model head, so it cannot be adapted to texts; take another")


def _load(kind: Any, folder: Path, changes: dict[str, Any], seed: int) -> tuple[Any, Any]:
    from headstart.models.loading import load_config

    config = load_config(folder)
    for name, value in changes.items():
        setattr(config, name, value)
    options = {"dtype": torch.float32, "local_files_only": True, "use_safetensors": True}
    with seeded(seed), loading(folder):
        model, info = kind.from_pretrained(
            str(folder), config=config, **options, ignore_mismatched_sizes=True, output_loading_info=True
        )
    return use_products(model), info


def _is_tied(model: Any) -> bool:
    output = model.get_output_embeddings()
    return output is not None and output.weight is model.get_input_embeddings().weight


def _poolers(folder: Path, model: Any) -> dict[str, torch.Tensor]:
    """Return a checkpoint's pooler under the names that it has inside ``model``; empty where there is none."""
    from safetensors import safe_open

    prefix = model.base_model_prefix + "."
    own = set(model.state_dict())
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(str(file), framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118  # no mapping
                if "pooler." in name and prefix + name.removeprefix(prefix) not in own:
                    found[prefix + name.removeprefix(prefix)] = weights.get_tensor(name).float()
    return found
