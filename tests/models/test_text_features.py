"""`TextFeatures`: an encoder's states as a step of any scikit-learn model, alone and beside other columns."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from conftest import make_tokenizer, separable_texts
from headstart import TextFeatures
from headstart.errors import ConfigError, DataError, ModelError
from headstart.models.loading import load_body

TEXTS, CLASSES = separable_texts(60)


def features_of(encoder: Path, **options: Any) -> TextFeatures:
    return TextFeatures(str(encoder), precision="float32", **options)


@pytest.mark.parametrize("layer", [-1, 0, 1, -2])
def test_is_the_mean_of_the_chosen_layers_states_over_real_tokens(layer: int, tiny_encoder: Path) -> None:
    """Expected values: transformers' own hidden states, each text alone, so without padding."""
    body, tokenizer = load_body(tiny_encoder), make_tokenizer()
    with torch.inference_mode():
        states = [
            body(**tokenizer(t, return_tensors="pt"), output_hidden_states=True).hidden_states[layer] for t in TEXTS
        ]
    expected = np.stack([s[0].mean(dim=0).numpy() for s in states])
    found = features_of(tiny_encoder, layer=layer).fit_transform(TEXTS)
    assert found.shape == (60, 32)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    "kind",
    [list, tuple, np.array, pd.Series, lambda t: pd.DataFrame({"a": t}), lambda t: np.array(t, dtype=object)[:, None]],
)
def test_takes_texts_in_every_form(kind: Callable[[Any], Any], tiny_encoder: Path) -> None:
    expected = features_of(tiny_encoder).fit_transform(TEXTS)
    np.testing.assert_array_equal(features_of(tiny_encoder).fit(kind(TEXTS)).transform(kind(TEXTS)), expected)


def test_missing_texts_are_empty_ones(tiny_encoder: Path) -> None:
    step = features_of(tiny_encoder).fit(TEXTS)
    assert np.ptp(step.transform(["", None, float("nan"), pd.NA]), axis=0).max() == 0


def test_feeds_a_scikit_learn_model_and_its_settings_are_searched(tiny_encoder: Path) -> None:
    model = make_pipeline(features_of(tiny_encoder), LogisticRegression(C=10, max_iter=2000))
    assert cross_val_score(model, TEXTS, CLASSES, cv=3).mean() >= 0.7
    search = GridSearchCV(model, {"textfeatures__layer": [0, -1]}, cv=2).fit(TEXTS, CLASSES)
    assert search.best_params_["textfeatures__layer"] in (0, -1)


def test_stands_beside_other_columns(tiny_encoder: Path) -> None:
    frame = pd.DataFrame({"remark": TEXTS, "city": ["rome", "oslo", "lima"] * 20, "stars": np.arange(60.0)})
    columns = make_column_transformer(
        (features_of(tiny_encoder), "remark"), (OneHotEncoder(sparse_output=False), ["city"]), remainder="passthrough"
    )
    assert columns.fit_transform(frame).shape == (60, 32 + 3 + 1)
    names = list(columns.get_feature_names_out())
    assert names[0] == "textfeatures__textfeatures0"
    assert names[32:] == ["onehotencoder__city_lima", "onehotencoder__city_oslo", "onehotencoder__city_rome",
                          "remainder__stars"]  # fmt: skip
    model = Pipeline([("columns", columns), ("tree", DecisionTreeClassifier(random_state=0))])
    assert model.fit(frame, CLASSES).predict(frame.tail(5)).tolist() == CLASSES[-5:]


def test_set_output_gives_a_table_with_the_rows_own_index(tiny_encoder: Path) -> None:
    texts = pd.Series(TEXTS, index=range(100, 160))
    table = features_of(tiny_encoder).set_output(transform="pandas").fit_transform(texts)
    assert list(table.columns[:2]) == ["textfeatures0", "textfeatures1"]
    assert table.index.tolist() == list(range(100, 160))


def test_a_copy_has_the_settings_and_loads_the_network_itself(tiny_encoder: Path) -> None:
    step = features_of(tiny_encoder, layer=1, max_length=8, truncate="tail").fit(TEXTS)
    assert clone(step).get_params() == step.get_params()
    stored = pickle.dumps(step)
    assert len(stored) < 5000  # the network is not in it
    np.testing.assert_array_equal(pickle.loads(stored).transform(TEXTS), step.transform(TEXTS))
    with pytest.raises(NotFittedError):
        clone(step).transform(TEXTS)


def test_what_is_cut_is_what_was_asked_for(tiny_encoder: Path) -> None:
    head, tail = "good great lovely superb", "bad awful boring dull"
    texts = [f"{head} {tail}"]
    for truncate, kept in (("head", head), ("tail", tail), ("head-tail", "good great boring dull")):
        cut = features_of(tiny_encoder, max_length=6, truncate=truncate).fit_transform(texts)
        np.testing.assert_allclose(cut, features_of(tiny_encoder).fit_transform([kept]), atol=1e-6)


def test_features_are_kept_only_where_wanted(tiny_encoder: Path, tmp_path: Path) -> None:
    features_of(tiny_encoder, cache=False).fit_transform(TEXTS)
    assert not (tmp_path / "headstart-cache" / "features").exists()
    features_of(tiny_encoder).fit_transform(TEXTS)
    assert list((tmp_path / "headstart-cache" / "features").iterdir())


@pytest.mark.parametrize(
    ("options", "X", "error", "words"),
    [
        ({"layer": 3}, ["a film"], ConfigError, "layer 3 is not there: this encoder has states 0 to 2"),
        ({"max_length": 65}, ["a film"], ConfigError, "max_length 65 is not 4 to 64 tokens"),
        ({"truncate": "middle"}, ["a film"], ConfigError, "'middle'"),
        ({"precision": "float16"}, ["a film"], ConfigError, "'float16'"),
        ({"encoder": "./none"}, ["a film"], ModelError, "'./none' is not a folder"),
        ({}, [], DataError, "no texts to fit on"),
        ({}, "a film", DataError, "is one text"),
        ({}, ["a film", 3], DataError, r"row 1 is a int \(3\)"),
        ({}, pd.DataFrame({"a": ["x"], "b": ["y"]}), DataError, r"has 2 columns \(\['a', 'b'\]\)"),
        ({}, np.zeros((2, 3)), DataError, r"shape \(2, 3\)"),
    ],
)
def test_faults_are_said(options: dict[str, Any], X: Any, error: Any, words: str, tiny_encoder: Path) -> None:
    with pytest.raises(error, match=words):
        TextFeatures(**{"encoder": str(tiny_encoder), "precision": "float32", **options}).fit(X)
