"""The models that a server answers with, by name and version."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from headstart.errors import ConfigError, HeadstartError, unknown_name
from headstart.models.folder import Model
from headstart.models.predicting import columns_read
from headstart.registry.names import LATEST, Reference, is_registered, parse
from headstart.registry.resolving import current_version, resolve

_INNER_FOLDERS = ("best", "model", "onnx")
_UNCUT = ("majority", "tfidf")


class UnknownModelError(HeadstartError):
    """A request names a model or version that is not served."""


class Place(Protocol):
    """Where a model's folder is found, now and after it has moved."""

    def version(self) -> str:
        """Return the version that is to be served now; cheap, for it is asked every few seconds."""
        ...

    def folder(self, version: str) -> Path:
        """Return the folder of a version, fetching it if need be."""
        ...


@dataclass(frozen=True)
class FolderPlace:
    """A model folder, which stays what it is."""

    path: Path
    number: str

    def version(self) -> str:
        """Return the version it was given."""
        return self.number

    def folder(self, version: str) -> Path:
        """Return the folder."""
        return self.path


@dataclass(frozen=True)
class RegisteredPlace:
    """A version of a registered model, or the version that an alias of it points to.

    Attributes:
        reference: as the user named it.
        registry: address of the registry; see `headstart.registry.names.store_uris`.
    """

    reference: Reference
    registry: str | None = None

    def version(self) -> str:
        """Return the number of the version that is meant now, by one request to the registry."""
        return str(current_version(str(self.reference), registry=self.registry))

    def folder(self, version: str) -> Path:
        """Return the folder of a version, fetched where it lies on a server."""
        return resolve(str(Reference(self.reference.name, int(version))), registry=self.registry)


def find(model: str, *, registry: str | None = None) -> tuple[str | None, Place, str | None]:
    """Return what a model is called where it lies, its place, and the alias by which it is followed.

    Args:
        model: a folder, which has no name of its own, or ``models:/NAME@ALIAS``, ``/VERSION`` or ``/latest``.
        registry: address of the registry.

    Raises:
        ConfigError: it begins with ``models:/`` and is none of these.
    """
    if not is_registered(model):
        return None, FolderPlace(Path(model), "1"), None
    reference = parse(model)
    moving = None if reference.version is not None else reference.alias or LATEST
    return reference.name, RegisteredPlace(reference, registry), moving


@dataclass(frozen=True)
class Wanted:
    """A model to serve, before it is opened.

    Attributes:
        name: what requests call it.
        place: where its folder is.
        alias: the registry's alias by which it is followed, or None where it never moves.
    """

    name: str
    place: Place
    alias: str | None = None


@dataclass(frozen=True)
class Served:
    """A model that answers requests.

    Attributes:
        name: what requests call it.
        version: its version.
        alias: the registry's alias that it stands for, or None.
        model: the opened model.
        since: when it was opened, UTC.
    """

    name: str
    version: str
    alias: str | None
    model: Model
    since: datetime.datetime = field(default_factory=lambda: datetime.datetime.now(datetime.UTC))

    def card(self) -> dict[str, Any]:
        """Return what a user may know of the model, as JSON."""
        card = self.model.card
        metrics = card.get("metrics") or {}
        return {
            "name": self.name,
            "version": self.version,
            "alias": self.alias,
            "since": self.since.isoformat(timespec="seconds"),
            "strategy": str(card.get("strategy", "")),
            "labels": list(self.model.labels.values),
            "text_columns": columns_read(self.model)[0],
            "feature_columns": columns_read(self.model)[1],
            "max_length": int(card["text"]["max_length"]) if card["kind"] not in _UNCUT else None,
            "truncate": str(card["text"]["truncate"]),
            "parameters": self.model.classifier.parameters(),
            "metrics": dict(metrics.get("holdout_intervals") or {}),
        }


class Shelf:
    """The models served now; an exchange takes one moment, and who has a model already keeps it.

    Args:
        served: in the order given by the user; of one name, the first answers requests that name no version.
    """

    def __init__(self, served: Iterable[Served]) -> None:
        self._served: tuple[Served, ...] = tuple(served)

    def __iter__(self) -> Any:
        return iter(self._served)

    def choose(self, name: str | None, version: str | None) -> Served:
        """Return the model that a request means.

        Args:
            name: may be left out where one name is served.
            version: a version or alias; else the first given.

        Raises:
            UnknownModelError: there is none, or no name was given and there are several.
        """
        names = list(dict.fromkeys(s.name for s in self._served))
        if name is None and len(names) > 1:
            raise UnknownModelError(f"several models are served; name one in 'model': {', '.join(names)}")
        if name is not None and name not in names:
            raise UnknownModelError(unknown_name("model", name, names, "model"))
        of_name = [s for s in self._served if name in (None, s.name)]
        if version is None:
            return of_name[0]
        for served in of_name:
            if version in (served.version, served.alias):
                return served
        known = dict.fromkeys(n for s in of_name for n in (s.version, s.alias) if n is not None)
        raise UnknownModelError(unknown_name(f"version of model '{of_name[0].name}'", version, known, "version"))

    def replace(self, old: Served, new: Served) -> None:
        """Let ``new`` answer from now on where ``old`` did."""
        self._served = tuple(new if s is old else s for s in self._served)


def wanted(models: Sequence[str], named: Sequence[str], *, registry: str | None = None) -> list[Wanted]:
    """Return what is to be served; models of one name without versions of their own are numbered from 1.

    Args:
        models: folders or ``models:/NAME@alias``.
        named: the same as ``NAME=MODEL``.
        registry: address of the registry where ``models:/`` names are looked up.

    Raises:
        ConfigError: none is given, a name is empty, or a name and version are given twice.
    """
    given: list[tuple[str | None, str]] = [(None, m) for m in models]
    for entry in named:
        name, separator, model = entry.partition("=")
        if not (separator and name.strip() and model.strip()):
            raise ConfigError(f"--name {entry} must look like NAME=MODEL, e.g. reviews=runs/reviews/best")
        given.append((name.strip(), model.strip()))
    if not given:
        raise ConfigError("no model is given: name a model folder, e.g. headstart serve runs/reviews/best")
    found = []
    for chosen, model in given:
        own, place, alias = find(model, registry=registry)
        found.append(Wanted(chosen or own or name_of(Path(model)), place, alias))
    entries = _numbered(found)
    _check_once(entries)
    return entries


def name_of(path: Path) -> str:
    """Return a folder's name, of ``runs/reviews/best`` the comparison's."""
    parts = [p for p in path.expanduser().absolute().parts if p not in _INNER_FOLDERS]
    return parts[-1].strip("/") or "model"


def _check_once(entries: Iterable[Wanted]) -> None:
    counts = Counter((entry.name, entry.alias or _given(entry.place)) for entry in entries)
    faults = [
        f"model '{name}', version {version}, is given {n} times, and a request could reach only the first: leave one "
        "out, or give it another name with --name NAME=MODEL"
        for (name, version), n in counts.items()
        if n > 1
    ]
    if faults:
        raise ConfigError(faults)


def _given(place: Place) -> str:
    """Return the version that the user named; the registry is not asked."""
    return str(place.reference.version) if isinstance(place, RegisteredPlace) else place.version()


def _numbered(found: Iterable[Wanted]) -> list[Wanted]:
    counts: Counter[str] = Counter()
    out = []
    for entry in found:
        if isinstance(entry.place, FolderPlace):
            counts[entry.name] += 1
            entry = replace(entry, place=replace(entry.place, number=str(counts[entry.name])))
        out.append(entry)
    return out
