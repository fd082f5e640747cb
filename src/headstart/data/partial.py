"""A file that grows chunk by chunk, survives being killed, and takes its name only when it is whole.

Beside ``out.csv`` stand, until the end, ``.out.csv.partial`` (the rows so far), ``.out.csv.rejected`` (what was left
out) and ``.out.csv.journal``: a line on what is being done, then one per chunk with the sizes of both files. What lies
beyond the last whole line of the journal is cut off when the work is taken up again.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from headstart.errors import StorageError
from headstart.records import storage_error

_FORMAT = 1


def journal_of(out: Path) -> Path:
    """Return where the journal of an output lies while it is being written."""
    return out.with_name(f".{out.name}.journal")


def pending(out: Path) -> dict[str, Any] | None:
    """Return what an interrupted run was doing, as it said itself; None where there is none."""
    lines = _journal(journal_of(out))
    return lines[0]["identity"] if lines else None


def _journal(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a journal; none where the first is not ours."""
    try:
        raw = path.read_bytes()
    except OSError:
        return []
    lines: list[dict[str, Any]] = []
    for line in raw.split(b"\n")[:-1]:  # what follows the last line break was being written
        try:
            lines.append(dict(json.loads(line)))
        except (ValueError, TypeError):
            break
    return lines if lines and lines[0].get("format") == _FORMAT and "identity" in lines[0] else []


class PartialFile:
    """The growing output, what was left out, and the journal.

    Args:
        out: the output's final name.
        rejected: final name of the side file.
        identity: what is being done, as JSON; an interrupted run with an equal one is taken up, another is dropped.
            None: nothing can be taken up.

    Attributes:
        progress: what the last `commit` told, or empty.
        dropped: whether an interrupted run with another identity was dropped.
        finished: whether nothing but `finish` is left to do.

    Raises:
        StorageError: the files cannot be written, or another process is writing them.
    """

    def __init__(self, out: Path, rejected: Path, identity: dict[str, Any] | None) -> None:
        self._out, self._rejected = out, rejected
        self._partial = out.with_name(f".{out.name}.partial")
        self._side = out.with_name(f".{out.name}.rejected")
        self._journal_file = journal_of(out)
        self._identity = identity
        self._open: contextlib.ExitStack = contextlib.ExitStack()
        self.progress: dict[str, Any] = {}
        self.finished = False
        with contextlib.ExitStack() as unless_open, self._said():
            unless_open.callback(self._open.close)
            for folder in (out.parent, rejected.parent):
                folder.mkdir(parents=True, exist_ok=True)
            self._journal = self._append(self._journal_file)
            _lock(self._journal, out)
            unless_open.callback(self.close)
            self._start()
            unless_open.pop_all()

    def _start(self) -> None:
        before = _journal(self._journal_file)
        same = bool(before) and self._identity is not None and before[0]["identity"] == self._identity
        self.dropped = bool(before) and not same
        nothing: dict[str, Any] = {"bytes": 0, "rejected_bytes": 0, "progress": {}}
        last = before[-1] if same and len(before) > 1 else nothing
        if not last.get("finished") and not self._holds(last):
            same, last = False, nothing
        self.progress = last["progress"]
        self.finished = bool(last.get("finished"))
        if self.finished:
            return
        whole = before if same else [{"format": _FORMAT, "identity": self._identity}]
        self._journal.truncate(0)
        self._note(*whole)
        self._data, self._left_out = self._append(self._partial), self._append(self._side)
        self._data.truncate(last["bytes"])
        self._left_out.truncate(last["rejected_bytes"])

    def _holds(self, entry: dict[str, Any]) -> bool:
        sizes = {self._partial: entry["bytes"], self._side: entry["rejected_bytes"]}
        return all((p.stat().st_size if p.exists() else 0) >= size for p, size in sizes.items())

    def _append(self, path: Path) -> BinaryIO:
        return self._open.enter_context(path.open("ab"))

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            raise storage_error(self._out, problem) from problem

    def commit(self, data: bytes, rejected: bytes, progress: dict[str, Any]) -> None:
        """Add a chunk: after this call it counts as done, before it nothing of it does.

        Args:
            data: bytes of the output.
            rejected: bytes of the side file.
            progress: kept for whoever takes the work up.

        Raises:
            StorageError: the disk is full, say.
        """
        with self._said():
            for handle, piece in ((self._data, data), (self._left_out, rejected)):
                if piece:
                    handle.write(piece)
                    handle.flush()
                    os.fsync(handle.fileno())
            self._note(self._entry(progress))
            self.progress = dict(progress)

    def _entry(self, progress: dict[str, Any], **more: Any) -> dict[str, Any]:
        sizes = {"bytes": self._partial.stat().st_size, "rejected_bytes": self._side.stat().st_size}
        return {**sizes, "progress": progress, **more}

    def _note(self, *entries: dict[str, Any]) -> None:
        for entry in entries:
            self._journal.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
        self._journal.flush()
        os.fsync(self._journal.fileno())

    def finish(self, convert: Callable[[Path, Path], None] | None = None) -> None:
        """Give both files their names; a kill in between is made good by the next call with the same identity.

        Args:
            convert: writes the final file (second path) from the grown one (first path); None: it is the same.

        Raises:
            StorageError: they cannot be written.
        """
        with self._said():
            if not self.finished:
                self._note(self._entry(self.progress, finished=True))
            if not self._side.exists():
                pass
            elif self._side.stat().st_size:
                _move(self._side, self._rejected)
            else:
                self._side.unlink()
                self._rejected.unlink(missing_ok=True)  # of an earlier run: it would be taken for this one's
            if self._partial.exists():
                self._put_in_place(convert)
            self._journal_file.unlink(missing_ok=True)
        self._open.close()

    def _put_in_place(self, convert: Callable[[Path, Path], None] | None) -> None:
        if convert is None:
            os.replace(self._partial, self._out)
            return
        temporary = self._out.with_name(f".{self._out.name}.tmp")
        try:
            convert(self._partial, temporary)
            with temporary.open("rb+") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, self._out)
        finally:
            temporary.unlink(missing_ok=True)
        self._partial.unlink()

    def close(self) -> None:
        """Let go of the files; what is done stays for the next run, where nothing is done nothing is left."""
        self._open.close()
        if not self.progress or self._identity is None:
            for path in (self._partial, self._side, self._journal_file):
                path.unlink(missing_ok=True)


def _move(file: Path, target: Path) -> None:
    """Give a file its name at once, also on another disk; killed at any moment, it is at one of the two places."""
    if file.stat().st_dev == target.parent.stat().st_dev:
        os.replace(file, target)
        return
    copy = target.with_name(f".{target.name}.tmp")
    shutil.copyfile(file, copy)
    os.replace(copy, target)
    file.unlink()


def _lock(handle: BinaryIO, out: Path) -> None:
    """Keep other processes from writing the same output until this one ends."""
    try:
        import fcntl
    except ImportError:  # not on this system
        return
    try:
        fcntl.flock(handle.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StorageError(f"another process is writing {out}; wait for it, or name another file with --out") from None
