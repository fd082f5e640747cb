"""Arrays computed from texts, kept on disk text by text, so that any set of texts finds what another has left.

A store is a folder of segments, each a safetensors file written whole by one process: the keys of its texts, where
each text's rows begin, the rows, and how long computing them took. Processes only ever add segments, so several can
share a store. A segment that is damaged is computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from headstart.data.examples import Examples
from headstart.errors import StorageError
from headstart.models.cache import cache_limit, evict, touch
from headstart.records import fingerprint, whole_file

_KEY_BYTES = 16
# Files whose sums this process has checked, as they were then: every fit opens its stores anew, and gigabytes of
# states take seconds to sum.
_whole: set[tuple[str, int, int, int]] = set()
_ABOUT = "headstart"  # one entry, for the order of several is not fixed in the file


def content_keys(examples: Examples) -> list[bytes]:
    """Return a key per row: of its text, or of both texts of a pair."""
    pairs: Sequence[str | None] = examples.pairs or [None] * len(examples)
    return [_key(text, pair) for text, pair in zip(examples.texts, pairs, strict=True)]


def _key(text: str, pair: str | None) -> bytes:
    raw = text.encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(len(raw).to_bytes(8, "little") + raw, digest_size=_KEY_BYTES)
    if pair is not None:
        digest.update(b"|" + pair.encode("utf-8", "surrogatepass"))
    return digest.digest()


@dataclass(frozen=True)
class _Segment:
    """Texts computed at one time.

    Attributes:
        at: key to number.
        offsets: first row of each text and the end of the last, shape (n + 1,).
        values: rows of all texts, (S, D); mapped from the file where there is one.
        seconds: what computing them took.
    """

    at: dict[bytes, int]
    offsets: npt.NDArray[np.int64]
    values: npt.NDArray[np.generic]
    seconds: float

    def __getitem__(self, key: bytes) -> npt.NDArray[np.generic]:
        number = self.at[key]
        return self.values[self.offsets[number] : self.offsets[number + 1]]


class TextStore:
    """Rows (n, D) per text, in memory and, with a folder, on disk.

    Args:
        folder: where the segments lie, ``CACHE/KIND/KEY`` with a key of everything that the rows depend on beside the
            text; None to keep them in memory only.
        width: D.
        dtype: numpy type of the rows.
    """

    def __init__(self, folder: Path | None, width: int, dtype: type[np.generic]) -> None:
        self.folder, self.width, self.dtype = folder, width, np.dtype(dtype)
        self._segments: dict[str, _Segment] = {}
        self._of: dict[bytes, _Segment] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the segments that were added since."""
        if self.folder is None:
            return
        for file in sorted(self.folder.glob("*.safetensors")):
            if file.name not in self._segments and (segment := self._read(file)) is not None:
                touch(file)
                _note(file)
                self._keep(file.name, segment)

    def missing(self, keys: Sequence[bytes]) -> list[int]:
        """Return, in order, the first row of each key that is not there, nor was added by another process since."""
        if not all(key in self for key in keys):
            self.refresh()
        return sorted({key: row for row, key in reversed(list(enumerate(keys))) if key not in self}.values())

    def __contains__(self, key: bytes) -> bool:
        return key in self._of

    def __getitem__(self, key: bytes) -> npt.NDArray[np.generic]:
        return self._of[key][key]

    def seconds(self, keys: Sequence[bytes]) -> float:
        """Return how long computing the texts of these keys took."""
        return sum(segment.seconds / len(segment.at) for segment in (self._of[key] for key in keys))

    def add(self, keys: Sequence[bytes], rows: Sequence[npt.NDArray[np.generic]], seconds: float) -> None:
        """Add texts that are not there; what is kept is what was written, read back.

        Args:
            keys: n distinct keys.
            rows: n arrays (rows of the text, D).
            seconds: what computing them took.
        """
        offsets = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64)
        values = np.concatenate(rows).astype(self.dtype, copy=False)
        name = f"{fingerprint(keys)}.safetensors"
        segment: _Segment | None = None
        if self.folder is not None and values.nbytes <= cache_limit():
            # A cache only saves time: a disk that is full there is no reason to stop.
            with contextlib.suppress(StorageError):
                self._write(self.folder / name, keys, offsets, values, seconds)
                segment = self._read(self.folder / name)
                _note(self.folder / name)
        at = {key: i for i, key in enumerate(keys)}
        self._keep(name, segment or _Segment(at, offsets, values, seconds))

    def _keep(self, name: str, segment: _Segment) -> None:
        self._segments[name] = segment
        for key in segment.at:
            self._of.setdefault(key, segment)

    def _write(
        self,
        file: Path,
        keys: Sequence[bytes],
        offsets: npt.NDArray[np.int64],
        values: npt.NDArray[np.generic],
        seconds: float,
    ) -> None:
        from safetensors.numpy import save_file

        raw = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), _KEY_BYTES)
        about = {"seconds": round(seconds, 4), "sum": _checksum(raw, offsets, values)}
        with whole_file(file) as temporary:
            save_file(
                {"keys": raw, "offsets": offsets, "values": np.ascontiguousarray(values)},
                str(temporary),
                metadata={_ABOUT: json.dumps(about)},
            )
        # CACHE/KIND/KEY/file
        evict(file.parents[2], cache_limit(), keep=frozenset([file]))

    def _read(self, file: Path) -> _Segment | None:
        """Return a stored segment, or None where it is damaged or has just been dropped."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(file), framework="pt") as opened:  # torch maps the file; numpy would copy it
                about = json.loads((opened.metadata() or {})[_ABOUT])
                raw, offsets, values = (opened.get_tensor(name).numpy() for name in ("keys", "offsets", "values"))
            whole = _mark(file) in _whole or about["sum"] == _checksum(raw, offsets, values)
            fits = values.dtype == self.dtype and values.shape == (offsets[-1], self.width)
            if not (whole and fits and len(offsets) == len(raw) + 1):
                return None
            at = {key.tobytes(): i for i, key in enumerate(raw)}
            return _Segment(at, offsets, values, float(about["seconds"]))
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, IndexError, RuntimeError):
            return None


def _mark(file: Path) -> tuple[str, int, int, int]:
    about = file.stat()
    return str(file), about.st_ino, about.st_size, about.st_mtime_ns


def _note(file: Path) -> None:
    with contextlib.suppress(OSError):  # dropped meanwhile
        _whole.add(_mark(file))


def _checksum(*arrays: npt.NDArray[np.generic]) -> int:
    found = 0
    for array in arrays:
        found = zlib.crc32(np.ascontiguousarray(array).data.cast("B"), found)
    return found
