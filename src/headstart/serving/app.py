"""The HTTP interface."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from headstart.errors import DataError, plain_words
from headstart.serving import bodies
from headstart.serving.batches import Batcher, QueueFullError
from headstart.serving.guard import Guard
from headstart.serving.observing import Metrics, Observer, note, problem
from headstart.serving.settings import ServingSettings
from headstart.serving.shelf import Shelf, UnknownModelError
from headstart.serving.switching import Follower, following

_PAGE = Path(__file__).parent / "page"
_ABOUT = "Labels of texts and their probabilities, from models that headstart made."
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_PAGE_HEADERS = {"content-security-policy": _POLICY, "referrer-policy": "no-referrer", "cache-control": "no-cache"}
_SCRIPT = "text/javascript"
_STATIC = {
    "page.css": "text/css", "page.js": _SCRIPT, "card.js": _SCRIPT, "csv.js": _SCRIPT, "icon.svg": "image/svg+xml",
}  # fmt: skip
# Open to all: what load balancers ask, and the page, which then asks for the token itself.
_OPEN_PATHS = frozenset({"/", "/health", "/ready", *(f"/static/{name}" for name in _STATIC)})
_WRONG: dict[int | str, dict[str, Any]] = {
    400: {"model": bodies.Problem, "description": "The request is not JSON, or is addressed to another host."},
    401: {"model": bodies.Problem, "description": "The bearer token is missing or wrong."},
    404: {"model": bodies.Problem, "description": "No such model or version is served."},
    408: {"model": bodies.Problem, "description": "The body took too long to arrive."},
    413: {"model": bodies.Problem, "description": "The body is larger than allowed."},
    422: {"model": bodies.Problem, "description": "The body holds something else than expected, or too much of it."},
    503: {
        "model": bodies.Problem,
        "description": "Too many texts wait already; Retry-After says when to try again.",
        "headers": {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}},
    },
}
_COUNTERS = {"schema": {"type": "string"}, "example": 'headstart_texts_total{model="reviews",version="1"} 5.0\n'}
_routes = APIRouter()


class Serving:
    """What the routes stand on.

    Args:
        shelf: the models.
        settings: limits and manners.
        metrics: counters.
        workers: how many rounds are computed at the same time.
    """

    def __init__(self, shelf: Shelf, settings: ServingSettings, metrics: Metrics, workers: int) -> None:
        self.shelf, self.settings, self.metrics = shelf, settings, metrics
        self.batcher = Batcher(
            max_waiting=settings.max_waiting,
            max_batch=settings.max_batch,
            gather_seconds=settings.gather_seconds,
            workers=workers,
            observe=metrics.batch,
        )
        metrics.waiting.set_function(lambda: self.batcher.waiting)
        self.limits = bodies.Limits(
            max_body_bytes=settings.max_body_bytes,
            max_texts=settings.max_texts,
            max_characters=settings.max_characters,
        )


def create_app(
    shelf: Shelf,
    settings: ServingSettings,
    *,
    followers: Sequence[Follower] = (),
    metrics: Metrics | None = None,
    workers: int = 1,
) -> FastAPI:
    """Return the application.

    Args:
        shelf: the models.
        settings: limits and manners.
        followers: what keeps aliases of a registry up to date.
        metrics: where all is counted; that of the followers.
        workers: how many rounds are computed at the same time.
    """
    metrics = metrics or Metrics()
    serving = Serving(shelf, settings, metrics, workers)

    @contextlib.asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        serving.batcher.start()
        async with following(list(followers)):
            yield
        await serving.batcher.stop()

    app = FastAPI(
        title="headstart",
        version=metadata.version("headstart"),
        description=_ABOUT,
        lifespan=running,
        docs_url=None,
        redoc_url=None,
    )
    app.state.serving = serving
    guarded = [] if settings.token is None else [Depends(HTTPBearer(auto_error=False))]
    app.include_router(_routes, dependencies=guarded)
    app.include_router(_open)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.add_middleware(Guard, settings=settings, open_paths=_OPEN_PATHS)
    paths = _OPEN_PATHS | {"/predict", "/models", "/metrics", "/openapi.json"}
    app.add_middleware(Observer, metrics=metrics, paths=paths)
    return app


def _serving(request: Request) -> Serving:
    found: Serving = request.app.state.serving
    return found


def _wrong(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: _WRONG[code] for code in codes}


@_routes.post(
    "/predict",
    response_model=bodies.PredictResponse,
    responses=_wrong(400, 401, 404, 408, 413, 422, 503),
    summary="Label texts",
)
async def predict(body: Annotated[bodies.PredictRequest, Body()], request: Request) -> Response:
    """Label one text or a list of texts."""
    here = _serving(request)
    try:
        served = here.shelf.choose(body.model, body.version)
        examples = bodies.examples_of_request(served.model, body.texts, here.limits)
        proba = await here.batcher.predict_proba(served.model.classifier, examples)
    except UnknownModelError as wrong:
        return problem(404, str(wrong))
    except DataError as wrong:
        return problem(422, *wrong.faults)
    except QueueFullError as full:
        return problem(503, str(full), headers={"retry-after": str(full.retry_seconds)})
    here.metrics.texts.labels(served.name, served.version).inc(len(examples))
    note(request, model=served.name, version=served.version, texts=len(examples))
    if here.settings.log_texts:
        note(request, logged_texts=body.texts)
    predictions = bodies.answers(served.model, proba)
    return JSONResponse({"model": served.name, "version": served.version, "predictions": predictions})


@_routes.get("/models", response_model=bodies.ModelList, responses=_wrong(400, 401), summary="The models served now")
async def models(request: Request) -> Response:
    """Say which models are served, what they read, and how good they were on rows they were not fitted on."""
    here = _serving(request)
    cards = [served.card() for served in here.shelf]
    return JSONResponse({"models": cards, "limits": here.limits.model_dump()})


@_routes.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": _COUNTERS}}, **_wrong(400, 401)},
    summary="Counters for Prometheus",
)
async def metrics_page(request: Request) -> Response:
    """Return counters in Prometheus's text format."""
    return Response(_serving(request).metrics.page(), media_type="text/plain; version=0.0.4")


_open = APIRouter()


@_open.get("/health", response_model=bodies.State, responses=_wrong(400), summary="Whether the process lives")
async def health() -> Response:
    """Answer as long as the process does."""
    return JSONResponse({"status": "ok"})


@_open.get("/ready", response_model=bodies.State, responses=_wrong(400, 503), summary="Whether texts are labeled")
async def ready(request: Request) -> Response:
    """Say whether texts sent now would be labeled."""
    if not _serving(request).batcher.running:
        return problem(503, "no texts are labeled: the server stops", headers={"retry-after": "1"})
    return JSONResponse({"status": "ready"})


@_open.get("/", include_in_schema=False)
async def page() -> Response:
    """Return the page to try the models on."""
    return FileResponse(_PAGE / "index.html", media_type="text/html", headers=_PAGE_HEADERS)


@_open.get("/static/{name}", include_in_schema=False)
async def static(name: str) -> Response:
    """Return what the page consists of."""
    if name not in _STATIC:
        return problem(404, "there is no such file")
    return FileResponse(_PAGE / name, media_type=_STATIC[name], headers=_PAGE_HEADERS)


async def _invalid(request: Request, wrong: Exception) -> Response:
    """Say what is wrong with a body without repeating it: it may hold what no answer can, and nobody should log."""
    assert isinstance(wrong, RequestValidationError)
    found = wrong.errors()
    if any(f["type"] == "json_invalid" for f in found):
        return problem(400, "the body is not valid JSON")
    lines = dict.fromkeys(f"{_at(f['loc'])}: {plain_words(f['msg'])}" for f in found)
    return problem(422, *list(lines)[:10])


def _at(location: Sequence[Any]) -> str:
    return ".".join(str(part)[:50] for part in location[1:]) or "body"


async def _refused(request: Request, wrong: Exception) -> Response:
    assert isinstance(wrong, HTTPException)
    words = {404: "there is no such page; see /openapi.json", 405: "this page does not take this method"}
    said = words.get(wrong.status_code, "the body could not be read as JSON in UTF-8")
    return problem(wrong.status_code, said, headers=dict(wrong.headers or {}))
