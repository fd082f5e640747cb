"""``headstart infer``."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from headstart.cli import completion, registered, running
from headstart.cli.lazy import single
from headstart.errors import ConfigError, DataError, counted
from headstart.inference.api import flag_of, item_of, options_of, refuse_context, results, task_named
from headstart.inference.table import TASKS, option_names, tasks_with

if TYPE_CHECKING:
    from headstart.inference.task import Item

STANDARD_INPUT = "-"
_TABLES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json", ".parquet", ".pq")
_EPILOG = """Examples:

headstart infer --task sentiment --model runs/reviews/best "A warm and funny film."

headstart infer --task features --model minilm --file new.csv > features.jsonl

headstart infer --task zero-shot --model MoritzLaurer/mDeBERTa-v3-base-mnli-xnli --labels price,staff "Too dear."

headstart infer --task question --model ./squad --context "The inn has nine rooms." "How many rooms are there?"

cat texts.txt | headstart infer --task translate --model google-t5/t5-small --from en --to de -
"""
Texts = Annotated[
    list[str] | None,
    typer.Argument(metavar="TEXT", help="Texts; - reads standard input, one text a line.", show_default=False),
]
TaskName = Annotated[str, typer.Option("--task", metavar="NAME", help=", ".join(TASKS), autocompletion=completion.task)]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="NAME|FOLDER",
        help="Hub name, folder, catalog name or registered model (models:/NAME@ALIAS).",
        autocompletion=completion.model,
    ),
]
File = Annotated[
    str | None,
    typer.Option(
        "--file",
        metavar="FILE",
        help="One text a line; of a table (CSV, TSV, JSON lines, Parquet) the column 'text', and for questions the "
        "column 'context'.",
        show_default=False,
    ),
]
Column = Annotated[str, typer.Option("--text", metavar="COLUMN", help="Column of the texts in a table.")]
Context = Annotated[
    str | None,
    typer.Option("--context", metavar="TEXT", help="(question) text that holds the answers.", show_default=False),
]
Revision = Annotated[
    str | None,
    typer.Option("--revision", metavar="NAME", help="Branch, tag or commit of a hub model.", show_default=False),
]


def application() -> typer.Typer:
    """Return the application of this command."""
    return single("infer", with_options(infer), epilog=_EPILOG)


def with_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command one flag per option of any task; the function receives those given as ``given``."""
    signature = inspect.signature(function, eval_str=True)
    own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in signature.parameters.values() if p.name != "given"]
    flags = [_flag(name) for name in option_names()]
    names = {flag.name for flag in flags}

    def command(**values: Any) -> None:
        given = {k: v for k, v in values.items() if k in names and v is not None}
        function(**{k: v for k, v in values.items() if k not in names}, given=given)

    command.__signature__ = inspect.Signature([*own, *flags])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in (*own, *flags)}
    command.__doc__ = function.__doc__
    return command


def _flag(name: str) -> inspect.Parameter:
    tasks = tasks_with(name)
    field = TASKS[tasks[0]].options.model_fields[name]
    switch = field.annotation is bool
    info = typer.Option(
        flag_of(name),
        help=f"({', '.join(tasks)}) {field.description}{_default(name, tasks)}",
        metavar=None if switch else "N" if "int" in str(field.annotation) else "VALUE",
        show_default=False,
        rich_help_panel="Options of tasks",
    )
    kind = bool | None if switch else str | None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, info])


def _default(name: str, tasks: Sequence[str]) -> str:
    """Return `` (default: x)`` where it is the same in all tasks and is one."""
    values = {TASKS[task].options.model_fields[name].default for task in tasks if not _required(task, name)}
    value = values.pop() if len(values) == 1 else None
    return "" if value in (None, False) else f" (default: {value})"


def _required(task: str, name: str) -> bool:
    return TASKS[task].options.model_fields[name].is_required()


def infer(
    task: TaskName,
    model: Model,
    *,
    given: dict[str, Any],
    texts: Texts = None,
    file: File = None,
    text: Column = "text",
    context: Context = None,
    revision: Revision = None,
    registry: registered.RegistryUri = None,
    quiet: running.Quiet = False,
    device: running.Device = "auto",
    precision: running.Precision = "auto",
    threads: running.Threads = None,
) -> None:
    """Run a task of a pretrained model on texts: JSON lines out, one object per text, in their order.

    The model is a name on the Hugging Face hub or a folder; only safetensors weights are read, and no code that comes
    with a model is run. Without a network a model that is not on this machine fails at once.
    """
    chosen = task_named(task)
    options = options_of(chosen, given)
    refuse_context(chosen, context)
    note = (lambda line: None) if quiet else running.note
    items = _items(texts or [], file, text, context, needs_context=chosen.takes_context, note=note)
    running.use_threads(threads)
    place: dict[str, Any] = {"model": model, "revision": revision, "registry": registry}
    done = results(chosen, items, options, **place, device=device, precision=precision)
    cut = _print(done)
    if cut:
        note(f"{counted(cut, 'text is', 'texts are')} longer than the model reads: see cut_tokens")


def _print(done: Iterator[dict[str, Any]]) -> int:
    """Print results as they come; return how many texts were cut."""
    cut = 0
    for result in done:
        cut += "cut_tokens" in result
        typer.echo(json.dumps(result, ensure_ascii=False, allow_nan=False))
        sys.stdout.flush()
    return cut


def _items(
    texts: list[str],
    file: str | None,
    column: str,
    context: str | None,
    *,
    needs_context: bool,
    note: Callable[[str], None],
) -> Iterator[Item]:
    if (file is not None) == bool(texts):
        raise ConfigError("give texts, or - for standard input, or --file FILE: exactly one of them")
    if STANDARD_INPUT in texts and len(texts) > 1:
        raise ConfigError("- stands for all of standard input: give it alone")
    if file is not None:
        return _of_file(Path(file).expanduser(), column, context, needs_context=needs_context, note=note)
    lines = _lines(sys.stdin) if texts == [STANDARD_INPUT] else iter(texts)
    return (item_of(line, row, context) for row, line in enumerate(lines, start=1))


def _lines(stream: TextIO) -> Iterator[str]:
    """Yield the lines of a stream that hold something; bytes that are not UTF-8 become U+FFFD."""
    raw = getattr(stream, "buffer", None)
    for line in stream if raw is None else (piece.decode("utf-8", "replace") for piece in raw):
        if line.strip():
            yield line.rstrip("\r\n")


def _of_file(
    path: Path, column: str, context: str | None, *, needs_context: bool, note: Callable[[str], None]
) -> Iterator[Item]:
    from headstart.data.read import read_table
    from headstart.data.rows import rows_of
    from headstart.data.textfile import read_text

    if path.suffix.lower() not in _TABLES and path.is_file():
        lines = [line for line in read_text(path, encoding=None)[0].splitlines() if line.strip()]
        return (item_of(line, row, context) for row, line in enumerate(lines, start=1))
    columns = [column, "context"] if needs_context and context is None else [column]
    table = read_table(path, text=columns)
    for line in table.notes:
        note(line)
    try:
        rows = rows_of(table.frame, text=columns, label=None, name=table.name)
    except DataError as problem:
        faults = [f.replace("'context' (--text)", "'context' (for questions)") for f in problem.faults]
        raise DataError(faults) from problem
    contexts = [context] * len(rows) if rows.pairs is None else list(rows.pairs)
    return (item_of(t, row, c) for row, (t, c) in enumerate(zip(rows.texts, contexts, strict=True), start=1))
