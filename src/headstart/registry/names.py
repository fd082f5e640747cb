"""Names of registered models: ``models:/reviews@champion``, ``models:/reviews/3``; and where the registry is."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from headstart.errors import ConfigError

SCHEME = "models:/"
CHAMPION, CHALLENGER = "champion", "challenger"
LATEST = "latest"
_NAME = re.compile(r"[^/:@]+")
_ALIAS = re.compile(r"[\w-]+")


@dataclass(frozen=True)
class Reference:
    """One version of a registered model, as a user names it.

    Attributes:
        name: of the registered model.
        version: its number, or None.
        alias: a name that points to one, or None; without both the newest version is meant.
    """

    name: str
    version: int | None = None
    alias: str | None = None

    def __str__(self) -> str:
        if self.alias is not None:
            return f"{SCHEME}{self.name}@{self.alias}"
        return f"{SCHEME}{self.name}/{LATEST if self.version is None else self.version}"


def is_registered(model: str | Path) -> bool:
    """Whether a model is named by its place in the registry, and not by a folder."""
    return str(model).startswith(SCHEME)


def parse(model: str) -> Reference:
    """Read ``models:/NAME@ALIAS``, ``models:/NAME/VERSION`` or ``models:/NAME/latest``.

    Raises:
        ConfigError: it is none of these.
    """
    rest = model.removeprefix(SCHEME)
    name, sign, alias = rest.partition("@")
    if sign and _NAME.fullmatch(name) and _ALIAS.fullmatch(alias):
        return Reference(name, alias=alias)
    name, sign, version = rest.partition("/")
    if sign and _NAME.fullmatch(name) and (version == LATEST or version.isdecimal()):
        return Reference(name, version=None if version == LATEST else int(version))
    example = name if _NAME.fullmatch(name) else "reviews"
    raise ConfigError(
        f"'{model}' names no registered model; write {SCHEME}{example}@{CHAMPION} (an alias), {SCHEME}{example}/3 (a "
        f"version) or {SCHEME}{example}/{LATEST} (the newest); `headstart models` lists them"
    )


def checked_name(name: str) -> str:
    """Return a name for a registered model.

    Raises:
        ConfigError: it is empty, or holds a character that separates names from versions and aliases.
    """
    if not name.strip() or not _NAME.fullmatch(name):
        raise ConfigError(f"--name '{name}' cannot name a registered model: it must not be empty nor hold / : @")
    return name


def store_uris(given: str | None = None) -> tuple[str, str]:
    """Return where runs with their files are kept, and where registered models are: two MLflow addresses.

    Args:
        given: address for both (``--registry``); else ``MLFLOW_TRACKING_URI`` and ``MLFLOW_REGISTRY_URI``, each for
            both where the other is not set; else a SQLite file in the user's data folder.
    """
    tracking = given or os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    registry = given or os.environ.get("MLFLOW_REGISTRY_URI", "").strip()
    default = "" if tracking or registry else f"sqlite:///{default_folder() / 'registry.db'}"
    return tracking or registry or default, registry or tracking or default


def default_folder() -> Path:
    """Return where the registry lies when nothing else is said: ``$XDG_DATA_HOME/headstart``."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "headstart"
