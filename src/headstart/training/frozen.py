"""Training that computes what is frozen once: each epoch starts from stored states where lower layers do not move."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from headstart.models.cache import cache_limit
from headstart.models.network import NetworkClassifier
from headstart.models.prefix import Prefix, cannot_be_cut, frozen_depth
from headstart.training.data import Data


class FrozenStart:
    """The frozen lower layers of a network in training, however many they are in each epoch.

    Args:
        classifier: the network; while layers are frozen they must have the weights that ``key`` stands for.
        key: fingerprint of the weights that training starts from.
        cache: folder for states; None keeps them in memory.

    Attributes:
        why_whole: why frozen layers were computed in every epoch all the same, or empty; the last reason of several.
    """

    def __init__(self, classifier: NetworkClassifier, *, key: str, cache: Path | None) -> None:
        self.classifier, self.key, self.cache = classifier, key, cache
        self.why_whole = ""
        self._depth = 0
        self._prefix: Prefix | None = None

    @contextlib.contextmanager
    def left_out(self, data: Data, validation: Data | None) -> Iterator[tuple[Data, Data | None]]:
        """Yield the same data with states, and leave out the layers that they come from, inside the block.

        Where nothing can be left out, the data are yielded as they are.
        """
        prefix = self._prefix_for(data, validation)
        if prefix is None:
            yield data, validation
            return
        given = _with_states(prefix, data)
        held = None if validation is None else _with_states(prefix, validation)
        with prefix.left_out():
            yield given, held

    def kept(self) -> Prefix | None:
        """Return the lower layers that were left out to the end of training, for scoring; None where none were."""
        return self._prefix if frozen_depth(self.classifier.model) == self._depth else None

    def _prefix_for(self, data: Data, validation: Data | None) -> Prefix | None:
        depth = frozen_depth(self.classifier.model)
        if depth != self._depth:
            self._depth, self._prefix = depth, None
            if depth:
                self._prefix = self._usable(
                    Prefix(self.classifier, depth, key=self.key, cache=self.cache), data, validation
                )
        if not depth and cannot_be_cut(self.classifier.model):
            self.why_whole = "computed in every epoch: of this architecture no layers can be left out"
        return self._prefix

    def _usable(self, prefix: Prefix, data: Data, validation: Data | None) -> Prefix | None:
        texts = [data.tokens] if validation is None else [data.tokens, validation.tokens]
        if not prefix.fits(*texts):
            self.why_whole = (
                f"computed in every epoch: what they give for these texts takes {prefix.size_of(*texts) / 1e9:.3g} GB, "
                f"and the cache may hold {cache_limit() / 1e9:.3g} GB (HEADSTART_CACHE_SIZE)"
            )
            return None
        if not prefix.holds(data.tokens, data.keys):
            self.why_whole = "computed in every epoch: this architecture gives other answers when they are left out"
            return None
        return prefix


def _with_states(prefix: Prefix, data: Data) -> Data:
    return replace(data, tokens=prefix.with_states(data.tokens, data.keys))
