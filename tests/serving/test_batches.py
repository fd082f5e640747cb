"""Texts of many requests, computed together."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stands import Slow

from headstart.data.examples import Examples
from headstart.serving.batches import Batcher, QueueFullError


def batcher(**changes) -> Batcher:
    return Batcher(**{"max_waiting": 1000, "max_batch": 8, "gather_seconds": 0.002, **changes})


async def ask(found: Batcher, classifier: Slow, texts: list[str]):
    return await found.predict_proba(classifier, Examples.of(texts))


def alone(texts: list[str]):
    return Slow().predict_proba(Examples.of(texts))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.text("ab", max_size=9), max_size=20), max_size=12),
    st.integers(1, 9),
    st.integers(1, 3),
)
def test_everyone_gets_their_own_answer(requests, max_batch, workers):
    classifier = Slow()

    async def main():
        found = batcher(max_batch=max_batch, gather_seconds=0, workers=workers)
        found.start()
        answers = await asyncio.gather(*(ask(found, classifier, texts) for texts in requests))
        assert found.waiting == 0
        await found.stop()
        return answers

    for texts, answer in zip(requests, asyncio.run(main()), strict=True):
        np.testing.assert_array_equal(answer, alone(texts) if texts else np.zeros((0, 2)))
    assert all(0 < len(batch) <= max_batch for batch in classifier.batches)
    assert sorted(t for b in classifier.batches for t in b) == sorted(t for r in requests for t in r)


def test_parts_that_end_out_of_order_are_put_together_in_order():
    first_may_end = threading.Event()

    class FirstLast(Slow):
        def score(self, prepared, advance=None):
            if "0" in prepared.examples.texts:
                first_may_end.wait(5)
            return super().score(prepared, advance)

    async def main():
        found = batcher(workers=2, gather_seconds=0)
        found.start()
        texts = ["x" * i for i in range(1, 16)]
        answer = asyncio.create_task(ask(found, FirstLast(), ["0", *texts]))
        await asyncio.sleep(0.05)  # everything but the first part has been computed
        first_may_end.set()
        np.testing.assert_array_equal(await answer, alone(["0", *texts]))
        await found.stop()

    asyncio.run(main())


def test_requests_share_a_batch():
    classifier = Slow()

    async def main():
        found = batcher()
        found.start()
        await asyncio.gather(*(ask(found, classifier, [f"text {i}"]) for i in range(8)))
        await found.stop()

    asyncio.run(main())
    assert len(classifier.batches) == 1


def test_idle_workers_leave_each_other_their_share():
    classifier = Slow()

    async def main():
        found = batcher(workers=2)
        found.start()
        await asyncio.gather(*(ask(found, classifier, [f"text {i}"]) for i in range(8)))
        await found.stop()

    asyncio.run(main())
    assert [len(batch) for batch in classifier.batches] == [4, 4]


def test_a_worker_that_is_free_waits_for_those_who_are_just_sending():
    """Whoever was answered last asks again one by one: computed at once, each would be a round of its own."""
    classifier = Slow()

    async def main():
        found = batcher(max_batch=64, gather_seconds=0.2)
        found.start()
        await asyncio.gather(*(ask(found, classifier, ["together"]) for _ in range(2)))
        await asyncio.sleep(0.1)  # as long as answers and questions take to travel: the worker is free again
        asked = []
        for i in range(10):
            asked.append(asyncio.create_task(ask(found, classifier, [f"text {i}"])))
            await asyncio.sleep(0.005)
        await asyncio.gather(*asked)
        await found.stop()

    asyncio.run(main())
    assert [len(batch) for batch in classifier.batches] == [2, 10]


def test_who_keeps_coming_does_not_hold_up_the_first():
    classifier = Slow()

    async def main():
        found = batcher(max_batch=10_000, max_waiting=10_000, gather_seconds=0.01)
        found.start()
        await asyncio.gather(*(ask(found, classifier, ["together"]) for _ in range(2)))
        asked = [asyncio.create_task(ask(found, classifier, ["first"]))]
        give_up = time.monotonic() + 30
        while not asked[0].done() and time.monotonic() < give_up:
            asked.append(asyncio.create_task(ask(found, classifier, ["next"])))
            await asyncio.sleep(0.002)
        assert asked[0].done()
        await asyncio.gather(*asked)
        await found.stop()

    asyncio.run(main())


def test_a_long_list_does_not_hold_up_a_single_text():
    classifier = Slow()

    async def main():
        found = batcher()
        found.start()
        long = asyncio.create_task(ask(found, classifier, ["long"] * 200))
        await asyncio.sleep(0)
        await ask(found, classifier, ["short"])
        assert not long.done()
        assert len(await long) == 200
        await found.stop()

    asyncio.run(main())
    assert "short" in classifier.batches[0] + classifier.batches[1]


def test_each_classifier_has_its_turn_and_its_own_batches():
    one, two = Slow(), Slow()

    async def main():
        found = batcher()
        found.start()
        await asyncio.gather(ask(found, one, ["1"] * 100), ask(found, two, ["2"] * 8))
        assert len(one.batches) >= 2
        await found.stop()

    asyncio.run(main())
    assert {t for b in one.batches for t in b} == {"1"}
    assert two.batches == [["2"] * 8]


def test_a_text_that_breaks_the_model_spoils_no_other():
    classifier = Slow()

    async def main():
        found = batcher()
        found.start()
        asked = (ask(found, classifier, [t]) for t in ("fine", "broken", "well"))
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert found.waiting == 0
        await found.stop()
        return answers

    fine, broken, well = asyncio.run(main())
    assert isinstance(broken, RuntimeError)
    np.testing.assert_array_equal(fine, alone(["fine"]))
    np.testing.assert_array_equal(well, alone(["well"]))


def test_a_full_queue_refuses_and_recovers():
    gate = threading.Event()
    classifier = Slow(gate.wait)

    async def main():
        found = batcher(max_waiting=10)
        found.start()
        held = asyncio.create_task(ask(found, classifier, ["held"] * 9))
        await asyncio.sleep(0.01)
        with pytest.raises(QueueFullError) as refused:
            await ask(found, classifier, ["two", "more"])
        assert refused.value.retry_seconds >= 1
        one = asyncio.create_task(ask(found, classifier, ["one more"]))
        await asyncio.sleep(0)
        gate.set()
        assert len(await held) == 9
        assert len(await one) == 1
        assert len(await ask(found, classifier, ["again"] * 10)) == 10
        await found.stop()

    asyncio.run(main())


def test_who_has_gone_is_not_computed():
    gate = threading.Event()
    classifier = Slow(gate.wait)

    async def main():
        found = batcher()
        found.start()
        held = asyncio.create_task(ask(found, classifier, ["held"] * 8))
        await asyncio.sleep(0.02)
        gone = asyncio.create_task(ask(found, classifier, ["gone"]))
        await asyncio.sleep(0.01)
        gone.cancel()
        gate.set()
        await held
        await asyncio.sleep(0.01)
        assert found.waiting == 0
        await found.stop()

    asyncio.run(main())
    assert classifier.batches == [["held"] * 8]


def test_stopping_finishes_what_waits():
    classifier = Slow()

    async def main():
        found = batcher()
        found.start()
        asked = asyncio.create_task(ask(found, classifier, ["text"] * 100))
        await asyncio.sleep(0)
        await found.stop()
        assert not found.running
        return await asked

    assert len(asyncio.run(main())) == 100
