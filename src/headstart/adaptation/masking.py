"""Which positions are predicted, and what stands there instead (Devlin et al. 2019, section 3.1).

Every draw is a function of seed, epoch and row: the same whatever batch the row is in, and wherever an interrupted
run goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.adaptation.config import Masking

Ints = npt.NDArray[np.int32]

_MASKED, _RANDOM = 0.8, 0.1  # the other 10% stay as they are
_LONGEST_WORD = 8  # tokens: longer "words" are unspaced scripts, addresses, bytes
_LARGEST_SHARE = 3  # no word is masked whole that is more than a third of its row
_SPAN_P, _LONGEST_SPAN = 0.2, 10  # geometric lengths (Joshi et al. 2020, section 3.1)


@dataclass(frozen=True)
class Masker:
    """Draws masks.

    Attributes:
        masking: what is masked as one.
        share: share of positions to predict, 0-1.
        mask_id: id of the mask token.
        ordinary: ids that a position may be replaced by at random, special tokens not among them.
        seed: of all draws.
    """

    masking: Masking
    share: float
    mask_id: int
    ordinary: Ints
    seed: int

    @classmethod
    def of(cls, tokenizer: Any, *, masking: Masking, share: float, seed: int, vocabulary: int) -> Masker:
        """Return a masker for a tokenizer; ``vocabulary`` is the number of tokens the encoder knows."""
        special = set(tokenizer.all_special_ids)
        ordinary = np.asarray([i for i in range(min(vocabulary, len(tokenizer))) if i not in special], dtype=np.int32)
        return cls(masking, share, int(tokenizer.mask_token_id), ordinary, seed)

    def __call__(self, ids: Ints, words: Ints, *, epoch: int, row: int) -> tuple[Ints, npt.NDArray[np.int64]]:
        """Return what is read instead of ``ids``, shape (T,), and the positions to predict, shape (M,), ascending.

        Args:
            ids: token ids of one row, shape (T,).
            words: word of each position, shape (T,); -1 for special tokens, which are never chosen.
            epoch: a new one gives a new draw.
            row: number of the row.
        """
        generator = np.random.default_rng([self.seed, epoch, row])
        chosen = choose(words, self.share, self.masking, generator)
        read = ids.copy()
        fate = generator.random(len(chosen))
        read[chosen[fate < _MASKED]] = self.mask_id
        random = chosen[fate >= 1 - _RANDOM]
        read[random] = generator.choice(self.ordinary, len(random))
        return read, chosen


def choose(words: Ints, share: float, masking: Masking, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return positions to predict, shape (M,), ascending: units drawn at random until ``share`` of them is reached.

    The unit that would overshoot is taken with the probability that makes the expected number exactly ``share``; at
    least one unit is taken, so that a short row is never without a prediction. A word of more than eight tokens or a
    third of the row (that of an unspaced script may be the whole text) is no unit: its tokens are.

    Args:
        words: word of each position, shape (T,); -1 is never chosen.
        share: wanted share of the positions that may be chosen, 0-1.
        masking: what a unit is.
        generator: source of chance.
    """
    positions = np.flatnonzero(words >= 0)
    if not len(positions):
        return positions
    wanted = share * len(positions)
    starts = _starts(words[positions], positions, masking, wanted, generator)
    lengths = np.diff(starts, append=len(positions))
    order = generator.permutation(len(starts))
    before = np.cumsum(lengths[order]) - lengths[order]
    taken = int(np.searchsorted(before + lengths[order], wanted, side="right"))  # whole units within the share
    if taken < len(order) and generator.random() < (wanted - before[taken]) / lengths[order[taken]]:
        taken += 1
    units = order[: max(1, taken)]
    inside = [np.arange(starts[u], starts[u] + lengths[u]) for u in units]
    chosen: npt.NDArray[np.int64] = positions[np.sort(np.concatenate(inside))]
    return chosen


def _starts(
    words: Ints, positions: npt.NDArray[np.int64], masking: Masking, wanted: float, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return where units begin among the N positions that may be chosen."""
    n = len(words)
    if masking == "token":
        return np.arange(n)
    apart = np.diff(positions) > 1  # a special token stands between
    if masking == "span":
        lengths = np.minimum(generator.geometric(_SPAN_P, n), max(1, min(_LONGEST_SPAN, int(wanted))))
        begins = np.zeros(n, dtype=bool)
        begins[np.cumsum(lengths)[np.cumsum(lengths) < n]] = True
        begins[1:] |= apart
        begins[0] = True
        return np.flatnonzero(begins)
    starts = np.flatnonzero(np.concatenate([[True], (np.diff(words) != 0) | apart]))
    longest = max(1, min(_LONGEST_WORD, n // _LARGEST_SHARE))
    sizes = np.diff(starts, append=n)
    return np.concatenate([np.arange(a, a + k) if k > longest else [a] for a, k in zip(starts, sizes, strict=True)])
