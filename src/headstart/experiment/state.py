"""The output folder: refused when it belongs to another configuration, resumed when it is this one's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headstart.errors import StorageError
from headstart.records import read_json, storage_error, write_json

EXPERIMENT = "experiment.json"


def open_folder(folder: Path, deciding: dict[str, Any]) -> dict[str, Any]:
    """Claim an output folder for a configuration, or return what an earlier run of the same one left.

    Args:
        folder: made when missing.
        deciding: settings and data fingerprints that results depend on.

    Returns:
        The stored state (``{"deciding": ..., "resolved": ...}``), empty at the first run.

    Raises:
        StorageError: it holds something else, or cannot be written.
    """
    file = folder / EXPERIMENT
    if not file.is_file():
        if folder.is_dir() and any(p for p in folder.iterdir() if not p.name.startswith(".")):
            raise StorageError(
                f"{folder} is not empty and is no comparison's folder; choose another with --out, or empty it"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise storage_error(folder, problem) from problem
        return {}
    try:
        state: dict[str, Any] = read_json(file)
        stored = state["deciding"]
    except (ValueError, KeyError, TypeError) as problem:
        raise StorageError(
            f"{file} is damaged ({problem}); choose another folder with --out, or remove it"
        ) from problem
    if stored != deciding:
        changed = sorted(k for k in {*stored, *deciding} if stored.get(k) != deciding.get(k))
        words = "; ".join(f"{k} was {stored.get(k)!r}, is now {deciding.get(k)!r}" for k in changed)
        raise StorageError(
            f"{folder} holds a comparison of another configuration ({words}). "
            "Choose another folder with --out, or remove that one"
        )
    return state


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Write the state, whole or not at all."""
    write_json(folder / EXPERIMENT, state)
