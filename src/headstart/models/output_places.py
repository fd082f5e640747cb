"""Where labeled rows and those left out may be written: checked before anything costly, so that nothing is lost."""

from __future__ import annotations

import json
import os
from pathlib import Path

from headstart.data.stream import DELIMITED, PARQUET, STANDARD
from headstart.errors import ConfigError, StorageError

SIDE_KEYS = ["file", "row", "reason", "content"]  # of each line of a side file
_WRITTEN = (*DELIMITED, ".jsonl", ".ndjson", *PARQUET)
_LONGEST_SIDE_LINE = 1 << 20  # bytes of a line that are read


def is_standard(out: str | Path) -> bool:
    """Whether an output is standard output."""
    return str(out) == STANDARD


def side_file(target: Path) -> Path:
    """Return where rows that were left out are told: ``labeled.csv.rejected.jsonl`` beside ``labeled.csv``."""
    return target.with_name(f"{target.name}.rejected.jsonl")


def check_out(source: str | Path, out: str | Path) -> Path:
    """Return ``out`` as a path if it can be written to, before anything costly is done.

    Raises:
        ConfigError: unknown suffix, or it is the input.
        StorageError: it is a folder, or its folder is not writable.
    """
    if is_standard(out):
        return Path(out)
    target = Path(out).expanduser()
    if target.suffix.lower() not in _WRITTEN:
        raise ConfigError(
            f"--out {out}: a file ending in '{target.suffix}' cannot be written; known: {', '.join(_WRITTEN)}"
        )
    if target.is_dir():
        raise StorageError(f"--out {out} is a folder; name a file, e.g. {target / 'predictions.csv'}")
    _check_place(source, target, "--out")
    return target


def check_side(source: str | Path, out: str | Path, rejected: str | Path | None) -> Path:
    """Return where rows that are left out will be told, if nothing else is lost by it.

    A file that is there is replaced, and removed when no row is left out: so it must be one of rows left out.

    Args:
        source: the input.
        out: the output.
        rejected: what the user named, or None.

    Raises:
        ConfigError: it is the input, the output or a file of something else.
        StorageError: it is a folder, or its folder is not writable.
    """
    side = side_file(Path(out).expanduser()) if rejected is None else Path(rejected).expanduser()
    if rejected is None and is_standard(out):
        return side  # standard error, then
    flag = "--rejected"
    if side.exists() and not side.is_file():
        raise StorageError(f"{flag} {side} is no file; name one, e.g. {side_file(Path('predictions.csv'))}")
    if not is_standard(out) and side.resolve() == Path(out).expanduser().resolve():
        raise ConfigError(f"{flag} {side} is the output too; name another file")
    _check_place(source, side, flag)
    if side.exists() and not _tells_of_rows(side):
        raise ConfigError(
            f"{flag} {side} is there already and does not hold rows that were left out: it would be lost. Name another "
            f"file with {flag}"
        )
    return side


def _tells_of_rows(side: Path) -> bool:
    """Whether a file is empty or begins as a side file does."""
    with side.open("rb") as handle:
        line = handle.readline(_LONGEST_SIDE_LINE)
    try:
        return not line or list(json.loads(line)) == SIDE_KEYS
    except (ValueError, TypeError):
        return False


def _check_place(source: str | Path, target: Path, flag: str) -> None:
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise ConfigError(f"{flag} {target} is the input itself; name another file")
    if Path(source).is_dir() and Path(source).resolve() in target.resolve().parents:
        raise ConfigError(f"{flag} {target} lies in the folder that is read; name another place")
    parent = next(p for p in (target.absolute().parent, *target.absolute().parents) if p.exists())
    if not parent.is_dir():
        raise StorageError(f"cannot write {target}: {parent} is a file, not a folder; choose another place with {flag}")
    if not os.access(parent, os.W_OK):
        raise StorageError(f"cannot write {target}: {parent} is not writable; choose another place with {flag}")
