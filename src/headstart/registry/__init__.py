"""MLflow models, the model registry, and names like ``models:/reviews@champion`` wherever a model folder goes."""

from __future__ import annotations

from headstart.registry.names import is_registered
from headstart.registry.resolving import current_version, load, place_of, resolve
from headstart.registry.store import Registry, Version

__all__ = ["Registry", "Version", "current_version", "is_registered", "load", "place_of", "resolve"]
