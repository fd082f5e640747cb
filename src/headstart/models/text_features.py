"""An encoder as a scikit-learn transformer: texts in, features out, to stand beside other columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from headstart.data.examples import Examples
from headstart.errors import DataError
from headstart.models.batching import TextSettings, Truncate
from headstart.models.encoders import Encoder, find_encoder, load_body, load_tokenizer
from headstart.models.features import FeatureExtractor, Features, cache_folder
from headstart.models.runtime import choose_runtime

_DEFAULT_LENGTH = 256


class TextFeatures(TransformerMixin, BaseEstimator):
    """Mean-pooled states of a frozen pretrained encoder, for any scikit-learn model.

    Works in ``Pipeline`` and ``ColumnTransformer``; features are kept on disk and never computed twice. Copies and
    clones are light: the encoder itself is opened when it is first needed.

    Args:
        encoder: catalog name, local folder or hub name.
        layer: which layer's states are averaged: -1 the last, 0 the embeddings, 1 the first layer, ...
        max_length: most tokens per text; by default 256 or the encoder's limit.
        truncate: part of a longer text that is kept: ``head``, ``tail`` or ``head-tail``.
        precision: ``auto`` (measured), ``float32`` or ``bfloat16``.
        device: ``auto``, ``cpu``, ``cuda``, ...
        cache: keep features on disk (``$HEADSTART_CACHE``, or the user's cache folder).

    Attributes:
        n_features_out_: number of features D.
    """

    def __init__(
        self,
        encoder: str = "minilm",
        *,
        layer: int = -1,
        max_length: int | None = None,
        truncate: Truncate = "head",
        precision: str = "auto",
        device: str = "auto",
        cache: bool = True,
    ) -> None:
        self.encoder = encoder
        self.layer = layer
        self.max_length = max_length
        self.truncate = truncate
        self.precision = precision
        self.device = device
        self.cache = cache

    def fit(self, X: Any, y: Any = None) -> TextFeatures:
        """Find the encoder and check the texts; nothing is learned from them.

        Args:
            X: N texts: a list, array or Series of strings, or a DataFrame or array with one column.
            y: not used.

        Raises:
            ModelError: the encoder is not there.
            DataError: ``X`` is not one column of texts.
        """
        one_column(X)
        found = find_encoder(self.encoder)
        self.n_features_out_ = _width(found)
        self._found = found
        self._extractor: FeatureExtractor | None = None
        return self

    def transform(self, X: Any) -> Features:
        """Return features (N, D), float32."""
        check_is_fitted(self, "n_features_out_")
        texts = one_column(X)
        if not texts:
            return np.zeros((0, self.n_features_out_), dtype=np.float32)
        if self._extractor is None:
            self._extractor = self._open()
        return self._extractor(Examples.of(texts))

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Return ``text0`` ... ``text{D-1}``."""
        check_is_fitted(self, "n_features_out_")
        return np.asarray([f"text{i}" for i in range(self.n_features_out_)], dtype=object)

    def _open(self) -> FeatureExtractor:
        found: Encoder = self._found
        length = self.max_length or min(_DEFAULT_LENGTH, found.token_limit())
        return FeatureExtractor(
            load_body(found.folder),
            load_tokenizer(found.folder),
            TextSettings(length, self.truncate),
            choose_runtime(self.device, self.precision),
            layer=self.layer,
            key=found.fingerprint,
            cache=cache_folder() if self.cache else None,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the opened encoder out of copies: it is opened again when needed."""
        return {**super().__getstate__(), **({"_extractor": None} if hasattr(self, "_extractor") else {})}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.requires_fit = True
        return tags


def one_column(X: Any) -> list[str]:
    """Return N texts of a list, Series, array, or of a DataFrame or array with one column; missing ones are empty.

    Raises:
        DataError: there are several columns, or something that is not text.
    """
    if isinstance(X, str):
        raise DataError("one text was given where a list of texts is expected; put it in a list")
    if isinstance(X, pd.DataFrame):
        if X.shape[1] != 1:
            raise DataError(f"one column of texts is expected; got {X.shape[1]} columns: {list(X.columns)}")
        X = X.iloc[:, 0]
    values = np.asarray(X, dtype=object)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise DataError(f"one column of texts is expected; got an array of shape {values.shape}")
    missing = pd.isna(values)
    wrong = next((i for i, v in enumerate(values) if not missing[i] and not isinstance(v, str)), None)
    if wrong is not None:
        raise DataError(f"row {wrong} is {values[wrong]!r}, which is no text; turn the column into text first")
    return ["" if missing[i] else str(v) for i, v in enumerate(values)]


def _width(encoder: Encoder) -> int:
    config = encoder.config
    return int(getattr(config, "hidden_size", None) or config.dim)
