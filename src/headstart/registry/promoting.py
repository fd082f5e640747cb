"""Champion and challenger: who is promoted, what is attached to a version, and the way back."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.data.table import Table
from headstart.data.write import write_table
from headstart.errors import ConfigError, ModelError
from headstart.evaluation.metrics import METRICS, metric_named
from headstart.models import folder
from headstart.models.predicting import PREDICTION
from headstart.models.runtime import Runtime
from headstart.records import write_json
from headstart.registry.evaluating import Evaluated, evaluate_models
from headstart.registry.names import CHALLENGER, CHAMPION, Reference
from headstart.registry.registering import METRIC_TAG, intervals
from headstart.registry.resolving import folder_inside
from headstart.registry.store import Registry, Version

EVALUATION_TAG = "headstart.evaluation"
_HISTORY_TAG = "headstart.champions"
_LONGEST_HISTORY = 100
_FINGERPRINT_SHOWN = 8
_BETTER, _TIE, _WORSE = "better", "tie", "worse"


@dataclass(frozen=True)
class Verdict:
    """What asking for a promotion came to.

    Attributes:
        promoted: whether the version is the champion now.
        reason: why, in one sentence.
        version: the challenger.
        champion: the champion before, or None.
        evaluated: both on the same rows, the champion first; None where nothing was scored.
    """

    promoted: bool
    reason: str
    version: Version
    champion: Version | None = None
    evaluated: Evaluated | None = None


def evaluate_versions(
    registry: Registry, versions: Sequence[Version], table: Table, runtime: Runtime, **options: Any
) -> Evaluated:
    """Score versions on the same labeled rows, and attach to each what it scored.

    The run of each version gets ``evaluations/DATA/`` with the record and its answer per row; the version gets the
    tag ``headstart.evaluation.DATA`` with rows, fingerprint and metrics with intervals. DATA is the file's name with
    the beginning of the fingerprint of its rows, so that two files of one name are kept apart.

    Args:
        registry: where they are.
        versions: one or more; the first is what the others are set against.
        table: N rows.
        runtime: device and precision.
        options: ``label``, ``text``, ``seed`` and ``started`` of `evaluate_models`.
    """
    models = [(str(v), folder.load(folder_inside(registry.files(v)), runtime=runtime)) for v in versions]
    evaluated = evaluate_models(models, table, **options)
    for at, version in enumerate(versions):
        attach(registry, version, evaluated, at)
    return evaluated


def attach(registry: Registry, version: Version, evaluated: Evaluated, at: int = 0) -> None:
    """Keep with a version what it scored.

    Args:
        registry: where it is.
        version: the version.
        evaluated: what one or more models scored on the same rows.
        at: which of them the version is.
    """
    record = evaluated.record
    name = re.sub(r"[^\w-]", "_", Path(record["data"]).name) or "data"
    data = f"{name}-{record['fingerprint'][:_FINGERPRINT_SHOWN]}"
    own = {key: record[key] for key in ("data", "fingerprint", "rows", "rows_without_label", "seed")}
    mark = "" if len(record["models"]) == 1 else f"_{at + 1}"
    labels = record["models"][at]["labels"]["names"]
    answers = {f"{PREDICTION}{mark}": PREDICTION, **{f"p{mark}_{name}": f"p_{name}" for name in labels}}
    # The rows' numbers and answers only: texts may be private, and are in the file of that fingerprint.
    rows = evaluated.predictions[["row", *answers]].rename(columns=answers)
    with tempfile.TemporaryDirectory() as temporary:
        write_json(Path(temporary) / "evaluation.json", {**own, **record["models"][at]})
        write_table(rows, Path(temporary) / "predictions.parquet")
        registry.keep(version.run_id, Path(temporary), f"evaluations/{data}")
    kept = {**own, "metrics": intervals(record["models"][at]["metrics"])}
    registry.tag(version, f"{EVALUATION_TAG}.{data}", json.dumps(kept, ensure_ascii=False))


def promote(
    registry: Registry,
    version: Version,
    *,
    table: Table | None = None,
    runtime: Runtime | None = None,
    metric: str | None = None,
    force: bool = False,
    **options: Any,
) -> Verdict:
    """Make a version the champion, if it is better than the one there is.

    Better means: on the same rows, the 95% interval of the difference in the deciding metric holds no zero and lies
    on the right side (`headstart.evaluation.intervals.paired_difference`). Where there is no champion, none has to be
    beaten.

    Args:
        registry: where.
        version: the challenger.
        table: labeled rows to judge on; none of them should have been trained on by either.
        runtime: device and precision.
        metric: the deciding metric; else the one that chose the version.
        force: promote whatever the rows say, or without any.
        options: ``label``, ``text``, ``seed`` and ``started`` of `headstart.registry.evaluating.evaluate_models`.

    Raises:
        ConfigError: there is a champion, but no rows to judge on; or no metric has that name.
        ModelError: the files of a version are gone.
    """
    deciding = metric or version.tags.get(METRIC_TAG) or "macro_f1"
    metric_named(deciding)
    champion = _champion(registry, version.name)
    if champion is not None and champion.number == version.number:
        own = None if table is None else evaluate_versions(registry, [version], table, runtime or Runtime(), **options)
        return Verdict(True, f"{version} is the champion already", _again(registry, version), champion, own)
    if champion is not None and table is None and not force:
        raise ConfigError(
            f"{champion} is the champion: name labeled rows to judge both on (--data FILE), or promote without any "
            "(--force)"
        )
    evaluated = None
    if table is not None:
        judged = [version] if champion is None else [champion, version]
        evaluated = evaluate_versions(registry, judged, table, runtime or Runtime(), **options)
    better, reason = _judged(champion, version, evaluated, deciding)
    promoted = better or force
    if promoted:
        _crown(registry, version, champion)
    words = f"{reason}; promoted all the same (forced)" if promoted and not better else reason
    return Verdict(promoted, words, _again(registry, version), champion, evaluated)


def _again(registry: Registry, version: Version) -> Version:
    """Return a version as it is now."""
    return registry.version(Reference(version.name, version.number))


def _judged(champion: Version | None, version: Version, evaluated: Evaluated | None, metric: str) -> tuple[bool, str]:
    """Return whether the challenger may be promoted, and why."""
    if champion is None:
        return True, f"'{version.name}' had no champion"
    if evaluated is None:
        return False, f"{version} was not set against {champion}"
    other = evaluated.record["models"][1]
    if other["difference"] is None:
        return False, f"{version} cannot be set against {champion}: {other['reason']}"
    difference = other["difference"][metric]
    title, rows, data = METRICS[metric].title, evaluated.record["rows"], evaluated.record["data"]
    if difference["value"] is None or difference["low"] is None:
        return False, f"{title} is not defined on the {rows:,} rows of {data}"
    shown = f"{title} {difference['value']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]"
    judged = verdict(metric, difference)
    words = {
        _BETTER: f"is better than {champion}",
        _WORSE: f"is worse than {champion}",
        _TIE: f"is not better than {champion} beyond chance",
    }
    return judged == _BETTER, f"{version} {words[judged]}: {shown} on the {rows:,} rows of {data}"


def verdict(metric: str, difference: Mapping[str, Any]) -> str:
    """Return ``better``, ``worse`` or ``tie`` for a difference with its interval."""
    if difference["tie"]:
        return _TIE
    return _BETTER if (difference["value"] > 0) == METRICS[metric].higher_is_better else _WORSE


def rollback(registry: Registry, name: str) -> tuple[Version, Version]:
    """Make the champion before this one the champion again.

    Returns:
        The champion now, and the one before.

    Raises:
        ModelError: there is no champion, or none before it.
    """
    champion = _champion(registry, name)
    if champion is None:
        raise ModelError(f"'{name}' has no champion; `headstart promote {name} VERSION` makes one")
    there = {version.number for version in registry.versions(name)}
    before = [n for n in registry.history(name, _HISTORY_TAG) if n in there]
    while before and before[-1] == champion.number:
        before.pop()
    if not before:
        raise ModelError(f"there was no champion of '{name}' before {champion}; promote another version instead")
    # In this order: interrupted in between, the next rollback still goes back.
    registry.set_history(name, _HISTORY_TAG, before)
    registry.point(name, CHAMPION, before[-1])
    return registry.version(Reference(name, before[-1])), champion


def _champion(registry: Registry, name: str) -> Version | None:
    return next((v for v in registry.versions(name) if CHAMPION in v.aliases), None)


def _crown(registry: Registry, version: Version, champion: Version | None) -> None:
    """Move the alias, and keep who was champion, in turn: the last of the history is the one now.

    Whoever was champion before is the last but one, also where the alias was moved past the history.
    """
    name = version.name
    before = registry.history(name, _HISTORY_TAG)
    if champion is not None and before[-1:] != [champion.number]:
        before.append(champion.number)
    registry.point(name, CHAMPION, version.number)
    if CHALLENGER in version.aliases:
        registry.point(name, CHALLENGER, None)
    registry.set_history(name, _HISTORY_TAG, [*before[-_LONGEST_HISTORY:], version.number])
