"""MLflow's model registry through its client: versions, aliases, tags, and the files of a version.

Nothing global is set. Files of a version lie with a run of the tracking store, as MLflow wants it: registries on a
server only take what its own runs hold.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from headstart.errors import ConfigError, HeadstartError, MissingExtraError, ModelError, did_you_mean
from headstart.models.cache import cache_folder
from headstart.records import fingerprint, whole_folder
from headstart.registry.names import Reference, store_uris
from headstart.tracking.base import one_line, without_password
from headstart.tracking.manners import AT_OPENING, importing_mlflow, quiet_mlflow
from headstart.tracking.mlflow_store import experiment_id

EXPERIMENT = "headstart models"
_SQLITE = "sqlite:///"
_FETCHED = "model"


@dataclass(frozen=True)
class Version:
    """One version of a registered model.

    Attributes:
        name: of the registered model.
        number: counted from 1.
        aliases: names that point to it.
        tags: whatever is known of it, as text.
        run_id: run that holds its files.
        created: milliseconds since 1970.
    """

    name: str
    number: int
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    run_id: str = ""
    created: int = 0

    def read(self, tag: str) -> Any:
        """Return the JSON value of a tag, or None."""
        return json.loads(self.tags[tag]) if tag in self.tags else None

    def __str__(self) -> str:
        return str(Reference(self.name, self.number))


class Registry:
    """A model registry.

    Args:
        client: an ``MlflowClient``.
        tracking: address of its runs.
        registry: address of its registered models.
    """

    def __init__(self, client: Any, tracking: str, registry: str) -> None:
        self._client = client
        self._tracking, self._registry = tracking, registry

    @classmethod
    def open(cls, uri: str | None = None) -> Registry:
        """Connect; a SQLite file that is not there is made.

        Args:
            uri: see `headstart.registry.names.store_uris`.

        Raises:
            ConfigError: nothing answers there.
            MissingExtraError: MLflow is not installed.
        """
        tracking, registry = store_uris(uri)
        with importing_mlflow():
            try:
                from mlflow import MlflowClient
            except ImportError as problem:
                raise MissingExtraError("mlflow", "a model registry") from problem
        with _spoken(registry), quiet_mlflow(AT_OPENING):
            for place in (tracking, registry):
                if place.startswith(_SQLITE):
                    Path(place.removeprefix(_SQLITE)).parent.mkdir(parents=True, exist_ok=True)
            client = MlflowClient(tracking_uri=tracking, registry_uri=registry)
            client.search_registered_models(max_results=1)
        return cls(client, tracking, registry)

    @property
    def place(self) -> str:
        """Address of the registered models, without a password."""
        return without_password(self._registry)

    def names(self) -> list[str]:
        """Return the names of all registered models."""
        return [str(model.name) for model in self._pages(self._client.search_registered_models)]

    def versions(self, name: str) -> list[Version]:
        """Return the versions of a registered model, the newest first.

        Raises:
            ModelError: there is no such model.
        """
        with self._speaking():
            aliases = self._aliases(name)
        quoted = name.replace("'", "\\'")
        found = self._pages(self._client.search_model_versions, filter_string=f"name='{quoted}'")
        made = [_version(entity, aliases) for entity in found]
        return sorted(made, key=lambda version: -version.number)

    def version(self, reference: Reference) -> Version:
        """Return the version that a reference means now.

        Raises:
            ModelError: there is no such model, version or alias.
        """
        name = reference.name
        with self._speaking():
            aliases = self._aliases(name)
            if reference.alias is not None and reference.alias not in aliases:
                known, near = ", ".join(sorted(aliases)) or "none", did_you_mean(reference.alias, aliases)
                raise ModelError(f"'{name}' has no alias '{reference.alias}'; it has: {known}.{near}")
        number = aliases[reference.alias] if reference.alias is not None else reference.version
        if number is None:
            return self._newest(name)
        found = None
        with self._speaking(), _passing_over("RESOURCE_DOES_NOT_EXIST"):
            found = self._client.get_model_version(name, str(number))
        if found is not None:
            return _version(found, aliases)
        raise ModelError(f"'{name}' has no version {number}; it has: {self._known_versions(name)}")

    def number(self, reference: Reference) -> int:
        """Return the number of the version that a reference means now; for an alias that is there, by one request.

        Raises:
            ModelError: there is no such model, version or alias.
        """
        if reference.alias is not None:
            found = None
            with self._speaking(), _passing_over("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                found = self._client.get_model_version_by_alias(reference.name, reference.alias)
            if found is not None:
                return int(found.version)
        return self.version(reference).number

    def history(self, name: str, tag: str) -> list[int]:
        """Return the numbers kept in a tag of a registered model."""
        with self._speaking():
            kept = self._client.get_registered_model(name).tags.get(tag)
        return [int(number) for number in json.loads(kept)] if kept else []

    def files(self, version: Version) -> Path:
        """Return the folder of a version's MLflow model; from a server it is fetched once and kept in the cache.

        Raises:
            ModelError: the files are gone.
        """
        with self._speaking():
            source = str(self._client.get_model_version_download_uri(version.name, str(version.number)))
        if (place := _local(source)) is not None:
            if not place.is_dir():
                raise ModelError(f"the files of {version} are gone from {place}; register the model again")
            return place
        key = fingerprint([self._registry, version.name, str(version.number), str(version.created), source])
        kept = cache_folder() / "registry" / key
        if not kept.is_dir():
            with self._speaking(), whole_folder(kept) as temporary:
                self._fetch(source, temporary)
        return kept / _FETCHED

    def start_run(self, name: str, metrics: Mapping[str, float]) -> str:
        """Make a finished run for the files of a version; return its id."""
        with self._speaking():
            home = experiment_id(self._client, EXPERIMENT, self._artifact_place())
            tags = {"mlflow.source.name": "headstart", "mlflow.source.type": "LOCAL"}
            run = str(self._client.create_run(home, run_name=name, tags=tags).info.run_id)
            for key, value in metrics.items():
                self._client.log_metric(run, key, value)
            self._client.set_terminated(run, "FINISHED")
        return run

    def keep(self, run_id: str, folder: Path, place: str) -> str:
        """Copy a folder's files into a run at ``place``; return their address."""
        with self._speaking():
            self._client.log_artifacts(run_id, str(folder), artifact_path=place)
        return self.address_in_run(run_id, place)

    def add(self, name: str, source: str, run_id: str, tags: Mapping[str, str]) -> Version:
        """Make the next version of a registered model, which is made too if it is not there."""
        with self._speaking():
            with _passing_over("RESOURCE_ALREADY_EXISTS"):
                self._client.create_registered_model(name)
            made = self._client.create_model_version(name, source, run_id=run_id, tags=dict(tags))
        return _version(made, {})

    def tag(self, version: Version, key: str, value: str) -> None:
        """Set a tag of a version."""
        with self._speaking():
            self._client.set_model_version_tag(version.name, str(version.number), key, value)

    def point(self, name: str, alias: str, number: int | None) -> None:
        """Let an alias point to a version, or to none."""
        with self._speaking():
            if number is None:
                self._client.delete_registered_model_alias(name, alias)
            else:
                self._client.set_registered_model_alias(name, alias, str(number))

    def set_history(self, name: str, tag: str, numbers: Sequence[int]) -> None:
        """Keep numbers in a tag of a registered model."""
        with self._speaking():
            self._client.set_registered_model_tag(name, tag, json.dumps(list(numbers)))

    def run_folders(self, run_id: str) -> dict[str, set[str]]:
        """Return the folders at the top of a run's files, each with the names in it.

        Raises:
            ModelError: there is no such run.
        """
        try:
            with self._speaking():
                tops = [item.path for item in self._client.list_artifacts(run_id) if item.is_dir]
                return {
                    top: {item.path.rpartition("/")[2] for item in self._client.list_artifacts(run_id, top)}
                    for top in tops
                }
        except ConfigError as problem:
            raise ModelError(
                f"'{run_id}' is neither a folder here nor a run in {without_password(self._tracking)}; give the folder "
                "of a comparison or of a model, or set MLFLOW_TRACKING_URI to where the run was tracked"
            ) from problem

    def fetch_from_run(self, run_id: str, place: str, out: Path) -> Path:
        """Copy a folder of a run's files into ``out``; return the copy."""
        with self._speaking():
            return Path(self._client.download_artifacts(run_id, place, str(out)))

    def address_in_run(self, run_id: str, place: str) -> str:
        """Return the address of a folder of a run's files."""
        with self._speaking():
            return f"{self._client.get_run(run_id).info.artifact_uri}/{place}"

    @contextlib.contextmanager
    def _speaking(self) -> Iterator[None]:
        with _spoken(self._registry), quiet_mlflow():
            yield

    def _pages(self, search: Any, **query: Any) -> Iterator[Any]:
        token = None
        while True:
            with self._speaking():
                page = search(page_token=token, **query)
            yield from page
            token = page.token
            if not token:
                return

    def _aliases(self, name: str) -> dict[str, int]:
        found = None
        with _passing_over("RESOURCE_DOES_NOT_EXIST"):
            found = self._client.get_registered_model(name)
        if found is not None:
            return {str(alias): int(number) for alias, number in found.aliases.items()}
        known = self.names()
        raise ModelError(
            f"no registered model is called '{name}' in {self.place}; there are: {', '.join(known) or 'none'}."
            f"{did_you_mean(name, known)} `headstart register` adds one"
        )

    def _newest(self, name: str) -> Version:
        versions = self.versions(name)
        if not versions:
            raise ModelError(f"'{name}' has no version yet; `headstart register MODEL --name {name}` adds one")
        return versions[0]

    def _known_versions(self, name: str) -> str:
        return ", ".join(str(version.number) for version in self.versions(name)) or "none"

    def _fetch(self, source: str, out: Path) -> None:
        from mlflow.artifacts import download_artifacts

        got = download_artifacts(artifact_uri=source, dst_path=str(out), tracking_uri=self._tracking)
        os.replace(got, out / _FETCHED)

    def _artifact_place(self) -> str | None:
        """Return where files go beside a SQLite file; a server has a place of its own."""
        if not self._tracking.startswith(_SQLITE):
            return None
        return (Path(self._tracking.removeprefix(_SQLITE)).resolve().parent / "mlartifacts").as_uri()


def _local(address: str) -> Path | None:
    """Return the path of an address on this machine, else None."""
    if address.startswith("file:"):
        return Path(url2pathname(urlsplit(address).path))
    return None if "://" in address or address.startswith(("mlflow-artifacts:", "runs:")) else Path(address)


@contextlib.contextmanager
def _passing_over(*codes: str) -> Iterator[None]:
    """Leave the block without an error where MLflow answers with one of these codes."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as problem:
        if problem.error_code not in codes:
            raise


@contextlib.contextmanager
def _spoken(place: str) -> Iterator[None]:
    """Turn what MLflow and the libraries below it raise into one sentence.

    Raises:
        ConfigError: something went wrong there.
    """
    try:
        yield
    except HeadstartError:
        raise
    except Exception as problem:  # MLflow, requests, SQLAlchemy and the disk each raise their own
        raise ConfigError(
            f"the model registry at {without_password(place)} did not do it: {one_line(problem)}: check --registry, "
            "MLFLOW_REGISTRY_URI and MLFLOW_TRACKING_URI, and that the server runs"
        ) from problem


def _version(entity: Any, aliases: Mapping[str, int]) -> Version:
    number = int(entity.version)
    return Version(
        name=str(entity.name),
        number=number,
        aliases=tuple(sorted(alias for alias, at in aliases.items() if at == number)),
        tags=dict(entity.tags or {}),
        run_id=str(entity.run_id or ""),
        created=int(entity.creation_timestamp or 0),
    )
