"""How worker processes come to be: forked from one that has imported what they need, and has done nothing else.

Imports nothing heavy itself, so that the other process can begin before this one does.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import signal
import sys
from collections.abc import Iterator
from typing import Any

# Elsewhere there is no such process, or the system's own libraries do not survive a fork.
_FORKED = sys.platform == "linux"
# Importing starts no thread, so a process that has done nothing else can be forked.
_IMPORTED = ("headstart.serving.preloaded",)


def import_ahead() -> None:
    """Let a process begin to import what opening a model takes; workers are forked from it.

    Called first thing, it imports while this process does. Without it every worker would import all by itself, and
    where there are two cores that is most of the time until the first answer.
    """
    if _FORKED:
        from multiprocessing import forkserver

        context()
        with signals_blocked():
            forkserver.ensure_running()


def context() -> Any:
    """Return how processes are started; never by a fork of this one, for torch's threads do not survive it."""
    if not _FORKED:
        return multiprocessing.get_context("spawn")
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(list(_IMPORTED))
    return made


@contextlib.contextmanager
def without_collecting() -> Iterator[None]:
    """Collect no garbage inside the block, and never look again at what it left: imported modules stay.

    torch and transformers make a million objects; going through them as they grow is a fifth of the time that
    importing takes, and every later collection is shorter without them.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Let a process that is started inside the block be blind to Ctrl-C and SIGTERM from its first moment on.

    Both reach a whole terminal or group; the first process decides, and it finishes what the others compute. The end
    of the pipe ends them.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # it would lift the block again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
