"""Commands that are imported when they are called, so that ``headstart --help`` does not wait for torch."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup


@dataclass(frozen=True)
class Command:
    """A command before it is imported.

    Attributes:
        name: as typed.
        module: holds a function ``application() -> typer.Typer`` with this one command.
        summary: one line for the list of commands.
    """

    name: str
    module: str
    summary: str


class LazyGroup(TyperGroup):
    """Lists commands from their summaries, and imports the one that is called."""

    lazy: ClassVar[tuple[Command, ...]] = ()

    @classmethod
    def of(cls, commands: Sequence[Command]) -> type[LazyGroup]:
        """Return a group class of the given commands."""
        return type("Commands", (cls,), {"lazy": tuple(commands)})

    def __init__(self, **options: Any) -> None:  # typer's own arguments, whatever its version has
        super().__init__(**options)
        for entry in self.lazy:
            self.commands[entry.name] = _stub(entry)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of use, not of the alphabet."""
        return [entry.name for entry in self.lazy]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the command that is called."""
        name, command, rest = super().resolve_command(ctx, args)
        entry = next((e for e in self.lazy if e.name == name), None)
        return name, command if entry is None else _loaded(entry), rest


def _stub(entry: Command) -> Any:
    app = typer.Typer(add_completion=False)
    app.command(entry.name, help=entry.summary)(_nothing)
    return typer.main.get_command(app)


def _nothing() -> None:
    pass


def _loaded(entry: Command) -> Any:
    return typer.main.get_command(importlib.import_module(entry.module).application())


def single(
    name: str,
    function: Callable[..., None],
    *,
    epilog: str,
    description: str | None = None,
    needs_arguments: bool = True,
) -> typer.Typer:
    """Return an application of one command.

    Args:
        name: of the command.
        function: what it does; its docstring is the help text.
        epilog: examples, one a paragraph.
        description: help text, else the docstring.
        needs_arguments: show the help where none are given.
    """
    app = typer.Typer(add_completion=False)
    text = prose(description or inspect.getdoc(function) or "")
    app.command(name, help=text, epilog=epilog, no_args_is_help=needs_arguments)(function)
    return app


def prose(text: str) -> str:
    """Join the lines of each paragraph, so that the terminal's width decides where they break."""
    paragraphs = text.strip().split("\n\n")
    return "\n\n".join(" ".join(line.strip() for line in p.splitlines()) for p in paragraphs)
