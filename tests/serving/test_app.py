"""Every answer of the HTTP interface."""

from __future__ import annotations

import json
import logging

import numpy as np
import pandas as pd
import pytest
from stands import JSON, Slow, client, open_model, save, served, slow_model, texts

from headstart.data.examples import Examples

KINDS = ("full", "linear-probe", "boosted", "tfidf", "scratch-gru", "majority")


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_encoder):
    """Return a model folder per kind of winner."""
    root = tmp_path_factory.mktemp("winners")
    return {name: save(root / name, name, tiny_encoder) for name in KINDS}


@pytest.fixture
def films(folders):
    with client(served(folders["tfidf"])) as found:
        yield found


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_predict(folders, kind):
    many = [*texts(40), "", "unheard words only", " ".join(texts(30))]
    expected = open_model(folders[kind])
    proba = expected.predict_proba(many)
    with client(served(folders[kind])) as http:
        answer = http.post("/predict", json={"texts": many})
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert (found["model"], found["version"]) == ("films", "1")
        got = np.asarray([[p["probabilities"][n] for n in expected.labels.names] for p in found["predictions"]])
        np.testing.assert_allclose(got, proba, atol=1e-5)
        assert [p["label"] for p in found["predictions"]] == expected.predict(many)
        assert [p["probability"] for p in found["predictions"]] == pytest.approx(got.max(axis=1))


def test_one_text_is_a_list_of_one(films):
    one = films.post("/predict", json={"texts": "good film"}).json()
    assert one == films.post("/predict", json={"texts": ["good film"]}).json()
    assert films.post("/predict", json={"texts": []}).json()["predictions"] == []


def test_labels_keep_their_type(tmp_path, tiny_encoder):
    with client(served(save(tmp_path / "stars", "tfidf", tiny_encoder, values=(0, 1)))) as http:
        found = http.post("/predict", json={"texts": texts(6)}).json()["predictions"]
        assert {type(p["label"]) for p in found} == {int}
        assert set(found[0]["probabilities"]) == {"0", "1"}
        assert http.get("/models").json()["models"][0]["labels"] == [0, 1]


def test_pairs_come_as_objects(tmp_path, tiny_encoder):
    folder = save(tmp_path / "pairs", "full", tiny_encoder, pairs=True)
    rows = [{"title": t, "body": " ".join(reversed(t.split())), "more": 1} for t in texts(5)]
    expected = open_model(folder).predict_proba(pd.DataFrame(rows))
    with client(served(folder)) as http:
        found = http.post("/predict", json={"texts": rows}).json()["predictions"]
        got = [list(p["probabilities"].values()) for p in found]
        np.testing.assert_allclose(got, expected, atol=1e-5)
        for wrong in (["only one text"], [{"title": "a"}]):
            answer = http.post("/predict", json={"texts": wrong})
            assert answer.status_code == 422
            assert "title, body" in answer.json()["error"]


def test_feature_columns_are_read_as_from_a_file(tmp_path, tiny_encoder):
    from conftest import fit_strategy, separable_texts, tiny_task
    from headstart.models import folder as model_folder

    words, y = separable_texts(72)
    stars = pd.DataFrame({"stars": [c + 1.5 for c in y], "city": [("Rome", "Oslo")[c] for c in y]})
    task = tiny_task(encoder=tiny_encoder)
    examples = Examples.of(words, y, columns=stars)
    task = tiny_task(encoder=tiny_encoder, train=examples.take(range(48)), validation=examples.take(range(48, 72)))
    fitted = fit_strategy("boosted", task)
    card = {"strategy": "boosted", "text_columns": ["text"]}
    model_folder.save(fitted.classifier, tmp_path / "m", text=task.text, check=task.validation, card=card)
    frame = pd.DataFrame({"text": words[:20], **stars[:20]})
    expected = open_model(tmp_path / "m").predict_proba(frame)
    with client(served(tmp_path / "m")) as http:
        assert http.get("/models").json()["models"][0]["feature_columns"] == ["stars", "city"]
        found = http.post("/predict", json={"texts": frame.to_dict("records")}).json()["predictions"]
        np.testing.assert_allclose([list(p["probabilities"].values()) for p in found], expected, atol=1e-5)
        for odd in (float("nan"), float("inf"), None, "many", 2**62, True):
            body = json.dumps({"texts": [{"text": "good", "stars": odd, "city": odd}]})
            answer = http.post("/predict", content=body, headers=JSON)
            assert answer.status_code == 200, (odd, answer.text)
        assert http.post("/predict", json={"texts": [{"text": "a", "stars": 2**70, "city": ""}]}).status_code == 422
        assert "stars, city missing" in http.post("/predict", json={"texts": [{"text": "a"}]}).json()["error"]


def test_models_are_chosen_by_name_and_version(folders):
    shelf = [
        served(folders["tfidf"], "films", "1"),
        served(folders["majority"], "films", "2", alias="champion"),
        served(folders["full"], "rooms", "1"),
    ]
    with client(*shelf) as http:

        def ask(**body):
            answer = http.post("/predict", json={"texts": "good", **body})
            return answer.status_code, answer.json()

        assert ask(model="films")[1]["version"] == "1"
        assert ask(model="films", version="2")[1]["version"] == "2"
        assert ask(model="films", version="champion")[1]["version"] == "2"
        assert ask(model="rooms")[1]["model"] == "rooms"
        code, found = ask()
        assert code == 404
        assert "films, rooms" in found["error"]
        code, found = ask(model="film")
        assert code == 404
        assert "Did you mean 'films'?" in found["error"]
        code, found = ask(model="films", version="3")
        assert code == 404
        assert "1, 2, champion" in found["error"]
        assert [(m["name"], m["version"]) for m in http.get("/models").json()["models"]] == [
            ("films", "1"), ("films", "2"), ("rooms", "1"),
        ]  # fmt: skip


@pytest.mark.parametrize(
    "body, status",
    [
        (b"", 422),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b'{"texts":' + b'[{"a":' * 50_000, 400),
        (b'{"texts": ' + b"9" * 5000 + b"}", 400),
        (b"null", 422),
        (b"[]", 422),
        (b'"text"', 422),
        (b"{}", 422),
        (b'{"texts": null}', 422),
        (b'{"texts": NaN}', 422),
        (b'{"texts": [NaN]}', 422),
        (b'{"texts": [1]}', 422),
        (b'{"texts": [["a"]]}', 422),
        (b'{"texts": [{"text": {}}]}', 422),
        (b'{"texts": "a", "text": "b"}', 422),
        (b'{"texts": "a", "model": 1}', 422),
        (b'{"texts": "a", "model": "\\ud800"}', 404),
        (b'{"texts": "a", "\\ud800": 1}', 422),
        (b'{"texts": "a", "model": "films\\u0000"}', 404),
        (b'{"texts": [{"body": "a"}]}', 422),
        (b'{"texts": "\\ud800 lone"}', 200),
        (b'{"texts": "nul \\u0000 nul"}', 200),
        (b'{"texts": [{"text": NaN}, {"text": null}, {"text": 3}, {"text": true}]}', 200),
        ('{"texts": "\U0010ffff\u202e\u0301é🏳️‍🌈"}'.encode(), 200),
        (b'{"texts": "' + b"e\\u0301" * 10_000 + b'"}', 200),
        (b'{"texts": "' + b"x" * 100_000 + b'"}', 200),
        (b'{"texts": "' + b"x" * 100_001 + b'"}', 422),
        (json.dumps({"texts": ["a"] * 1000}).encode(), 200),
        (json.dumps({"texts": ["a"] * 1001}).encode(), 422),
        (b'{"texts": "' + b" " * 5_000_000 + b'"}', 413),
    ],
)  # fmt: skip
def test_odd_bodies(folders, body, status):
    for kind in ("tfidf", "full"):
        with client(served(folders[kind])) as http:
            answer = http.post("/predict", content=body, headers=JSON)
            assert answer.status_code == status, answer.text[:500]
            if status >= 400:
                problem = answer.json()
                assert problem["error"] == "\n".join(problem["faults"])
                assert len(answer.content) < 2000


def test_other_content_types_are_refused(films):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "nonsense"):
        assert films.post("/predict", content=b'{"texts": "a"}', headers={"content-type": kind}).status_code == 422
    assert films.post("/predict", content=b'{"texts": "a"}').status_code == 422


def test_unknown_pages_and_methods(films):
    for path in ("/nothing", "/static/other", "/static/..%2f..%2fapp.py", "/docs", "/%ff"):
        answer = films.get(path)
        assert answer.status_code == 404
        assert answer.json()["error"]
    answer = films.get("/predict")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_chunked_bodies_are_cut_off_at_the_limit(folders):
    read = 0

    def chunks():
        nonlocal read
        for _ in range(1000):
            read += 1
            yield b" " * 1000

    with client(served(folders["tfidf"]), max_body_bytes=10_000) as http:
        answer = http.post("/predict", content=chunks(), headers=JSON)
        assert answer.status_code == 413
        assert answer.headers["connection"] == "close"


def test_token(folders):
    with client(served(folders["tfidf"]), token="s3cret") as http:
        for path in ("/", "/health", "/ready", "/static/page.js"):
            assert http.get(path).status_code == 200
        for path in ("/models", "/metrics", "/openapi.json", "/nothing"):
            assert http.get(path).status_code == 401
        for wrong in ("Bearer wrong", "s3cret", "Bearer s3cret ", "bearer", "Basic s3cret", "Bearer s3cre\u00e9"):
            answer = http.post("/predict", json={"texts": "a"}, headers={"authorization": wrong.encode("latin-1")})
            assert answer.status_code == (200 if wrong.strip() == "Bearer s3cret" else 401), wrong
            assert answer.headers.get("www-authenticate", "Bearer") == "Bearer"
        right = {"authorization": "Bearer s3cret", "host": "anywhere.example"}
        assert http.post("/predict", json={"texts": "a"}, headers=right).status_code == 200
        schema = http.get("/openapi.json", headers=right).json()
        assert schema["paths"]["/predict"]["post"]["security"] == [{"HTTPBearer": []}]


def test_without_a_token_only_own_names_are_answered(films):
    for host in ("localhost", "127.0.0.1", "localhost:9", "[::1]:8000", "[::1]", "127.0.0.2"):
        assert films.get("/health", headers={"host": host}).status_code == 200, host
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "localhost.evil:80"):
        assert films.get("/health", headers={"host": host}).status_code == 400, host


def test_a_bug_is_a_plain_500_and_its_log_holds_no_text(caplog):
    with client(slow_model(Slow())) as http, caplog.at_level(logging.INFO, "headstart.serving"):
        answer = http.post("/predict", json={"texts": "broken and private"})
        assert answer.status_code == 500
        assert "private" not in answer.text
        assert "broken" not in answer.text
        assert http.post("/predict", json={"texts": "well"}).status_code == 200
    from headstart.serving.observing import JsonLines

    lines = [JsonLines().format(r) for r in caplog.records if r.name == "headstart.serving"]
    assert not [line for line in lines if "broken" in line or "private" in line]
    assert [json.loads(line)["error"] for line in lines if '"bug"' in line] == ["RuntimeError"]


def test_log_holds_texts_only_when_asked(folders, caplog):
    for asked in (False, True):
        caplog.clear()
        with client(served(folders["tfidf"]), log_texts=asked) as http, caplog.at_level(logging.INFO):
            http.post("/predict", json={"texts": "a private matter"})
            http.post("/predict", json={"texts": "a private matter", "model": "other"})
            http.post("/predict", json={"texts": ["a private matter", 1]})
        lines = [str(vars(record)) for record in caplog.records if record.name == "headstart.serving"]
        assert len(lines) == 3
        assert [("a private matter" in line) for line in lines] == [asked, False, False]


def test_metrics_count(films):
    films.post("/predict", json={"texts": texts(5)})
    films.get("/nothing/at/all")
    page = films.get("/metrics").text
    assert 'headstart_texts_total{model="films",version="1"} 5.0' in page
    assert 'headstart_requests_total{method="POST",path="/predict",status="200"} 1.0' in page
    assert 'headstart_requests_total{method="GET",path="other",status="404"} 1.0' in page
    assert "headstart_waiting_texts 0.0" in page
    assert 'headstart_requests_running{path="/predict"} 0.0' in page
    assert 'headstart_requests_running{path="/metrics"} 1.0' in page
    assert "headstart_workers_resident_memory_bytes 0.0" in page


def test_page_runs_nothing_from_elsewhere(films):
    answer = films.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
