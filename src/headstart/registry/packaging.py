"""A model folder as an MLflow model: everything inside, opened by a script, without pickle.

MLmodel              signature, flavor, where things lie
loader.py            what MLflow runs to open it (`headstart.registry.loader`)
artifacts/NAME/      the model folder as it is: safetensors and JSON (CatBoost as .cbm)
code/headstart/      the source that predicting needs
input_example.json, requirements.txt, conda.yaml, python_env.yaml
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from headstart.errors import MissingExtraError
from headstart.models.folder import read_card
from headstart.registry.resolving import MLMODEL
from headstart.tracking import output_columns
from headstart.tracking.manners import importing_mlflow, quiet_mlflow
from headstart.tracking.mlflow_store import signature

_LOADER = Path(__file__).with_name("loader.py")
# What predicting imports of headstart; a test opens a model with nothing else on the path.
_CARRIED = ("__init__.py", "errors.py", "records.py", "catalog.py", "data", "models")
# What that source imports in turn; a test holds the bounds equal to the project's own.
_ALWAYS = (
    "mlflow>=2.17",
    "numpy>=2.0",
    "pandas>=2.2",
    "safetensors>=0.5",
    "tokenizers>=0.22",
    "torch>=2.6",
    "transformers>=5.0,<6",
)
_FOR_KIND = {
    "boosted": ("catboost>=1.2.7",),
    "onnx": ("onnx>=1.17", "onnxruntime>=1.20"),
    "tfidf": ("scikit-learn>=1.6",),
}
_EXAMPLE_TEXT = "An example text."


def write_mlflow_model(folder: Path, out: Path) -> Path:
    """Write an MLflow model that holds a model folder.

    Args:
        folder: a model folder.
        out: where; must not exist or be empty.

    Returns:
        ``out``.

    Raises:
        ModelError: it is not a model folder, or is damaged.
        MissingExtraError: MLflow is not installed.
        StorageError: ``out`` cannot be written.
    """
    card = read_card(folder)
    labels = card["labels"]
    with importing_mlflow():
        try:
            import mlflow.pyfunc
        except ImportError as problem:
            raise MissingExtraError("mlflow", "an MLflow model") from problem
    with quiet_mlflow(), tempfile.TemporaryDirectory() as temporary:
        mlflow.pyfunc.save_model(
            path=str(out),
            python_model=str(_LOADER),
            artifacts={"model": str(folder)},
            code_paths=[str(_source(Path(temporary) / "headstart"))],
            signature=signature(input_columns(card), output_columns(labels["names"], labels["type"])),
            input_example=input_example(card),
            pip_requirements=requirements(card),
            # The same number on every machine; bfloat16 is a matter of asking for it.
            model_config={"precision": "float32", "device": "auto"},
        )
    _forget_this_machine(out / MLMODEL)
    return out


def input_columns(card: Mapping[str, Any]) -> dict[str, str]:
    """Return the columns that a model reads, each with its type in MLflow's words: texts first, then features."""
    head = card["about"].get("head", {})
    categorical = set(head.get("categorical", []))
    features = {str(name): "string" if name in categorical else "double" for name in head.get("columns", [])}
    return {**{str(name): "string" for name in card["text"]["columns"]}, **features}


def input_example(card: Mapping[str, Any]) -> Any:
    """Return one made-up row as a DataFrame; never one of the user's own texts, which may be private."""
    import pandas as pd

    texts = {str(name) for name in card["text"]["columns"]}
    filled = {"string": "", "double": 0.0}
    columns = input_columns(card).items()
    return pd.DataFrame({name: [_EXAMPLE_TEXT if name in texts else filled[kind]] for name, kind in columns})


def requirements(card: Mapping[str, Any]) -> list[str]:
    """Return what must be installed to open the model: ranges, for the platform has versions of its own."""
    kinds = (str(card["kind"]), str(card["about"].get("head", {}).get("kind", "")))
    return [*_ALWAYS, *(line for kind in kinds for line in _FOR_KIND.get(kind, ()))]


def _forget_this_machine(file: Path) -> None:
    """Take the paths of this machine out of ``MLmodel``, in place; MLflow opens a model by what lies inside."""
    described = yaml.safe_load(file.read_text(encoding="utf-8"))
    flavor = described["flavors"]["python_function"]
    flavor["model_code_path"] = _LOADER.name
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]
    file.write_text(yaml.safe_dump(described, allow_unicode=True), encoding="utf-8")


def _source(out: Path) -> Path:
    """Copy the part of headstart's source that predicting needs."""
    home = Path(__file__).parents[1]
    out.mkdir()
    for name in _CARRIED:
        if (home / name).is_dir():
            shutil.copytree(home / name, out / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(home / name, out / name)
    return out
