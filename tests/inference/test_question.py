"""``question``: spans beside a search through every pair of tokens, long contexts, no answer."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import LONG, SENTENCES, save_model
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from headstart import infer
from headstart.errors import DataError
from headstart.inference.question import QuestionOptions, Window, best_span

CONTEXT = "the first day was good, and the second day in the cold hotel was dull"
QUESTION = "was the hotel good"


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return save_model("BertForQuestionAnswering", tmp_path_factory.mktemp("models") / "squad")


def searched(folder, question, context, most_tokens):
    """Return (answer, probability) by trying every span of an unbroken context, one after the other."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForQuestionAnswering.from_pretrained(folder)
    encoded = tokenizer(question, context, return_tensors="pt")
    offsets = tokenizer(question, context, return_offsets_mapping=True)["offset_mapping"]
    with torch.inference_mode():
        out = model(**encoded)
    inside = [i for i, part in enumerate(encoded.sequence_ids(0)) if part == 1]
    sums = {
        (i, j): float(out.start_logits[0, i] + out.end_logits[0, j])
        for i, j in itertools.product(inside, inside)
        if i <= j < i + most_tokens
    }
    i, j = max(sums, key=sums.get)
    return context[offsets[i][0] : offsets[j][1]], math.exp(sums[i, j]) / sum(map(math.exp, sums.values()))


@pytest.mark.parametrize("most_tokens", [1, 3, 30])
def test_the_best_span_is_that_of_a_full_search(reader, most_tokens):
    questions = [QUESTION, *SENTENCES[:3]]
    found = infer(
        "question", questions, model=str(reader), context=CONTEXT, precision="float32", max_answer_tokens=most_tokens
    )
    for one, question in zip(found, questions, strict=True):
        answer, score = searched(reader, question, CONTEXT, most_tokens)
        assert (one["text"], one["answer"]) == (question, answer)
        assert one["score"] == pytest.approx(score, rel=1e-4)
        assert CONTEXT[one["start"] : one["end"]] == one["answer"]


def test_each_question_may_have_a_context_of_its_own(reader):
    both = infer("question", [QUESTION, QUESTION], model=str(reader), context=[CONTEXT, "a lovely room"])
    assert both[1]["answer"] in "a lovely room"
    assert both[0] == infer("question", QUESTION, model=str(reader), context=CONTEXT)[0]
    with pytest.raises(DataError, match=r"1 text and 2 contexts"):
        infer("question", QUESTION, model=str(reader), context=[CONTEXT, CONTEXT])
    with pytest.raises(DataError, match="question 2 has no context"):
        infer("question", [QUESTION, QUESTION], model=str(reader), context=[CONTEXT, " "])
    with pytest.raises(DataError, match="question 1 has no context"):
        infer("question", QUESTION, model=str(reader))


def test_a_long_context_is_read_to_its_end_in_windows(reader):
    """The answer is the best of all windows, each of which is a context of its own."""
    (found,) = infer("question", QUESTION, model=str(reader), context=LONG, precision="float32", overlap=20)
    tokenizer = AutoTokenizer.from_pretrained(reader)
    model = AutoModelForQuestionAnswering.from_pretrained(reader)
    encoded = tokenizer(
        QUESTION, LONG, truncation="only_second", max_length=64, stride=20, return_overflowing_tokens=True,
        return_offsets_mapping=True, padding=True, return_tensors="pt",
    )  # fmt: skip
    windows, offsets = len(encoded["input_ids"]), encoded.pop("offset_mapping")
    encoded.pop("overflow_to_sample_mapping")
    with torch.inference_mode():
        out = model(**encoded)
    best = max(
        (float(out.start_logits[w, i] + out.end_logits[w, j]), int(offsets[w, i, 0]), int(offsets[w, j, 1]))
        for w in range(windows)
        for i, j in itertools.combinations_with_replacement(range(64), 2)
        if encoded.sequence_ids(w)[i] == encoded.sequence_ids(w)[j] == 1 and j < i + 30
    )
    assert windows > 3
    assert (found["start"], found["end"]) == best[1:]
    assert offsets[-1].max() == len(LONG)


def test_a_question_without_room_for_a_context_is_refused(reader):
    with pytest.raises(DataError, match=r"question 1 has .* tokens; the model reads 64"):
        infer("question", LONG, model=str(reader), context=CONTEXT)


def test_a_model_that_pads_left_reads_the_context_first(tmp_path):
    folder = save_model("XLNetForQuestionAnsweringSimple", tmp_path)
    (found,) = infer("question", QUESTION, model=str(folder), context=CONTEXT)
    assert CONTEXT[found["start"] : found["end"]] == found["answer"] != ""


def window(n, question_tokens=2):
    """Return a window of n context tokens of two characters each, behind a few of the question."""
    spans = [None] * question_tokens + [(2 * i, 2 * i + 2) for i in range(n)]
    return Window(0, {}, spans, 0)


@given(st.data())
def test_probabilities_of_spans_and_of_none_are_of_one_whole(data):
    """A softmax written out over every span of every window, with and without the chance of no answer."""
    finite = st.floats(-8, 8)
    windows = []
    for n in data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)):
        start, end = (np.asarray(data.draw(st.lists(finite, min_size=n + 2, max_size=n + 2))) for _ in range(2))
        windows.append((window(n), start, end))
    most = data.draw(st.integers(1, 5))
    sums = [
        start[2 + i] + end[2 + j]
        for w, start, end in windows
        for i in range(len(w.spans) - 2)
        for j in range(i, min(i + most, len(w.spans) - 2))
    ]
    none = min(start[0] + end[0] for _, start, end in windows)
    found = best_span(windows, "x" * 40, QuestionOptions(max_answer_tokens=most))
    assert found["score"] == pytest.approx(np.exp(max(sums)) / np.exp(sums).sum(), rel=1e-5)
    assert 0 < found["end"] - found["start"] <= 2 * most
    found = best_span(windows, "x" * 40, QuestionOptions(max_answer_tokens=most, may_be_none=True))
    whole = np.exp(sums).sum() + np.exp(none)
    assert found["score_none"] == pytest.approx(np.exp(none) / whole, rel=1e-5)
    assert found["score"] == pytest.approx(np.exp(max(*sums, none)) / whole, rel=1e-5)
    assert (found["answer"] == "") is bool(none > max(sums))


def test_none_is_an_answer_only_where_it_may_be(reader):
    (found,) = infer("question", QUESTION, model=str(reader), context=CONTEXT, may_be_none=True)
    assert 0 <= found["score_none"] <= 1
    assert "score_none" not in infer("question", QUESTION, model=str(reader), context=CONTEXT)[0]
