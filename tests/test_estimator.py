"""`TransferClassifier`: scikit-learn's own checks as far as texts allow, and the tools it must work with."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.estimator_checks import estimator_checks_generator
from sklearn.utils.validation import check_is_fitted, validate_data

import headstart
from conftest import QUICK, separable_texts
from headstart.data.preparation import FillMissing, Lowercase
from headstart.errors import ConfigError, DataError, ModelError, StrategyError
from headstart.experiment.estimator import TransferClassifier

TEXTS, CLASSES = separable_texts(72)
LABELS = np.array(["negative", "positive"])[CLASSES]


def quick(strategy: str, **options: Any) -> TransferClassifier:
    return TransferClassifier(strategy, precision="float32", settings=QUICK, **options)


# --- scikit-learn's checks -----------------------------------------------------------------------------------


class OverNumbers(TransferClassifier):
    """The classifier on numbers written as words: scikit-learn's checks bring tables of numbers.

    Tables are validated as every estimator of numbers does it, and each cell becomes a word of its column and its
    rounded value. Everything else (labels, parameters, copies, order of rows, repeatability) is the classifier's own.
    """

    def fit(self, X: Any, y: Any) -> OverNumbers:
        X = validate_data(self, X) if y is None else validate_data(self, X, y)[0]
        super().fit(_words(X), y)
        self.n_features_in_ = X.shape[1]
        return self

    def predict_proba(self, X: Any) -> Any:
        check_is_fitted(self)
        return super().predict_proba(_words(validate_data(self, X, reset=False)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.one_d_array = tags.input_tags.allow_nan = False
        tags.input_tags.two_d_array = True
        return tags


def _words(X: Any) -> list[str]:
    return [" ".join(f"c{j}v{round(2 * float(cell))}" for j, cell in enumerate(row)) for row in X]


@pytest.mark.filterwarnings("ignore:Can't check dok sparse matrix:UserWarning")
@pytest.mark.filterwarnings("ignore:The number of unique classes is greater:UserWarning")
@pytest.mark.parametrize(
    "check", [pytest.param(c, id=getattr(c, "func", c).__name__) for _, c in estimator_checks_generator(OverNumbers())]
)
def test_scikit_learns_checks(check: Callable[[Any], None]) -> None:
    """No check is expected to fail; those on numbers as such (sparse, NaN, dtypes) test the wrapper."""
    check(OverNumbers("tfidf", precision="float32"))


def test_tags_say_texts() -> None:
    tags = TransferClassifier().__sklearn_tags__()
    assert tags.estimator_type == "classifier"
    assert tags.input_tags.string
    assert not tags.input_tags.two_d_array
    assert tags.target_tags.required


# --- doors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [list, np.array, pd.Series, lambda t: pd.DataFrame({"remark": t}), tuple])
def test_takes_texts_in_every_form(kind: Callable[[Any], Any]) -> None:
    model = quick("tfidf").fit(kind(TEXTS[:48]), LABELS[:48])
    assert model.score(kind(TEXTS[48:]), LABELS[48:]) >= 0.8
    np.testing.assert_array_equal(model.classes_, ["negative", "positive"])
    probabilities = model.predict_proba(kind(TEXTS[48:]))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(model.predict(kind(TEXTS[48:])), model.classes_[probabilities.argmax(axis=1)])


@pytest.mark.parametrize(
    "values", [("b", "a"), (10, 9), (True, False), (2.0, -1.0)], ids=["text", "whole", "bool", "float"]
)
def test_labels_keep_type_and_order(values: tuple[Any, Any]) -> None:
    y = [values[c] for c in CLASSES]
    model = quick("tfidf").fit(TEXTS, y)
    assert model.classes_.tolist() == sorted(values)
    assert model.classes_.dtype == np.asarray(y).dtype
    assert model.score(TEXTS, y) >= 0.9


@pytest.mark.parametrize("strategy", ["linear-probe", "full", "lora", "scratch-gru"])
def test_strategies_on_an_encoder(strategy: str, tiny_encoder: Path, tmp_path: Path) -> None:
    model = quick(strategy, encoder=str(tiny_encoder)).fit(TEXTS[:60], LABELS[:60])
    assert model.score(TEXTS[60:], LABELS[60:]) >= 0.75
    model.save(tmp_path / "model")
    loaded = headstart.load(tmp_path / "model", precision="float32")
    np.testing.assert_allclose(loaded.predict_proba(TEXTS[60:]), model.predict_proba(TEXTS[60:]), atol=1e-6)
    assert loaded.predict(TEXTS[60:]) == model.predict(TEXTS[60:]).tolist()
    copied = copy.deepcopy(model)
    np.testing.assert_array_equal(copied.predict_proba(TEXTS[60:]), model.predict_proba(TEXTS[60:]))


def test_a_source_classifier(sources: Callable[[int], Any], tiny_encoder: Path) -> None:
    folder = str(sources(2).encoder.folder)
    y = np.array(["bad", "good"])[CLASSES]
    as_is = quick("as-is", source=folder).fit(TEXTS, y)
    assert as_is.score(TEXTS, y) >= 0.9
    renamed = quick("as-is", source=folder, map_labels={"bad": "negative", "good": "positive"}).fit(TEXTS, LABELS)
    np.testing.assert_array_equal(renamed.predict_proba(TEXTS), as_is.predict_proba(TEXTS))
    assert quick("source+linear-probe", source=folder).fit(TEXTS, LABELS).score(TEXTS, LABELS) >= 0.9
    with pytest.raises(StrategyError, match=r"source labels \(bad, good\)"):
        quick("as-is", source=folder).fit(TEXTS, LABELS)
    with pytest.raises(ConfigError, match="needs source="):
        quick("source+full").fit(TEXTS, LABELS)
    with pytest.raises(ConfigError, match="labeled data"):
        quick("source+full", source="other.csv").fit(TEXTS, LABELS)


def test_same_seed_same_probabilities_and_caller_state_untouched(tiny_encoder: Path) -> None:
    import torch

    np_before, torch_before = np.random.get_state()[1].copy(), torch.random.get_rng_state()  # noqa: NPY002

    def fitted(seed: int) -> np.ndarray:
        model = quick("full", encoder=str(tiny_encoder), seed=seed)
        return model.set_params(settings={"full": {"epochs": 1}}).fit(TEXTS, LABELS).predict_proba(TEXTS)

    first = fitted(0)
    np.testing.assert_array_equal(first, fitted(0))
    assert not np.array_equal(first, fitted(1))
    np.testing.assert_array_equal(np_before, np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(torch_before, torch.random.get_rng_state())


def test_validation_is_stratified_and_of_the_size_asked_for() -> None:
    y = np.where(np.arange(72) < 12, "rare", "common")
    for size, expected in ((0.25, 18), (12, 12)):
        _, held = quick("tfidf", validation_size=size).fit(TEXTS, y).validation_
        assert len(held) == expected
        assert np.sum(held == 1) == expected / 6
    with pytest.raises(DataError, match="validation_size"):
        quick("tfidf", validation_size=72).fit(TEXTS, y)


def test_a_class_with_one_text_is_trained_on() -> None:
    y = [*LABELS[:-1], "single"]
    model = quick("tfidf").fit(TEXTS, y)
    assert model.classes_.tolist() == ["negative", "positive", "single"]
    assert 2 not in model.validation_[1]


def test_equal_texts_stay_on_one_side(monkeypatch: pytest.MonkeyPatch) -> None:
    model = quick("tfidf")
    model.columns_ = ()
    examples = model._examples(TEXTS * 2)
    train, held = model._split(examples, np.array(CLASSES * 2))
    assert not set(train.texts) & set(held.texts)
    assert len(train) + len(held) == 144


def test_tables_pairs_and_extra_columns(tiny_encoder: Path) -> None:
    pytest.importorskip("catboost")
    frame = pd.DataFrame({"title": TEXTS, "body": TEXTS[::-1], "stars": np.array(CLASSES, dtype=float)})
    pairs = quick("tfidf", text=("title", "body")).fit(frame, LABELS)
    assert pairs.predict(frame).shape == (72,)
    assert pairs.feature_names_in_.tolist() == ["title", "body", "stars"]
    boosted = quick("boosted", encoder=str(tiny_encoder), text="body", columns=("stars",)).fit(frame, LABELS)
    assert boosted.score(frame, LABELS) >= 0.95  # from the stars: the bodies are those of other rows
    with pytest.raises(DataError, match="'stars' is missing"):
        boosted.predict(frame.drop(columns="stars"))
    with pytest.raises(DataError, match="which column holds the texts"):
        quick("tfidf").fit(frame, LABELS)
    with pytest.raises(DataError, match="Did you mean 'body'"):
        quick("tfidf", text="bodi").fit(frame, LABELS)


def test_class_weights_by_label_shift_probabilities() -> None:
    y = np.where(np.arange(72) % 5 == 0, 1 - np.array(CLASSES), CLASSES)
    means = [
        quick("tfidf", class_weights=w).fit(TEXTS, y).predict_proba(TEXTS)[:, 1].mean()
        for w in ({0: 5.0, 1: 1.0}, None, {0: 1.0, 1: 5.0})
    ]
    assert means[0] < means[1] < means[2]
    with pytest.raises(ConfigError, match="no label"):
        quick("tfidf", class_weights={7: 1.0}).fit(TEXTS, y)


# --- with scikit-learn's tools -------------------------------------------------------------------------------


def test_in_a_pipeline_and_cross_validated() -> None:
    model = make_pipeline(FillMissing(), Lowercase(), quick("tfidf"))
    scores = cross_val_score(model, np.array(TEXTS, dtype=object), LABELS, cv=3, error_score="raise")
    assert scores.shape == (3,)
    assert scores.mean() >= 0.8


def test_grid_search_over_strategies(tiny_encoder: Path) -> None:
    steps = Pipeline([("model", quick("majority", encoder=str(tiny_encoder)))])
    grid = {"model__strategy": ["majority", "tfidf", "linear-probe"]}
    search = GridSearchCV(steps, grid, cv=2, error_score="raise", scoring="neg_log_loss").fit(TEXTS, LABELS)
    assert search.best_params_["model__strategy"] != "majority"
    assert search.score(TEXTS, LABELS) > -0.5


def test_clone_and_params() -> None:
    model = quick("lora", seed=3)
    twin = clone(model)
    assert twin.get_params() == model.get_params()
    assert twin is not model
    with pytest.raises(NotFittedError):
        twin.predict(["a"])
    with pytest.raises(NotFittedError):
        twin.save("nowhere")


@pytest.mark.parametrize("strategy", ["tfidf", "linear-probe", "full", "lora", "scratch-gru"])
def test_a_fitted_classifier_survives_another_process(strategy: str, tiny_encoder: Path) -> None:
    """Scikit-learn itself pickles estimators to spread work over processes."""
    settings = {strategy: {**QUICK.get(strategy, {}), "epochs": 1}} if strategy in QUICK else None
    model = TransferClassifier(strategy, str(tiny_encoder), precision="float32", settings=settings)
    model.fit(TEXTS, LABELS)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(TEXTS), model.predict_proba(TEXTS))


# --- faults --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "X", "y", "error", "words"),
    [
        ({"strategy": "lora_"}, TEXTS, LABELS, ConfigError, "Did you mean 'lora'"),
        ({"settings": {"tfidf": {"strenghts": [1]}}}, TEXTS, LABELS, ConfigError, "Did you mean 'strengths'"),
        ({"settings": {"epochs": 3}}, TEXTS, LABELS, ConfigError, "settings must be per strategy"),
        ({"truncate": "middle"}, TEXTS, LABELS, ConfigError, "truncation 'middle' is unknown"),
        ({"precision": "fp8"}, TEXTS, LABELS, ConfigError, "precision 'fp8' is unknown"),
        ({}, "one text", LABELS, DataError, "is one text"),
        ({}, [1, 2, 3], [0, 1, 0], DataError, "row 0 is a int"),
        ({}, TEXTS, LABELS[:-1], DataError, "72 texts and 71 labels"),
        ({}, TEXTS, ["a"] * 72, DataError, "one class"),
        ({}, TEXTS, [None, *LABELS[1:]], DataError, "1 label is blank"),
        ({}, [], [], DataError, "texts"),
        ({}, np.zeros((3, 2)), [0, 1, 0], DataError, "shape \\(3, 2\\)"),
        ({"text": ("a", "b")}, TEXTS, LABELS, DataError, "need a pandas DataFrame"),
    ],
)
def test_faults_are_said_in_the_users_words(
    options: dict[str, Any], X: Any, y: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        TransferClassifier(**{"strategy": "tfidf", "precision": "float32", **options}).fit(X, y)


def test_a_missing_encoder_and_a_too_long_limit(tiny_encoder: Path) -> None:
    with pytest.raises(ModelError, match="not on this machine"):
        quick("full", encoder="nobody/nothing").fit(TEXTS, LABELS)
    with pytest.raises(ConfigError, match="4 to 64 tokens"):
        quick("full", encoder=str(tiny_encoder), max_length=65).fit(TEXTS, LABELS)
