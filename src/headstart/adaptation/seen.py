"""Which texts an encoder was adapted on, so that a comparison can tell when they are the ones that judge it.

Kept as fingerprints: the folder says of a text in hand whether it was among them, and holds no text itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headstart.data.examples import Examples
from headstart.data.rows import text_keys
from headstart.records import fingerprint, read_json, write_json

SEEN = "adaptation_texts.json"


def write_seen(folder: Path, texts: Sequence[str]) -> None:
    """Write the fingerprints of the texts that an encoder was adapted on beside it, each once and in their own order.

    Raises:
        StorageError: the file cannot be written.
    """
    write_json(folder / SEEN, sorted({fingerprint([key]) for key in text_keys(texts, None)}))


def read_seen(folder: Path) -> frozenset[str] | None:
    """Return the fingerprints, or None where the encoder was not adapted here, or the file is damaged."""
    try:
        found = read_json(folder / SEEN)
    except (OSError, ValueError):
        return None
    return frozenset(map(str, found)) if isinstance(found, list) else None


def count_seen(examples: Examples, seen: frozenset[str]) -> int:
    """Return how many examples were among the texts; of pairs, one text or both joined by a line break is enough."""
    columns = [examples.joined()] if examples.pairs is None else [examples.joined(), examples.texts, examples.pairs]
    rows = zip(*(text_keys(texts, None) for texts in columns), strict=True)
    return sum(any(fingerprint([key]) in seen for key in keys) for keys in rows)
