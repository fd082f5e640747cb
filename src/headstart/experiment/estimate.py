"""How long it will take: work counted in encoder passes over one text, at the rate measured so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from headstart.experiment.progress import Progress, Reporter

# Until something has been measured: this share of the product rate ends up as useful work (docs/performance.md).
_USEFUL_SHARE = 0.4
_BEST_RATE_AFTER = 0.05  # trust the measured rate after this share of a fit


class Clock:
    """Turns "so many texts were done" into progress with an estimate.

    Args:
        reporter: who is told.
        work: work of each fit still to do, in encoder passes over one text.
        rate: passes per second expected at first, or None.
        now: monotonic clock in seconds.
    """

    def __init__(
        self,
        reporter: Reporter,
        work: Sequence[float],
        *,
        rate: float | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.reporter = reporter
        self.work = list(work)
        self.now = now
        self.expected_rate = rate
        self.spent_work = 0.0
        self.spent_seconds = 0.0
        self.at = -1
        self.title = ""
        self.cost = 1.0
        self.done = 0.0
        self.started = now()

    def begin(self, title: str, cost: float) -> None:
        """Go on to the next fit, whose training texts each cost ``cost`` passes."""
        self.at += 1
        self.title, self.cost, self.done, self.started = title, cost, 0.0, self.now()
        self._tell()

    def trained(self, texts: int) -> None:
        """Hear that ``texts`` more texts were trained on."""
        self._did(self.cost * texts)

    def scored(self, texts: int) -> None:
        """Hear that ``texts`` more texts were scored."""
        self._did(float(texts))

    def _did(self, work: float) -> None:
        self.done = min(self.work[self.at], self.done + work)
        self._tell()

    def end(self) -> None:
        """Hear that the fit is over; early stopping may have saved some of its work."""
        if self.work[self.at] > 0 and self.done > 0:
            self.spent_work += self.done
            self.spent_seconds += self.now() - self.started
        self.work[self.at] = self.done
        self.done = 0.0

    def _rate(self) -> float | None:
        work, seconds = self.spent_work, self.spent_seconds
        if self.done > _BEST_RATE_AFTER * self.work[self.at] and self.work[self.at] > 0:
            work, seconds = work + self.done, seconds + self.now() - self.started
        if work > 0 and seconds > 0:
            return work / seconds
        return self.expected_rate

    def _tell(self) -> None:
        total, behind = sum(self.work), sum(self.work[: self.at]) + self.done
        rate = self._rate()
        current = self.work[self.at]
        self.reporter.update(
            Progress(
                fit=self.title,
                number=self.at + 1,
                fits=len(self.work),
                share=self.done / current if current else 0.0,
                share_all=behind / total if total else 0.0,
                seconds_left=(total - behind) / rate if rate else None,
            )
        )


def first_rate(product_rate: float | None, parameters: int, tokens: float) -> float | None:
    """Return expected passes per second, before anything was measured.

    Args:
        product_rate: GFLOP/s of matrix products, or None where it was not measured.
        parameters: the encoder's parameters in matrices, embeddings aside.
        tokens: mean tokens per text.
    """
    if not product_rate or not parameters or not tokens:
        return None
    return _USEFUL_SHARE * product_rate * 1e9 / (2.0 * parameters * tokens)
