"""Labeled rows to standard output, as they come: nothing to take up again, nothing to move."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

from headstart.records import storage_error


class StandardOutput:
    """Writes each chunk to standard output, and rows left out to a side file or, without one, to standard error.

    Args:
        rejected: the side file, or None.

    Attributes:
        progress: always empty: nothing was done before.

    Raises:
        StorageError: the side file cannot be written.
    """

    dropped = False
    finished = False

    def __init__(self, rejected: Path | None) -> None:
        self.progress: dict[str, Any] = {}
        self._open = contextlib.ExitStack()
        try:
            if rejected is not None:
                rejected.parent.mkdir(parents=True, exist_ok=True)
            self._side = sys.stderr.buffer if rejected is None else self._open.enter_context(rejected.open("wb"))
        except OSError as problem:
            raise storage_error(rejected or "", problem) from problem

    def commit(self, data: bytes, rejected: bytes, progress: dict[str, Any]) -> None:
        """Write a chunk."""
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        self._side.write(rejected)
        self._side.flush()

    def finish(self, convert: object = None) -> None:
        """Do nothing: all is written."""

    def close(self) -> None:
        """Close the side file."""
        self._open.close()
