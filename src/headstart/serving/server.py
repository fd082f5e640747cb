"""A server from start to end: the port first, then the models, then answers until it is told to stop."""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from headstart.errors import ConfigError, MissingExtraError
from headstart.serving.settings import ServingSettings
from headstart.serving.shelf import Shelf, Wanted

_BACKLOG = 2048
_STOP_SECONDS = 60  # requests that run when the server is told to stop may take so long
_IDLE_SECONDS = 30


def listener(settings: ServingSettings) -> socket.socket:
    """Return a socket bound to the address; it takes connections once the models are open.

    Raises:
        ConfigError: the address is taken or is not this machine's.
    """
    bound = None
    try:
        where = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        family, kind, protocol, _, address = where[0]
        # asyncio sends without delay (TCP_NODELAY) only on sockets that are said to be TCP; on others the body of
        # every answer waits 40 ms for the client to acknowledge its head.
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as problem:
        if bound is not None:
            bound.close()
        raise ConfigError(
            f"cannot listen on {settings.host}, port {settings.port} ({problem.strerror or problem}); choose another "
            "with --host and --port"
        ) from problem
    return bound


def serve(
    wanted: Sequence[Wanted],
    settings: ServingSettings,
    *,
    device: str = "auto",
    precision: str = "auto",
    engine: str = "auto",
    told: Callable[[str], None] = lambda line: None,
) -> None:
    """Serve models until a signal says stop; requests that run then are finished.

    Args:
        wanted: the models.
        settings: where, and with what limits.
        device: ``auto`` or a torch device name.
        precision: ``auto``, ``float32`` or ``bfloat16``.
        engine: ``auto``, ``torch`` or ``onnx``.
        told: told of the address, in words.

    Raises:
        ConfigError: the address cannot be used, or must not be without a token.
        ModelError: a model cannot be opened.
        MissingExtraError: FastAPI, uvicorn or prometheus_client is not installed.
    """
    settings.check()
    try:
        import uvicorn

        from headstart.serving.app import create_app
        from headstart.serving.observing import Metrics, log_config
    except ImportError as problem:
        raise MissingExtraError("serving", "`headstart serve`") from problem
    import torch

    from headstart.models.folder import Model
    from headstart.models.predicting import open_model
    from headstart.models.runtime import choose_runtime
    from headstart.serving.switching import Follower, opened
    from headstart.serving.workers import Workers

    with listener(settings) as bound, contextlib.ExitStack() as closing:
        runtime, metrics = choose_runtime(device, precision), Metrics()
        open_folder: Callable[[Path], Model] = functools.partial(open_model, runtime=runtime, engine=engine)
        count = settings.workers or best_count(wanted, runtime.device)
        if count > 1:
            threads = max(1, torch.get_num_threads() // count)
            workers = closing.enter_context(contextlib.closing(Workers(count, threads=threads, open_model=open_folder)))
            open_folder = workers.open
            metrics.workers_memory.set_function(workers.memory_bytes)
        served = [opened(entry, open_folder) for entry in wanted]
        shelf = Shelf(served)
        followers = [
            Follower(entry, now, shelf, open_folder, tell=metrics.event, poll_seconds=settings.poll_seconds)
            for entry, now in zip(wanted, served, strict=True)
            if entry.alias is not None
        ]
        app = create_app(shelf, settings, followers=followers, metrics=metrics, workers=count)
        host, port = bound.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        names = ", ".join(f"{s.name} (version {s.version})" for s in served)
        told(f"serving {names} on http://{shown}:{port}/; Ctrl-C stops")
        config = uvicorn.Config(
            app,
            log_config=log_config(),
            access_log=False,
            server_header=False,
            ws="none",
            backlog=_BACKLOG,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=_STOP_SECONDS,
        )
        uvicorn.Server(config).run(sockets=[bound])


def best_count(wanted: Sequence[Wanted], device: str) -> int:
    """Return how many processes shall hold the models: one where a device other than the processor computes.

    Raises:
        ModelError: a registered model is not there.
    """
    import psutil
    import torch

    from headstart.models.predicting import winner_or_self
    from headstart.serving.workers import count_for

    if torch.device(device).type != "cpu":
        return 1
    folders = [winner_or_self(entry.place.folder(entry.place.version())) for entry in wanted]
    weights = sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())
    return count_for(torch.get_num_threads(), weights, psutil.virtual_memory().available)
