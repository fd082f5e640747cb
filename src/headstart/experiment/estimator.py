"""One strategy as a scikit-learn classifier."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from headstart.data.examples import Examples
from headstart.data.labels import Labels
from headstart.errors import ConfigError, DataError
from headstart.experiment.setup import cache_or_none, class_weights, cores, text_settings, use_threads
from headstart.models import folder as model_folder
from headstart.models.batching import Truncate
from headstart.models.classifier import Probabilities
from headstart.models.encoders import find_encoder
from headstart.models.features import cache_folder
from headstart.models.runtime import choose_runtime
from headstart.models.text_features import one_column
from headstart.strategies import table
from headstart.strategies.task import Task


class TransferClassifier(ClassifierMixin, BaseEstimator):
    """A way of transferring a pretrained encoder, with scikit-learn's interface.

    A part of the training texts is split off by ``seed`` for early stopping and other choices.

    Args:
        strategy: name as in ``headstart strategies``; those that need a source are for `headstart.compare`.
        encoder: catalog name, local folder or hub name; not used by strategies without one.
        validation_size: share of the texts to choose with, 0-1.
        max_length: most tokens per text; by default 256 or the encoder's limit.
        truncate: part of a longer text that is kept: ``head``, ``tail`` or ``head-tail``.
        precision: ``auto`` (measured), ``float32`` or ``bfloat16``.
        class_weight: None, ``balanced``, or a mapping from label to weight; probabilities shift with it.
        settings: settings of the strategy, e.g. ``{"epochs": 3}``.
        seed: of the split, initialization, order and dropout.
        threads: processor threads; by default all cores.
        device: ``auto``, ``cpu``, ``cuda``, ...

    Attributes:
        classes_: C labels, sorted, in the order of `predict_proba`'s columns.
    """

    def __init__(
        self,
        strategy: str = "linear-probe",
        encoder: str = "minilm",
        *,
        validation_size: float = 0.2,
        max_length: int | None = None,
        truncate: Truncate = "head",
        precision: str = "auto",
        class_weight: str | Mapping[Any, float] | None = None,
        settings: Mapping[str, Any] | None = None,
        seed: int = 0,
        threads: int | None = None,
        device: str = "auto",
    ) -> None:
        self.strategy = strategy
        self.encoder = encoder
        self.validation_size = validation_size
        self.max_length = max_length
        self.truncate = truncate
        self.precision = precision
        self.class_weight = class_weight
        self.settings = settings
        self.seed = seed
        self.threads = threads
        self.device = device

    def fit(self, X: Any, y: Any) -> TransferClassifier:
        """Fit on N texts and their labels.

        Args:
            X: N texts: a list, array or Series of strings, or a DataFrame or array with one column.
            y: N labels.

        Raises:
            ConfigError: the strategy or a setting is unknown.
            DataError: texts and labels do not fit, or a class is too small to be split.
            StrategyError: there is only one class.
        """
        plan = table.plan(self.strategy, "strategy")
        if plan.needs_source:
            raise ConfigError(f"strategy '{self.strategy}' needs a source: use headstart.compare(..., source=...)")
        settings = {plan.strategy.name: dict(self.settings or {})}
        if faults := table.settings_faults(settings):
            raise ConfigError(faults)
        examples, labels, values = self._examples(X, y)
        self.classes_ = values
        train, validation = self._split(examples)
        encoder = find_encoder(self.encoder) if plan.strategy.needs_encoder else None
        threads = self.threads or cores()
        self._text = text_settings(self.max_length, self.truncate, [encoder] if encoder else [])
        with use_threads(threads):
            fitted = table.fit(
                plan,
                Task(
                    labels=labels,
                    train=train,
                    validation=validation,
                    text=self._text,
                    runtime=choose_runtime(self.device, self.precision),
                    seed=self.seed,
                    encoder=encoder,
                    class_weights=self._weights(labels, train.y),
                    cache=cache_or_none(cache_folder()),
                    threads=threads,
                ),
                table.config_for(plan, settings),
            )
        self.model_ = fitted.classifier
        self._check = validation
        return self

    def predict_proba(self, X: Any) -> Probabilities:
        """Return class probabilities, shape (N, C), columns in the order of ``classes_``."""
        check_is_fitted(self, "model_")
        return self.model_.predict_proba(Examples.of(one_column(X)))

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the likeliest label of each of N texts."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def save(self, folder: str | Path) -> None:
        """Write a model folder that `headstart.load` and the command line open.

        Raises:
            StorageError: it cannot be written.
        """
        check_is_fitted(self, "model_")
        card = {"strategy": self.strategy, "seed": self.seed}
        model_folder.save(self.model_, Path(folder), text=self._text, check=self._check, card=card)

    def _examples(self, X: Any, y: Any) -> tuple[Examples, Labels, npt.NDArray[Any]]:
        texts = one_column(X)
        if y is None:
            raise DataError("labels are needed: requires y to be passed, but the target y is None")
        targets = np.asarray(y)
        if targets.ndim == 2 and targets.shape[1] == 1:
            targets = targets[:, 0]
        if targets.ndim != 1 or len(targets) != len(texts):
            raise DataError(f"one label per text is needed; got {len(texts)} texts and labels of shape {targets.shape}")
        if not len(texts):
            raise DataError("there are no texts to fit on")
        missing = [i for i, v in enumerate(targets) if pd.isna(v)]
        if missing:
            raise DataError(f"row {missing[0]} has no label; leave rows without one out")
        check_classification_targets(targets)
        values = np.unique(targets)
        labels = Labels.of(values.tolist())
        classes = np.searchsorted(values, targets).astype(np.int64)
        return Examples.of(texts, classes), labels, values

    def _split(self, examples: Examples) -> tuple[Examples, Examples]:
        """Split off a stratified validation part; a class of one text stays in train."""
        generator = np.random.default_rng(self.seed)
        held: list[int] = []
        for c in np.unique(examples.y):
            rows = generator.permutation(np.flatnonzero(examples.y == c))
            held += rows[: min(len(rows) - 1, max(1, round(len(rows) * self.validation_size)))].tolist()
        if not held:
            raise DataError("every class has one text only; at least two texts of some class are needed to choose with")
        mask = np.zeros(len(examples), dtype=bool)
        mask[held] = True
        return examples.take(np.flatnonzero(~mask)), examples.take(np.flatnonzero(mask))

    def _weights(self, labels: Labels, y: npt.NDArray[np.int64]) -> npt.NDArray[np.float64] | None:
        wanted = self.class_weight
        if wanted is None or isinstance(wanted, str):
            if wanted not in (None, "balanced"):
                raise ConfigError(f"class_weight must be None, 'balanced' or a mapping; got '{wanted}'")
            return class_weights(wanted or "none", labels, y)
        return class_weights({str(k): float(v) for k, v in wanted.items()}, labels, y)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags
