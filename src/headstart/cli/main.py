"""The command line's entry point: which commands there are, and what becomes of an error."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from headstart import __version__
from headstart.cli.lazy import Command, LazyGroup, prose
from headstart.errors import HeadstartError
from headstart.records import storage_problem

INTERRUPTED = 130
USER_ERROR = 2
OUR_ERROR = 1

_HELP = """The best text classifier that a pretrained encoder and a few hundred labeled texts can give, with proof.

Every way of transferring is fitted on the same rows and judged once on rows none of them saw. The winner is a model
folder that opens anywhere. Start with a file that has a text and a label column:

headstart compare reviews.csv --text review --label sentiment
"""
_COMMANDS = (
    Command(
        "compare", "headstart.cli.compare", "Fit every way of transferring, and say which one won and by how much."
    ),
    Command("fit", "headstart.cli.fit", "Fit one strategy."),
    Command("adapt", "headstart.cli.adapt", "Train an encoder further on texts without labels."),
    Command("predict", "headstart.cli.predict", "Label the texts of a file with a model."),
    Command("serve", "headstart.cli.serve", "Answer HTTP requests with models, and show a page to try them on."),
    Command("evaluate", "headstart.cli.evaluate", "Score models side by side on labeled texts."),
    Command(
        "infer", "headstart.cli.infer", "Run another task of a pretrained model: summaries, translations, names, ..."
    ),
    Command("inspect", "headstart.cli.inspect", "Look into a model or encoder: layers, tokens, how far weights moved."),
    Command("register", "headstart.cli.register", "Add a model to the registry as the next version of a name."),
    Command("models", "headstart.cli.models", "List registered models, their versions and aliases."),
    Command("promote", "headstart.cli.promote", "Make a version the champion, if it is better than the one there is."),
    Command("rollback", "headstart.cli.rollback", "Make the champion before this one the champion again."),
    Command("strategies", "headstart.cli.strategies", "List the ways of transferring and their settings."),
    Command("encoders", "headstart.cli.encoders", "List the encoders that have a short name."),
    Command("export", "headstart.cli.export", "Write a model as ONNX, checked against the original, perhaps in int8."),
    Command("cache", "headstart.cli.cache", "Show what is kept so that it is never computed twice, or drop it."),
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"headstart {__version__}")
        raise typer.Exit


def application() -> typer.Typer:
    """Return the application with all commands; what a command needs is imported when it is called."""
    app = typer.Typer(
        cls=LazyGroup.of(_COMMANDS),
        help=prose(_HELP),
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def everywhere(
        version: Annotated[
            bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
        ] = False,
    ) -> None:
        pass

    return app


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    _prepare()
    code = run(sys.argv[1:])
    _flush()
    gc.freeze()  # at exit Python would go through every object of torch and transformers several times: a second
    raise SystemExit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command and turn every error into words on stderr.

    Args:
        arguments: what follows the program's name.

    Returns:
        The exit code: 0 done, 1 nothing came of it or a bug, 2 a wrong setting, file or model, 3 done but for rows that
        could not be used, 130 interrupted.
    """
    command = typer.main.get_command(application())
    try:
        result = command.main(list(arguments), prog_name="headstart", standalone_mode=False)
    except KeyboardInterrupt:
        return INTERRUPTED
    except HeadstartError as problem:
        return _fail(problem, USER_ERROR)
    except BrokenPipeError:
        return _reader_gone()
    except Exception as problem:
        return _other(problem)
    return result if isinstance(result, int) else 0


def _other(problem: Exception) -> int:
    if isinstance(problem, _click_exception()):
        return _misused(problem)
    if isinstance(problem, typer.Abort):
        return INTERRUPTED
    full = storage_problem(problem)
    if full is not None:
        return _fail(full, USER_ERROR)
    if os.environ.get("HEADSTART_DEBUG"):
        traceback.print_exception(problem)
    first = (str(problem).strip().splitlines() or ["no message"])[0]
    _say(f"error: {type(problem).__name__}: {first}")
    _say("This is a bug in headstart: please report it with the output of the same command under HEADSTART_DEBUG=1.")
    return OUR_ERROR


def _fail(problem: HeadstartError, code: int) -> int:
    if os.environ.get("HEADSTART_DEBUG"):
        traceback.print_exception(problem)
    faults: Sequence[str] = getattr(problem, "faults", None) or (str(problem),)
    for fault in faults:
        _say(fault if fault.startswith("warning: ") else f"error: {fault}")
    return code


def _misused(problem: Any) -> int:
    """Say what is wrong with the flags, and how to see the right ones."""
    context = getattr(problem, "ctx", None)
    path = getattr(context, "command_path", None) or "headstart"
    message = problem.format_message()
    if not message:  # "no arguments: help was shown"
        return USER_ERROR
    _say(f"error: {message[:1].lower()}{message[1:]}")
    _say(f"`{path} --help` shows every flag.")
    return USER_ERROR


def _click_exception() -> type[BaseException]:
    """Return the base of command-line errors, wherever this version of typer keeps it."""
    return next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _reader_gone() -> int:
    """End quietly when whoever reads our output has had enough (``| head``)."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OUR_ERROR


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _reader_gone()


def _prepare() -> None:
    """Set what only a program of its own may set: never done on import, and never in a notebook."""
    import warnings

    for stream in (sys.stdout, sys.stderr):  # a terminal without Unicode shows a question mark, not a traceback
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    # Tokenizers warn about forks otherwise; ours run before any.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # Threads that wait for each other by spinning without end make a busy machine 4 to 6 times slower; a short
    # spin costs nothing measurable on an idle one (docs/performance.md).
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # Batch systems stop a command with SIGTERM: it ends as by Ctrl-C, and keeps what can be taken up again.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if not sys.warnoptions:  # python -W shows them
        warnings.simplefilter("ignore")


if __name__ == "__main__":
    main()
