"""The OpenAPI description, and requests made up from it."""

from __future__ import annotations

import json

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode, checks
from stands import JSON, Site, client, save, served

from headstart.serving import bodies

# Which columns a row needs depends on the model, which one description of all models cannot say.
_WHAT_A_MODEL_READS = checks.positive_data_acceptance
_FEW = settings(
    max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)


@pytest.fixture(scope="module")
def http(tmp_path_factory, tiny_encoder):
    with client(served(save(tmp_path_factory.mktemp("m") / "m", "tfidf", tiny_encoder)), max_texts=50) as found:
        yield found


@pytest.fixture(scope="module")
def described(tmp_path_factory, tiny_encoder):
    with Site(served(save(tmp_path_factory.mktemp("d") / "d", "tfidf", tiny_encoder))) as url:
        yield schemathesis.openapi.from_url(f"{url}openapi.json")


@pytest.mark.parametrize(
    "method, path, mode",
    [
        ("POST", "/predict", GenerationMode.POSITIVE),
        ("POST", "/predict", GenerationMode.NEGATIVE),
        *(("GET", path, GenerationMode.POSITIVE) for path in ("/models", "/metrics", "/health", "/ready")),
    ],
)
def test_made_up_requests_are_answered_as_described(described, method, path, mode):
    operation = described[path][method]

    @_FEW
    @given(operation.as_strategy(generation_mode=mode))
    def all_are(case):
        case.call_and_validate(excluded_checks=[_WHAT_A_MODEL_READS])

    all_are()


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_KEYS = st.sampled_from(["texts", "model", "version"]) | st.text(max_size=8)
_LONE = st.text(st.characters(codec=None), max_size=10)  # surrogates included


@settings(max_examples=150, deadline=None)
@given(
    _VALUES | st.dictionaries(_KEYS, _VALUES | _LONE | st.lists(_LONE), max_size=4),
    st.booleans(),
)
def test_any_json_is_answered(http, value, ascii_only):
    body = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    answer = http.post("/predict", content=body, headers=JSON)
    assert answer.status_code in (200, 400, 404, 422), answer.text
    if answer.status_code == 200:
        found = bodies.PredictResponse.model_validate(answer.json())
        assert len(found.predictions) == (1 if isinstance(value["texts"], str) else len(value["texts"]))
    else:
        bodies.Problem.model_validate(answer.json())


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["application/json", "application/x+json", "text/plain", "*", ""]))
def test_any_bytes_are_answered(http, body, kind):
    assert http.post("/predict", content=body, headers={"content-type": kind}).status_code in (200, 400, 404, 422)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_broken_json_is_answered(http, data):
    whole = json.dumps({"texts": [{"text": "good"}, "bad", "\u00e9\U0001f600"], "model": "films"}).encode()
    start = data.draw(st.integers(0, len(whole)))
    broken = whole[:start] + data.draw(st.binary(max_size=4)) + whole[start + data.draw(st.integers(0, 8)) :]
    assert http.post("/predict", content=broken, headers=JSON).status_code in (200, 400, 404, 422)


def test_description_has_examples_that_work(http):
    described = http.get("/openapi.json").json()
    examples = described["components"]["schemas"]["PredictRequest"]["examples"]
    assert http.post("/predict", json=examples[0]).status_code == 200
    assert set(described["paths"]) == {"/predict", "/models", "/metrics", "/health", "/ready"}
    answers = described["paths"]["/predict"]["post"]["responses"]
    assert set(answers) == {"200", "400", "401", "404", "408", "413", "422", "503"}
    assert "Retry-After" in answers["503"]["headers"]


def test_every_answer_has_an_example_that_fits(http):
    described = http.get("/openapi.json").json()
    for path, operations in described["paths"].items():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                (content,) = answer["content"].values()
                if "example" in content:
                    continue
                name = content["schema"]["$ref"].rpartition("/")[2]
                examples = described["components"]["schemas"][name]["examples"]
                assert examples, (path, status)
                for example in examples:
                    getattr(bodies, name).model_validate(example)
