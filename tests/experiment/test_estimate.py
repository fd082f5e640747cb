"""The estimate of the time left, on a clock of the test's own."""

from __future__ import annotations

import pytest

from headstart.experiment.estimate import Clock, first_rate
from headstart.experiment.progress import Progress, Silent


class Last(Silent):
    """Remembers the latest progress."""

    def update(self, progress: Progress) -> None:
        self.latest = progress


def test_the_rate_is_what_was_measured() -> None:
    seconds = [0.0]
    heard = Last()
    clock = Clock(heard, [100.0, 300.0], rate=1000.0, now=lambda: seconds[0])
    clock.begin("first", cost=1.0)
    assert heard.latest.seconds_left == pytest.approx(0.4)  # nothing measured yet: the expected rate
    seconds[0] = 5.0
    clock.trained(50)  # 10 a second
    assert heard.latest.share == pytest.approx(0.5)
    assert heard.latest.seconds_left == pytest.approx(35.0)
    seconds[0] = 10.0
    clock.trained(50)
    clock.end()
    clock.begin("second", cost=3.0)
    assert heard.latest.seconds_left == pytest.approx(30.0)
    assert heard.latest.share_all == pytest.approx(0.25)


def test_early_stopping_only_shortens_the_estimate() -> None:
    seconds = [0.0]
    heard = Last()
    clock = Clock(heard, [1000.0, 100.0], now=lambda: seconds[0])
    clock.begin("first", cost=1.0)
    assert heard.latest.seconds_left is None
    seconds[0] = 10.0
    clock.scored(100)
    assert heard.latest.seconds_left == pytest.approx(100.0)
    clock.end()
    clock.begin("second", cost=1.0)
    assert heard.latest.seconds_left == pytest.approx(10.0)


def test_first_rate_needs_a_measured_product_rate() -> None:
    assert first_rate(None, 10, 10.0) is None
    assert first_rate(100.0, 10_000_000, 50.0) == pytest.approx(0.4 * 100e9 / (2 * 10e6 * 50))
