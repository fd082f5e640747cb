"""How far the weights of one model lie from those of another, tensor by tensor and layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.errors import ModelError
from headstart.models.inspecting import Inspected, layer_of, tensors, weight_files


@dataclass(frozen=True)
class Moved:
    """Movement of one tensor, or of all of a layer.

    Attributes:
        name: of the tensor or layer, as in the first model.
        values: numbers compared.
        changed: sum of absolute differences.
        relative: Frobenius norm of the difference over that of the second model; None where that is 0.
    """

    name: str
    values: int
    changed: float
    relative: float | None


@dataclass(frozen=True)
class Movement:
    """The weights of two models compared.

    Attributes:
        layers: each layer with its tensors, in the order a text passes them.
        total: over all compared tensors.
        only_first: names of tensors that only the first model has.
        only_second: names of tensors that only the second has.
        other_shape: name, shape in the first and shape in the second, where these differ.
    """

    layers: tuple[tuple[Moved, tuple[Moved, ...]], ...]
    total: Moved
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    other_shape: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]


def movement(first: Inspected, second: Inspected) -> Movement:
    """Compare the stored weights of two models; an encoder's names match those inside a classifier.

    Raises:
        ModelError: they have no tensor in common.
    """
    shapes_a, shapes_b = _shapes(first), _shapes(second)
    partner = _partners(list(shapes_a), list(shapes_b))
    same = [a for a, b in partner.items() if shapes_a[a] == shapes_b[b]]
    if not partner:
        raise ModelError(
            f"{first.name} and {second.name} have no tensor in common: they are of different architectures"
        )
    sums = _measure(first, second, [(a, partner[a]) for a in same])
    layers: dict[str, list[str]] = {}
    for name in same:
        layers.setdefault(layer_of(name), []).append(name)
    return Movement(
        layers=tuple(
            (_moved(layer, [sums[n] for n in names]), tuple(_moved(n, [sums[n]]) for n in names))
            for layer, names in layers.items()
        ),
        total=_moved("all", sums.values()),
        only_first=tuple(n for n in shapes_a if n not in partner),
        only_second=tuple(n for n in shapes_b if n not in set(partner.values())),
        other_shape=tuple((a, shapes_a[a], shapes_b[b]) for a, b in partner.items() if shapes_a[a] != shapes_b[b]),
    )


@dataclass(frozen=True)
class _Sums:
    values: int
    absolute: float
    squared: float
    squared_second: float


def _moved(name: str, parts: Iterable[_Sums]) -> Moved:
    parts = list(parts)
    squared, below = math.fsum(p.squared for p in parts), math.fsum(p.squared_second for p in parts)
    relative = math.sqrt(squared / below) if below else 0.0 if not squared else None
    return Moved(name, sum(p.values for p in parts), math.fsum(p.absolute for p in parts), relative)


def _shapes(found: Inspected) -> dict[str, tuple[int, ...]]:
    stored = {t.name: t.shape for t in tensors(found) if not t.buffer and not t.name.startswith("head.")}
    if not weight_files(found):
        raise ModelError(f"{found.name} is a '{found.kind}' model without weights to compare")
    return stored


def _partners(first: Sequence[str], second: Sequence[str]) -> dict[str, str]:
    """Match names; a classifier puts its encoder's name in front (``bert.``) where the encoder's file has none."""
    best: dict[str, str] = {}
    for cut_a in _fronts(first):
        for cut_b in _fronts(second):
            known = {name.removeprefix(cut_b): name for name in second}
            found = {a: known[n] for a in first if (n := a.removeprefix(cut_a)) in known}
            if len(found) > len(best):
                best = found
    return best


def _fronts(names: Sequence[str]) -> list[str]:
    return ["", *sorted({name.split(".")[0] + "." for name in names if "." in name})]


def _measure(first: Inspected, second: Inspected, pairs: Sequence[tuple[str, str]]) -> dict[str, _Sums]:
    with ExitStack() as stack:
        a, b = (_opened(stack, weight_files(found)) for found in (first, second))
        return {name: _sums(a[name].get_tensor(name), b[other].get_tensor(other)) for name, other in pairs}


def _opened(stack: ExitStack, files: Sequence[Path]) -> dict[str, Any]:
    """Return the open file of each tensor; tensors are read one at a time, so memory stays small."""
    from safetensors import safe_open

    where: dict[str, Any] = {}
    for file in files:
        handle = stack.enter_context(safe_open(str(file), framework="pt"))  # numpy has no bfloat16
        where |= dict.fromkeys(handle.keys(), handle)
    return where


def _sums(a: Any, b: Any) -> _Sums:
    difference = a.double() - b.double()
    return _Sums(
        values=int(a.numel()),
        absolute=float(difference.abs().sum()),
        squared=float(difference.square().sum()),
        squared_second=float(b.double().square().sum()),
    )
