"""``ner``, ``fill-mask`` and ``features`` beside transformers' own pipelines."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_models import LONG, SENTENCES, labels, save_model
from transformers import pipeline

from headstart import TextFeatures, infer
from headstart.errors import ConfigError, DataError

NAMES = labels("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    return save_model("BertForTokenClassification", tmp_path_factory.mktemp("models") / "tagger", **NAMES)


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    return save_model("BertForMaskedLM", tmp_path_factory.mktemp("models") / "masked")


@pytest.mark.parametrize("join", ["simple", "first", "average", "max"])
def test_spans_equal_the_pipeline_in_any_batch(tagger, join):
    found = infer("ner", SENTENCES, model=str(tagger), precision="float32", join=join)
    theirs = pipeline("token-classification", str(tagger), aggregation_strategy=join)
    for one, text in zip(found, SENTENCES, strict=True):
        expected = [
            (e["entity_group"], e["start"], e["end"], pytest.approx(e["score"], abs=1e-5)) for e in theirs(text)
        ]
        assert [(e["label"], e["start"], e["end"], e["score"]) for e in one["spans"]] == expected
        assert all(text[e["start"] : e["end"]] == e["words"] for e in one["spans"])
    assert sum(len(one["spans"]) for one in found) > len(SENTENCES)


def test_nothing_of_a_long_text_is_left_unread(tagger):
    (found,) = infer("ner", LONG, model=str(tagger), precision="float32")
    theirs = pipeline("token-classification", str(tagger), aggregation_strategy="simple", stride=16)
    theirs.tokenizer.model_max_length = 64
    assert [(e["start"], e["end"]) for e in found["spans"]] == [(e["start"], e["end"]) for e in theirs(LONG)]
    cut = pipeline("token-classification", str(tagger), aggregation_strategy="simple")
    cut.tokenizer.model_max_length = 64
    assert max(e["end"] for e in found["spans"]) > max(e["end"] for e in cut(LONG))
    assert "cut_tokens" not in found


def test_words_for_masks_equal_the_pipeline(masked):
    texts = ["the [MASK] was good", "a [MASK] and [MASK] hotel in the day", "she is <mask>"]
    found = infer("fill-mask", texts, model=str(masked), precision="float32", top=3)
    theirs = pipeline("fill-mask", str(masked), top_k=3)
    for one, text in zip(found, texts, strict=True):
        expected = theirs(text.replace("<mask>", "[MASK]"))
        expected = expected if isinstance(expected[0], list) else [expected]
        assert one["text"] == text
        assert [[w["word"] for w in mask] for mask in one["masks"]] == [[w["token_str"] for w in m] for m in expected]
        for mask, their_mask in zip(one["masks"], expected, strict=True):
            assert [w["score"] for w in mask] == pytest.approx([w["score"] for w in their_mask], abs=1e-5)
    assert [len(one["masks"]) for one in found] == [1, 2, 1]


def test_the_mask_of_another_family_is_understood(tmp_path):
    from conftest import make_tokenizer

    tokenizer = make_tokenizer(segments=False)
    tokenizer.add_special_tokens({"mask_token": "<mask>"})
    folder = save_model("RobertaForMaskedLM", tmp_path, tokenizer=tokenizer, vocab_size=len(tokenizer))
    one, other = infer("fill-mask", ["the [MASK] was good", "the <mask> was good"], model=str(folder))
    assert one["masks"] == other["masks"]


def test_texts_without_a_mask_or_with_one_too_far_are_named(masked):
    with pytest.raises(DataError) as caught:
        infer("fill-mask", ["a [MASK]", "no word is wanted", f"{LONG} [MASK]"], model=str(masked))
    assert [fault.split(":")[0] for fault in caught.value.faults] == ["text 2 has no [MASK]", "text 3"]
    assert "beyond the 64 tokens" in caught.value.faults[1]


def test_features_are_the_mean_over_tokens(tiny_encoder):
    found = infer("features", [*SENTENCES, LONG], model=str(tiny_encoder), precision="float32")
    theirs = pipeline("feature-extraction", str(tiny_encoder))
    for one, text in zip(found, SENTENCES, strict=False):
        assert one["features"] == pytest.approx(np.mean(theirs(text)[0], axis=0), abs=1e-5)
    assert found[-1]["cut_tokens"] > 0
    ours = TextFeatures(str(tiny_encoder), precision="float32", cache=False, max_length=8).fit_transform(
        list(SENTENCES)
    )
    short = infer("features", SENTENCES, model=str(tiny_encoder), precision="float32", max_length="8")
    assert np.asarray([one["features"] for one in short]) == pytest.approx(ours, abs=1e-5)


def test_features_take_no_more_tokens_than_the_encoder_can_read(tiny_encoder):
    with pytest.raises(ConfigError, match="4 to 64 tokens"):
        infer("features", SENTENCES, model=str(tiny_encoder), max_length=65)
