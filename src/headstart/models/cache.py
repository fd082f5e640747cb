"""The folder of what is never computed twice: how large it may grow, what lies in it, what is dropped first."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headstart.errors import ConfigError, HeadstartError
from headstart.models.checkpoint import check_safetensors
from headstart.records import folder_size, read_json

_DEFAULT_LIMIT = "5GB"
_CHEAP = ("features", "states")  # computed again in seconds, all else in minutes or hours
_FRESH = 60.0  # seconds in which what was written or touched is about to be opened
_ABANDONED = 3600.0  # seconds after which nobody goes on writing a temporary file
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@dataclass(frozen=True)
class Entry:
    """One file or folder of the cache.

    Attributes:
        kind: what it holds: ``features``, ``states``, ``sources``, ...
        path: where it lies.
        bytes: its size.
        used: when it was last used, seconds since 1970.
    """

    kind: str
    path: Path
    bytes: int
    used: float


def cache_folder() -> Path:
    """Return where it lies: ``$HEADSTART_CACHE``, or ``headstart`` in the user's cache folder."""
    if chosen := os.environ.get("HEADSTART_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "headstart"


def cache_limit() -> int:
    """Return the most bytes it may hold: ``$HEADSTART_CACHE_SIZE`` (``5GB``, ``800MB``, ...), 5 GB by default.

    Raises:
        ConfigError: the variable is no size.
    """
    given = os.environ.get("HEADSTART_CACHE_SIZE", _DEFAULT_LIMIT)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)B?\s*", given, re.IGNORECASE)
    if match is None:
        raise ConfigError(f"HEADSTART_CACHE_SIZE is '{given}'; give a size such as 5GB or 800MB")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def entries(folder: Path) -> list[Entry]:
    """Return what lies in a cache folder, least recently used first.

    An entry is a file, or a folder that was written whole (a source classifier): it is kept or dropped whole. What is
    unfinished (an adaptation that can go on, a file being written) is an entry too, for it takes room.
    """
    found = []
    for kind in sorted(p for p in folder.glob("*") if p.is_dir()):
        for path in sorted(kind.glob("*")):
            for file in _parts(path):
                with contextlib.suppress(OSError):  # another process may be dropping it
                    size = folder_size(file) if file.is_dir() else file.stat().st_size
                    found.append(Entry(kind.name, file, size, file.stat().st_mtime))
    return sorted(found, key=lambda e: e.used)


def _parts(path: Path) -> list[Path]:
    """Return the segments of a store one by one, and anything else whole."""
    is_store = path.is_dir() and not path.name.startswith(".")
    if is_store and not (path / "config.json").is_file() and not (path / "headstart.json").is_file():
        return sorted(path.glob("*"))
    return [path]


def touch(path: Path) -> None:
    """Note that an entry was used now."""
    with contextlib.suppress(OSError):
        os.utime(path)


def drop_damaged(folder: Path) -> None:
    """Drop a trained network whose files are truncated or cannot be read, so that it is trained again."""
    try:
        for file in folder.glob("*.json"):
            read_json(file)
        for file in folder.glob("*.safetensors"):
            check_safetensors(file)
    except (HeadstartError, ValueError):
        _remove(folder)


@contextlib.contextmanager
def in_use(folder: Path, *, alone: bool = False) -> Iterator[None]:
    """Keep a folder from being dropped by any process, as long as the block lasts and this process lives.

    Args:
        folder: of the cache, or anywhere.
        alone: wait until no other process uses it, and let none until the block ends.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # not there, or no locks on this disk
            _lock(stack, folder, alone=alone, wait=alone)
        yield


def _lock(stack: contextlib.ExitStack, folder: Path, *, alone: bool, wait: bool) -> None:
    """Lock a folder until a stack is left; BlockingIOError where another holds it and there is no waiting."""
    try:
        import fcntl
    except ImportError:  # not on this system
        return
    handle = os.open(folder, os.O_RDONLY)
    stack.callback(os.close, handle)
    fcntl.flock(handle, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))


def evict(folder: Path, limit: int, keep: frozenset[Path] = frozenset()) -> list[Entry]:
    """Drop least recently used entries until the folder holds at most ``limit`` bytes.

    Texts' rows go first, for they are computed again in seconds. A process that has a dropped file mapped goes on
    reading it: the system frees it when the last reader ends. A folder that is `in_use`, or was written or touched a
    moment ago, stays, and so does what is being written.

    Args:
        folder: the cache.
        limit: bytes.
        keep: entries that stay whatever the limit is.

    Returns:
        What was dropped.
    """
    there = entries(folder)
    size, dropped = sum(e.bytes for e in there), []
    for entry in sorted(there, key=lambda e: (e.kind not in _CHEAP, e.used)):
        if size <= limit:
            break
        is_fresh = entry.kind not in _CHEAP and time.time() - entry.used < _FRESH
        if entry.path not in keep and not is_fresh and _drop(entry):
            size -= entry.bytes
            dropped.append(entry)
    return dropped


def clear(folder: Path, kind: str | None = None) -> list[Entry]:
    """Drop every entry (of one kind) but what a process uses or is writing; return what was dropped."""
    return [e for e in entries(folder) if kind in (None, e.kind) and _drop(e)]


def _drop(entry: Entry) -> bool:
    """Drop an entry unless a process uses it or is writing it; tell whether it was dropped."""
    path = entry.path
    if path.name.startswith(".") and path.suffix in (".tmp", ".old") and time.time() - entry.used < _ABANDONED:
        return False
    with contextlib.ExitStack() as stack:
        if path.is_dir():
            try:
                _lock(stack, path, alone=True, wait=False)
            except BlockingIOError:
                return False
            except OSError:  # no locks on this disk
                pass
        _remove(path)
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        # First out of sight in one step: half a model must never be found under its name.
        hidden = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}.old")
        with contextlib.suppress(OSError):
            os.replace(path, hidden)
            shutil.rmtree(hidden, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # only if empty
        path.parent.rmdir()
