"""The metrics against scikit-learn's, plain and weighted."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from headstart.errors import ConfigError, DataError
from headstart.evaluation import METRICS, score
from headstart.evaluation.metrics import Scorer, precision_recall_f1


@st.composite
def tasks(draw, every_class=False, least=1):
    """Labels (N,), probabilities (N, C) on a coarse grid so that scores tie, and integer row weights (N,)."""
    classes = draw(st.integers(2, 5))
    n = draw(st.integers(max(least, classes), 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    y = rng.integers(0, classes, n)
    if every_class:
        y[:classes] = np.arange(classes)
    steps = draw(st.sampled_from([2, 5, 1000]))
    proba = rng.integers(1, steps + 1, (n, classes)).astype(float)
    weights = rng.integers(0, 4, n)
    weights[:classes] += 1
    return y, proba / proba.sum(axis=1, keepdims=True), weights


def sklearn_scores(y, proba, weights=None):
    classes = np.arange(proba.shape[1])
    predicted = proba.argmax(axis=1)
    ranked = proba[:, 1] if len(classes) == 2 else proba
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "accuracy": sk.accuracy_score(y, predicted, sample_weight=weights),
            "macro_f1": sk.f1_score(y, predicted, average="macro", sample_weight=weights),
            "roc_auc": sk.roc_auc_score(y, ranked, average="macro", multi_class="ovr", sample_weight=weights),
            "log_loss": sk.log_loss(y, proba, labels=classes, sample_weight=weights),
            "matthews": sk.matthews_corrcoef(y, predicted, sample_weight=weights),
        }


@settings(max_examples=60, deadline=None)
@given(tasks(every_class=True))
def test_plain_scores_are_scikit_learns(task):
    y, proba, _ = task
    expected = sklearn_scores(y, proba)
    assert set(expected) == set(METRICS)
    for name, value in expected.items():
        assert score(name, y, proba) == pytest.approx(value, abs=1e-9), name


@settings(max_examples=60, deadline=None)
@given(tasks(every_class=True))
def test_weighted_scores_are_scikit_learns(task):
    y, proba, weights = task
    kept = (
        weights > 0
    )  # scikit-learn counts a class of weight 0 among macro-F1's classes; a drawn sample has no such row
    expected = sklearn_scores(y[kept], proba[kept], weights[kept])
    got = Scorer(y, proba).scores(weights[:, None].astype(float))
    for name, value in expected.items():
        assert got[name][0] == pytest.approx(value, abs=1e-9), name


@settings(max_examples=40, deadline=None)
@given(tasks())
def test_a_weight_of_k_is_the_row_k_times(task):
    y, proba, weights = task
    again = np.repeat(np.arange(len(y)), weights)
    weighted = Scorer(y, proba).scores(weights[:, None].astype(float))
    repeated = Scorer(y[again], proba[again]).scores(np.ones((len(again), 1)))
    for name in METRICS:
        np.testing.assert_allclose(weighted[name], repeated[name], atol=1e-12, err_msg=name)


@settings(max_examples=40, deadline=None)
@given(tasks())
def test_per_class_numbers_are_scikit_learns_where_defined(task):
    y, proba, _ = task
    labels = np.arange(proba.shape[1])
    confusion = Scorer(y, proba).confusion(np.ones((len(y), 1)))
    np.testing.assert_array_equal(confusion[0], sk.confusion_matrix(y, proba.argmax(axis=1), labels=labels))
    expected = sk.precision_recall_fscore_support(y, proba.argmax(axis=1), labels=labels, zero_division=np.nan)
    for ours, theirs in zip(precision_recall_f1(confusion), expected[:3], strict=True):
        np.testing.assert_allclose(ours[0], theirs, atol=1e-12)


def test_columns_of_weights_do_not_mix():
    rng = np.random.default_rng(3)
    y, proba = rng.integers(0, 3, 50), rng.dirichlet(np.ones(3), 50)
    W = rng.integers(0, 3, (50, 7)).astype(float)
    together = Scorer(y, proba).scores(W)
    for r in range(7):
        alone = Scorer(y, proba).scores(W[:, [r]])
        for name in METRICS:
            assert together[name][r] == pytest.approx(alone[name][0], abs=1e-12)


@pytest.mark.parametrize("y, classes", [([0, 0, 0], 2), ([1, 1], 2), ([0, 1, 1], 3), ([0, 0], 1)])
def test_roc_auc_is_none_where_a_class_is_absent(y, classes):
    proba = np.full((len(y), classes), 1 / classes)
    assert score("roc_auc", y, proba) is None
    assert score("accuracy", y, proba) is not None


def test_a_sure_mistake_costs_the_clip_and_not_infinity():
    assert score("log_loss", [0], [[0.0, 1.0]]) == pytest.approx(36.04, abs=0.01)


def test_constant_predictions_have_no_correlation():
    assert score("matthews", [0, 1, 1], [[0.1, 0.9]] * 3) == 0.0
    assert score("roc_auc", [0, 1, 1], [[0.1, 0.9]] * 3) == 0.5


def test_float32_and_lists_are_taken():
    proba = np.asarray([[0.75, 0.25], [0.25, 0.75]], dtype=np.float32)
    assert score("log_loss", [0, 1], proba) == pytest.approx(-np.log(0.75))
    assert score("accuracy", [0, 1], proba.tolist()) == 1.0


def test_an_unknown_metric_names_the_closest():
    with pytest.raises(ConfigError, match=r"macro_f1.*Did you mean 'macro_f1'"):
        score("macrof1", [0], [[1.0, 0.0]])


@pytest.mark.parametrize(
    "y, proba, says",
    [
        ([0, 1], [[0.5, 0.5]], "do not fit"),
        ([], np.zeros((0, 2)), "no rows"),
        ([0, -1], [[0.5, 0.5]] * 2, "'no label'"),
        ([0, 2], [[0.5, 0.5]] * 2, "from 0 to 1"),
        ([0], [[np.nan, 0.5]], "diverged"),
    ],
)
def test_bad_input_is_refused(y, proba, says):
    with pytest.raises(DataError, match=says):
        score("accuracy", y, proba)


def test_directions():
    assert [m.name for m in METRICS.values() if not m.higher_is_better] == ["log_loss"]
    assert all(name == m.name and m.description for name, m in METRICS.items())
