"""``headstart rollback``."""

from __future__ import annotations

import typer

from headstart.cli import registered, running
from headstart.cli.lazy import single

_EPILOG = """Examples:

headstart rollback reviews
"""


def application() -> typer.Typer:
    """Return the application of this command."""
    return single("rollback", rollback, epilog=_EPILOG)


def rollback(name: registered.Name, registry: registered.RegistryUri = None) -> None:
    """Make the champion before this one the champion again; again, and it is the one before that."""
    from headstart.registry import Registry
    from headstart.registry.promoting import rollback as undo

    now, before = undo(Registry.open(registry), name)
    running.note(f"{now} is the champion again, in place of {before}")
