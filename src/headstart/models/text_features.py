"""A frozen encoder as a scikit-learn transformer: texts to features that any scikit-learn model takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from headstart.data.examples import Examples
from headstart.errors import ConfigError, DataError, unknown_name
from headstart.models.batching import TRUNCATIONS, TextSettings
from headstart.models.cache import cache_folder
from headstart.models.encoders import Encoder, find_encoder
from headstart.models.features import FeatureExtractor, Features
from headstart.models.loading import load_body, load_tokenizer
from headstart.models.runtime import Runtime, choose_runtime

_DEFAULT_LENGTH = 256


class TextFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Mean-pooled states of a pretrained encoder that is not trained: N texts to features (N, D).

    Works in a `Pipeline`, in a `ColumnTransformer` (name one column), with `set_output` and `clone`. The network is
    never part of a copy, which loads its own when first used.

    Args:
        encoder: catalog name, local folder or hub name.
        revision: branch, tag or commit of a hub name.
        layer: which layer's states are averaged: -1 the last, 0 the embeddings, 1 the first layer, ...
        max_length: most tokens per text; by default 256 or the encoder's limit.
        truncate: part of a longer text that is kept: ``head``, ``tail`` or ``head-tail``.
        precision: ``auto`` (measured), ``float32`` or ``bfloat16``.
        device: ``auto`` or a torch device name.
        cache: keep features on disk (``$HEADSTART_CACHE``), so that the same texts are never computed twice.

    Attributes:
        encoder_: the encoder as found on disk.
        text_: maximum length and truncation that are used.
        runtime_: device and precision that are used.
    """

    def __init__(
        self,
        encoder: str = "minilm",
        *,
        revision: str | None = None,
        layer: int = -1,
        max_length: int | None = None,
        truncate: str = "head",
        precision: str = "auto",
        device: str = "auto",
        cache: bool = True,
    ) -> None:
        self.encoder = encoder
        self.revision = revision
        self.layer = layer
        self.max_length = max_length
        self.truncate = truncate
        self.precision = precision
        self.device = device
        self.cache = cache

    def fit(self, X: Any, y: object = None) -> Self:
        """Find the encoder and check the settings; nothing is learnt from the texts.

        Args:
            X: N texts: a list, Series or array of strings, or a table of one column.
            y: not used.

        Raises:
            ConfigError: a setting is wrong.
            DataError: ``X`` does not hold texts.
            ModelError: the encoder is not there.
        """
        texts = as_texts(X)
        if not texts:
            raise DataError("there are no texts to fit on (0 samples)")
        self.encoder_ = find_encoder(str(self.encoder), self.revision)
        self.text_ = text_settings([self.encoder_], self.max_length, self.truncate)
        self.runtime_ = measured_runtime(self.device, self.precision)
        self._extractor = self._load()
        self._extractor(Examples.of(texts[:1]))  # an unknown layer is said now and not after the long part
        remember_columns(self, X)
        return self

    def transform(self, X: Any) -> Features:
        """Return features, shape (N, D), float32.

        Args:
            X: N texts, as for `fit`.
        """
        check_is_fitted(self)
        if not hasattr(self, "_extractor"):  # a copy: the network is not part of it
            self._extractor = self._load()
        self._extractor.cache = cache_folder() if self.cache else None
        return self._extractor(Examples.of(as_texts(X)))

    def _load(self) -> FeatureExtractor:
        folder = self.encoder_.folder
        return FeatureExtractor(
            load_body(folder),
            load_tokenizer(folder),
            self.text_,
            self.runtime_,
            layer=self.layer,
            key=self.encoder_.fingerprint,
        )

    @property
    def _n_features_out(self) -> int:
        return int(self.encoder_.config.hidden_size)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_extractor"}

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "encoder_")

    def __sklearn_tags__(self) -> Any:
        tags = text_tags(super().__sklearn_tags__())
        tags.transformer_tags.preserves_dtype = []  # texts have no number type to preserve
        return tags


def as_texts(X: Any, *, name: str = "X") -> list[str]:
    """Return N strings; missing ones (None, NaN) become empty.

    Args:
        X: a list, Series or array of strings, or a table or array of one column.
        name: what to call it in messages.

    Raises:
        DataError: it is one string, has several columns, or holds something else than texts.
        TypeError: it is a sparse matrix.
    """
    if isinstance(X, str | bytes):
        raise DataError(f"{name} is one text; give a list of texts: [{X!r:.40}]")
    if hasattr(X, "tocsr"):
        raise TypeError(f"{name} is a sparse matrix; texts are expected: a list, Series or array of strings")
    if isinstance(X, pd.DataFrame) and X.shape[1] != 1:
        raise DataError(f"{name} has {X.shape[1]} columns ({list(X.columns)}); name the one that holds the texts")
    cells: Any = X.to_numpy(dtype=object) if isinstance(X, pd.DataFrame | pd.Series) else X
    if isinstance(cells, np.ndarray) and cells.ndim != 1:
        if cells.ndim != 2 or cells.shape[1] != 1:
            raise DataError(
                f"{name} has shape {cells.shape}; texts are expected, (N,) or (N, 1). "
                "Reshape your data: give one column"
            )
        cells = cells[:, 0]
    if not hasattr(cells, "__iter__"):
        raise DataError(f"{name} is a {type(X).__name__}; texts are expected: a list, Series or array of strings")
    return [_text(cell, row, name) for row, cell in enumerate(cells)]


def _text(cell: Any, row: int, name: str) -> str:
    if isinstance(cell, str):
        return str(cell)
    if cell is None or cell is pd.NA or (isinstance(cell, float | np.floating) and math.isnan(cell)):
        return ""
    raise DataError(
        f"{name}: row {row} is a {type(cell).__name__} ({cell!r:.40}); texts are expected. "
        "Make them text with .astype(str)"
    )


def text_settings(
    encoders: Sequence[Encoder], max_length: int | None, truncate: str, *, name: str = "max_length"
) -> TextSettings:
    """Return how texts are made to fit all of the encoders: as wanted, or at 256 tokens or their limit.

    Args:
        encoders: that read the texts.
        max_length: most tokens per text.
        truncate: part of a longer text that is kept.
        name: what the user calls the maximum length.

    Raises:
        ConfigError: the maximum length is more than an encoder can read, or the truncation is unknown.
    """
    if truncate not in TRUNCATIONS:
        raise ConfigError(unknown_name("truncation", truncate, TRUNCATIONS, "truncate"))
    limit = min([e.token_limit() for e in encoders], default=1 << 20)
    if max_length is not None and not 4 <= max_length <= limit:
        raise ConfigError(f"{name} {max_length} is not 4 to {limit:,} tokens, what this encoder can read")
    return TextSettings(max_length or min(_DEFAULT_LENGTH, limit), truncate)  # type: ignore[arg-type]  # checked above


@cache
def measured_runtime(device: str, precision: str) -> Runtime:
    """Return device and precision, measured once per process: a second fit shall not fall on another precision."""
    return choose_runtime(device, precision)


def remember_columns(estimator: Any, X: Any) -> None:
    """Set scikit-learn's ``feature_names_in_`` and ``n_features_in_`` from a table; other inputs have neither."""
    for name in ("feature_names_in_", "n_features_in_"):
        estimator.__dict__.pop(name, None)
    if isinstance(X, pd.DataFrame):
        estimator.n_features_in_ = X.shape[1]
        if all(isinstance(c, str) for c in X.columns):
            estimator.feature_names_in_ = np.asarray(X.columns, dtype=object)


def text_tags(tags: Any) -> Any:
    """Say in scikit-learn's tags that texts are taken and tables of numbers are not."""
    tags.input_tags.string = True
    tags.input_tags.one_d_array = True
    tags.input_tags.two_d_array = False
    tags.input_tags.allow_nan = True
    tags.no_validation = False
    return tags
