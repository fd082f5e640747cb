"""What makes two runs of a model over a table the same run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from headstart.models.folder import Model
from headstart.models.runtime import Runtime
from headstart.records import fingerprint, fingerprint_file, fingerprint_json, versions


def model_fingerprint(model: Model) -> str:
    """Return a fingerprint over a model's card and every file of its folder."""
    parts = [fingerprint_json(model.card)]
    if model.folder is not None:
        files = sorted(p for p in model.folder.rglob("*") if p.is_file())
        parts += [part for p in files for part in (str(p.relative_to(model.folder)), fingerprint_file(p))]
    return fingerprint(parts)


def runtime_of(model: Model) -> Runtime | None:
    """Return the device and precision that a model computes with; None where it has no network."""
    holder: Any = getattr(model.classifier, "extractor", model.classifier)
    return getattr(holder, "runtime", None)


def run_identity(model: Model, files: Iterable[Path], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return model, inputs (path, bytes, time of change), settings and arithmetic, as JSON.

    Precision and threads are part of it, for they change the last digits of a probability.
    """
    import torch

    runtime = runtime_of(model)
    stats = [(file.resolve(), file.stat()) for file in files]
    return {
        "headstart": versions().get("headstart"),
        "model": model_fingerprint(model),
        "files": [[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in stats],
        **settings,
        "device": None if runtime is None else runtime.device,
        "precision": None if runtime is None else runtime.precision,
        "threads": torch.get_num_threads(),
    }
