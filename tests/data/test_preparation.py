"""The classic text preparation: in pipelines and column transformers, fitted on train only, saved as JSON."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from headstart.data.preparation import (
    PADDING,
    UNKNOWN,
    WORDS_AND_SIGNS,
    FillMissing,
    Lowercase,
    TokenIndex,
    TokenizePattern,
    load_preparation,
    save_preparation,
    text_preparation,
)
from headstart.errors import DataError, ModelError

TRAIN = ["Good, good film!", None, "Bad film"]


def test_each_step():
    filled = FillMissing("none").fit_transform([*TRAIN, float("nan"), pd.NA, 3])
    assert filled.tolist() == ["Good, good film!", "none", "Bad film", "none", "none", "3"]
    assert Lowercase().fit_transform(["ÀB c"]).tolist() == ["àb c"]
    tokens = TokenizePattern().fit_transform(["it's ok :)", ""])
    assert tokens.tolist() == [["it", "'", "s", "ok", ":", ")"], []]


def test_token_index_numbers_by_frequency_pads_and_cuts():
    index = TokenIndex(length=3).fit([["b", "a", "b"], ["c"]])
    assert index.index_ == {"b": 2, "a": 3, "c": 4}
    numbers = index.transform([["a", "new"], ["b", "b", "a", "c"], []])
    assert numbers.tolist() == [[3, UNKNOWN, PADDING], [2, 2, 3], [PADDING] * 3]
    tail = TokenIndex(length=3, keep="tail").fit([["b", "a", "b"], ["c"]])
    assert tail.transform([["b", "b", "a", "c"]]).tolist() == [[2, 3, 4]]
    assert TokenIndex().fit([["a"], ["a", "b"]]).transform([["b"]]).shape == (1, 2)


def test_small_vocabularies():
    lists = [["a", "a", "a", "b", "b", "c"]]
    assert list(TokenIndex(max_tokens=1).fit(lists).index_) == ["a"]
    assert list(TokenIndex(min_count=2).fit(lists).index_) == ["a", "b"]


@settings(deadline=None)
@given(
    st.lists(st.text(alphabet="ab !é\n1", max_size=12), min_size=1, max_size=8).filter(
        lambda t: any(s.strip() for s in t)
    )
)
def test_same_vocabulary_as_scikit_learn(texts):
    ours = text_preparation().fit(texts)
    theirs = CountVectorizer(token_pattern=WORDS_AND_SIGNS).fit(texts)
    assert set(ours["index"].index_) == set(theirs.vocabulary_)
    numbers = ours.transform(texts)
    assert ((numbers != PADDING).sum(axis=1) == theirs.transform(texts).sum(axis=1).A1).all()
    assert (numbers != UNKNOWN).all()


def test_shapes_that_go_in_come_out():
    frame = pd.DataFrame({"text": TRAIN}, index=[4, 2, 9])
    for step in (FillMissing(), make_pipeline(FillMissing(), Lowercase(), TokenizePattern())):
        assert step.fit_transform(frame["text"]).shape == (3,)
        assert step.fit_transform(frame).shape == (3, 1)
        assert step.fit_transform(frame.to_numpy()).shape == (3, 1)
    for X in (frame["text"], frame, TRAIN):
        assert text_preparation(length=5).fit_transform(X).shape == (3, 5)


@pytest.mark.parametrize("selected", ["text", ["text"]])
def test_in_a_column_transformer_before_a_model(selected):
    frame = pd.DataFrame({"text": ["good", "bad", None, "good"] * 5, "stars": [5, 1, 2, 4] * 5})
    columns = ColumnTransformer(
        [("text", text_preparation(length=2), selected), ("stars", StandardScaler(), ["stars"])]
    )
    model = make_pipeline(columns, LogisticRegression()).fit(frame, [1, 0, 0, 1] * 5)
    assert model.score(frame, [1, 0, 0, 1] * 5) == 1
    assert columns.fit(frame).get_feature_names_out().tolist() == ["text__token_0", "text__token_1", "stars__stars"]
    filled = ColumnTransformer([("text", make_pipeline(FillMissing(), OneHotEncoder()), ["text"])])
    assert filled.fit_transform(frame).shape == (20, 3)


def test_fitted_on_train_only():
    preparation = text_preparation(length=4).fit(["old words"])
    assert (preparation.transform(["new texts here"])[0, :3] == UNKNOWN).all()
    before = dict(preparation["index"].index_)
    preparation.transform(["more new ones"])
    assert preparation["index"].index_ == before


def test_parameters_and_clone():
    step = TokenIndex(length=7, max_tokens=9, min_count=2, keep="tail").fit([["a", "a"]])
    copy = clone(step)
    assert copy.get_params() == step.get_params() == {"length": 7, "max_tokens": 9, "min_count": 2, "keep": "tail"}
    assert not hasattr(copy, "index_")
    assert clone(text_preparation(length=3)).set_params(index__length=5)["index"].length == 5


def test_saved_as_json_and_read_again(tmp_path):
    preparation = text_preparation(length=6).fit(TRAIN)
    path = tmp_path / "preparation.json"
    save_preparation(preparation, path)
    assert json.loads(path.read_text())["format"] == 1
    loaded = load_preparation(path)
    assert isinstance(loaded, Pipeline)
    new = ["good film, unseen", None]
    np.testing.assert_array_equal(loaded.transform(new), preparation.transform(new))
    for step in (
        FillMissing("x"),
        Lowercase(),
        TokenizePattern(r"\S+"),
        TokenIndex(length=2).fit([["a"]]),
        TokenIndex(),
    ):
        step.save(path)
        again = type(step).load(path)
        assert again.get_params() == step.get_params()
        assert getattr(again, "index_", None) == getattr(step, "index_", None)


def test_what_cannot_be_saved_or_read(tmp_path):
    path = tmp_path / "preparation.json"
    with pytest.raises(ModelError, match=r"cannot save scale \(StandardScaler\) as JSON"):
        save_preparation(Pipeline([("fill", FillMissing()), ("scale", StandardScaler())]), path)
    assert list(tmp_path.iterdir()) == []
    FillMissing().save(path)
    with pytest.raises(ModelError, match="holds a FillMissing, not a Lowercase"):
        Lowercase.load(path)
    whole = path.read_text()
    for broken in ("", whole[:20], whole.replace("FillMissing", "Nothing"), '{"format": 2}', "[]", '{"format": 1}'):
        path.write_text(broken)
        with pytest.raises(ModelError, match=r"preparation\.json"):
            load_preparation(path)
    with pytest.raises(ModelError, match="is not a saved text preparation"):
        load_preparation(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("step", "X", "words"),
    [
        (Lowercase(), [None], "put FillMissing before it"),
        (TokenizePattern(), [3], "got 3, expected text"),
        (TokenIndex(), ["a text"], "not a list of tokens: put TokenizePattern before"),
        (TokenIndex(), [[], []], "no text has a token"),
        (TokenIndex(length=0), [["a"]], "length must be at least 1"),
        (TokenIndex(keep="both"), [["a"]], "keep 'both' is unknown; known: head, tail"),
        (TokenIndex(), np.empty((2, 2), dtype=object), "takes one column of token lists, got 2"),
    ],
)
def test_wrong_input(step, X, words):
    with pytest.raises(DataError, match=words):
        step.fit(X).transform(X)
