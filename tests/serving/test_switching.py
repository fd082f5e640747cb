"""An alias that moves while requests come in."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import numpy as np
import pytest
from stands import open_model, save, texts

from headstart.errors import ConfigError, ModelError
from headstart.models.folder import Model
from headstart.serving.app import create_app
from headstart.serving.settings import ServingSettings
from headstart.serving.shelf import Shelf, Wanted, wanted
from headstart.serving.switching import Follower, opened


class Alias:
    """A registry that can be told what an alias points to."""

    def __init__(self, folders):
        self.folders = folders
        self.now = "1"

    def version(self):
        if self.now == "away":
            raise ModelError("the registry cannot be reached")
        return self.now

    def folder(self, version):
        return self.folders[version]


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_encoder):
    root = tmp_path_factory.mktemp("versions")
    made = {v: save(root / v, "tfidf", tiny_encoder, data_seed=int(v)) for v in ("1", "2")}
    (root / "3").mkdir()
    return made | {"3": root / "3"}


class Stand:
    """A followed alias on a shelf."""

    def __init__(self, folders, open_model=open_model):
        self.alias = Alias(folders)
        self.wanted = Wanted("films", self.alias, "champion")
        first = opened(self.wanted, open_model)
        self.shelf = Shelf([first])
        self.told: list[tuple[str, dict]] = []
        self.seconds = 0.0
        self.follower = Follower(
            self.wanted,
            first,
            self.shelf,
            open_model,
            tell=lambda event, **about: self.told.append((event, about)),
            poll_seconds=0.005,
            clock=lambda: self.seconds,
        )

    def look(self, now):
        self.alias.now = now
        return asyncio.run(self.follower.look())

    @property
    def version(self):
        return self.shelf.choose("films", "champion").version


def test_follows_and_drops_what_it_leaves(folders):
    stand = Stand(folders)
    old = weakref.ref(stand.shelf.choose(None, None).model)
    assert not stand.look("1")
    assert stand.look("2")
    assert stand.version == "2"
    assert stand.told == [
        ("switched", {"model": "films", "alias": "champion", "version": "2", "before": "1", "seconds": 0.0})
    ]
    gc.collect()
    assert old() is None
    assert stand.look("1")
    assert stand.version == "1"


def test_a_version_that_cannot_be_opened_leaves_the_last_one(folders):
    stand = Stand(folders)
    assert not stand.look("3")
    assert not stand.look("3")
    assert stand.version == "1"
    assert [event for event, _ in stand.told] == ["switch_failed"]
    assert "headstart.json" in stand.told[0][1]["reason"] or "config.json" in stand.told[0][1]["reason"]
    stand.seconds = 61.0
    assert not stand.look("3")
    assert len(stand.told) == 2
    assert stand.look("2")
    assert stand.version == "2"


def test_a_registry_that_is_away_is_told_once_a_minute(folders):
    stand = Stand(folders)
    for _ in range(3):
        assert not stand.look("away")
    assert len(stand.told) == 1
    assert stand.look("2")


def test_no_request_is_lost_and_each_is_answered_by_the_version_it_names(folders):
    from starlette.testclient import TestClient

    expected = {v: open_model(folders[v]).predict_proba(texts(4)) for v in ("1", "2")}
    assert not np.allclose(expected["1"], expected["2"])
    stand = Stand(folders)
    app = create_app(stand.shelf, ServingSettings(), followers=[stand.follower])
    seen: list[str] = []
    done = threading.Event()

    def move():
        for turn in range(20):
            before = len(stand.told)
            stand.alias.now = ("2", "1")[turn % 2]
            while len(stand.told) == before and not done.is_set():
                done.wait(0.002)
        done.set()

    with TestClient(app, base_url="http://127.0.0.1") as http:
        mover = threading.Thread(target=move)
        mover.start()
        while not done.is_set():
            answer = http.post("/predict", json={"texts": texts(4)})
            assert answer.status_code == 200
            found = answer.json()
            got = [list(p["probabilities"].values()) for p in found["predictions"]]
            np.testing.assert_allclose(got, expected[found["version"]], atol=1e-5)
            seen.append(found["version"])
        mover.join()
    assert [event for event, _ in stand.told] == ["switched"] * 20
    assert set(seen) == {"1", "2"}


def test_a_request_keeps_the_model_it_came_with(folders):
    gate = threading.Event()
    begun = threading.Event()

    def open_slowly(folder) -> Model:
        model = open_model(folder)
        if folder == folders["1"]:
            ask = model.classifier.predict_proba

            def held(examples, advance=None):
                if "held" in examples.texts:
                    begun.set()
                    gate.wait(30)
                return ask(examples, advance)

            model.classifier.predict_proba = held  # type: ignore[method-assign]
        return model

    stand = Stand(folders, open_slowly)
    serving = create_app(stand.shelf, ServingSettings()).state.serving
    expected = open_model(folders["1"]).predict_proba(["held"])

    async def main():
        serving.batcher.start()
        served = stand.shelf.choose(None, None)
        held = asyncio.create_task(
            serving.batcher.predict_proba(served.model.classifier, served.model.examples(["held"]))
        )
        await asyncio.to_thread(begun.wait)
        stand.alias.now = "2"
        assert await stand.follower.look()
        assert stand.version == "2"
        gate.set()
        answer = await held
        await serving.batcher.stop()
        return answer

    np.testing.assert_allclose(asyncio.run(main()), expected)


def test_names_and_versions_of_what_is_given():
    found = wanted(["runs/reviews/best", "runs/reviews"], ["topics=a=b", "reviews=c"])
    assert [(w.name, w.place.version(), w.alias) for w in found] == [
        ("reviews", "1", None), ("reviews", "2", None), ("topics", "1", None), ("reviews", "3", None),
    ]  # fmt: skip
    found = wanted(["models:/films@champion", "models:/films/3", "models:/films/latest"], ["x=models:/films@next"])
    assert [(w.name, w.alias) for w in found] == [
        ("films", "champion"), ("films", None), ("films", "latest"), ("x", "next"),
    ]  # fmt: skip
    for wrong in ("topics", "=a", "a="):
        with pytest.raises(ConfigError, match="NAME=MODEL"):
            wanted([], [wrong])
    with pytest.raises(ConfigError, match="no model"):
        wanted([], [])
    with pytest.raises(ConfigError, match="names no registered model"):
        wanted(["models:/films"], [])


@pytest.mark.parametrize(
    "models, named, twice",
    [
        (["models:/films/1"], ["films=a"], "'films', version 1, is given 2 times"),
        (["models:/films/7", "models:/films/7"], [], "'films', version 7,"),
        (["models:/films@champion"], ["films=models:/rooms@champion"], "'films', version champion,"),
    ],
)
def test_what_no_request_could_reach_is_refused(models, named, twice):
    with pytest.raises(ConfigError, match=twice):
        wanted(models, named)
    assert wanted(["models:/films/2", "models:/films@champion"], ["films=a"])


def test_an_alias_of_the_registry_is_followed(folders, tmp_path):
    from headstart.registry.registering import register
    from headstart.registry.store import Registry

    uri = f"sqlite:///{tmp_path / 'registry.db'}"
    registry = Registry.open(uri)
    one, two = (register(registry, str(folders[v]), "films").number for v in ("1", "2"))
    registry.point("films", "champion", one)
    (entry,) = wanted(["models:/films@champion"], [], registry=uri)
    first = opened(entry, open_model)
    shelf = Shelf([first])
    told = []
    follower = Follower(
        entry, first, shelf, open_model, tell=lambda event, **about: told.append((event, about)), poll_seconds=1
    )
    assert not asyncio.run(follower.look())
    registry.point("films", "champion", two)
    assert asyncio.run(follower.look())
    assert [event for event, _ in told] == ["switched"]
    assert shelf.choose("films", "champion").version == str(two)
    expected = open_model(folders["2"]).predict_proba(texts(4))
    np.testing.assert_allclose(shelf.choose(None, None).model.predict_proba(texts(4)), expected)


def test_an_alias_that_cannot_be_looked_up_is_told_once_each_time_it_goes_away(folders):
    stand = Stand(folders)
    for _ in range(3):
        assert not stand.look("away")
        stand.seconds += 1000
    assert [event for event, _ in stand.told] == ["switch_failed"]
    assert stand.version == "1"
    assert not stand.look("1")
    assert not stand.look("away")
    assert [event for event, _ in stand.told] == ["switch_failed"] * 2
    assert stand.look("2")
    assert stand.version == "2"
