"""What a running comparison tells whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Progress:
    """Where a comparison stands.

    Attributes:
        fit: what is being fitted, e.g. ``full, seed 1``.
        number: its place, from 1.
        fits: how many there are in all.
        share: done share of this fit, 0-1, by work.
        share_all: done share of the whole comparison, 0-1, by work.
        seconds_left: estimated upper bound of the time left, from the work rate measured so far; None until known.
    """

    fit: str
    number: int
    fits: int
    share: float
    share_all: float
    seconds_left: float | None


class Reporter(Protocol):
    """Listens to a comparison; the terminal and the notebook each have one."""

    def say(self, message: str) -> None:
        """Hear one plain sentence (a finding, what was cut, the precision chosen)."""
        ...

    def warn(self, message: str) -> None:
        """Hear one sentence that needs attention."""
        ...

    def update(self, progress: Progress) -> None:
        """Hear how far it is; called often, cheap to ignore."""
        ...

    def done(self, row: dict[str, Any]) -> None:
        """Hear that a fit ended: its record (``name``, ``seed``, ``status``, ``reason``, ``validation``, ...)."""
        ...


class Silent:
    """Hears everything and shows nothing."""

    def say(self, message: str) -> None:
        """Show nothing."""

    def warn(self, message: str) -> None:
        """Show nothing."""

    def update(self, progress: Progress) -> None:
        """Show nothing."""

    def done(self, row: dict[str, Any]) -> None:
        """Show nothing."""
