"""What is read from a folder of weights: never code, never pickles, and never half of a model without saying so."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from headstart.errors import HeadstartError, ModelError

_NAMES_SHOWN = 3


def check_folder(folder: Path) -> Path:
    """Return ``folder`` if it can be loaded without running code from it.

    Raises:
        ModelError: settings or safetensors weights are missing or damaged, or it asks for code of its own.
    """
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise ModelError(f"{folder} has no config.json: it is not a model folder")
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise ModelError(f"{config_file} is not valid JSON ({problem}); fetch the model again") from problem
    if not isinstance(config, dict) or "model_type" not in config:
        raise ModelError(f"{config_file} names no model_type: it is not a transformers model folder")
    if "auto_map" in config:
        raise ModelError(f"{folder} wants to run code of its own (auto_map in config.json); it is not loaded")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        other = sorted(p.name for pattern in ("*.bin", "*.pt", "*.h5", "*.msgpack") for p in folder.glob(pattern))
        found = f"; found {', '.join(other)}, which is not read for safety" if other else ""
        raise ModelError(f"{folder} holds no safetensors weights{found}. Save it with save_pretrained first")
    for file in weights:
        check_safetensors(file)
    return folder


def check_safetensors(file: Path) -> None:
    """Check that a weights file is whole.

    Raises:
        ModelError: it is truncated or is not safetensors.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="pt"):
            pass
    except (SafetensorError, OSError, ValueError) as problem:
        raise ModelError(f"{file} is damaged or truncated ({problem}); fetch or save the model again") from problem


@contextlib.contextmanager
def loading(folder: Path | str) -> Iterator[None]:
    """Load quietly (we say ourselves what is fresh), and turn a failure into one sentence.

    Raises:
        ModelError: transformers or one of its libraries could not make sense of the folder.
    """
    try:
        with quiet_transformers():
            yield
    except HeadstartError:
        raise
    except ImportError as problem:  # "MarianTokenizer requires the SentencePiece library but it was not found ..."
        sentence = str(problem).strip().partition(". ")[0]
        raise ModelError(f"{folder} cannot be loaded yet: {sentence}; install that library with pip") from problem
    except Exception as problem:  # the tokenizers library raises bare Exceptions, configurations every kind of error
        first = (str(problem).strip().splitlines() or [type(problem).__name__])[0].rstrip(".")
        raise ModelError(f"{folder} could not be loaded: {first}; fetch or save the model again") from problem


def refuse_random_weights(
    folder: Path | str, info: Mapping[str, Any], *, ours: set[str], pooler_may_lack: bool = True
) -> None:
    """Refuse a model of which transformers made up weights, for it would be taken for a pretrained one.

    A pooler may be missing where it is trained with the head: checkpoints of masked language models have none.

    Args:
        folder: for the message.
        info: what ``from_pretrained(..., output_loading_info=True)`` says.
        ours: names of parameters that are ours to make (the head).
        pooler_may_lack: whether a missing pooler is no fault.

    Raises:
        ModelError: stored weights are of other shapes than the configuration's, or are not there.
    """
    wrong = sorted((n, tuple(a), tuple(b)) for n, a, b in info["mismatched_keys"] if n not in ours)
    if wrong:
        name, stored, expected = wrong[0]
        raise ModelError(
            f"{folder}: config.json does not fit the weights: {name} is {_shape(stored)}, but should be "
            f"{_shape(expected)} ({len(wrong)} such weights); fetch or save the model again"
        )
    missing = sorted(n for n in info["missing_keys"] if n not in ours and not (pooler_may_lack and "pooler" in n))
    if missing:
        shown = ", ".join(missing[:_NAMES_SHOWN])
        raise ModelError(
            f"{folder}: {len(missing)} weights that config.json asks for are not in the safetensors file ({shown}"
            f"{', ...' if len(missing) > _NAMES_SHOWN else ''}); fetch or save the model again"
        )


def _shape(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))


def refuse_empty_vocabulary(folder: Path | str, tokenizer: Any) -> None:
    """Refuse the tokenizer that transformers makes up where a folder has none: to it every word is unknown.

    Raises:
        ModelError: its vocabulary holds nothing but special tokens.
    """
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise ModelError(
            f"{folder} has no tokenizer (tokenizer.json, vocab.txt, ...), or an empty one; fetch the model again, or "
            "save its tokenizer there with save_pretrained"
        )


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' reports and progress bars off the terminal inside the block."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
