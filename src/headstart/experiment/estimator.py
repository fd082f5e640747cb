"""A strategy as a scikit-learn classifier over texts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from headstart.data.examples import Examples
from headstart.data.labels import Labels, plain_value
from headstart.data.splits import draw, rows_of_size, units
from headstart.errors import ConfigError, DataError, counted, did_you_mean
from headstart.experiment.setup import cache_or_none, class_weights, use_threads
from headstart.experiment.source import existing_source, is_labeled_data, match_labels
from headstart.models import folder as model_folder
from headstart.models.cache import cache_folder
from headstart.models.classifier import Probabilities
from headstart.models.encoders import Encoder, find_encoder
from headstart.models.text_features import as_texts, measured_runtime, remember_columns, text_settings, text_tags
from headstart.registry import place_of
from headstart.strategies import table
from headstart.strategies.task import SourceModel, Task

_KEPT_TEXTS = 16  # for the comparison with the reloaded model when it is saved


class TransferClassifier(ClassifierMixin, BaseEstimator):
    """One way of transferring a pretrained encoder, as a scikit-learn classifier over texts.

    Works in a `Pipeline`, with `cross_val_score` and with `GridSearchCV` (over ``strategy``, say).

    Args:
        strategy: name from the table of strategies, perhaps with a stage: ``full``, ``source+lora``, ...
        encoder: catalog name, local folder, hub name or ``models:/NAME@ALIAS``.
        revision: branch, tag or commit of a hub name.
        source: folder or hub name of an existing sequence classifier, for ``as-is`` and ``source+...``.
        map_labels: source labels in the words of these: ``{"neg": "negative"}``.
        text: column, or two columns for pairs, of a table that hold the texts; by default its only or ``text``.
        columns: further columns of a table, for ``boosted``.
        validation_size: share (0-1) or number of the training texts to choose and stop early with.
        max_length: most tokens per text; by default 256 or the encoder's limit.
        truncate: part of a longer text that is kept: ``head``, ``tail`` or ``head-tail``.
        precision: ``auto`` (measured), ``float32`` or ``bfloat16``.
        class_weights: None, ``balanced`` or weights by label; probabilities shift with them.
        settings: settings per strategy: ``{"full": {"epochs": 3}}``.
        seed: of the validation split, initialization, order and dropout.
        threads: processor threads; by default as torch is set.
        device: ``auto`` or a torch device name.

    Attributes:
        classes_: label values in the order of `predict_proba`'s columns, shape (C,).
        classifier_: the fitted classifier.
        text_: maximum length and truncation that are used.
        validation_: probabilities of the validation texts, shape (M, C), and their classes, shape (M,).
        notes_: what was chosen (``best_epoch``, ``strength``, ...).
    """

    def __init__(
        self,
        strategy: str = "linear-probe",
        encoder: str = "minilm",
        *,
        revision: str | None = None,
        source: str | None = None,
        map_labels: Mapping[str, str] | None = None,
        text: str | tuple[str, str] | None = None,
        columns: tuple[str, ...] | None = None,
        validation_size: float | int = 0.2,
        max_length: int | None = None,
        truncate: str = "head",
        precision: str = "auto",
        class_weights: str | Mapping[Any, float] | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        seed: int = 0,
        threads: int | None = None,
        device: str = "auto",
    ) -> None:
        self.strategy = strategy
        self.encoder = encoder
        self.revision = revision
        self.source = source
        self.map_labels = map_labels
        self.text = text
        self.columns = columns
        self.validation_size = validation_size
        self.max_length = max_length
        self.truncate = truncate
        self.precision = precision
        self.class_weights = class_weights
        self.settings = settings
        self.seed = seed
        self.threads = threads
        self.device = device

    def fit(self, X: Any, y: Any) -> Self:
        """Split off validation texts, stratified, and fit the strategy on the others.

        Args:
            X: N texts: a list, Series or array of strings, or a table with the named columns.
            y: N labels, of any one type.

        Raises:
            ConfigError: a setting is wrong.
            DataError: texts or labels cannot be used.
            ModelError: the encoder or source is not there.
            StrategyError: the strategy cannot be fitted on these texts.
        """
        plan = self._plan()
        self.columns_ = self._column_names(X)
        examples = self._examples(X)
        labels, classes, self.classes_ = _labels(y, len(examples))
        train, validation = self._split(examples, classes)
        task = self._task(plan, labels, train, validation)
        with _threads(self.threads):
            fitted = table.fit(plan, task, table.config_for(plan, self._settings()))
        self.classifier_ = fitted.classifier
        self.text_ = task.text
        self.validation_ = (fitted.validation, validation.y)
        self.notes_ = fitted.notes
        self._check = validation.take(np.arange(min(_KEPT_TEXTS, len(validation))))
        remember_columns(self, X)
        return self

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the likeliest label of each of N texts, shape (N,), in the labels' own type."""
        best = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def predict_proba(self, X: Any) -> Probabilities:
        """Return class probabilities, shape (N, C), columns in the order of ``classes_``."""
        check_is_fitted(self)
        with _threads(self.threads):
            return self.classifier_.predict_proba(self._examples(X))

    def save(self, folder: str | Path) -> None:
        """Write a model folder, which `headstart.load` opens; one that stood there is replaced.

        Raises:
            ModelError: the model read back gives other probabilities.
            StorageError: the folder cannot be written.
        """
        check_is_fitted(self)
        card = {"strategy": self.strategy, "seed": self.seed, "text_columns": list(self.columns_) or ["text"]}
        model_folder.save(self.classifier_, Path(folder), text=self.text_, check=self._check, card=card)

    def _plan(self) -> table.Plan:
        plan = table.plan(self.strategy, "strategy")
        if plan.adapted:
            raise ConfigError(
                f"strategy '{self.strategy}' needs texts without labels, which fit does not take: "
                "adapt first with headstart.adapt(texts, out=FOLDER), and give encoder=FOLDER"
            )
        if plan.needs_source and self.source is None:
            raise ConfigError(f"strategy '{self.strategy}' needs source=: a folder or hub name of a classifier")
        if self.source is not None and is_labeled_data(str(self.source)):
            raise ConfigError(
                f"source '{self.source}' is labeled data; a classifier is needed here. Fit one on it first and save "
                "it, or use headstart.compare, which does so itself"
            )
        faults = table.settings_faults(self._settings(), "settings")
        if faults:
            raise ConfigError(faults)
        return plan

    def _settings(self) -> dict[str, dict[str, Any]]:
        settings = self.settings or {}
        if not all(isinstance(values, Mapping) for values in settings.values()):
            raise ConfigError(f"settings must be per strategy, e.g. {{'full': {{'epochs': 3}}}}; got {dict(settings)}")
        return {name: dict(values) for name, values in settings.items()}

    def _column_names(self, X: Any) -> tuple[str, ...]:
        """Return the text columns; none where ``X`` is no table."""
        if not isinstance(X, pd.DataFrame):
            if self.columns or (self.text is not None and not isinstance(self.text, str)):
                raise DataError(f"X is a {type(X).__name__}; named columns need a pandas DataFrame")
            return ()
        if self.text is None:
            return ("text",) if "text" in X else tuple(X.columns[:1]) if X.shape[1] == 1 else _no_text_column(X)
        names = (self.text,) if isinstance(self.text, str) else tuple(self.text)
        if not 1 <= len(names) <= 2:
            raise ConfigError(f"text must name one or two columns; got {list(names)}")
        return names

    def _examples(self, X: Any) -> Examples:
        if not self.columns_:
            return Examples.of(as_texts(X))
        if not isinstance(X, pd.DataFrame):
            raise DataError(f"this classifier was fitted on a table: give a DataFrame with {list(self.columns_)}")
        extra = list(self.columns or ())
        for name in (*self.columns_, *extra):
            if name not in X:
                raise DataError(
                    f"column '{name}' is missing; there are {list(X.columns)}.{did_you_mean(name, map(str, X))}"
                )
        first, *second = (as_texts(X[name], name=f"column '{name}'") for name in self.columns_)
        return Examples.of(first, pairs=second[0] if second else None, columns=X[extra] if extra else None)

    def _split(self, examples: Examples, classes: npt.NDArray[np.int64]) -> tuple[Examples, Examples]:
        """Return train and validation; a class with one text stays in train, equal texts stay together."""
        examples = Examples.of(examples.texts, classes, examples.pairs, examples.columns)
        counts = np.bincount(classes)
        rows = np.flatnonzero(counts[classes] > 1)  # those that can be shared out
        size = rows_of_size(self.validation_size, len(classes))
        if not 0 < size < len(classes) or not len(rows):
            raise DataError(
                f"{counted(len(classes), 'text', 'texts')} cannot be split with "
                f"validation_size={self.validation_size}: both parts need texts, and some class needs two of them"
            )
        keys = [examples.joined()[r] for r in rows]
        rng = np.random.default_rng(self.seed)
        drawn = rows[draw(classes[rows], units(keys), min(size, len(rows)), rng)]
        return examples.take(np.setdiff1d(np.arange(len(classes)), drawn)), examples.take(drawn)

    def _task(self, plan: table.Plan, labels: Labels, train: Examples, validation: Examples) -> Task:
        source = self._source(labels) if plan.needs_source else None
        encoder: Encoder | None = None
        if plan.from_source and source is not None:
            encoder = source.encoder
        elif plan.strategy.needs_encoder:
            encoder = find_encoder(place_of(str(self.encoder)), self.revision)
        wanted = self.class_weights
        weights = {str(k): v for k, v in wanted.items()} if isinstance(wanted, Mapping) else wanted or "none"
        involved = [e for e in (encoder, None if source is None else source.encoder) if e is not None]
        return Task(
            labels=labels,
            train=train,
            validation=validation,
            text=text_settings(involved, self.max_length, self.truncate),
            runtime=measured_runtime(self.device, self.precision),
            seed=self.seed,
            encoder=encoder,
            keep_head=plan.from_source and source is not None and source.order is not None,
            source=source,
            class_weights=class_weights(weights, labels, train.y),
            cache=cache_or_none(cache_folder()),
            threads=self.threads or 1,
        )

    def _source(self, labels: Labels) -> SourceModel:
        encoder, own = existing_source(str(self.source))
        return match_labels(encoder, own, labels, self.map_labels or {})

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "classifier_")

    def __sklearn_tags__(self) -> Any:
        return text_tags(super().__sklearn_tags__())


def _labels(y: Any, texts: int) -> tuple[Labels, npt.NDArray[np.int64], npt.NDArray[Any]]:
    """Return the labels, class indices (N,) and label values (C,)."""
    if y is None:
        raise DataError("requires y to be passed, but the target y is None: give one label per text")
    given = column_or_1d(y, warn=True)
    if len(given) != texts:
        raise DataError(
            f"X and y differ: {counted(texts, 'text', 'texts')} and {counted(len(given), 'label', 'labels')} "
            "(inconsistent numbers of samples)"
        )
    blank = [row for row, value in enumerate(given) if plain_value(value) is None]
    if blank:
        raise DataError(
            f"{counted(len(blank), 'label is', 'labels are')} blank (rows {blank[:5]}); leave such rows out"
        )
    check_classification_targets(given)
    labels = Labels.of(given)
    if len(labels) < 2:
        raise DataError(f"all texts are of one class ({', '.join(labels.names)}); at least two classes are needed")
    values = np.asarray(labels.values, dtype=given.dtype if given.dtype != object else object)
    return labels, labels.encode(given), values


def _no_text_column(X: pd.DataFrame) -> tuple[str, ...]:
    raise DataError(f"which column holds the texts? Name it: text='...'; there are {list(X.columns)}")


@contextlib.contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    if threads is None:
        yield
    else:
        with use_threads(threads):
            yield
