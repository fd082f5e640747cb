"""Models in processes of their own, each with its share of the cores.

One process with a thread per core waits for itself: at every product the threads meet, and whichever shares its core
with the event loop comes last. Processes do not meet, and no interpreter lock is shared with the requests that are
being read and answered (docs/performance.md).
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import signal
import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from headstart.data.examples import Examples
from headstart.data.labels import Labels
from headstart.errors import ConfigError, DataError, HeadstartError, ModelError
from headstart.models.classifier import Advance, Classifier, Prepared, Probabilities
from headstart.models.folder import Model
from headstart.models.predicting import blank_row
from headstart.serving.starting import context, signals_blocked

Open = Callable[[Path], Model]
_Texts = tuple[Sequence[str], Sequence[str] | None, Any]  # texts, their partners, columns
_MOST = 4  # beyond it single texts get too slow for what throughput gains
_MEMORY_SHARE = 0.5  # of the memory that is free when the server starts
_STOP_SECONDS = 5
_NICENESS = 5  # whoever reads and answers requests comes first
_FAULTS: dict[str, Callable[[tuple[str, ...]], HeadstartError]] = {"DataError": DataError, "ConfigError": ConfigError}


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
        self._lock = threading.Lock()
        self._free = list(self._all)
        self._asked: list[tuple[Collection[_Worker], Future[_Worker]]] = []  # who waits for one of which, in turn
        self._keys = itertools.count()

    def open(self, folder: Path) -> Model:
        """Open a model in every process; return it with a classifier that asks them.

        Raises:
            HeadstartError: it cannot be opened.
        """
        key = next(self._keys)

        def opened(worker: _Worker) -> None:
            with self._one_of((worker,)):
                worker.open(key, folder)

        # One after the other, so that the others go on labeling; all at once where there is nothing to label yet.
        with ThreadPoolExecutor(self.count if key == 0 else 1) as pool:
            opening = pool.map(opened, self._all)
            try:
                model = self._open(folder)
                list(opening)
            except BaseException:
                self._forget(key)
                raise
        remote = RemoteClassifier(self, key, folder, model.classifier)
        weakref.finalize(remote, self._forget, key).atexit = False
        return Model(remote, model.card, model.folder)

    def label(self, key: int, folder: Path, examples: Examples) -> Probabilities:
        """Return class probabilities (N, C), by whichever process is free first.

        Raises:
            HeadstartError: what went wrong there.
        """
        with self._one_of(self._all) as worker:
            return worker.label(key, folder, examples)

    def memory_bytes(self) -> int:
        """Return the resident memory of all processes."""
        return sum(worker.memory_bytes() for worker in self._all)

    def close(self) -> None:
        """End the processes."""
        for worker in self._all:
            worker.close()

    @contextlib.contextmanager
    def _one_of(self, wanted: Collection[_Worker]) -> Iterator[_Worker]:
        """Have a process to oneself, the first of those wanted that is free; who came first is served first."""
        asked: Future[_Worker] = Future()
        with self._lock:
            self._asked.append((wanted, asked))
            self._hand_out()
        worker = asked.result()
        try:
            yield worker
        finally:
            with self._lock:
                self._free.append(worker)
                self._hand_out()

    def _hand_out(self) -> None:
        for entry in list(self._asked):
            wanted, asked = entry
            found = next((worker for worker in self._free if worker in wanted), None)
            if found is not None:
                self._free.remove(found)
                self._asked.remove(entry)
                asked.set_result(found)

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
        made = context()
        self._pipe, theirs = made.Pipe()
        self._process = made.Process(target=work, args=(theirs, self._threads, self._open), daemon=True)
        with signals_blocked():
            self._process.start()
        theirs.close()

    def open(self, key: int, folder: Path) -> None:
        """Open a model and label a blank text, so that the first request finds all made."""
        self._ask_again(key, folder, None)

    def label(self, key: int, folder: Path, examples: Examples) -> Probabilities:
        """Return class probabilities (N, C)."""
        found = self._ask_again(key, folder, (examples.texts, examples.pairs, examples.columns))
        assert found is not None
        return found

    def _ask_again(self, key: int, folder: Path, texts: _Texts | None) -> Probabilities | None:
        """Ask, and once more in a new process where the old one has ended."""
        try:
            return self._ask(key, folder, texts)
        except (EOFError, OSError):
            self.close()
            self._start()
            return self._ask(key, folder, texts)

    def _ask(self, key: int, folder: Path, texts: _Texts | None) -> Probabilities | None:
        dropped = [self.dropped.popleft() for _ in range(len(self.dropped))]
        self._pipe.send((dropped, key, folder, texts))
        found: Probabilities | _Fault | None = self._pipe.recv()
        if isinstance(found, _Fault):
            raise found.error()
        return found

    def memory_bytes(self) -> int:
        """Return the resident memory of the process; 0 where it has ended."""
        with contextlib.suppress(psutil.Error):
            return int(psutil.Process(self._process.pid).memory_info().rss)
        return 0

    def close(self) -> None:
        """End the process."""
        self._pipe.close()  # it reads the end of the pipe, and ends
        self._process.join(_STOP_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


@dataclass(frozen=True)
class _Fault:
    """What went wrong in a process, as it is sent: not every error can be."""

    kind: str
    words: tuple[str, ...]

    @classmethod
    def of(cls, problem: Exception) -> _Fault:
        """Return an error of our own as its words, another as its type and words."""
        if isinstance(problem, DataError | ConfigError):
            return cls(type(problem).__name__, problem.faults)
        known = isinstance(problem, HeadstartError)
        return cls("", (str(problem) if known else f"{type(problem).__name__}: {problem}",))

    def error(self) -> HeadstartError:
        """Return the error to raise: of the kind it was, where that is the user's doing."""
        return _FAULTS[self.kind](self.words) if self.kind in _FAULTS else ModelError(self.words[0])


def work(pipe: Connection, threads: int, open_model: Open) -> None:
    """Label what comes out of a pipe until its end: the whole life of a process.

    Args:
        pipe: gives (keys no longer needed, key, folder, (texts, pairs, columns) or None where the model is only to be
            opened); takes probabilities, None, or what is wrong.
        threads: to compute with.
        open_model: opens a folder.
    """
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    if hasattr(os, "nice"):  # not on Windows
        os.nice(_NICENESS)
    import torch

    from headstart.models.runtime import keep_freed_memory

    torch.set_num_threads(threads)
    keep_freed_memory()
    classifiers: dict[int, Classifier] = {}
    with contextlib.suppress(EOFError, OSError):  # whoever asked has gone
        while True:
            dropped, key, folder, given = pipe.recv()
            for old in dropped:
                classifiers.pop(old, None)
            answer: Probabilities | _Fault | None = None
            try:
                if key not in classifiers:
                    model = open_model(folder)
                    model.predict_proba(blank_row(model))
                    classifiers[key] = model.classifier
                if given is not None:
                    texts, pairs, columns = given
                    answer = classifiers[key].predict_proba(Examples.of(texts, pairs=pairs, columns=columns))
            except Exception as problem:  # told to whoever asked, as a thread's would be
                answer = _Fault.of(problem)
            pipe.send(answer)
