"""How a comparison is watched: a bar on a terminal, a line now and then elsewhere. Everything goes to stderr."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from headstart.evaluation.metrics import METRICS
from headstart.experiment.progress import Progress
from headstart.report.words import decimals, plain, seconds

_LINE_EVERY_SECONDS = 10.0


class _Spoken:
    """What both reporters share: sentences and finished fits."""

    def __init__(self, console: Console, metric: str, *, quiet: bool) -> None:
        self.console = console
        self.metric = metric
        self.quiet = quiet

    def say(self, message: str) -> None:
        """Show a sentence."""
        if not self.quiet:
            self.line(message)

    def warn(self, message: str) -> None:
        """Show a sentence that needs attention, also when quiet."""
        self.line(f"warning: {message}", style="yellow")

    def done(self, row: Mapping[str, Any]) -> None:
        """Show how a fit ended."""
        if not self.quiet:
            self.line(fit_line(row, self.metric))

    def line(self, text: str, style: str | None = None) -> None:
        """Print one line as it is: no markup, no highlighting, no control characters."""
        words = plain(text) if "\n" not in text else "\n".join(plain(part) for part in text.split("\n"))
        self.console.print(words, style=style, markup=False, highlight=False, soft_wrap=True)


class LineReporter(_Spoken):
    """For logs and pipes: one line at most every ten seconds.

    Args:
        console: where to.
        metric: whose validation value is shown when a fit ends.
        quiet: only warnings.
        clock: seconds, ever growing.
    """

    def __init__(
        self, console: Console, metric: str, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(console, metric, quiet=quiet)
        self._clock = clock
        self._last = clock()

    def update(self, progress: Progress) -> None:
        """Show where it stands, if the last line is ten seconds old."""
        if self.quiet or self._clock() - self._last < _LINE_EVERY_SECONDS:
            return
        self._last = self._clock()
        self.line(
            f"{progress.number}/{progress.fits} {progress.fit}: {progress.share:.0%}; "
            f"all {progress.share_all:.0%}, {time_left(progress.seconds_left)}"
        )


class BarReporter(_Spoken):
    """For terminals: a bar that stays below what is said.

    Args:
        console: a terminal.
        metric: whose validation value is shown when a fit ends.
        bar: a started progress display of one task.
    """

    def __init__(self, console: Console, metric: str, bar: Bar) -> None:
        super().__init__(console, metric, quiet=False)
        self._bar = bar
        self._task = bar.add_task("checking the data", total=1.0, left="")

    def update(self, progress: Progress) -> None:
        """Move the bar."""
        self._bar.update(
            self._task,
            description=plain(f"{progress.number}/{progress.fits} {progress.fit}"),
            completed=progress.share_all,
            left=time_left(progress.seconds_left),
        )


@contextlib.contextmanager
def reporter(
    metric: str, *, quiet: bool = False, console: Console | None = None
) -> Iterator[LineReporter | BarReporter]:
    """Yield what listens to a comparison, by what stderr is.

    Args:
        metric: whose validation value is shown when a fit ends.
        quiet: only warnings.
        console: instead of stderr.
    """
    console = console or Console(stderr=True)
    if quiet or not console.is_terminal:
        yield LineReporter(console, metric, quiet=quiet)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[left]}", markup=False),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        yield BarReporter(console, metric, bar)


def time_left(left: float | None) -> str:
    """Return ``at most 2m10s left``; the estimate is an upper bound, for early stopping may end a fit sooner."""
    return "time left not known yet" if left is None else f"at most {seconds(left)} left"


def fit_line(row: Mapping[str, Any], metric: str) -> str:
    """Return ``full, seed 0: macro-F1 0.852 on validation, 41s`` or why there is none."""
    seed = "" if row.get("seed") is None else f", seed {row['seed']}"
    name = f"{row.get('name')}{seed}"
    if row.get("status") != "ok":
        return f"{name}: {row.get('status')}: {row.get('reason') or 'no reason given'}"
    found = (row.get("validation") or {}).get(metric)
    value = found.get("value") if isinstance(found, Mapping) else found
    return f"{name}: {METRICS[metric].title} {decimals(value)} on validation, {seconds(row.get('seconds_fit'))}"
