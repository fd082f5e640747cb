"""What a comparison tells a tracker, and the tracker that listens to nobody."""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

NOT_INSTALLED = 'tracking is off: pip install "headstart[mlflow]" to keep these runs in MLflow'
_TYPES = {"str": "string", "int": "long", "float": "double", "bool": "boolean"}


@dataclass(frozen=True)
class FitLog:
    """One finished fit.

    Attributes:
        name: unique in its comparison, e.g. ``"full seed 0"``.
        params: settings of the fit; nested mappings become names with dots.
        epochs: metrics per epoch, in order; the place in the list, from 1, is the step. None is left out.
        final: metrics of the finished fit, logged as ``final_NAME``; None is left out.
        artifacts: files and folders to keep with the run; a folder keeps its name.
        inputs: type per input column, in MLflow's words (``string``, ``long``, ``double``, ``boolean``).
        outputs: type per output column; see `output_columns`.
        status: ``finished`` or ``failed``.
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    epochs: Sequence[Mapping[str, float | None]] = ()
    final: Mapping[str, float | None] = field(default_factory=dict)
    artifacts: Sequence[Path] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    status: str = "finished"


class Tracker(Protocol):
    """Writes one comparison down: `start`, then `log_fit` per fit, then `finish`."""

    def start(self, name: str, key: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """Open the run of a comparison, or the unfinished one of the same ``key``; return its id.

        Args:
            name: shown in lists of runs.
            key: identifies the comparison, so that the same command again goes on in the same run.
            params: settings of the whole comparison.
            tags: anything else worth finding it by.
        """

    def log_fit(self, fit: FitLog) -> str:
        """Write one fit below the comparison and return its run id; a fit already written whole is left alone.

        So every fit may be given again after an interruption, finished ones too.
        """

    def finish(self, status: str, metrics: Mapping[str, float | None], artifacts: Sequence[Path]) -> None:
        """Close the comparison's run.

        Args:
            status: ``finished``, ``failed`` or ``cancelled``; only a finished one is never opened again.
            metrics: numbers of the whole comparison.
            artifacts: files and folders, e.g. ``comparison.json``.
        """


class NullTracker:
    """Writes nothing down."""

    def start(self, name: str, key: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """Return an empty id."""
        return ""

    def log_fit(self, fit: FitLog) -> str:
        """Return an empty id."""
        return ""

    def finish(self, status: str, metrics: Mapping[str, float | None], artifacts: Sequence[Path]) -> None:
        """Do nothing."""


class ForgivingTracker:
    """Passes on to another tracker until that fails; then says so once and lets the comparison go on.

    After the first failure nothing more is tried: a dead server would otherwise cost its timeout for every fit.
    `start` is not forgiven, because nothing has been paid for yet and the user can still act.

    Args:
        tracker: the one that does the work.
        warn: takes one sentence for the user.
    """

    def __init__(self, tracker: Tracker, warn: Callable[[str], None]) -> None:
        self._tracker: Tracker = tracker
        self._warn = warn

    def start(self, name: str, key: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """Open the run; errors are raised."""
        return self._tracker.start(name, key, params, tags)

    def log_fit(self, fit: FitLog) -> str:
        """Write one fit, or return an empty id when tracking has failed."""
        try:
            return self._tracker.log_fit(fit)
        except Exception as problem:  # MLflow, requests, SQLAlchemy and the disk each raise their own
            self._give_up(problem)
            return ""

    def finish(self, status: str, metrics: Mapping[str, float | None], artifacts: Sequence[Path]) -> None:
        """Close the run, unless tracking has failed."""
        try:
            self._tracker.finish(status, metrics, artifacts)
        except Exception as problem:  # as above
            self._give_up(problem)

    def _give_up(self, problem: Exception) -> None:
        self._tracker = NullTracker()
        self._warn(f"tracking stopped, the comparison goes on without it: {one_line(problem)}")


def one_line(problem: BaseException) -> str:
    """Return the first line of an error's text, at most 300 characters, or its type when it has none."""
    lines = without_password(str(problem)).strip().splitlines()
    return lines[0][:300] if lines else type(problem).__name__


def without_password(text: str) -> str:
    """Return the text with ``user:password@`` cut out of every address."""
    return re.sub(r"//[^@/\s]*@", "//", text)


def output_columns(label_names: Sequence[str], label_type: str = "str") -> dict[str, str]:
    """Return the columns that a classifier gives: ``prediction`` and one probability ``p_LABEL`` per class.

    Args:
        label_names: C names.
        label_type: ``str``, ``int``, ``float`` or ``bool``, as in `headstart.data.labels.Labels.to_json`.
    """
    return {"prediction": _TYPES[label_type], **{f"p_{name}": "double" for name in label_names}}


def open_tracker(
    folder: Path, *, experiment: str, enabled: bool = True, warn: Callable[[str], None] | None = None
) -> tuple[Tracker, str | None]:
    """Open MLflow at ``MLFLOW_TRACKING_URI``, or in ``folder/mlflow.db`` where that is not set.

    The first time in a process this takes some seconds: importing MLflow and making the tables of its database.

    Args:
        folder: output folder of the comparison.
        experiment: MLflow experiment; made when missing.
        enabled: False gives a tracker that does nothing.
        warn: takes one sentence when tracking fails later on; a logger's warning by default.

    Returns:
        The tracker, and a sentence to say once to the user or None.

    Raises:
        ConfigError: ``MLFLOW_TRACKING_URI`` is set but nothing answers there within seconds.
        StorageError: the database in ``folder`` cannot be opened.
    """
    if not enabled:
        return NullTracker(), None
    if importlib.util.find_spec("mlflow") is None:
        return NullTracker(), NOT_INSTALLED
    from headstart.tracking.mlflow_store import MlflowTracker

    return ForgivingTracker(MlflowTracker.open(folder, experiment), warn or logging.getLogger(__name__).warning), None
