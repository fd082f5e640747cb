"""Every error a user can meet.

    HeadstartError
    ├── ConfigError      a setting, flag or YAML key is wrong          (also a ValueError)
    ├── DataError        a file, row, column or label is wrong         (also a ValueError)
    ├── ModelError       an encoder or model folder cannot be used
    ├── MissingExtraError     an optional dependency is not installed       (also an ImportError)
    ├── StorageError     the output cannot be written
    └── StrategyError    one strategy cannot be fitted on this task

Each says what was got, what was expected, and the next step, in the user's words.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class HeadstartError(Exception):
    """Base of all errors raised on purpose; the command line prints its text and exits with 2."""


class ConfigError(HeadstartError, ValueError):
    """One or more settings are wrong; all faults are listed at once.

    Attributes:
        faults: one sentence per fault, in the order found.
    """

    def __init__(self, faults: str | Sequence[str]) -> None:
        self.faults: tuple[str, ...] = (faults,) if isinstance(faults, str) else tuple(faults)
        super().__init__("\n".join(self.faults))


class DataError(HeadstartError, ValueError):
    """The data cannot be used as given; all findings are listed at once."""

    def __init__(self, faults: str | Sequence[str]) -> None:
        self.faults: tuple[str, ...] = (faults,) if isinstance(faults, str) else tuple(faults)
        super().__init__("\n".join(self.faults))


class ModelError(HeadstartError):
    """An encoder or a model folder is missing, damaged, unsafe or of the wrong kind."""


class StorageError(HeadstartError):
    """The output folder cannot be written (read-only, full, of another configuration)."""


class StrategyError(HeadstartError):
    """One strategy cannot be fitted on this task; the comparison goes on without it."""


class MissingExtraError(HeadstartError, ImportError):
    """An optional dependency is not installed.

    Args:
        extra: name of the extra, as in ``pip install "headstart[extra]"``.
        purpose: what needs it, in the user's words.
    """

    def __init__(self, extra: str, purpose: str) -> None:
        self.extra = extra
        super().__init__(f'{purpose} needs an optional package: pip install "headstart[{extra}]"')


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the closest known name, or an empty string."""
    known = [str(k) for k in known]
    lowered = {k.lower(): k for k in known}
    close = difflib.get_close_matches(str(name).lower(), list(lowered), n=1, cutoff=0.5)
    return f" Did you mean '{lowered[close[0]]}'?" if close else ""


def unknown_name(kind: str, name: str, known: Iterable[str], where: str = "") -> str:
    """Return the sentence for a name that is not in a list, with the closest one.

    Args:
        kind: what the name names, e.g. ``"strategy"``.
        name: what was got.
        known: valid names, listed in the given order.
        where: flag, YAML path or file, put in brackets at the end.
    """
    known = list(known)
    place = f" ({where})" if where else ""
    return f"{kind} '{name}' is unknown; known: {', '.join(known)}.{did_you_mean(name, known)}{place}"
