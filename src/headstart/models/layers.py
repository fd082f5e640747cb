"""A classifier's parameters as layers, from the head down to the embeddings."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from headstart.errors import ModelError
from headstart.models.loading import head_parameters, layer_list

# Relative positions (DeBERTa, MPNet) come after the layers in order, but every layer reads them.
_SHARED = re.compile(r"\.encoder\.(rel_embeddings|LayerNorm|relative_attention_bias)\.")


@dataclass(frozen=True)
class LayerGroup:
    """Parameters that are trained alike.

    Attributes:
        name: ``head``, ``layer 5``, ..., ``layer 0``, ``embeddings``; ``layers`` where they share weights,
            ``layers 4-5`` where neighbors were put together.
        parameters: full names.
    """

    name: str
    parameters: tuple[str, ...]


def layer_groups(model: Any) -> tuple[LayerGroup, ...]:
    """Part all parameters of a sequence classifier: the head (with pooler and last norm), each layer, embeddings.

    Where the layers cannot be told apart (ALBERT shares one among all, the GRU is one), they are one group.

    Returns:
        Groups from the head down; every parameter is in exactly one, none is empty.
    """
    names = [name for name, _ in model.named_parameters()]
    try:
        prefix, layers = layer_list(model)
    except ModelError:
        return _three_groups(names, set(head_parameters(model)))
    outside = set(head_parameters(model))
    last = max(i for i, name in enumerate(names) if name.startswith(prefix + "."))
    head = [n for i, n in enumerate(names) if n in outside or (i > last and not _SHARED.search(n))]
    found = [("head", head)]
    for at in reversed(range(len(layers))):
        found.append((f"layer {at}", [name for name in names if name.startswith(f"{prefix}.{at}.")]))
    taken = {name for _, group in found for name in group}
    return _groups([*found, ("embeddings", [name for name in names if name not in taken])])


def top_third(layers: int) -> int:
    """Return how many of so many layers are the top third: what is trained where only a part is."""
    return math.ceil(layers / 3)


def merged(groups: Sequence[LayerGroup], parts: int) -> tuple[LayerGroup, ...]:
    """Put neighboring layers together, so that there are at most ``parts`` groups between the head and the embeddings.

    Where sizes differ, the upper groups are the larger ones.
    """
    stack = [group for group in groups if group.name.startswith("layer ")]
    count = min(parts, len(stack))
    if count == len(stack):  # also where layers cannot be told apart
        return tuple(groups)
    size, larger = divmod(len(stack), count)
    ends = [0]
    for at in range(count):
        ends.append(ends[-1] + size + (at < larger))
    runs = [stack[start:end] for start, end in pairwise(ends)]
    at = groups.index(stack[0])
    return (*groups[:at], *(_together(run) for run in runs), *groups[at + len(stack) :])


def _together(run: Sequence[LayerGroup]) -> LayerGroup:
    if len(run) == 1:
        return run[0]
    top, bottom = (group.name.removeprefix("layer ") for group in (run[0], run[-1]))
    return LayerGroup(f"layers {bottom}-{top}", tuple(name for group in run for name in group.parameters))


def _three_groups(names: Sequence[str], head: set[str]) -> tuple[LayerGroup, ...]:
    top = [n for n in names if n in head or ".pooler." in n]
    embeddings = [n for n in names if n not in top and "embedding" in n]
    between = [n for n in names if n not in {*top, *embeddings}]
    return _groups([("head", top), ("layers", between), ("embeddings", embeddings)])


def _groups(found: Sequence[tuple[str, Sequence[str]]]) -> tuple[LayerGroup, ...]:
    return tuple(LayerGroup(name, tuple(parameters)) for name, parameters in found if parameters)
