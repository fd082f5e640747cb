"""Models in processes of their own."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import threading
import time
from functools import partial

import numpy as np
import psutil
import pytest
from stands import open_model, save, texts

from headstart.data.examples import Examples
from headstart.errors import ConfigError, DataError, ModelError
from headstart.models import folder as model_folder
from headstart.models.runtime import Runtime
from headstart.serving.workers import Workers, count_for, work

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
    with workers._one_of(workers._all):  # one process is busy for as long as this block
        assert there.predict_proba(["a film"]).shape == (1, 2)
    assert len(workers._free) == 2


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


def test_opening_waits_for_a_busy_process_without_asking_again_and_again(workers, model):
    opened = []
    with workers._one_of(workers._all[1:]):
        opening = threading.Thread(target=lambda: opened.append(workers.open(model)))
        opening.start()
        give_up = time.monotonic() + 60
        while not workers._asked and time.monotonic() < give_up:
            time.sleep(0.01)
        before = time.process_time()
        time.sleep(0.3)
        assert time.process_time() - before < 0.15
        assert workers._all[0] in workers._free  # and it labels in the meantime
    opening.join()
    assert opened[0].predict_proba(["a film"]).shape == (1, 2)
    assert len(workers._free) == 2


def test_a_model_that_only_some_can_open_is_kept_by_none(workers, model, monkeypatch):
    def too_large(*given):
        raise ModelError("no memory")

    before = next(workers._keys)
    monkeypatch.setattr(workers._all[1], "open", too_large)
    with pytest.raises(ModelError, match="no memory"):
        workers.open(model)
    gc.collect()
    assert all(before + 1 in worker.dropped for worker in workers._all)


def refuse(folder):
    """Open a model that finds fault with what it is asked."""
    raise DataError(["text 1: too odd", "text 2: too"]) if folder.name == "odd" else ConfigError("no such device")


def test_the_users_errors_stay_what_they_are(model, tmp_path):
    with contextlib.closing(Workers(1, threads=1, open_model=refuse)) as found:
        with pytest.raises(DataError) as wrong:
            found.label(0, tmp_path / "odd", Examples.of(["a film"]))
        assert wrong.value.faults == ("text 1: too odd", "text 2: too")
        with pytest.raises(ConfigError, match="no such device"):
            found.label(0, tmp_path / "other", Examples.of(["a film"]))


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="Windows has no groups to signal")
def test_signals_to_the_group_do_not_reach_a_process_that_works(model):
    with contextlib.closing(Workers(1, threads=1, open_model=open_in_float32)) as found:
        process = psutil.Process(found._all[0]._process.pid)
        process.send_signal(signal.SIGTERM)  # while it starts
        process.send_signal(signal.SIGINT)
        there = found.open(model)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        assert there.predict_proba(["a film"]).shape == (1, 2)
        assert process.is_running()
        assert found.memory_bytes() > 2**20
        assert found._all[0]._process.pid == process.pid


def test_a_system_without_niceness_serves_too(monkeypatch, model):
    ours, theirs = multiprocessing.Pipe()
    monkeypatch.delattr(os, "nice", raising=False)
    monkeypatch.setattr(signal, "signal", lambda *given: None)
    monkeypatch.setattr("torch.set_num_threads", lambda n: None)
    ours.send(((), 0, model, (("a film",), None, None)))
    working = threading.Thread(target=work, args=(theirs, 1, open_in_float32))
    working.start()
    assert ours.recv().shape == (1, 2)
    ours.close()
    working.join()
