"""Tiny random models of every class that a task needs."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from conftest import ARCHITECTURES, VOCABULARY, make_tokenizer

SENTENCES = (
    "a good film",
    "the room was cold and the hotel quite dull",
    "she is here",
    "a warm and bright day, the music was lovely and the story very good",
    "we had no time to see the child",
)
LONG = " ".join(["the first day was good, the second day was bad, and a woman of the hotel had no room"] * 8)
_IDS = {"vocab_size": len(VOCABULARY), "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
_SEQ2SEQ = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 64,
    "decoder_start_token_id": 3, "init_std": 0.5,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "GPT2": {**_IDS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "initializer_range": 0.5},
    "T5": {
        **_IDS, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0,
        "initializer_factor": 20.0,
    },
    "Bart": {**_IDS, **_SEQ2SEQ, "forced_eos_token_id": None},
    "MBart": {**_IDS, **_SEQ2SEQ, "forced_eos_token_id": None},
    "M2M100": {**_IDS, **_SEQ2SEQ},
    "Marian": {**_IDS, **_SEQ2SEQ},
}  # fmt: skip


def save_model(
    cls: str, folder: Path, *, seed: int = 7, tokenizer: Any = None, written: int | None = None, **changes: Any
) -> Path:
    """Write a tiny random model of a transformers class, e.g. ``BertForMaskedLM``, with a tokenizer.

    Weights are drawn wide, so that two texts get clearly different answers; ``written`` is the length that the model
    itself writes at the most.
    """
    import torch

    name = next(n for n in (*CONFIGS, "Roberta", "XLNet", "Bert") if cls.startswith(n))
    known = {a: values for a, values, _ in ARCHITECTURES.values()}
    values = CONFIGS.get(name) or {
        **_IDS,
        "cls_token_id": 2,
        "sep_token_id": 3,
        **known[name],
        "initializer_range": 0.5,
    }
    transformers = importlib.import_module("transformers")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, cls)(getattr(transformers, f"{name}Config")(**{**values, **changes}))
    if written is not None:
        model.generation_config.max_length = written
    model.save_pretrained(str(folder))
    (tokenizer or make_tokenizer(segments=name == "Bert", left=name == "XLNet")).save_pretrained(str(folder))
    return folder


def labels(*names: str) -> dict[str, Any]:
    """Return the configuration values for class names."""
    return {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}
