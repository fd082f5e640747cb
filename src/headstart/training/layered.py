"""Training whose rates, or whose frozen part, differ from layer to layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headstart.models.layers import LayerGroup, layer_groups, merged


@dataclass(frozen=True)
class Layered:
    """Which layers are trained when, and at what share of the peak rate.

    Attributes:
        groups: all parameters of the network, from the head down.
        factor: how many times the rate of each group is that of the one below, 1 for equal rates (Howard & Ruder
            2018, section 3.2).
        thaw_every: epochs after which the next group below is trained too (section 3.3); 0: all from the start.
    """

    groups: tuple[LayerGroup, ...]
    factor: float = 1.0
    thaw_every: int = 0

    @classmethod
    def of(cls, model: Any, *, factor: float, thaw_every: int = 0, parts: int | None = None) -> Layered:
        """Return the same for a model's own layers, neighbors put together to ``parts`` groups, where that is given."""
        groups = layer_groups(model)
        return cls(groups if parts is None else merged(groups, parts), factor, thaw_every)

    def shares(self) -> dict[str, float]:
        """Return the share of the peak rate per parameter name, 0-1: the head's is 1."""
        return {name: self.factor**-depth for depth, group in enumerate(self.groups) for name in group.parameters}

    def thawed(self, epoch: int) -> int:
        """Return how many groups are trained in an epoch, counted from 1."""
        if not self.thaw_every:
            return len(self.groups)
        return min(len(self.groups), 1 + (epoch - 1) // self.thaw_every)

    @property
    def complete(self) -> int:
        """The first epoch in which every group is trained."""
        return 1 + self.thaw_every * (len(self.groups) - 1)

    def thaw(self, model: Any, epoch: int) -> None:
        """Set ``requires_grad`` as an epoch has it, in place; what is frozen has no gradient and is not moved."""
        trained = {name for group in self.groups[: self.thawed(epoch)] for name in group.parameters}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in trained)
