"""What a network is trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headstart.models.batching import Tokens


@dataclass(frozen=True)
class Data:
    """Tokenized texts and their classes.

    Attributes:
        tokens: N texts.
        y: classes, shape (N,).
        keys: of the N texts, from `content_keys`; needed where frozen layers are left out.
    """

    tokens: Tokens
    y: npt.NDArray[np.int64]
    keys: tuple[bytes, ...] = ()
