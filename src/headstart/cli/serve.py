"""``headstart serve``."""

from __future__ import annotations

import signal
from typing import Annotated, Any

import typer

from headstart.cli import registered, running
from headstart.cli.lazy import single
from headstart.records import cores
from headstart.serving.settings import ServingSettings, read_token

_EPILOG = """Examples:

headstart serve runs/reviews/best

headstart serve --name reviews=runs/reviews/best --name topics=runs/topics/best --port 9000

headstart serve models:/reviews@champion

headstart serve runs/reviews/best --host 0.0.0.0 --token-file token.txt
"""
_FIELDS = ServingSettings.model_fields
Models = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL...",
        help="Model folders, folders of comparisons (the winner), or registered models (models:/NAME@ALIAS), which are "
        "followed when the alias moves.",
    ),
]
Names = Annotated[
    list[str] | None,
    typer.Option("--name", metavar="NAME=MODEL", help="A model with a name of its own; may be given again."),
]
TokenFile = Annotated[
    str | None,
    typer.Option("--token-file", metavar="FILE", help="File with the bearer token; else HEADSTART_TOKEN, if set."),
]


def _option(name: str, metavar: str, panel: str = "Limits") -> Any:
    flag = f"--{name.replace('_', '-')}"
    return typer.Option(flag, metavar=metavar, help=_FIELDS[name].description, rich_help_panel=panel)


def application() -> typer.Typer:
    """Return the application of this command."""
    return single("serve", serve, epilog=_EPILOG)


def serve(
    models: Models = None,
    name: Names = None,
    host: Annotated[str, _option("host", "ADDRESS", "Address")] = _FIELDS["host"].default,
    port: Annotated[int, _option("port", "N", "Address")] = _FIELDS["port"].default,
    token_file: TokenFile = None,
    max_body_bytes: Annotated[int, _option("max_body_bytes", "N")] = _FIELDS["max_body_bytes"].default,
    max_texts: Annotated[int, _option("max_texts", "N")] = _FIELDS["max_texts"].default,
    max_characters: Annotated[int, _option("max_characters", "N")] = _FIELDS["max_characters"].default,
    max_waiting: Annotated[int, _option("max_waiting", "N")] = _FIELDS["max_waiting"].default,
    max_batch: Annotated[int, _option("max_batch", "N")] = _FIELDS["max_batch"].default,
    log_texts: Annotated[bool, typer.Option("--log-texts", help=_FIELDS["log_texts"].description)] = False,
    poll_seconds: Annotated[float, _option("poll_seconds", "SECONDS", "Address")] = _FIELDS["poll_seconds"].default,
    registry: registered.RegistryUri = None,
    workers: Annotated[int | None, _option("workers", "N", "Machine")] = None,
    quiet: running.Quiet = False,
    device: running.Device = "auto",
    precision: running.Precision = "auto",
    engine: running.Engine = "auto",
    threads: running.Threads = None,
) -> None:
    """Answer HTTP requests with models, and show a page to try them on.

    POST /predict labels texts; / is the page, /openapi.json describes the rest. Only this machine can reach the
    server unless --host says otherwise, which takes a token. One line of JSON per request goes to stdout; it holds no
    texts unless --log-texts is given.
    """
    from headstart.serving.starting import import_ahead, without_collecting

    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # until the server has a way of its own to stop
    if workers != 1 and device in ("auto", "cpu") and (threads or cores()) > 1:
        import_ahead()
    with without_collecting():
        from headstart.serving import server
        from headstart.serving.shelf import wanted

    given = {
        "host": host, "port": port, "max_body_bytes": max_body_bytes, "max_texts": max_texts,
        "max_characters": max_characters, "max_waiting": max_waiting, "max_batch": max_batch, "log_texts": log_texts,
        "poll_seconds": poll_seconds, "workers": workers,
    }  # fmt: skip
    settings = settings_of(given, token_file)
    entries = wanted(models or (), name or (), registry=registry)
    running.use_threads(threads)
    told = (lambda line: None) if quiet else running.note
    server.serve(entries, settings, device=device, precision=precision, engine=engine, told=told)


def settings_of(given: dict[str, Any], token_file: str | None) -> ServingSettings:
    """Return checked settings.

    Raises:
        ConfigError: a value is out of its range, or what `ServingSettings.check` finds.
    """
    from pydantic import ValidationError

    from headstart.errors import ConfigError, plain_words

    try:
        settings = ServingSettings(**given, token=read_token(token_file))
    except ValidationError as problem:
        faults = [f"--{str(f['loc'][0]).replace('_', '-')}: {plain_words(f['msg'])}" for f in problem.errors()]
        raise ConfigError(faults) from problem
    return settings.check()
