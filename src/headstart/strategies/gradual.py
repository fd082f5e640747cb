"""``gradual``: thawed from the head down, lower layers at lower rates.

Howard & Ruder 2018 (ULMFiT), https://arxiv.org/abs/1801.06146, section 3.3: the head is trained for an epoch, then the
group of layers below it too, and so on; each group learns ``factor`` times slower than the one above (section 3.2); the
rate follows a slanted triangle (equation 3). The paper's encoder is an LSTM of three layers trained by Adam at a peak
of 0.01; ours are transformers, so the peak is lower, and neighboring layers are one group: with each layer on its own
the lower ones of 6 or 12 would come last and hardly move, and on 80 texts the head is sure of all before that.
"""

from __future__ import annotations

from functools import partial

from pydantic import Field

from headstart.strategies.fine_tuning import fine_tune, pretrained
from headstart.strategies.task import Fitted, Task
from headstart.training.layered import Layered
from headstart.training.loop import TrainingConfig
from headstart.training.rates import slanted_triangle


class GradualConfig(TrainingConfig):
    """Settings of ``gradual``."""

    learning_rate: float = Field(2e-4, gt=0, description="peak learning rate of the head")
    epochs: int = Field(15, ge=1, description="most passes over the training texts")
    patience: int = Field(
        2, ge=1, description="epochs without a better validation log loss before stopping, once all layers are trained"
    )
    groups: int = Field(2, ge=1, description="groups of neighboring layers, beside the head and the embeddings")
    refit: bool = Field(True, description="train again on train + validation up to the best epoch")
    factor: float = Field(2.6, ge=1, description="each group's rate is that of the group above divided by this")
    thaw_every: int = Field(1, ge=0, description="epochs after which the next group is thawed; 0: none is frozen")
    ratio: float = Field(32.0, ge=1, description="the peak rate is this many times the first and the last")

    def slope(self, done: int, planned: int) -> float:
        """Return the share of the peak rate at step ``done``: a slanted triangle."""
        return slanted_triangle(done, planned, self.warmup, self.ratio)


def fit(task: Task, config: GradualConfig) -> Fitted:
    """Train the head, then thaw group by group down to the embeddings."""
    layered = partial(Layered.of, factor=config.factor, thaw_every=config.thaw_every, parts=config.groups)
    return fine_tune(task, lambda: pretrained(task)[0], config, layered=layered)
