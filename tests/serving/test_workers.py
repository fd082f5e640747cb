"""Models in processes of their own."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from functools import partial

import numpy as np
import psutil
import pytest
from stands import open_model, save, texts

from headstart.data.examples import Examples
from headstart.errors import ModelError
from headstart.models import folder as model_folder
from headstart.models.runtime import Runtime
from headstart.serving.workers import Workers, count_for

open_in_float32 = partial(model_folder.load, runtime=Runtime())


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny_encoder):
    return save(tmp_path_factory.mktemp("worked") / "films", "full", tiny_encoder)


@pytest.fixture(scope="module")
def workers():
    with contextlib.closing(Workers(2, threads=1, open_model=open_in_float32)) as found:
        yield found


def test_count_follows_cores_and_memory():
    gigabyte = 2**30
    assert count_for(1, gigabyte, 100 * gigabyte) == 1
    assert count_for(2, gigabyte, 100 * gigabyte) == 2
    assert count_for(64, gigabyte, 100 * gigabyte) == 4
    assert count_for(64, 10 * gigabyte, 50 * gigabyte) == 2
    assert count_for(64, 10 * gigabyte, 10 * gigabyte) == 1
    assert count_for(2, 0, gigabyte) == 2


def test_answers_are_those_of_this_process(workers, model):
    here, there = open_model(model), workers.open(model)
    many = texts(40)
    np.testing.assert_allclose(there.predict_proba(many), here.predict_proba(many), atol=1e-6)
    assert there.predict(many) == here.predict(many)
    assert (there.labels, there.card) == (here.labels, here.card)
    assert there.classifier.parameters() == here.classifier.parameters()
    with pytest.raises(ModelError, match="only served"):
        there.classifier.write(model)


def test_two_texts_are_labeled_at_the_same_time(workers, model):
    there = workers.open(model)
    with workers._any():  # one process is busy for as long as this block
        assert there.predict_proba(["a film"]).shape == (1, 2)
    assert workers._free.qsize() == 2


def test_a_process_that_dies_is_started_again_and_nothing_is_lost(workers, model):
    there = workers.open(model)
    expected = open_model(model).predict_proba(texts(8))
    ended = [worker._process.pid for worker in workers._all]
    for pid in ended:
        psutil.Process(pid).kill()
    for _ in ended:
        np.testing.assert_allclose(there.predict_proba(texts(8)), expected, atol=1e-6)
    assert not {worker._process.pid for worker in workers._all} & set(ended)


def test_what_goes_wrong_there_is_told_here_and_the_process_goes_on(workers, model, tmp_path):
    there = workers.open(model)
    with pytest.raises(ModelError, match="not-there"):
        workers.open(tmp_path / "not-there")
    before = [worker._process.pid for worker in workers._all]
    with pytest.raises(ModelError, match="not-there"):
        workers.label(999, tmp_path / "not-there", Examples.of(["a film"]))
    assert there.predict_proba(["a film"]).shape == (1, 2)
    assert [worker._process.pid for worker in workers._all] == before


def test_a_model_that_nobody_has_any_more_is_dropped_there_too(workers, model):
    there = workers.open(model)
    key = there.classifier.key
    del there
    gc.collect()
    assert all(key in worker.dropped for worker in workers._all)
    again = workers.open(model)
    assert again.classifier.key != key
    assert not any(key in worker.dropped for worker in workers._all)


def test_processes_end_when_they_are_told(model):
    workers = Workers(2, threads=1, open_model=open_in_float32)
    there = workers.open(model)
    asking = threading.Thread(target=there.predict_proba, args=(texts(8),))
    asking.start()
    asking.join()
    pids = [worker._process.pid for worker in workers._all]
    workers.close()
    give_up = time.monotonic() + 10
    while any(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < give_up:
        time.sleep(0.05)
    assert not any(psutil.pid_exists(pid) for pid in pids)
