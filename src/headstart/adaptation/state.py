"""Where an adaptation stands: one file, written whole, from which it goes on to the last bit.

Masks, order and dropout are functions of seed and position, so no state of a random generator has to be kept.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from headstart.errors import ModelError
from headstart.models.cache import in_use
from headstart.models.checkpoint import check_safetensors
from headstart.records import whole_file
from headstart.training.optimizer import Optimizer

STATE = "state.safetensors"
LEAST_SECONDS = 15.0  # between two states
MOST_OF_TIME = 0.05  # writing takes at most this share of the time


@dataclass
class Position:
    """How far training is.

    Attributes:
        phase: number of the phase: the head alone, then all.
        epoch: finished epochs of this phase.
        step: finished steps of the epoch begun.
        moves: steps of this phase in which the optimizer moved.
        losses: loss of each step of the epoch begun.
        curve: loss of every step of all phases.
        epochs: figures of finished epochs, of all phases.
        best_epoch: epoch of the last phase with the lowest held-out loss; 0 is the start.
        best_loss: that loss.
    """

    phase: int = 0
    epoch: int = 0
    step: int = 0
    moves: int = 0
    losses: list[list[float]] = field(default_factory=list)
    curve: list[float] = field(default_factory=list)
    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_loss: float = float("inf")


class StateStore:
    """Writes states into a folder, and reads the last one.

    Args:
        folder: made when first written to.
        key: what the run is decided by; a state of another run is not read.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key
        self._written, self._took = time.monotonic(), 0.0
        self._best_written = -1

    def is_due(self) -> bool:
        """Whether so much time has passed that writing a state again costs next to nothing."""
        return time.monotonic() - self._written >= max(LEAST_SECONDS, self._took / MOST_OF_TIME)

    def write(
        self,
        position: Position,
        model: nn.Module,
        optimizer: Optimizer,
        best: dict[str, torch.Tensor],
    ) -> None:
        """Write weights, optimizer, position, and the best epoch's weights where that is a new one.

        The best weights come first, so that a state never speaks of weights that are not there.

        Raises:
            StorageError: they cannot be written; the state before is still there.
        """
        start = time.monotonic()
        best_file = self._best_file(position.best_epoch)
        if best and position.best_epoch != self._best_written:
            _save(best_file, best, {"key": self.key})
            self._best_written = position.best_epoch
        tensors: dict[str, torch.Tensor] = {f"model.{name}": p for name, p in model.named_parameters()}
        for name, parameter in model.named_parameters():
            past = optimizer.state(parameter) if parameter.requires_grad else {}
            tensors |= {f"optimizer.{key}.{name}": torch.as_tensor(value) for key, value in past.items()}
        _save(self.folder / STATE, tensors, {"key": self.key, "position": json.dumps(asdict(position))})
        for file in self.folder.glob("best-*.safetensors"):
            if file != best_file:
                file.unlink(missing_ok=True)
        self._written = time.monotonic()
        self._took = self._written - start

    def read(self) -> tuple[Position, dict[str, torch.Tensor]] | None:
        """Return the last state of this run, or None where there is none."""
        position = self._about()
        if position is None:
            return None
        from safetensors.torch import load_file

        return Position(**position), load_file(str(self.folder / STATE))

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other process is at the same run; keep them away, and the state from being dropped."""
        with contextlib.suppress(OSError):  # whatever is wrong is said by what writes
            self.folder.mkdir(parents=True, exist_ok=True)
        with in_use(self.folder, alone=True):
            try:
                yield
            finally:
                with contextlib.suppress(OSError):  # only if empty
                    self.folder.rmdir()

    def _about(self) -> dict[str, Any] | None:
        from safetensors import safe_open

        file = self.folder / STATE
        if not _is_sound(file):
            return None
        with safe_open(str(file), framework="pt") as opened:
            about = opened.metadata() or {}
        if about.get("key") != self.key:
            return None
        position = dict(json.loads(about["position"]))
        judged = math.isfinite(position["best_loss"])
        return None if judged and not _is_sound(self._best_file(position["best_epoch"])) else position

    def _best_file(self, epoch: int) -> Path:
        return self.folder / f"best-{epoch}.safetensors"

    def read_best(self, epoch: int) -> dict[str, torch.Tensor]:
        """Return the weights that `write_best` wrote."""
        from safetensors.torch import load_file

        self._best_written = epoch
        return load_file(str(self._best_file(epoch)))

    def drop(self) -> None:
        """Drop everything: the run is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C, and SIGTERM where it interrupts alike, wait for the end of the block.

    Handlers of another's own are left alone; only the main thread is ever interrupted.
    """
    came: list[int] = []
    kinds = (signal.SIGINT, signal.SIGTERM)
    waiting = [kind for kind in kinds if signal.getsignal(kind) is signal.default_int_handler]
    if threading.current_thread() is not threading.main_thread():
        waiting = []
    for kind in waiting:
        signal.signal(kind, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for kind in waiting:
            signal.signal(kind, signal.default_int_handler)
    if came:
        raise KeyboardInterrupt


def restore(position: Position, model: nn.Module, optimizer: Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Put stored weights and the optimizer's past back, in place."""
    optimizer.steps = position.moves
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
            if f"optimizer.step.{name}" not in tensors:
                continue
            step = tensors[f"optimizer.step.{name}"].clone()
            moments = {key: tensors[f"optimizer.{key}.{name}"] for key in ("exp_avg", "exp_avg_sq")}
            past = {key: value.clone().to(parameter.device) for key, value in moments.items()}
            # Lazy rows count their steps as a whole number, all others as a tensor.
            optimizer.state(parameter).update({"step": step if step.is_floating_point() else int(step), **past})


def _is_sound(file: Path) -> bool:
    """Whether a file is there whole; one that was damaged since is as none, and training begins again."""
    if not file.is_file():
        return False
    try:
        check_safetensors(file)
    except ModelError:
        return False
    return True


def _save(file: Path, tensors: dict[str, torch.Tensor], about: dict[str, str]) -> None:
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with whole_file(file) as temporary:
        save_file(plain, str(temporary), metadata=about)
