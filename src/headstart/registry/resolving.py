"""From what a user calls a model to the folder that holds it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from headstart.errors import ModelError
from headstart.registry.names import is_registered, parse
from headstart.registry.store import Registry

if TYPE_CHECKING:
    from headstart.models.folder import Model
    from headstart.models.runtime import Runtime

MLMODEL = "MLmodel"


def resolve(model: str | Path, *, registry: str | None = None) -> Path:
    """Return the folder of a model; a registered one is fetched first where it lies on a server.

    Light: neither torch nor anything of the training half is imported. A version never changes, so a server that
    follows an alias asks `current_version` every few seconds, and only when the number is another one resolves
    ``models:/NAME/NUMBER`` and opens that folder beside the one in use.

    Args:
        model: ``models:/NAME@ALIAS``, ``models:/NAME/VERSION`` or ``models:/NAME/latest``; anything else is taken as
            a folder and returned as it is.
        registry: address of the registry; see `headstart.registry.names.store_uris`.

    Raises:
        ConfigError: a name that is none, or the registry does not answer.
        ModelError: there is no such model, version or alias, or its files are gone.
        MissingExtraError: MLflow is not installed.
    """
    if not is_registered(model):
        return Path(model).expanduser()
    reference = parse(str(model))
    opened = Registry.open(registry)
    return folder_inside(opened.files(opened.version(reference)))


def place_of(model: str, *, registry: str | None = None) -> str:
    """Return the folder of a registered model; any other name as it is, for it may be a hub name.

    Args:
        model: a name as in `resolve`, or a folder, hub name or catalog name.
        registry: address of the registry.

    Raises:
        HeadstartError: as in `resolve`.
    """
    return str(resolve(model, registry=registry)) if is_registered(model) else model


def current_version(model: str, *, registry: str | None = None) -> int:
    """Return the number of the version that ``models:/NAME@ALIAS`` points to now.

    The first call of a process imports MLflow, some seconds; later ones are one request to the registry, a few
    milliseconds where it is a file.

    Args:
        model: as in `resolve`, beginning with ``models:/``.
        registry: address of the registry.

    Raises:
        ConfigError: a name that is none, or the registry does not answer.
        ModelError: there is no such model, version or alias.
    """
    return Registry.open(registry).number(parse(model))


def load(
    model: str | Path,
    *,
    precision: str = "auto",
    device: str = "auto",
    runtime: Runtime | None = None,
    engine: str = "auto",
    registry: str | None = None,
) -> Model:
    """Open a model: a model folder, a comparison's winner, or a registered model.

    Args:
        model: a folder, or ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, ``models:/NAME/latest``.
        precision: ``auto``, ``float32`` or ``bfloat16``.
        device: ``auto`` or a torch device name.
        runtime: device and precision already chosen.
        engine: ``auto``, ``torch``, or ``onnx``: the folder itself where it is an export, else ``onnx`` inside it.
        registry: address of the model registry; by default ``MLFLOW_REGISTRY_URI``, ``MLFLOW_TRACKING_URI`` or the
            user's own.

    Raises:
        ModelError: there is none, it is damaged, of a newer format, or wants to run code.
        ConfigError: the name, the precision or the device is none, or the registry does not answer.
    """
    from headstart.models.predicting import open_model

    return open_model(resolve(model, registry=registry), runtime, device=device, precision=precision, engine=engine)


def folder_inside(mlflow_model: Path) -> Path:
    """Return the model folder inside an MLflow model that `headstart.registry.packaging` wrote.

    Raises:
        ModelError: it is another kind of MLflow model, or damaged.
    """
    file = mlflow_model / MLMODEL
    try:
        described: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
        place = str(described["flavors"]["python_function"]["artifacts"]["model"]["path"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as problem:
        raise ModelError(
            f"{mlflow_model} is no MLflow model that headstart wrote ({type(problem).__name__}: {problem}); register a "
            "model folder with `headstart register`"
        ) from problem
    inside = (mlflow_model / place).resolve()
    if not inside.is_relative_to(mlflow_model.resolve()):
        raise ModelError(f"{file} names a place outside of itself ({place}); it is not opened")
    return inside
