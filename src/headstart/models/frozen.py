"""Classifiers on frozen features: a linear head or gradient-boosted trees."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from headstart.data.examples import Examples
from headstart.data.labels import Labels
from headstart.errors import DataError, MissingExtraError, ModelError, did_you_mean
from headstart.models.batching import TextSettings
from headstart.models.checkpoint import quiet_transformers
from headstart.models.classifier import Advance, Prepared, Probabilities, check_classes, softmax
from headstart.models.features import FeatureExtractor, Features
from headstart.models.loading import load_body, load_tokenizer
from headstart.models.runtime import Runtime

_HEAD_FILE = "head.safetensors"
_TREES_FILE = "head.cbm"


class Head(Protocol):
    """What stands on the features."""

    head_kind: str

    @property
    def classes(self) -> int:
        """How many classes C it scores."""
        ...

    def probabilities(self, features: Features, columns: pd.DataFrame | None) -> Probabilities:
        """Return class probabilities (N, C) of features (N, D) and extra columns."""
        ...

    def write(self, folder: Path) -> dict[str, Any]:
        """Write into ``folder``; return what is needed to read it."""
        ...

    def parameters(self) -> int:
        """Return the number of fitted numbers."""
        ...


class LinearHead:
    """Standardized features times weights plus bias, then softmax.

    Args:
        mean, scale: of each feature on the training rows, shape (D,).
        weights: shape (C, D).
        bias: shape (C,).
    """

    head_kind = "linear"

    def __init__(
        self,
        mean: npt.NDArray[np.float64],
        scale: npt.NDArray[np.float64],
        weights: npt.NDArray[np.float64],
        bias: npt.NDArray[np.float64],
    ) -> None:
        self.mean, self.scale, self.weights, self.bias = mean, scale, weights, bias

    @property
    def classes(self) -> int:
        """How many classes C it scores."""
        return len(self.bias)

    def probabilities(self, features: Features, columns: pd.DataFrame | None) -> Probabilities:
        """Return class probabilities (N, C); extra columns are not used."""
        standardized = (features.astype(np.float64) - self.mean) / self.scale  # (N, D)
        return softmax(standardized @ self.weights.T + self.bias)

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the four arrays as safetensors."""
        from safetensors.numpy import save_file

        arrays = {"mean": self.mean, "scale": self.scale, "weights": self.weights, "bias": self.bias}
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, str(folder / _HEAD_FILE))
        return {}

    @classmethod
    def read(cls, folder: Path, about: dict[str, Any]) -> LinearHead:
        """Read what `write` wrote."""
        from safetensors.numpy import load_file

        return cls(**load_file(str(folder / _HEAD_FILE)))

    def parameters(self) -> int:
        """Return the size of weights and bias."""
        return int(self.weights.size + self.bias.size)


class BoostedHead:
    """CatBoost on features and named columns of the table.

    Args:
        trees: a fitted ``CatBoostClassifier``.
        columns: names of extra columns, in order.
        categorical: those of them that are categories.
    """

    head_kind = "boosted"

    def __init__(self, trees: Any, columns: tuple[str, ...], categorical: tuple[str, ...]) -> None:
        self.trees, self.columns, self.categorical = trees, columns, categorical

    @property
    def classes(self) -> int:
        """How many classes C it scores."""
        return len(self.trees.classes_)

    def probabilities(self, features: Features, columns: pd.DataFrame | None) -> Probabilities:
        """Return class probabilities (N, C).

        Raises:
            DataError: a column that the model was fitted with is missing.
        """
        table = feature_table(features, columns, self.columns, self.categorical)
        return np.asarray(self.trees.predict_proba(table), dtype=np.float64)

    def write(self, folder: Path) -> dict[str, Any]:
        """Write CatBoost's own binary format."""
        self.trees.save_model(str(folder / _TREES_FILE), format="cbm")
        return {"columns": list(self.columns), "categorical": list(self.categorical)}

    @classmethod
    def read(cls, folder: Path, about: dict[str, Any]) -> BoostedHead:
        """Read what `write` wrote.

        Raises:
            MissingExtraError: CatBoost is not installed.
            ModelError: the file is missing or damaged.
        """
        catboost = import_catboost("a boosted model")
        file = folder / _TREES_FILE
        if not file.is_file():
            raise ModelError(f"{file} is missing; fit the model again")
        trees = catboost.CatBoostClassifier()
        try:
            trees.load_model(str(file), format="cbm")
        except catboost.CatBoostError as problem:
            raise ModelError(f"{file} is damaged or truncated; fit the model again") from problem
        return cls(trees, tuple(about["columns"]), tuple(about["categorical"]))

    def parameters(self) -> int:
        """Return the number of leaf values."""
        return int(self.trees.get_leaf_values().size)


_HEADS: dict[str, type[LinearHead] | type[BoostedHead]] = {"linear": LinearHead, "boosted": BoostedHead}


def import_catboost(purpose: str) -> Any:
    """Import CatBoost.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import catboost
    except ImportError as problem:
        raise MissingExtraError("boosted", purpose) from problem
    return catboost


def feature_table(
    features: Features, columns: pd.DataFrame | None, names: tuple[str, ...], categorical: tuple[str, ...]
) -> pd.DataFrame:
    """Return features (N, D) as columns ``f0..`` beside the named columns; missing categories become ``""``.

    Raises:
        DataError: a named column is not there.
    """
    table = pd.DataFrame(features, columns=[f"f{i}" for i in range(features.shape[1])])
    for name in names:
        if columns is None or name not in columns:
            have = [] if columns is None else list(columns.columns)
            raise DataError(f"column '{name}', which this model needs, is missing.{did_you_mean(name, have)}")
        if name in categorical:
            table[name] = columns[name].astype(object).where(columns[name].notna(), "").astype(str).to_numpy()
        else:
            table[name] = pd.to_numeric(columns[name], errors="coerce").to_numpy(dtype=np.float64)
    return table


class FrozenClassifier:
    """A frozen encoder and a head on its features.

    Args:
        extractor: the encoder.
        head: fitted head.
        labels: C labels in the head's class order.
    """

    kind = "frozen"

    def __init__(self, extractor: FeatureExtractor, head: Head, labels: Labels) -> None:
        extractor.keep_weights()
        self.extractor = extractor
        self.head = head
        self.labels = labels

    @property
    def text(self) -> TextSettings:
        """Maximum length and truncation."""
        return self.extractor.text

    @property
    def spared(self) -> float:
        """Seconds that the last `predict_proba` would have taken longer without stored features."""
        return self.extractor.spared

    def predict_proba(self, examples: Examples, advance: Advance | None = None) -> Probabilities:
        """Return class probabilities (N, C)."""
        return self.head.probabilities(self.extractor(examples, advance), examples.columns)

    def prepare(self, examples: Examples) -> Prepared:
        """Tokenize."""
        return Prepared(examples, self.extractor.tokenize(examples))

    def score(self, prepared: Prepared, advance: Advance | None = None) -> Probabilities:
        """Return class probabilities (N, C); the cache is not asked."""
        if prepared.tokens is None:
            return self.predict_proba(prepared.examples, advance)
        return self.head.probabilities(self.extractor.of_tokens(prepared.tokens, advance), prepared.examples.columns)

    def parameters(self) -> int:
        """Return the parameters of encoder and head."""
        return self.extractor.parameters() + self.head.parameters()

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the encoder as an ordinary transformers folder and the head beside it."""
        with quiet_transformers():
            self.extractor.body.save_pretrained(str(folder))
        self.extractor.tokenizer.save_pretrained(str(folder))
        return {
            "head": {"kind": self.head.head_kind, **self.head.write(folder)},
            "layer": self.extractor.layer,
            "pooling": "mean over real tokens",
        }

    @classmethod
    def read(
        cls, folder: Path, about: dict[str, Any], labels: Labels, text: TextSettings, runtime: Runtime
    ) -> FrozenClassifier:
        """Read what `write` wrote."""
        extractor = FeatureExtractor(
            load_body(folder), load_tokenizer(folder), text, runtime, layer=int(about["layer"])
        )
        head = _HEADS[about["head"]["kind"]].read(folder, about["head"])
        check_classes(head.classes, labels)
        return cls(extractor, head, labels)
