"""Opening what an encoder's folder holds: configuration, tokenizer, network. Only safetensors are read, no code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from headstart.data.labels import Labels
from headstart.errors import ModelError
from headstart.models.attention import use_products
from headstart.models.checkpoint import loading, refuse_empty_vocabulary, refuse_random_weights
from headstart.models.gru import GruConfig, GruForSequenceClassification, GruModel
from headstart.models.runtime import seeded


def load_config(folder: Path | str) -> Any:
    """Load the transformers configuration of a folder.

    Raises:
        ModelError: its model type is not known to the installed transformers.
    """
    from transformers import AutoConfig

    raw = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    if raw.get("model_type") == GruConfig.model_type:
        return GruConfig.from_dict(raw)
    with loading(folder):
        return AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)


def load_tokenizer(folder: Path | str, *, slow_too: bool = False) -> Any:
    """Load the fast tokenizer of a folder.

    Args:
        folder: of the model.
        slow_too: take one written in Python where there is no other; it cannot say where in a text its tokens are.

    Raises:
        ModelError: there is none, it is damaged, or it knows no words.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    is_gru = load_config(folder).model_type == GruConfig.model_type
    with loading(folder):
        kind = PreTrainedTokenizerFast if is_gru else AutoTokenizer
        tokenizer = kind.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    if not slow_too and not getattr(tokenizer, "is_fast", False):
        raise ModelError(f"{folder} has no fast tokenizer (tokenizer.json); save it with a recent transformers")
    refuse_empty_vocabulary(folder, tokenizer)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def load_body(folder: Path | str) -> Any:
    """Load the encoder without any head, in float32 and evaluation mode.

    A pooler that the checkpoint lacks is made with a fixed seed, so that a folder written from it is always the same.

    Raises:
        ModelError: it cannot be loaded, or weights other than the pooler's are missing or of other shapes.
    """
    from transformers import AutoModel

    config = load_config(folder)
    kind = GruModel if config.model_type == GruConfig.model_type else AutoModel
    with seeded(0), loading(folder):
        model, info = load_weights(kind, folder, config)
    refuse_random_weights(folder, info, ours=set())
    return model.eval()


def load_weights(kind: Any, folder: Path | str, config: Any) -> tuple[Any, dict[str, Any]]:
    """Load a model of a transformers class in float32: safetensors only, no code, nothing from the network.

    Args:
        kind: a model class, or an ``AutoModelFor...``.
        folder: the checkpoint.
        config: its configuration, perhaps changed.

    Returns:
        The model, and what transformers says of keys that were missing or of other shapes (see
        `checkpoint.refuse_random_weights`).
    """
    model, info = kind.from_pretrained(
        str(folder),
        config=config,
        dtype=torch.float32,
        local_files_only=True,
        use_safetensors=True,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    # In a mapped file tensors begin at any address, and the last digit of a product depends on that: copies begin where
    # those of a network in training do, so that a reloaded one gives the same numbers.
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return use_products(model), dict(info)


def load_classifier(
    folder: Path | str, labels: Labels, *, seed: int, keep_head: bool = False, changes: dict[str, Any] | None = None
) -> tuple[Any, set[str]]:
    """Load an encoder under the architecture's own classification head, in float32.

    Args:
        folder: encoder or sequence classifier.
        labels: fixes the number of classes and ``id2label``.
        seed: of the freshly initialized parameters.
        keep_head: keep the stored head; otherwise it is made anew.
        changes: configuration values to set, e.g. ``{"attention_dropout": 0.0}``.

    Returns:
        The model, and the names of its freshly initialized parameters (a pooler that the checkpoint lacks among
        them: everything here has to be trained and saved).

    Raises:
        ModelError: it cannot be loaded, or weights outside head and pooler are missing or of other shapes.
    """
    config = load_config(folder)
    _set_labels(config, labels)
    for name, value in (changes or {}).items():
        setattr(config, name, value)
    kind = _classifier_class(config)
    with seeded(seed), loading(folder):
        fresh_model = kind.from_config(config) if hasattr(kind, "from_config") else kind(config)
        model, info = load_weights(kind, folder, config)
    head = set() if keep_head else set(head_parameters(model))
    refuse_random_weights(folder, info, ours=head)
    fresh = (set(info["missing_keys"]) | head) & {name for name, _ in model.named_parameters()}
    initial = dict(fresh_model.named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in fresh:
                parameter.copy_(initial[name])
    return model, fresh


def new_classifier(config: Any, labels: Labels, *, seed: int) -> Any:
    """Make a classifier of the given configuration with random weights."""
    _set_labels(config, labels)
    kind = _classifier_class(config)
    with seeded(seed):
        model = kind.from_config(config) if hasattr(kind, "from_config") else kind(config)
    return use_products(model.float())


def head_parameters(model: Any) -> list[str]:
    """Return the names of parameters outside the encoder body."""
    prefix = model.base_model_prefix + "."
    return [name for name, _ in model.named_parameters() if not name.startswith(prefix)]


def layer_list(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return name and list of the encoder's stacked layers, found by the configuration's layer count.

    Raises:
        ModelError: the architecture has no such list (its layers share weights, say).
    """
    config: Any = model.config
    count = getattr(config, "num_hidden_layers", None) or getattr(config, "n_layer", None)
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return name, module
    raise ModelError(
        f"cannot tell the layers of a '{config.model_type}' apart; name the parameters to train "
        "by a regular expression instead (settings: partial: {pattern: ...})"
    )


def label_names_of(config: Any) -> Sequence[str]:
    """Return the class names stored in a classifier's configuration, in class order."""
    return [str(config.id2label[i]) for i in sorted(config.id2label)]


def _classifier_class(config: Any) -> Any:
    from transformers import AutoModelForSequenceClassification

    if config.model_type == GruConfig.model_type:
        return GruForSequenceClassification
    return AutoModelForSequenceClassification


def _set_labels(config: Any, labels: Labels) -> None:
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels.names))
    config.label2id = {name: i for i, name in enumerate(labels.names)}
    config.problem_type = "single_label_classification"
    config.dtype = torch.float32
