"""Peak memory of one piece of work, sampled: the process's lifetime maximum would tell of another piece."""

from __future__ import annotations

import gc
import threading
from types import TracebackType

import psutil

from headstart.models.runtime import return_freed_memory

_EVERY_SECONDS = 0.02


class PeakMemory:
    """Context manager that samples the process's resident memory every 20 ms.

    Freed memory is returned to the system first, so that what is measured is this block's own. Pages of mapped files
    (stored states, weights being read) are left out where the system tells them apart: it takes them back at will.

    Attributes:
        bytes: highest memory inside the block, above what was resident when it began.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._stop = threading.Event()
        self._process = psutil.Process()
        self._before = 0
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        gc.collect()
        return_freed_memory()
        self._before = self._resident()
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.is_set():
            self._sample()
            self._stop.wait(_EVERY_SECONDS)

    def _sample(self) -> None:
        self.bytes = max(self.bytes, self._resident() - self._before)

    def _resident(self) -> int:
        info = self._process.memory_info()
        return int(info.rss - getattr(info, "shared", 0))

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()
