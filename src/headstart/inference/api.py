"""The door: a task, texts and a model to one result per text."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from headstart.data.table import clean_text
from headstart.errors import ConfigError, DataError, counted, plain_words, unknown_name
from headstart.inference.table import TASKS, tasks_with
from headstart.inference.task import Item, Options, Result, Task

# Texts sorted by length and answered together; the first results come after so many.
AT_ONCE = 64


def infer(
    task: str,
    texts: str | Sequence[str],
    *,
    model: str,
    context: str | Sequence[str] | None = None,
    revision: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    registry: str | None = None,
    **options: Any,
) -> list[Result]:
    """Run a task of a pretrained model on texts.

    Args:
        task: ``sentiment``, ``zero-shot``, ``ner``, ``fill-mask``, ``features``, ``question``, ``generate``,
            ``summarize`` or ``translate``.
        texts: N texts (questions, for ``question``), or one.
        model: hub name, local folder, catalog name or registered model (``models:/NAME@ALIAS``); only safetensors
            weights are read and no code is run.
        context: for ``question``, the text that holds the answers: one for all questions, or N.
        revision: branch, tag or commit, for a hub name.
        device: ``auto`` or a torch device name.
        precision: ``auto`` (measured; float32 for tasks that write text), ``float32`` or ``bfloat16``.
        registry: address of the model registry; by default as of `headstart.load`.
        options: the task's own, e.g. ``labels=["price", "staff"]`` for ``zero-shot``.

    Returns:
        N results in the order of the texts, each ``{"text": ..., ...}``; ``cut_tokens`` is among the keys where a
        text was longer than the model reads.

    Raises:
        ConfigError: the task or an option is unknown or wrong.
        DataError: a text cannot be used.
        ModelError: the model is not there, or is of another kind.
    """
    from headstart.models.text_features import as_texts

    given = as_texts([texts] if isinstance(texts, str) else texts, name="texts")
    contexts: Sequence[str | None]
    if context is None or isinstance(context, str):
        contexts = [context] * len(given)
    else:
        contexts = as_texts(context, name="context")
    if len(contexts) != len(given):
        raise DataError(
            f"{counted(len(given), 'text', 'texts')} and "
            f"{counted(len(contexts), 'context', 'contexts')}: give one for all, or as many"
        )
    items = [item_of(text, row, c) for row, (text, c) in enumerate(zip(given, contexts, strict=True), start=1)]
    chosen = task_named(task)
    values = options_of(chosen, options)
    refuse_context(chosen, context)
    where: dict[str, Any] = {"model": model, "revision": revision, "registry": registry}
    return list(results(chosen, items, values, **where, device=device, precision=precision))


def item_of(text: str, row: int, context: str | None = None) -> Item:
    """Return an input; characters that no tokenizer and no file can hold become U+FFFD."""
    return Item(clean_text(text), row, None if context is None else clean_text(context))


def results(
    task: Task,
    items: Iterable[Item],
    options: Options,
    *,
    model: str,
    revision: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    registry: str | None = None,
) -> Iterator[Result]:
    """Open the model, then yield one result per item, in order, as they come.

    Raises:
        ConfigError: device or precision are wrong, or an option does not go with the model.
        DataError: a text cannot be used.
        ModelError: the model is not there, or is of another kind.
    """
    from headstart.inference.opening import Place
    from headstart.models.runtime import choose_runtime
    from headstart.registry import place_of

    place = place_of(model, registry=registry)
    runtime = choose_runtime(device, "float32" if task.writes and precision == "auto" else precision)
    answer = task.open(Place(place, task.kind, task.name, revision, runtime), options)
    waiting = iter(items)
    while some := list(itertools.islice(waiting, AT_ONCE)):
        yield from answer(some)


def task_named(name: str) -> Task:
    """Return a task.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in TASKS:
        raise ConfigError(unknown_name("task", name, TASKS, "--task"))
    return TASKS[name]


def refuse_context(task: Task, context: object) -> None:
    """Refuse a context where none is read.

    Raises:
        ConfigError: there is one.
    """
    if context is not None and not task.takes_context:
        readers = " and ".join(row.name for row in TASKS.values() if row.takes_context)
        raise ConfigError(f"--context goes with --task {readers}, not with {task.name}")


def options_of(task: Task, given: dict[str, Any]) -> Options:
    """Return a task's options.

    Raises:
        ConfigError: all faults at once.
    """
    from pydantic import ValidationError

    try:
        return task.options(**given)
    except ValidationError as problem:
        raise ConfigError([_fault(task, error) for error in problem.errors()]) from problem


def _fault(task: Task, error: Any) -> str:
    name = str(error["loc"][0])
    if error["type"] == "missing":
        return f"--task {task.name} needs {flag_of(name)}: {task.options.model_fields[name].description}"
    if error["type"] != "extra_forbidden":
        return f"{flag_of(name)} {plain_words(error['msg'])}; got {error['input']!r}"
    others = tasks_with(name)
    if others:
        return f"{flag_of(name)} goes with --task {' and '.join(others)}, not with {task.name}"
    return unknown_name("option", name, task.options.model_fields, f"task {task.name}")


def flag_of(option: str) -> str:
    """Return an option's flag: ``--to`` for ``to_language``, else its name with dashes."""
    return "--" + option.removesuffix("_language").replace("_", "-")
