"""What every kind of classifier can do, whatever it is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from headstart.data.examples import Examples
from headstart.data.labels import Labels

if TYPE_CHECKING:
    from headstart.models.batching import Tokens

Probabilities = npt.NDArray[np.float64]
Advance = Callable[[int], None]  # told how many texts (or steps) were done since the last call


@dataclass(frozen=True)
class Prepared:
    """N texts, made ready for a classifier.

    Attributes:
        examples: the texts.
        tokens: their tokens, where the classifier reads tokens.
    """

    examples: Examples
    tokens: Tokens | None = None


class Classifier(Protocol):
    """Encoder + head + label names, ready to predict and to be written."""

    kind: str
    labels: Labels

    def prepare(self, examples: Examples) -> Prepared:
        """Do what the processor can do for the next texts while the network is busy with others: tokenize."""
        ...

    def score(self, prepared: Prepared, advance: Advance | None = None) -> Probabilities:
        """Return class probabilities, shape (N, C), of what `prepare` returned."""
        ...

    def predict_proba(self, examples: Examples, advance: Advance | None = None) -> Probabilities:
        """Return class probabilities, shape (N, C), rows summing to 1, columns in label order."""
        ...

    def write(self, folder: Path) -> dict[str, Any]:
        """Write weights and settings into an existing folder; return what ``headstart.json`` needs to read them."""
        ...

    def parameters(self) -> int:
        """Return the number of all parameters, frozen ones included."""
        ...


def softmax(logits: npt.NDArray[Any]) -> Probabilities:
    """Return probabilities (N, C) of logits (N, C), in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), dtype=np.float64)


def check_classes(stored: int, labels: Labels) -> None:
    """Check that a head read from disk scores as many classes as there are labels.

    Raises:
        ValueError: it does not; `folder.load` says which folder is damaged.
    """
    if stored != len(labels):
        raise ValueError(f"it scores {stored} classes, but headstart.json has {len(labels)} labels")
