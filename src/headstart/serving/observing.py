"""What is told of a server: one JSON line per event, and counters for Prometheus. Neither holds texts."""

from __future__ import annotations

import datetime
import json
import logging
import sys
import time
import traceback
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headstart.data.table import clean_text

LOGGER = "headstart.serving"
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_OTHER = "other"
_METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH")


class JsonLines(logging.Formatter):
    """One JSON object per record; of an error its type and place, not its words, for these may hold texts."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        line: dict[str, Any] = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "about", {}),
        }
        if record.exc_info is not None and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["at"] = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(record.exc_info[2])]
        return json.dumps(line, default=str)


def log_config() -> dict[str, Any]:
    """Return what `logging.config.dictConfig` takes: ours and uvicorn's lines as JSON on stdout."""
    handled = {"handlers": ["stdout"], "level": "INFO", "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonLines}},
        "handlers": {"stdout": {"class": "logging.StreamHandler", "formatter": "json", "stream": sys.stdout}},
        "loggers": {LOGGER: handled, "uvicorn": handled, "uvicorn.error": {**handled}},
    }


def tell(event: str, *, level: int = logging.INFO, **about: Any) -> None:
    """Write one event into the log."""
    logging.getLogger(LOGGER).log(level, event, extra={"about": about})


class Metrics:
    """Counters of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        to = self.registry
        self.requests = Counter("headstart_requests", "Requests answered.", ["method", "path", "status"], registry=to)
        self.seconds = Histogram(
            "headstart_request_seconds", "From head to answer.", ["path"], buckets=_SECONDS, registry=to
        )
        self.running = Gauge("headstart_requests_running", "Requests not answered yet.", ["path"], registry=to)
        self.texts = Counter("headstart_texts", "Texts labeled.", ["model", "version"], registry=to)
        self.batch_texts = Histogram("headstart_batch_texts", "Texts computed at once.", buckets=_TEXTS, registry=to)
        self.batch_seconds = Histogram("headstart_batch_seconds", "One batch.", buckets=_SECONDS, registry=to)
        self.workers_memory = Gauge(
            "headstart_workers_resident_memory_bytes", "Of all processes that hold the models.", registry=to
        )
        self.waiting = Gauge("headstart_waiting_texts", "Texts that wait or are being computed.", registry=to)
        self.switches = Counter(
            "headstart_switches", "Models exchanged because an alias moved.", ["model", "result"], registry=to
        )

    def batch(self, texts: int, seconds: float) -> None:
        """Count a batch."""
        self.batch_texts.observe(texts)
        self.batch_seconds.observe(seconds)

    def event(self, event: str, **about: Any) -> None:
        """Count an exchange of models or its failure, and write it into the log."""
        failed = event == "switch_failed"
        self.switches.labels(about["model"], "failed" if failed else "done").inc()
        tell(event, level=logging.ERROR if failed else logging.INFO, **about)

    def page(self) -> bytes:
        """Return all counters in Prometheus's text format."""
        return generate_latest(self.registry)


class Observer:
    """Counts, times and logs every request, and turns a bug into a plain 500.

    Args:
        app: what answers.
        metrics: where it is counted.
        paths: paths that are counted by name; others together.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, paths: frozenset[str]) -> None:
        self.app, self.metrics, self.paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        path = scope["path"] if scope["path"] in self.paths else _OTHER
        status = 0
        about: dict[str, Any] = {}
        scope.setdefault("state", {})["about"] = about

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).setdefault("x-content-type-options", "nosniff")
            await send(message)

        self.metrics.running.labels(path).inc()
        try:
            await self.app(scope, receive, noted)
        except Exception:  # a bug: logged where it happened, and answered
            logging.getLogger(LOGGER).exception("bug")
            if not status:
                await problem(500, "this is a bug in headstart; the server's log says where")(scope, receive, noted)
        finally:
            self.metrics.running.labels(path).dec()
            self._count(scope, path, status, time.perf_counter() - began, about)

    def _count(self, scope: Scope, path: str, status: int, seconds: float, about: dict[str, Any]) -> None:
        method = scope["method"] if scope["method"] in _METHODS else _OTHER
        self.metrics.requests.labels(method, path, str(status)).inc()
        self.metrics.seconds.labels(path).observe(seconds)
        tell("request", method=method, path=path, status=status, ms=round(seconds * 1000, 2), **about)


def note(request: Request, **about: Any) -> None:
    """Add to the log line of a request."""
    request.state.about.update(about)


def problem(status: int, *faults: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return an answer that says why there is none."""
    cleaned = [clean_text(fault) for fault in faults]
    return JSONResponse({"error": "\n".join(cleaned), "faults": cleaned}, status, headers=headers)
