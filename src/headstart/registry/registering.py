"""Adding a version: a model folder becomes an MLflow model, is kept with a run, and gets its tags and alias."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.errors import ModelError
from headstart.models import folder as model_folder
from headstart.models.predicting import winner_or_self
from headstart.records import read_json, versions
from headstart.registry.names import CHALLENGER, Reference, checked_name, is_registered, parse
from headstart.registry.packaging import write_mlflow_model
from headstart.registry.resolving import MLMODEL, folder_inside
from headstart.registry.store import Registry, Version
from headstart.tracking import output_columns

METRIC_TAG = "headstart.metric"
METRICS_TAG = "headstart.metrics"
STRATEGY_TAG = "headstart.strategy"
_COMPARISON = "comparison.json"
_PLACE = "model"
_IN_RUNS = ("best", "model")  # what a tracked comparison, or a fit of one, keeps its model as
_RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class _Found:
    """A model to register.

    Attributes:
        folder: the model folder.
        run_id: run of the tracking store that it came from, or empty.
        packaged: its place in that run, where it is an MLflow model already.
    """

    folder: Path
    run_id: str = ""
    packaged: str = ""


def register(
    registry: Registry, model: str, name: str, *, first: Callable[[Path, Mapping[str, str]], None] | None = None
) -> Version:
    """Add a model as the next version of a registered model, with the alias ``challenger``.

    Args:
        registry: where.
        model: a comparison's folder (its winner), a model folder, a registered model, or the id of an MLflow run.
        name: of the registered model, made if it is not there.
        first: called with the model's folder and the tags before anything is kept; if it raises, there is no version.

    Raises:
        ModelError: there is no such model, or it is damaged.
        ConfigError: the name is none, or the registry does not answer.
    """
    checked_name(name)
    with _found(registry, model) as found, tempfile.TemporaryDirectory() as temporary:
        card = model_folder.read_card(found.folder)
        tags = tags_of(card, _comparison_of(found.folder))
        if first is not None:
            first(found.folder, tags)
        run_id = found.run_id or registry.start_run(name, _numbers(tags))
        if found.packaged:
            source = registry.address_in_run(run_id, found.packaged)
        else:
            source = registry.keep(run_id, write_mlflow_model(found.folder, Path(temporary) / _PLACE), _PLACE)
        made = registry.add(name, source, run_id, tags)
    registry.point(name, CHALLENGER, made.number)
    return registry.version(Reference(name, made.number))


@contextlib.contextmanager
def _found(registry: Registry, model: str) -> Iterator[_Found]:
    path = winner_or_self(model)
    if is_registered(model):
        yield _Found(folder_inside(registry.files(registry.version(parse(model)))))
    elif path.is_dir() or not _RUN_ID.fullmatch(model):
        yield _Found(_model_here(path))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            yield _from_run(registry, model, Path(temporary))


def _model_here(path: Path) -> Path:
    if not path.is_dir():
        raise ModelError(
            f"there is no model folder at {path}; give a comparison's folder (runs/NAME), a model folder, or the id "
            "of an MLflow run"
        )
    return path


def _from_run(registry: Registry, run_id: str, temporary: Path) -> _Found:
    folders = registry.run_folders(run_id)
    for place in _IN_RUNS:
        names = folders.get(place, set())
        if MLMODEL in names:
            return _Found(folder_inside(registry.fetch_from_run(run_id, place, temporary)), run_id, place)
        if model_folder.CARD in names:
            return _Found(registry.fetch_from_run(run_id, place, temporary), run_id)
    raise ModelError(
        f"run {run_id} keeps no model ({', '.join(sorted(folders)) or 'no folders'}); give the run of a finished "
        "comparison, or of a fit made with --keep-models"
    )


def _comparison_of(folder: Path) -> dict[str, Any]:
    """Return the record of the comparison that a model won, where it lies in one, else an empty one."""
    file = folder.parent / _COMPARISON
    with contextlib.suppress(ValueError, TypeError, OSError):
        return dict(read_json(file)) if file.is_file() else {}
    return {}


def tags_of(card: Mapping[str, Any], comparison: Mapping[str, Any]) -> dict[str, str]:
    """Return what is worth knowing of a version, as MLflow keeps it: text, lists and tables as JSON.

    Args:
        card: content of ``headstart.json``.
        comparison: content of ``comparison.json``, or empty.
    """
    labels = card["labels"]
    target = card.get("label_column") or comparison.get("config", {}).get("label")
    metric = card.get("metric") or comparison.get("metric") or "macro_f1"
    kept = {
        "headstart.made_with": versions().get("headstart"),
        STRATEGY_TAG: card.get("strategy"),
        "headstart.kind": card["kind"],
        "headstart.target": target,
        "headstart.text": _json(card["text"]["columns"]),
        "headstart.labels": _json(labels["names"]),
        "headstart.prediction_type": output_columns(labels["names"], labels["type"])["prediction"],
        "headstart.fingerprints": _json(card["fingerprints"]) if card.get("fingerprints") else None,
        METRIC_TAG: metric,
        METRICS_TAG: _json(_holdout(card)) if _holdout(card) else None,
    }
    return {key: str(value) for key, value in kept.items() if value is not None}


def _holdout(card: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Return the holdout metrics: ``{"value", "low", "high"}`` each; ends are None where no interval was made."""
    metrics = card.get("metrics", {})
    if "holdout_intervals" in metrics:
        return intervals(metrics["holdout_intervals"])
    return {name: {"value": value, "low": None, "high": None} for name, value in metrics.get("holdout", {}).items()}


def intervals(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Return value and both ends of every metric, without what else a record keeps of it."""
    return {name: {end: metric[end] for end in ("value", "low", "high")} for name, metric in metrics.items()}


def _numbers(tags: Mapping[str, str]) -> dict[str, float]:
    found = json.loads(tags.get(METRICS_TAG, "{}"))
    return {name: m["value"] for name, m in found.items() if m["value"] is not None}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
