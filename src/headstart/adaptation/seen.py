"""Which texts an encoder was adapted on, so that a comparison can tell when they are the ones that judge it.

Kept as fingerprints: the folder says of a text in hand whether it was among them, and holds no text itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from headstart.data.examples import Examples
from headstart.data.rows import text_keys
from headstart.records import fingerprint, whole_file

SEEN = "adaptation_texts.jsonl"


def write_seen(folder: Path, texts: Iterable[str], before: Iterable[str] = ()) -> None:
    """Write the fingerprints of the texts that an encoder was adapted on beside it, each once, one a line, sorted.

    Args:
        folder: the adapted encoder's.
        texts: what it was adapted on.
        before: fingerprints of what the encoder that it started from was adapted on.

    Raises:
        StorageError: the file cannot be written.
    """
    found = sorted({*before, *(fingerprint([key]) for key in text_keys(texts, None))})
    with whole_file(folder / SEEN) as temporary:
        temporary.write_text("".join(f'"{one}"\n' for one in found), encoding="utf-8")


def read_seen(folder: Path) -> frozenset[str] | None:
    """Return the fingerprints, or None where the encoder was not adapted, or nothing is known of it."""
    try:
        lines = (folder / SEEN).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError):
        return None
    return frozenset(line.strip('"') for line in lines)


def count_seen(examples: Examples, seen: frozenset[str]) -> int:
    """Return how many examples were among the texts; of pairs, one text or both joined by a line break is enough."""
    columns = [examples.joined()] if examples.pairs is None else [examples.joined(), examples.texts, examples.pairs]
    rows = zip(*(text_keys(texts, None) for texts in columns), strict=True)
    return sum(any(fingerprint([key]) in seen for key in keys) for keys in rows)
