"""Models in processes of their own, each with its share of the cores.

One process with a thread per core waits for itself: at every product the threads meet, and whichever shares its core
with the event loop comes last. Processes do not meet, and no interpreter lock is shared with the requests that are
being read and answered (docs/performance.md).
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import multiprocessing
import os
import queue
import signal
import weakref
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from headstart.data.examples import Examples
from headstart.data.labels import Labels
from headstart.errors import ModelError
from headstart.models.classifier import Advance, Classifier, Prepared, Probabilities
from headstart.models.folder import Model
from headstart.models.predicting import blank_row

Open = Callable[[Path], Model]
_MOST = 4  # beyond it single texts get too slow for what throughput gains
_MEMORY_SHARE = 0.5  # of the memory that is free when the server starts
_STOP_SECONDS = 5


def count_for(cores: int, weights_bytes: int, free_bytes: int) -> int:
    """Return how many processes serve best: one per core, at most 4, as far as copies of the weights fit.

    Args:
        cores: that may be used.
        weights_bytes: size of all models.
        free_bytes: free memory; half of it may be filled.
    """
    fitting = int(free_bytes * _MEMORY_SHARE // max(1, weights_bytes))
    return max(1, min(cores, _MOST, fitting))


class Workers:
    """Processes that hold the same models and label texts side by side.

    A process that ends (killed for its memory, say) is started again, and what it was asked is asked once more.

    Args:
        count: how many.
        threads: of each.
        open_model: opens a folder; something that can be sent to another process.
    """

    def __init__(self, count: int, *, threads: int, open_model: Open) -> None:
        self.count = count
        self._open = open_model
        self._all = [_Worker(threads, open_model) for _ in range(count)]
        self._free: queue.Queue[_Worker] = queue.Queue()
        for worker in self._all:
            self._free.put(worker)
        self._keys = itertools.count()

    def open(self, folder: Path) -> Model:
        """Open a model in every process; return it with a classifier that asks them.

        Raises:
            ModelError: it cannot be opened.
        """
        model = self._open(folder)
        remote = RemoteClassifier(self, next(self._keys), folder, model.classifier)
        waiting = set(self._all)
        while waiting:  # one after the other, so that the others go on labeling
            with self._any() as worker:
                if worker in waiting:
                    waiting.discard(worker)
                    worker.label(remote.key, folder, model.examples(blank_row(model)))
        weakref.finalize(remote, self._forget, remote.key).atexit = False
        return Model(remote, model.card, model.folder)

    def label(self, key: int, folder: Path, examples: Examples) -> Probabilities:
        """Return class probabilities (N, C), by whichever process is free first."""
        with self._any() as worker:
            return worker.label(key, folder, examples)

    def close(self) -> None:
        """End the processes."""
        for worker in self._all:
            worker.close()

    @contextlib.contextmanager
    def _any(self) -> Iterator[_Worker]:
        worker = self._free.get()
        try:
            yield worker
        finally:
            self._free.put(worker)

    def _forget(self, key: int) -> None:
        for worker in self._all:
            worker.dropped.append(key)


class RemoteClassifier:
    """A classifier that other processes hold.

    Args:
        workers: the processes.
        key: what they know it by.
        folder: its folder.
        like: the same classifier, opened here; what it is, is kept, its weights are not.
    """

    def __init__(self, workers: Workers, key: int, folder: Path, like: Classifier) -> None:
        self.kind: str = like.kind
        self.labels: Labels = like.labels
        self.key = key
        self._workers, self._folder, self._parameters = workers, folder, like.parameters()

    def prepare(self, examples: Examples) -> Prepared:
        """Return the texts as they are: a process that labels them tokenizes them."""
        return Prepared(examples)

    def score(self, prepared: Prepared, advance: Advance | None = None) -> Probabilities:
        """Return class probabilities (N, C)."""
        return self.predict_proba(prepared.examples, advance)

    def predict_proba(self, examples: Examples, advance: Advance | None = None) -> Probabilities:
        """Return class probabilities (N, C)."""
        found = self._workers.label(self.key, self._folder, examples)
        if advance is not None:
            advance(len(examples))
        return found

    def write(self, folder: Path) -> dict[str, Any]:
        """Refuse: the weights are not here.

        Raises:
            ModelError: always.
        """
        raise ModelError(f"this model is only served; its folder is {self._folder}")

    def parameters(self) -> int:
        """Return the number of all parameters."""
        return self._parameters


class _Worker:
    """One process, asked by one thread at a time."""

    def __init__(self, threads: int, open_model: Open) -> None:
        self._threads, self._open = threads, open_model
        self.dropped: collections.deque[int] = collections.deque()
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs, self._threads, self._open), daemon=True)
        self._process.start()
        theirs.close()

    def label(self, key: int, folder: Path, examples: Examples) -> Probabilities:
        """Return class probabilities (N, C)."""
        try:
            return self._ask(key, folder, examples)
        except (EOFError, OSError):
            self.close()
            self._start()
            return self._ask(key, folder, examples)

    def _ask(self, key: int, folder: Path, examples: Examples) -> Probabilities:
        dropped = [self.dropped.popleft() for _ in range(len(self.dropped))]
        self._pipe.send((dropped, key, folder, examples.texts, examples.pairs, examples.columns))
        found: Probabilities | str = self._pipe.recv()
        if isinstance(found, str):
            raise ModelError(found)
        return found

    def close(self) -> None:
        """End the process."""
        self._pipe.close()  # it reads the end of the pipe, and ends
        self._process.join(_STOP_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def work(pipe: Connection, threads: int, open_model: Open) -> None:
    """Label what comes out of a pipe until its end: the whole life of a process.

    Args:
        pipe: gives (keys no longer needed, key, folder, texts, pairs, columns); takes probabilities, or what is wrong.
        threads: to compute with.
        open_model: opens a folder.
    """
    import torch

    from headstart.models.runtime import keep_freed_memory

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the first one decides
    os.nice(5)
    torch.set_num_threads(threads)
    keep_freed_memory()
    classifiers: dict[int, Classifier] = {}
    with contextlib.suppress(EOFError, OSError):  # whoever asked has gone
        while True:
            dropped, key, folder, texts, pairs, columns = pipe.recv()
            for old in dropped:
                classifiers.pop(old, None)
            answer: Probabilities | str
            try:
                if key not in classifiers:
                    classifiers[key] = open_model(folder).classifier
                answer = classifiers[key].predict_proba(Examples.of(texts, pairs=pairs, columns=columns))
            except Exception as problem:  # told to whoever asked, as a thread's would be
                answer = f"{type(problem).__name__}: {problem}"
            pipe.send(answer)
