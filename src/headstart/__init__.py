"""Headstart: the best classifier a pretrained text encoder and a few hundred labelled texts can give, with proof.

Importing this package loads nothing else; each public name is fetched when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headstart.experiment.adapting import adapt
    from headstart.experiment.api import compare, fit
    from headstart.experiment.comparison import Comparison
    from headstart.experiment.estimator import TransferClassifier
    from headstart.inference.api import infer
    from headstart.models.folder import Model
    from headstart.models.text_features import TextFeatures
    from headstart.registry.resolving import load

__version__ = "0.1.0"
__all__ = ["Comparison", "Model", "TextFeatures", "TransferClassifier", "adapt", "compare", "fit", "infer", "load"]

_HOMES = {
    "Comparison": "headstart.experiment.comparison",
    "Model": "headstart.models.folder",
    "TextFeatures": "headstart.models.text_features",
    "TransferClassifier": "headstart.experiment.estimator",
    "adapt": "headstart.experiment.adapting",
    "compare": "headstart.experiment.api",
    "fit": "headstart.experiment.api",
    "infer": "headstart.inference.api",
    "load": "headstart.registry.resolving",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'headstart' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
