"""Every error a user can meet.

    HeadstartError
    ├── ConfigError      a setting, flag or YAML key is wrong          (also a ValueError)
    ├── DataError        a file, row, column or label is wrong         (also a ValueError)
    │   └── NoRowsError  a file holds no row
    ├── ModelError       an encoder or model folder cannot be used
    ├── MissingExtraError     an optional dependency is not installed       (also an ImportError)
    ├── StorageError     the output cannot be written
    └── StrategyError    one strategy cannot be fitted on this task

Each says what was got, what was expected, and the next step, in the user's words.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

_A_LETTER_OR_TWO = 0.75
_PLAIN = {
    "Input should be": "must be",
    "Value error, ": "",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "more than",
    ", unable to parse string as an integer": "",
    ", unable to parse string as a number": "",
    ", unable to interpret input": "",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "text",
    "a valid tuple": "a list",
    "a valid dictionary": "a table of settings",
    "a valid boolean": "true or false",
}


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


class NoRowsError(DataError):
    """A file holds no row; among other files it may be passed over."""


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
    """Return `` Did you mean 'x'?`` for the closest known name, or an empty string.

    A name with the same letters comes first (``lable``), then one that differs in a letter or two, then one that holds
    what was typed (``f1`` in ``macro_f1``).
    """
    lowered = {str(k).lower(): str(k) for k in known}
    typed = str(name).lower()
    swapped = [k for k in lowered if sorted(k) == sorted(typed)]
    near = difflib.get_close_matches(typed, list(lowered), n=1, cutoff=_A_LETTER_OR_TWO)
    holding = [k for k in lowered if len(typed) > 1 and typed in k]
    close = swapped or near or holding or difflib.get_close_matches(typed, list(lowered), n=1, cutoff=0.5)
    return f" Did you mean '{lowered[close[0]]}'?" if close else ""


def counted(count: int, one: str, many: str) -> str:
    """Return ``1 row has`` or ``1,200 rows have``: a number and what agrees with it.

    Args:
        count: how many.
        one: the words behind 1, e.g. ``"row has"``.
        many: the words behind every other number, e.g. ``"rows have"``.
    """
    return f"{count:,} {one if count == 1 else many}"


def plain_words(message: str) -> str:
    """Return what pydantic says about a value, in words for people who do not write Python."""
    for technical, plain in _PLAIN.items():
        message = message.replace(technical, plain)
    return message


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
