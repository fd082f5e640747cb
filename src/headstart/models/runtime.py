"""Where and how arithmetic is done: device, precision, threads, memory manners."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from headstart.errors import ConfigError, unknown_name
from headstart.models import packed

Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[str, ...] = ("auto", "float32", "bfloat16")

# A product of the shape a 384-wide encoder's feed-forward layer has: (rows, in, out).
_PROBE_SHAPE = (1024, 384, 1536)
_PROBE_SECONDS = 0.15
_PROBE_AT_ONCE = 50
# Counts changes of how numbers are computed, so that what was stored before one is not taken for what is computed now.
_ARITHMETIC = 5
# How many kernels oneDNN keeps, read when it makes the first one, and how many are enough.
_KERNELS, _ENOUGH_KERNELS = "ONEDNN_PRIMITIVE_CACHE_CAPACITY", 4096
# Autocast adds casts around every product, so a small lead in products alone does not pay.
_WORTHWHILE = 1.5


@dataclass(frozen=True)
class Runtime:
    """Device and precision of all arithmetic in a fit or a prediction.

    Attributes:
        device: a torch device name.
        precision: ``float32``, or ``bfloat16`` for autocast of matrix products (weights stay float32).
        product_rates: measured GFLOP/s per precision on this device, empty where nothing was measured.
    """

    device: str = "cpu"
    precision: Precision = "float32"
    product_rates: dict[str, float] = field(default_factory=dict)

    def arithmetic(self) -> str:
        """Return everything about the arithmetic that stored numbers depend on, in words."""
        return f"{self.device} {self.precision} {torch.get_num_threads()} torch {torch.__version__} {_ARITHMETIC}"

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """Run the block in this precision."""
        kind = torch.device(self.device).type
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"):
            yield


def choose_runtime(device: str = "auto", precision: str = "auto") -> Runtime:
    """Choose the device and, by a measurement of under a second, the precision.

    Args:
        device: ``auto`` (a GPU where there is one) or a torch device name.
        precision: ``auto``, ``float32`` or ``bfloat16``.

    Raises:
        ConfigError: the device or precision is unknown, or the device is not there.
    """
    if precision not in PRECISIONS:
        raise ConfigError(unknown_name("precision", precision, PRECISIONS, "--precision"))
    name = _device(device)
    if precision != "auto":
        return Runtime(name, "bfloat16" if precision == "bfloat16" else "float32")
    rates = {kind: _product_rate(name, kind) for kind in ("float32", "bfloat16")}
    faster = rates["bfloat16"] > _WORTHWHILE * rates["float32"]
    return Runtime(name, "bfloat16" if faster else "float32", {k: round(v, 1) for k, v in rates.items()})


def _device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as problem:
        raise ConfigError(
            f"device '{device}' cannot be used here ({str(problem).splitlines()[0]}); try --device cpu"
        ) from problem
    if kind == "meta":
        raise ConfigError("device 'meta' holds no numbers; try --device cpu")
    return device


def _product_rate(device: str, kind: str) -> float:
    rows, width_in, width_out = _PROBE_SHAPE
    dtype = getattr(torch, kind)
    with torch.inference_mode():
        a = torch.ones(rows, width_in, dtype=dtype, device=device)
        b = torch.ones(width_out, width_in, dtype=dtype, device=device)
        for _ in range(3):  # first calls choose kernels
            torch.nn.functional.linear(a, b)
        _synchronize(device)
        # Elsewhere than on a processor a call returns at once, and waiting for each would measure the waiting.
        at_once = 1 if torch.device(device).type == "cpu" else _PROBE_AT_ONCE
        count, start = 0, time.perf_counter()
        while (seconds := time.perf_counter() - start) < _PROBE_SECONDS:
            for _ in range(at_once):
                torch.nn.functional.linear(a, b)
            _synchronize(device)
            count += at_once
    return 2.0 * rows * width_in * width_out * count / seconds / 1e9


def _synchronize(device: str) -> None:
    kind = torch.device(device).type
    if kind != "cpu":
        getattr(torch, kind).synchronize()


def with_products_in_bfloat16(model: nn.Module) -> nn.Module:
    """Return a copy of a network that is only scored with, whose linear layers hold bfloat16; the rest is shared.

    Autocast casts every weight anew at each call, which for one text costs as much as its forward pass. The numbers
    are the same.
    """
    shared: dict[int, Any] = {id(p): p for p in (*model.parameters(), *model.buffers())}
    for layer in model.modules():
        if type(layer) is nn.Linear:
            for own in layer.parameters():
                shared[id(own)] = nn.Parameter(own.detach().to(torch.bfloat16), requires_grad=False)
    return copy.deepcopy(model, shared)


def ready_to_score(model: nn.Module, runtime: Runtime, *, laid_out: bool = False) -> nn.Module:
    """Return what a network scores with: itself, or in bfloat16 a copy whose weights are cast once.

    The network is put into evaluation mode and onto the device, in place. For one text all this takes longer than a
    layer of MiniLM: whoever scores with weights that no longer change keeps what is returned.

    Args:
        model: the network.
        runtime: device and precision.
        laid_out: lay the weights out for the kernels, do not round before a GELU, and compute BERT's layers whole
            (`models.packed`): for weights that change no more, and between epochs where the kernels of both have room
            (`has_room_for_kernels`).
    """
    model.eval().to(runtime.device)
    if runtime.precision != "bfloat16":
        return model
    made = with_products_in_bfloat16(model)
    return packed.pack(made) if laid_out and packed.available(runtime.device) else made


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generator inside the block; the caller's random state is put back afterwards."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def keep_freed_memory() -> None:
    """Let the C library keep large freed blocks for reuse; called at entry points, never on import.

    glibc maps every block over 128 KiB anew and gives it back at once, so each activation tensor costs page
    faults: a training step of 32 x 128 tokens took 2,262 ms with, 1,828 ms without them. `return_freed_memory`
    gives the memory back between fits, and once in each. Elsewhere than on glibc nothing happens.
    """
    library = _glibc()
    if library is not None:
        m_trim_threshold, m_mmap_threshold = -1, -3
        if not library.mallopt(m_mmap_threshold, 1 << 30):
            library.mallopt(m_mmap_threshold, 32 << 20)  # the most that older ones take
        library.mallopt(m_trim_threshold, 2**31 - 1)


def keep_kernels() -> None:
    """Let oneDNN keep more kernels than its thousand; called at entry points that train, before any product.

    It makes one for each shape of a product. An epoch of snippets with 2,000 more scored needs a thousand, and with
    packed weights for scoring more: they drove each other out, and an epoch took a fifth longer. With room for both it
    takes a tenth less than without packing.
    """
    os.environ.setdefault(_KERNELS, str(_ENOUGH_KERNELS))


def has_room_for_kernels() -> bool:
    """Tell whether oneDNN keeps kernels enough to train and to score with packed weights in turn."""
    given = os.environ.get(_KERNELS, "")
    return given.isdecimal() and int(given) >= _ENOUGH_KERNELS


def return_freed_memory() -> None:
    """Give memory that is free inside this process back to the system, so that the next peak is its own."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
