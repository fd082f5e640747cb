"""MLflow through its client: no global run, no global URI, so nothing leaks into the user's process.

A comparison is a parent run, each fit a nested one (tag ``mlflow.parentRunId``). A nested run is closed as
FINISHED after its last artifact, so any other status means that writing was cut short.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from headstart.errors import ConfigError, HeadstartError, StorageError
from headstart.tracking.base import FitLog, one_line, without_password
from headstart.tracking.manners import AT_OPENING, importing_mlflow, quiet_mlflow

KEY_TAG = "headstart.key"
FIT_TAG = "headstart.fit"
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}
_PARAMS_AT_ONCE, _METRICS_AT_ONCE = 100, 1000  # MLflow's limits per request
_KEY_LENGTH, _VALUE_LENGTH = 250, 6000  # characters; longer ones are refused by MLflow


class MlflowTracker:
    """One comparison in MLflow; see `headstart.tracking.base.Tracker` for what the methods promise.

    Args:
        client: an ``MlflowClient``.
        experiment_id: of an existing experiment.
    """

    def __init__(self, client: Any, experiment_id: str) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self._parent = ""
        self._key = ""
        self._done: dict[str, str] = {}  # name of a fit written whole -> run id

    @classmethod
    def open(cls, folder: Path, experiment: str) -> MlflowTracker:
        """Connect, and find or make the experiment.

        Raises:
            ConfigError: ``MLFLOW_TRACKING_URI`` is set but does not work.
            StorageError: the database in ``folder`` cannot be opened.
        """
        given = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
        folder = folder.resolve()
        with importing_mlflow():
            from mlflow import MlflowClient
        try:
            with quiet_mlflow(AT_OPENING):
                if not given:
                    folder.mkdir(parents=True, exist_ok=True)
                client = MlflowClient(given or f"sqlite:///{folder / 'mlflow.db'}")
                place = None if given else (folder / "mlartifacts").as_uri()
                return cls(client, experiment_id(client, experiment, place))
        except HeadstartError:
            raise
        except Exception as problem:  # MLflow, requests, SQLAlchemy and the disk each raise their own
            raise _not_opened(given, folder, problem) from problem

    def start(self, name: str, key: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """Open or reopen the parent run."""
        self._key = re.sub(r"[^\w.:+ -]", "_", key)  # it is quoted in a query
        with quiet_mlflow():
            unfinished = self._runs(f"tags.`{KEY_TAG}` = '{self._key}' and attributes.status != 'FINISHED'")
            parents = [run for run in unfinished if FIT_TAG not in run.data.tags]
            if parents:
                self._parent = parents[0].info.run_id
                self._client.update_run(self._parent, status="RUNNING")
                self._forget_half_written()
            else:
                self._parent = self._create(name, {**tags, KEY_TAG: self._key})
                self._done = {}
                self._log(self._parent, params=params)
        return self._parent

    def log_fit(self, fit: FitLog) -> str:
        """Write one nested run, unless it is there whole."""
        if fit.name in self._done:
            return self._done[fit.name]
        with quiet_mlflow():
            tags = {KEY_TAG: self._key, FIT_TAG: fit.name, "mlflow.parentRunId": self._parent}
            run = self._create(fit.name, tags)
            final = {f"final_{name}": value for name, value in fit.final.items()}
            self._log(run, params=fit.params, steps=[(0, final), *enumerate(fit.epochs, start=1)])
            if fit.outputs:
                self._client.log_dict(run, signature(fit.inputs, fit.outputs).to_dict(), "signature.json")
            self._keep(run, fit.artifacts)
            self._client.set_terminated(run, _STATUS[fit.status])
        if fit.status == "finished":
            self._done[fit.name] = run
        return run

    def finish(self, status: str, metrics: Mapping[str, float | None], artifacts: Sequence[Path]) -> None:
        """Write the parent's metrics and artifacts and close it."""
        with quiet_mlflow():
            self._log(self._parent, steps=[(0, metrics)])
            self._keep(self._parent, artifacts)
            self._client.set_terminated(self._parent, _STATUS[status])

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        tags = {"mlflow.source.name": "headstart", "mlflow.source.type": "LOCAL", **tags}
        tags = {_name(key): str(value)[:_VALUE_LENGTH] for key, value in tags.items()}
        return str(self._client.create_run(self._experiment_id, run_name=name, tags=tags).info.run_id)

    def _runs(self, query: str) -> Iterator[Any]:
        token = None
        while True:
            page = self._client.search_runs([self._experiment_id], query, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _forget_half_written(self) -> None:
        nested = list(self._runs(f"tags.`mlflow.parentRunId` = '{self._parent}'"))
        whole = [run for run in nested if run.info.status == "FINISHED"]
        self._done = {run.data.tags[FIT_TAG]: run.info.run_id for run in whole if FIT_TAG in run.data.tags}
        for run in nested:
            if run.info.status != "FINISHED":
                self._client.delete_run(run.info.run_id)

    def _log(
        self,
        run: str,
        *,
        params: Mapping[str, Any] | None = None,
        steps: Sequence[tuple[int, Mapping[str, float | None]]] = (),
    ) -> None:
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        settings = [Param(_name(key), value) for key, value in _flat(params or {})]
        numbers = [
            Metric(_name(name), float(value), now, step)
            for step, metrics in steps
            for name, value in metrics.items()
            if value is not None
        ]
        for start in range(0, len(settings), _PARAMS_AT_ONCE):
            self._client.log_batch(run, params=settings[start : start + _PARAMS_AT_ONCE])
        for start in range(0, len(numbers), _METRICS_AT_ONCE):
            self._client.log_batch(run, metrics=numbers[start : start + _METRICS_AT_ONCE])

    def _keep(self, run: str, artifacts: Sequence[Path]) -> None:
        for path in artifacts:
            if path.is_dir():
                self._client.log_artifacts(run, str(path), artifact_path=path.name)
            else:
                self._client.log_artifact(run, str(path))


def experiment_id(client: Any, name: str, place: str | None) -> str:
    """Return the id of an experiment, made if it is not there.

    Args:
        client: an ``MlflowClient``.
        name: of the experiment.
        place: address for the files of its runs, where the store has no place of its own.

    Raises:
        ConfigError: it was deleted.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        return str(client.create_experiment(name, artifact_location=place))
    if found.lifecycle_stage != "active":
        raise ConfigError(
            f"the MLflow experiment '{name}' was deleted: restore it with "
            f"'mlflow experiments restore --experiment-id {found.experiment_id}', or give the comparison another name"
        )
    return str(found.experiment_id)


def _not_opened(given: str, folder: Path, problem: Exception) -> HeadstartError:
    if not given:
        return StorageError(
            f"the tracking database {folder / 'mlflow.db'} cannot be opened: {one_line(problem)}: "
            "choose another folder with --out, or move that file away"
        )
    return ConfigError(
        f"MLFLOW_TRACKING_URI is {without_password(given)}, but tracking cannot be opened there: {one_line(problem)}: "
        "start the server, correct the address, or unset MLFLOW_TRACKING_URI to track into the output folder"
    )


def _name(name: str) -> str:
    """Return a name of params, metrics or tags as MLflow takes it: letters, digits and ``_-. /``."""
    return re.sub(r"[^\w\-. /]", "_", name)[:_KEY_LENGTH].strip("/.") or "_"


def _flat(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield name and text of every setting; a mapping in a mapping gives ``outer.inner``."""
    for name, value in params.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            yield f"{prefix}{name}", text[:_VALUE_LENGTH]


def signature(inputs: Mapping[str, str], outputs: Mapping[str, str]) -> Any:
    """Return the ``ModelSignature`` of named columns, each with its type in MLflow's words."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    def schema(columns: Mapping[str, str]) -> Any:
        return Schema([ColSpec(type=kind, name=name) for name, kind in columns.items()])

    return ModelSignature(inputs=schema(inputs), outputs=schema(outputs))
