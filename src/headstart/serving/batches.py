"""Texts of many requests, computed together: a few threads run the models, and whoever waits shares their batches."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from headstart.data.examples import Examples
from headstart.models.batching import Rows, scoring_batches
from headstart.models.classifier import Classifier, Prepared, Probabilities

_LONGEST_RETRY_SECONDS = 60
_MOST_GATHERED = 10  # times gather_seconds that texts may keep coming before the first is computed
_OLD_SHARE = 0.8  # of the running mean of seconds per text


class QueueFullError(Exception):
    """More texts wait than may.

    Attributes:
        retry_seconds: when there is likely to be room.
    """

    def __init__(self, retry_seconds: int) -> None:
        super().__init__(f"the queue is full; try again in {retry_seconds} s")
        self.retry_seconds = retry_seconds


@dataclass(eq=False)
class _Job:
    """One request that waits: which of its texts are computed, and who is told."""

    classifier: Classifier
    examples: Examples
    answer: asyncio.Future[Probabilities]
    taken: int = 0
    parts: dict[int, Probabilities] = field(default_factory=dict)  # by first row: pieces end in any order

    @property
    def left(self) -> int:
        return len(self.examples) - self.taken


@dataclass(frozen=True)
class _Piece:
    """Texts of one request that one round computes: those from its row ``first`` on."""

    job: _Job
    first: int
    examples: Examples

    def __len__(self) -> int:
        return len(self.examples)


_Outcome = Probabilities | Exception


class Batcher:
    """Gathers waiting texts into rounds, each computed in batches of similar length; who is done is told at once.

    Nobody waits for company while requests come one by one. A request keeps the classifier it came with, so that models
    can be exchanged while it waits. Of several requests for one classifier each gets its share of a round: a list of a
    thousand texts does not hold up a single one.

    Args:
        max_waiting: most texts that may wait.
        max_batch: most texts of a round.
        gather_seconds: how long a round waits for a further text, where several come at the same time.
        workers: rounds computed at the same time, each by a thread of its own.
        observe: told texts and seconds of every round.
    """

    def __init__(
        self,
        *,
        max_waiting: int,
        max_batch: int,
        gather_seconds: float,
        workers: int = 1,
        observe: Callable[[int, float], None] = lambda texts, seconds: None,
    ) -> None:
        self.max_waiting = max_waiting
        self.max_batch = max_batch
        self.gather_seconds = gather_seconds
        self.workers = workers
        self.waiting = 0  # or being computed
        self._observe = observe
        self._jobs: list[_Job] = []
        self._arrived = asyncio.Event()
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="headstart-model")
        self._tasks: list[asyncio.Task[None]] = []
        self._idle = workers
        self._seconds_per_text = 0.0
        self._came = 0

    def start(self) -> None:
        """Begin to compute what arrives; called inside a running event loop."""
        self._tasks = [asyncio.create_task(self._run()) for _ in range(self.workers)]

    @property
    def running(self) -> bool:
        """Whether what arrives will be computed."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    async def stop(self) -> None:
        """Finish what waits, then end the threads."""
        while self.waiting and self.running:
            await asyncio.sleep(self.gather_seconds)
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._threads.shutdown()

    async def predict_proba(self, classifier: Classifier, examples: Examples) -> Probabilities:
        """Return class probabilities (N, C) when their turn has come.

        Raises:
            QueueFullError: too many texts wait already.
        """
        n = len(examples)
        if not n:
            return np.zeros((0, len(classifier.labels)))
        if self.waiting + n > self.max_waiting:
            raise QueueFullError(self.retry_seconds())
        job = _Job(classifier, examples, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self.waiting += n
        self._came += n
        self._arrived.set()
        try:
            return await job.answer
        finally:  # an error, or whoever asked has gone: the rest is not computed
            if job in self._jobs:
                self._jobs.remove(job)
            self.waiting -= n

    def retry_seconds(self) -> int:
        """Return in how many seconds what waits now will be done, as far as can be told."""
        return max(1, min(_LONGEST_RETRY_SECONDS, math.ceil(self.waiting * self._seconds_per_text / self.workers)))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()

        def told(piece: _Piece, outcome: _Outcome) -> None:
            loop.call_soon_threadsafe(self._settle, piece, outcome)

        alone = True
        while True:
            if not self._jobs:
                self._arrived.clear()
                await self._arrived.wait()
                if not alone:
                    await self._gather()
            pieces = self._take()
            if pieces:
                alone = len(pieces) == 1
                self._idle -= 1
                began = time.perf_counter()
                await loop.run_in_executor(self._threads, _compute, pieces, told)
                self._idle += 1
                self._measure(sum(map(len, pieces)), time.perf_counter() - began)

    async def _gather(self) -> None:
        """Wait for as long as texts keep coming, which those who were answered last send one after the other."""
        give_up = time.monotonic() + _MOST_GATHERED * self.gather_seconds
        came = 0
        while came < self._came and self._left() < self.max_batch and time.monotonic() < give_up:
            came = self._came
            await asyncio.sleep(self.gather_seconds)

    def _left(self) -> int:
        return sum(job.left for job in self._jobs)

    def _take(self) -> list[_Piece]:
        """Take texts of the longest-waiting request and of those for the same classifier, in fair shares.

        Of what waits, each idle worker leaves the others theirs.
        """
        if not self._jobs:
            return []
        classifier = self._jobs[0].classifier
        chosen = [job for job in self._jobs if job.classifier is classifier][: self.max_batch]
        room = min(self.max_batch, math.ceil(self._left() / self._idle))
        chosen = chosen[:room]
        pieces = []
        for others, job in zip(range(len(chosen), 0, -1), sorted(chosen, key=lambda j: j.left), strict=True):
            n = min(job.left, room // others)
            rows = range(job.taken, job.taken + n)
            part = job.examples if n == len(job.examples) else job.examples.take(rows)
            pieces.append(_Piece(job, job.taken, part))
            job.taken += n
            room -= n
        unfinished = [job for job in chosen if job.left]  # behind the others, so that every classifier has its turn
        self._jobs = [job for job in self._jobs if job not in chosen] + unfinished
        return pieces

    def _settle(self, piece: _Piece, outcome: _Outcome) -> None:
        job = piece.job
        if job.answer.done():
            return
        if isinstance(outcome, Exception):
            job.answer.set_exception(outcome)
            return
        job.parts[piece.first] = outcome
        if sum(map(len, job.parts.values())) == len(job.examples):
            job.answer.set_result(np.concatenate([job.parts[first] for first in sorted(job.parts)]))

    def _measure(self, texts: int, seconds: float) -> None:
        each = seconds / texts
        old = self._seconds_per_text or each
        self._seconds_per_text = _OLD_SHARE * old + (1 - _OLD_SHARE) * each
        self._observe(texts, seconds)


def _compute(pieces: Sequence[_Piece], told: Callable[[_Piece, _Outcome], None]) -> None:
    """Compute pieces together; where that fails each alone, so that one bad request spoils no other's answer."""
    classifier = pieces[0].job.classifier
    sizes = [len(piece) for piece in pieces]
    owners = np.repeat(np.arange(len(pieces)), sizes)  # (N,)
    left = np.asarray(sizes)
    proba = np.zeros((len(owners), len(classifier.labels)))
    try:
        prepared = classifier.prepare(_joined([piece.examples for piece in pieces]))
        for rows in _batches(prepared):
            proba[rows] = classifier.score(_part(prepared, rows))
            left -= np.bincount(owners[rows], minlength=len(pieces))
            for owner in np.unique(owners[rows]):
                if not left[owner]:
                    told(pieces[owner], proba[owners == owner])
    except Exception as problem:  # handed to whoever asked
        if len(pieces) == 1:
            told(pieces[0], problem)
            return
        for owner in np.flatnonzero(left).tolist():
            _compute([pieces[owner]], told)


def _batches(prepared: Prepared) -> Iterable[Rows]:
    """Yield rows in batches of similar length; where no tokens are read, all."""
    if prepared.tokens is None:
        return [np.arange(len(prepared.examples))]
    return scoring_batches(prepared.tokens.lengths)


def _part(prepared: Prepared, rows: Rows) -> Prepared:
    tokens = prepared.tokens
    return Prepared(prepared.examples.take(rows), None if tokens is None else tokens.take(rows))


def _joined(parts: Sequence[Examples]) -> Examples:
    if len(parts) == 1:
        return parts[0]
    pairs = [p.pairs for p in parts if p.pairs is not None]
    columns = [p.columns for p in parts if p.columns is not None]
    return Examples.of(
        [text for part in parts for text in part.texts],
        pairs=[text for second in pairs for text in second] if pairs else None,
        columns=pd.concat(columns, ignore_index=True) if columns else None,
    )
