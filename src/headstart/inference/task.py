"""What a task of a pretrained model is given and what it gives back. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from headstart.inference.opening import Place

Result = dict[str, Any]
NO_LIMIT = 1 << 20  # tokens that stand for "any number", where positions are relative


class Options(BaseModel):
    """Base of every task's options: keyword arguments in Python, flags on the command line."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Item:
    """One input.

    Attributes:
        text: what is read.
        row: its number, from 1, for messages.
        context: for ``question``, the text that holds the answer.
    """

    text: str
    row: int
    context: str | None = None


# An opened task: N items to N results, in their order.
Answer = Callable[[Sequence[Item]], list[Result]]
Open = Callable[["Place", Any], Answer]


@dataclass(frozen=True)
class Task:
    """A row of the table.

    Attributes:
        name: as the user writes it.
        summary: one line.
        kind: the transformers class that does it, as in ``AutoModelFor`` + kind; empty for an encoder without a head.
        options: type of its options.
        open: loads the model and returns what answers.
        keys: what a result has beside ``text``.
        takes_context: it reads a second text.
        writes: it writes text token by token, which is computed in float32 unless told otherwise: casting the weights
            for one token at a time costs more than it saves.
    """

    name: str
    summary: str
    kind: str
    options: type[Options]
    open: Open
    keys: tuple[str, ...]
    takes_context: bool = False
    writes: bool = False


def number(value: Any) -> float:
    """Return a probability or score with seven digits, which is all that float32 holds."""
    return float(f"{float(value):.7g}")


def batches(lengths: Sequence[int], most_tokens: int) -> Iterator[list[int]]:
    """Yield the places of N inputs in batches of like length, longest first, which need almost no padding.

    Args:
        lengths: tokens of each, shape (N,).
        most_tokens: a batch holds no more, padding included, unless one input alone does.
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > most_tokens:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
