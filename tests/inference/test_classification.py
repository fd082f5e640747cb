"""``sentiment`` and ``zero-shot`` beside transformers' own pipelines."""

from __future__ import annotations

import pytest
from tiny_models import LONG, SENTENCES, labels, save_model
from transformers import pipeline

from conftest import fit_strategy, tiny_task
from headstart import infer, load
from headstart.errors import ConfigError, ModelError
from headstart.models import folder as model_folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    names = labels("sad", "glad", "so so")
    return save_model("BertForSequenceClassification", tmp_path_factory.mktemp("models") / "classifier", **names)


@pytest.fixture(scope="module")
def entailment(tmp_path_factory):
    names = labels("CONTRADICTION", "NEUTRAL", "ENTAILMENT")
    return save_model("BertForSequenceClassification", tmp_path_factory.mktemp("models") / "nli", **names)


def test_sentiment_equals_the_pipeline_in_any_batch(classifier):
    found = infer("sentiment", SENTENCES, model=str(classifier), precision="float32")
    theirs = pipeline("text-classification", str(classifier), top_k=None)
    assert [one["text"] for one in found] == list(SENTENCES)
    for one, text in zip(found, SENTENCES, strict=True):
        expected = {each["label"]: each["score"] for each in theirs([text])[0]}
        assert one["scores"] == pytest.approx(expected, abs=1e-5)
        assert one["label"] == max(expected, key=expected.get) == next(iter(one["scores"]))
        assert one["score"] == one["scores"][one["label"]]
        assert "cut_tokens" not in one
    assert len({one["score"] for one in found}) == len(SENTENCES)


def test_a_long_text_is_cut_as_the_tokenizer_cuts_it_and_said(classifier):
    (found,) = infer("sentiment", LONG, model=str(classifier), precision="float32")
    theirs = pipeline("text-classification", str(classifier), top_k=None)
    expected = {each["label"]: each["score"] for each in theirs([LONG], truncation=True, max_length=64)[0]}
    assert found["scores"] == pytest.approx(expected, abs=1e-5)
    assert found["cut_tokens"] == len(theirs.tokenizer(LONG)["input_ids"]) - 64 > 0


def test_several_labels_at_once_are_judged_one_by_one(tmp_path):
    folder = save_model(
        "BertForSequenceClassification", tmp_path, problem_type="multi_label_classification", **labels("a", "b", "c")
    )
    (found,) = infer("sentiment", SENTENCES[0], model=str(folder), precision="float32", top=2)
    theirs = pipeline("text-classification", str(folder), top_k=2)([SENTENCES[0]])[0]
    assert found["scores"] == pytest.approx({each["label"]: each["score"] for each in theirs}, abs=1e-5)


@pytest.mark.parametrize("strategy", ["tfidf", "full"])
def test_a_model_folder_of_ours_gives_what_predict_gives(strategy, tmp_path, tiny_encoder):
    task = tiny_task(encoder=tiny_encoder, values=(0, 1))
    fitted = fit_strategy(strategy, task)
    model_folder.save(
        fitted.classifier, tmp_path / "best", text=task.text, check=task.validation, card={"strategy": strategy}
    )
    model = load(tmp_path / "best", precision="float32")
    for name in (tmp_path / "best", tmp_path):  # a comparison's folder stands for its winner
        found = infer("sentiment", [*SENTENCES, LONG], model=str(name), precision="float32")
        assert [one["label"] for one in found] == model.predict([*SENTENCES, LONG])
        for one, row in zip(found, model.predict_proba([*SENTENCES, LONG]), strict=True):
            assert [one["scores"][n] for n in model.labels.names] == pytest.approx(list(row), abs=1e-6)
    assert ("cut_tokens" in found[-1]) == (strategy == "full")


@pytest.mark.parametrize("several", [False, True])
def test_zero_shot_equals_the_pipeline(entailment, several):
    names, hypothesis = ["film", "hotel", "music"], "this is a story of {}"
    found = infer(
        "zero-shot", SENTENCES, model=str(entailment), labels=names, hypothesis=hypothesis, several=several,
        precision="float32",
    )  # fmt: skip
    theirs = pipeline("zero-shot-classification", str(entailment))
    for one, text in zip(found, SENTENCES, strict=True):
        expected = theirs(text, names, hypothesis_template=hypothesis, multi_label=several)
        assert one["scores"] == pytest.approx(dict(zip(expected["labels"], expected["scores"], strict=True)), abs=1e-5)
        assert one["label"] == expected["labels"][0]
    assert (sum(found[0]["scores"].values()) == pytest.approx(1, abs=1e-5)) is not several


def test_zero_shot_says_how_much_of_a_text_did_not_fit_beside_the_hypothesis(entailment):
    (found,) = infer("zero-shot", LONG, model=str(entailment), labels="film,the hotel", hypothesis="a {}")
    tokenizer = pipeline("zero-shot-classification", str(entailment)).tokenizer
    assert found["cut_tokens"] == len(tokenizer(LONG, "a the hotel")["input_ids"]) - 64


def test_zero_shot_needs_labels_and_a_model_of_entailment(classifier, entailment):
    with pytest.raises(ConfigError, match="--task zero-shot needs --labels"):
        infer("zero-shot", SENTENCES, model=str(entailment))
    with pytest.raises(ConfigError, match="each once"):
        infer("zero-shot", SENTENCES, model=str(entailment), labels="a,a")
    with pytest.raises(ConfigError, match="where the label goes"):
        infer("zero-shot", SENTENCES, model=str(entailment), labels="a,b", hypothesis="it is so")
    with pytest.raises(ModelError, match="a label 'entailment'"):
        infer("zero-shot", SENTENCES, model=str(classifier), labels="a,b")
