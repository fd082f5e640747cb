"""Intervals: form, determinism, memory, and that they hold what they promise."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from headstart.errors import ConfigError, DataError
from headstart.evaluation import METRICS, evaluate, intervals, is_tie, paired_difference, score
from headstart.evaluation.holm import holm_differences


def fits(n=200, seeds=3, classes=3, skill=1.0, seed=0):
    """Labels (N,) and probabilities (S, N, C) of fits that are right more often with more skill."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    logits = rng.normal(size=(seeds, n, classes)) + skill * np.eye(classes)[y]
    proba = np.exp(logits)
    return y, proba / proba.sum(axis=2, keepdims=True)


def test_values_are_means_over_seeds_and_lie_in_their_intervals():
    y, proba = fits()
    found = evaluate(y, proba, ["a", "b", "c"], resamples=300)
    for name in METRICS:
        interval = found.metrics[name]
        assert interval.value == pytest.approx(np.mean([score(name, y, one) for one in proba]))
        assert interval.low < interval.value < interval.high


def test_json_form():
    y, proba = fits(seeds=2)
    value = evaluate(y, proba, ["a", "b", "ç"], resamples=50).to_json()
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    assert set(value["metrics"]) == set(METRICS)
    assert set(value["metrics"]["log_loss"]) == {"value", "low", "high", "higher_is_better"}
    assert value["metrics"]["log_loss"]["higher_is_better"] is False
    assert list(value["per_class"]) == ["a", "b", "ç"]
    assert set(value["per_class"]["a"]) == {"precision", "recall", "f1", "support"}
    assert value["per_class"]["a"]["support"] == int((y == 0).sum())
    counts = np.asarray(value["confusion"]["counts"])
    assert counts.sum() == pytest.approx(len(y))
    expected = np.mean(
        [[[((y == t) & (p.argmax(1) == g)).sum() for g in range(3)] for t in range(3)] for p in proba], 0
    )
    np.testing.assert_allclose(counts, expected)
    assert (np.asarray(value["confusion"]["low"]) <= np.asarray(value["confusion"]["high"])).all()


def test_same_seed_same_intervals_other_seed_other():
    y, proba = fits(seeds=2)
    first, again = (evaluate(y, proba, "abc", seed=5, resamples=100) for _ in range(2))
    assert first == again
    assert evaluate(y, proba, "abc", seed=6, resamples=100) != first


def test_rows_in_pieces_give_sound_intervals(monkeypatch):
    y, proba = fits(n=300)
    whole = evaluate(y, proba, "abc", resamples=1000).metrics["accuracy"]
    monkeypatch.setattr(intervals, "_WEIGHTS_AT_ONCE", 300 * 7)
    pieces = evaluate(y, proba, "abc", resamples=1000).metrics["accuracy"]
    assert pieces.value == whole.value
    assert pieces.low == pytest.approx(whole.low, abs=0.01)
    assert pieces.high == pytest.approx(whole.high, abs=0.01)


@pytest.mark.parametrize("n, resamples", [(1, 10), (7, 1), (2000, 1000), (3_000_000, 3)])
def test_pieces_are_bounded_and_add_up(n, resamples):
    sizes = intervals._chunks(n, resamples)
    assert sum(sizes) == resamples
    assert max(sizes) * n <= max(n, intervals._WEIGHTS_AT_ONCE)


def test_every_replicate_draws_n_rows():
    for W in intervals._row_weights(40, 0, 25):
        assert W.shape == (40, 25)
        assert (W.sum(axis=0) == 40).all()


def test_one_right_answer_in_n_matches_the_binomial():
    # Bootstrap of a share is binomial: its standard error is known exactly.
    n = 400
    y = np.zeros(n, dtype=int)
    proba = np.zeros((1, n, 2))
    proba[0, :, 1] = np.arange(n) < 100
    proba[0, :, 0] = 1 - proba[0, :, 1]
    interval = evaluate(y, proba, ["no", "yes"], resamples=4000).metrics["accuracy"]
    half = 1.96 * math.sqrt(0.75 * 0.25 / n)
    assert interval.low == pytest.approx(0.75 - half, abs=0.006)
    assert interval.high == pytest.approx(0.75 + half, abs=0.006)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "roc_auc"])
def test_intervals_cover_the_truth_about_as_often_as_they_say(metric):
    # The truth is the score on 200,000 rows. 95% promised; 200 trials give a standard error of 1.5 points.
    truth = score(metric, *(lambda y, p: (y, p[0]))(*fits(200_000, seeds=1, classes=2, seed=99)))
    trials = 200
    covered = 0
    for trial in range(trials):
        y, proba = fits(150, seeds=1, classes=2, seed=trial)
        interval = evaluate(y, proba, ["a", "b"], resamples=200, seed=trial).metrics[metric]
        covered += interval.low <= truth <= interval.high
    assert 0.89 <= covered / trials <= 0.99


def test_seeds_that_differ_widen_the_interval():
    y, good = fits(n=500, seeds=1, skill=4.0)
    _, bad = fits(n=500, seeds=1, skill=4.0, seed=1)  # of other labels: no skill on these
    same = evaluate(y, np.concatenate([good, good]), "abc", resamples=200).metrics["accuracy"]
    mixed = evaluate(y, np.concatenate([good, bad]), "abc", resamples=200).metrics["accuracy"]
    assert same.high - same.low < 0.1
    assert mixed.high - mixed.low > 0.3


def test_undefined_is_null_and_not_a_number():
    proba = np.asarray([[[0.9, 0.1], [0.6, 0.4]]])
    value = evaluate([0, 0], proba, ["a", "b"], resamples=20).to_json()
    assert value["metrics"]["roc_auc"] == {"value": None, "low": None, "high": None, "higher_is_better": True}
    for name in ("precision", "recall", "f1"):
        assert value["per_class"]["b"][name]["value"] is None
    assert value["per_class"]["b"]["support"] == 0
    json.dumps(value, allow_nan=False)


def test_a_rare_class_keeps_its_interval():
    # One row of class 1: a third of the replicates miss it, and have no AUC.
    y = np.asarray([0] * 30 + [1])
    proba = np.random.default_rng(0).dirichlet([1, 1], (2, 31))
    interval = evaluate(y, proba, ["a", "b"], resamples=200).metrics["roc_auc"]
    assert None not in (interval.value, interval.low, interval.high)


def test_wrong_shapes_and_names_are_refused():
    y, proba = fits(n=20)
    with pytest.raises(DataError, match="seeds, rows, classes"):
        evaluate(y, proba[0], "abc")
    with pytest.raises(DataError, match="3 distinct label names"):
        evaluate(y, proba, "ab")
    with pytest.raises(DataError, match="3 distinct label names"):
        evaluate(y, proba, "aab")


def test_a_difference_to_itself_is_a_tie_and_a_real_one_is_not():
    y, good = fits(n=400, skill=2.0)
    worse = np.asarray([np.random.default_rng(s).permutation(p) for s, p in enumerate(good)])
    none = paired_difference("macro_f1", y, good[:1], good[:1], resamples=100)
    assert none == {"metric": "macro_f1", "value": 0.0, "low": 0.0, "high": 0.0}
    assert is_tie(none)
    big = paired_difference("macro_f1", y, good, worse[:2], resamples=100)
    assert 0.2 < big["low"] < big["value"] < big["high"]
    assert not is_tie(big)
    back = paired_difference("macro_f1", y, worse[:2], good, resamples=100)
    assert back["value"] == pytest.approx(-big["value"])
    assert not is_tie(back)


def test_pairing_narrows_the_interval():
    y, a = fits(n=300, seeds=1, skill=1.0)
    b = a.copy()
    b[0, :10] = b[0, :10][:, [1, 2, 0]]  # the same but for ten rows
    paired = paired_difference("accuracy", y, a, b, resamples=300)
    alone = evaluate(y, a, "abc", resamples=300).metrics["accuracy"]
    assert paired["high"] - paired["low"] < (alone.high - alone.low) / 2


def seeds_that_waver(n=400, seeds=3):
    """Labels and two sides: seeds of very different skill, and the same ones with thirty rows of each put right."""
    rng = np.random.default_rng(5)
    y = rng.integers(0, 2, n)
    sides = np.full((2, seeds, n, 2), 0.2)
    for s in range(seeds):
        right = rng.random(n) < 0.6 + 0.15 * s
        better = right.copy()
        better[rng.choice(np.flatnonzero(~right), 30, replace=False)] = True
        for side, correct in zip(sides, (better, right), strict=True):
            side[s, np.arange(n), np.where(correct, y, 1 - y)] = 0.8
    return y, sides[0], sides[1]


def test_seeds_of_both_sides_are_drawn_as_pairs_as_a_bare_loop_does():
    y, a, b = seeds_that_waver()
    right = [(side.argmax(axis=2) == y).astype(float) for side in (a, b)]
    rng = np.random.default_rng(99)
    drawn = []
    for _ in range(4000):
        rows, seeds = rng.integers(0, len(y), len(y)), rng.integers(0, len(a), len(a))
        drawn.append(np.mean([right[0][s][rows].mean() - right[1][s][rows].mean() for s in seeds]))
    found = paired_difference("accuracy", y, a, b, resamples=4000)
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert found["value"] == pytest.approx(30 / len(y))
    assert found["low"] == pytest.approx(low, abs=0.003)
    assert found["high"] == pytest.approx(high, abs=0.003)
    apart = paired_difference("accuracy", y, a, b[[0, 1, 2, 0, 1, 2]], resamples=1000)  # other seeds: luck of both
    assert apart["high"] - apart["low"] > 3 * (high - low)
    holm = holm_differences("accuracy", y, {"a": a}, b, resamples=4000)["a"]
    assert (holm["low"], holm["high"]) == (found["low"], found["high"])


def test_an_undefined_difference_is_a_tie():
    proba = np.full((1, 3, 2), 0.5)
    found = paired_difference("roc_auc", [0, 0, 0], proba, proba, resamples=10)
    assert found == {"metric": "roc_auc", "value": None, "low": None, "high": None}
    assert is_tie(found)
    with pytest.raises(ConfigError, match="unknown"):
        paired_difference("auc", [0, 0, 0], proba, proba)
