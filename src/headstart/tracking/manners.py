"""MLflow at work for us: nothing sent to others, nothing printed over ours, no minutes lost on a dead server."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator, Mapping

# Set only while MLflow works for us, and only where the user has not set them. Telemetry: a tool that promises to
# work offline on private texts must not report its use to a third party on its own. The rest: MLflow's own defaults
# try a dead server for four minutes, draw progress bars over ours, and put a uv project of the working directory
# into every model.
_SETTINGS = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_UV_AUTO_DETECT": "false",
}
AT_OPENING = {**_SETTINGS, "MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}


@contextlib.contextmanager
def importing_mlflow(settings: Mapping[str, str] = _SETTINGS) -> Iterator[None]:
    """Set environment variables that the user has not set, and mute warnings, for the length of a block."""
    added = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(added)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextlib.contextmanager
def quiet_mlflow(settings: Mapping[str, str] = _SETTINGS) -> Iterator[None]:
    """Do as `importing_mlflow`, and hold back log lines; use it after the import, which sets those levels itself."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic", "sqlalchemy", "urllib3")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with importing_mlflow(settings):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
