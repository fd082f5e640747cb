"""What is read from a folder of weights: never code, never pickles, and never half of a model without saying so."""

from __future__ import annotations

import contextlib
import json
import pickletools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from headstart.errors import HeadstartError, ModelError, counted

CARD = "headstart.json"  # what tells a model folder of ours from others
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


# What code or a pickle is kept in, or may be, by name and by first bytes (pickle protocols 2 to 5; zip: torch.save;
# NumPy's arrays of objects; gzip, bzip2, xz, zlib and joblib's own: compressed pickles).
_CODE_SUFFIXES = frozenset({".py", ".pyc", ".so", ".dll"})
_UNSAFE_SUFFIXES = _CODE_SUFFIXES | {
    ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".h5",
}  # fmt: skip
_UNSAFE_BEGINNINGS = (
    *(b"\x80" + bytes([protocol]) for protocol in (2, 3, 4, 5)), b"PK\x03\x04", b"\x93NUMPY",
    b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"x\x01", b"x\x5e", b"x\x9c", b"x\xda", b"ZF0x",
)  # fmt: skip
# Large binary files that only readers of their own formats open; whether they are pickles of old is not asked.
_OWN_FORMATS = frozenset({".safetensors", ".onnx", ".cbm"})
# Settings by which a tokenizer finds its files; others (special_tokens_map_file) only tell where it once came from.
_READ_BY_NAME = ("vocab_file", "merges_file", "spm_file", "tokenizer_file")


def refuse_unsafe(folder: Path) -> None:
    """Refuse a model folder that holds what could run code or lead out of it, whether it would be read or not.

    Raises:
        ModelError: it holds a pickle (by its name or its content, compressed or not), code, a link that leads
            out of it, or settings that ask for code or for files elsewhere; each says what it found.
    """
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder)
        if file.is_symlink() and not _stays(file, folder):
            raise ModelError(
                f"{folder}: {name} is a link that leads out of the folder; it is not loaded. Copy the file"
            )
        if not file.is_file():
            continue
        if file.suffix.lower() in _UNSAFE_SUFFIXES or _holds_pickle(file):
            what = "code" if file.suffix.lower() in _CODE_SUFFIXES else "a pickle, or may hold one"
            raise ModelError(f"{folder}: {name} is {what}, which can run anything: it is not loaded. Remove the file")
        if file.suffix == ".json":
            _check_settings(file, folder)


def _holds_pickle(file: Path) -> bool:
    """Whether a file is a pickle, or of a kind that pickles are packed in, by what stands in it."""
    with file.open("rb") as handle:
        if handle.read(6).startswith(_UNSAFE_BEGINNINGS):
            return True
        if file.suffix.lower() in _OWN_FORMATS:
            return False
        handle.seek(0)
        try:  # protocols 0 and 1 have no mark at the start: a pickle is what reads as one to its end
            operations = sum(1 for _ in pickletools.genops(handle))
        except Exception:  # whatever cannot be read as one; the first unknown operation ends it
            return False
        return operations > 1  # a lone full stop is the end of nothing


def _stays(link: Path, folder: Path) -> bool:
    """Whether a link ends inside the folder, or in the hub cache's store of the snapshot that the folder is."""
    end = link.resolve()
    blobs = folder.resolve().parent.parent / "blobs"
    return end.is_relative_to(folder.resolve()) or (folder.resolve().parent.name == "snapshots" and end.parent == blobs)


def _check_settings(file: Path, folder: Path) -> None:
    """Refuse settings that name code, an adapter's base model elsewhere, or files outside the folder."""
    name = file.relative_to(folder)
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return  # whoever reads it says so
    if not isinstance(settings, dict):
        return
    if "auto_map" in settings or "custom_pipelines" in settings:
        raise ModelError(f"{folder} wants to run code of its own (auto_map in {name}); it is not loaded")
    if "base_model_name_or_path" in settings:
        raise ModelError(f"{folder}: {name} is an adapter to a model elsewhere; merge it first (merge_and_unload)")
    named = [settings[k] for k in _READ_BY_NAME if isinstance(settings.get(k), str)]
    for part in (settings.get("weight_map"), settings.get("about")):
        named += [v for v in part.values() if isinstance(v, str)] if isinstance(part, dict) else []
    for value in named:
        if Path(value).is_absolute() or ".." in Path(value).parts:
            raise ModelError(f"{folder}: {name} names a file outside the folder, '{value}'; it is not loaded")


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
            f"{folder}: not in the safetensors file, but asked for by config.json: "
            f"{counted(len(missing), 'weight', 'weights')} ({shown}"
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
