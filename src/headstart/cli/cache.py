"""``headstart cache``."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from headstart.cli import running
from headstart.cli.lazy import single
from headstart.cli.tables import line, show, table

_EPILOG = """Examples:

headstart cache

headstart cache --clear

headstart cache --clear --kind states
"""
_HOLDS = {
    "features": "what frozen encoders say of texts",
    "states": "what frozen lower layers give for texts",
    "sources": "source classifiers",
    "adapted": "adapted encoders",
}
Clear = Annotated[bool, typer.Option("--clear", help="Drop everything, or everything of --kind.")]
Kind = Annotated[str | None, typer.Option("--kind", help="Show or drop only this kind: features, states, sources, ...")]


def application() -> typer.Typer:
    """Return the application of this command."""
    return single("cache", cache, epilog=_EPILOG, needs_arguments=False)


def cache(clear: Clear = False, kind: Kind = None, json_: running.AsJson = False) -> None:
    """Show what is kept so that it is never computed twice, or drop it.

    It lies in HEADSTART_CACHE and holds at most HEADSTART_CACHE_SIZE (5GB by default); what was not used for longest
    goes first, source classifiers and adapted encoders in use stay. Dropping it loses nothing but time.
    """
    from headstart.errors import ConfigError, counted, unknown_name
    from headstart.models import cache as kept

    folder = kept.cache_folder()
    there = kept.entries(folder)
    if kind is not None and kind not in (known := sorted({*_HOLDS, *(e.kind for e in there)})):
        raise ConfigError(unknown_name("kind", kind, known, "--kind"))
    chosen = kept.clear(folder, kind) if clear else [e for e in there if kind in (None, e.kind)]
    rows = [_row(name, [e for e in chosen if e.kind == name]) for name in sorted({e.kind for e in chosen})]
    size = sum(e.bytes for e in chosen)
    if json_:
        found = {"folder": str(folder), "limit": kept.cache_limit(), "bytes": size, "kinds": rows, "dropped": clear}
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    if rows:
        headings = ["kind", "holds", "entries", "MB", "last used"]
        cells = [[r["kind"], r["holds"], r["entries"], f"{r['bytes'] / 1e6:,.1f}", r["last_used"]] for r in rows]
        show(table(headings, cells, left=2))
    verb = "dropped" if clear else "kept"
    if clear and (left := [e for e in kept.entries(folder) if kind in (None, e.kind)]):
        line(f"{counted(len(left), 'entry', 'entries')} left, which a running process uses or writes")
    line(f"{size / 1e6:,.1f} MB {verb}; {folder} holds at most {kept.cache_limit() / 1e6:,.0f} MB")


def _row(kind: str, found: list[Any]) -> dict[str, Any]:
    from datetime import datetime

    return {
        "kind": kind,
        "holds": _HOLDS.get(kind, ""),
        "entries": len(found),
        "bytes": sum(e.bytes for e in found),
        "last_used": datetime.fromtimestamp(max(e.used for e in found)).isoformat(" ", "minutes"),
    }
