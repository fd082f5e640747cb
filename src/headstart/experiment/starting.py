"""Where the fits of a comparison start from: the encoder, adapted or not, and the source classifier."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.errors import HeadstartError, StorageError
from headstart.experiment.adapting import ADAPT_COST, AdaptStage
from headstart.experiment.estimate import Clock
from headstart.experiment.progress import Reporter
from headstart.experiment.setup import Setup
from headstart.experiment.source import match_labels, source_settings, train_source
from headstart.models.cache import in_use
from headstart.models.encoders import Encoder
from headstart.models.runtime import Runtime
from headstart.strategies import table
from headstart.strategies.table import Plan
from headstart.strategies.task import SourceModel


@dataclass
class Start:
    """Where fits start from.

    Attributes:
        encoder: the pretrained encoder, or the GRU trained on the source; None without one.
        source: the source classifier, or None.
        validation: its validation scores, where it was trained here.
        adapted: the encoder adapted to texts without labels, where a strategy asks for it.
        adapted_source: the source classifier trained on that one.
        adaptation: what the record says of the adaptation.
        not_adapted: why there is no adapted encoder, though one was asked for.
    """

    encoder: Encoder | None
    source: SourceModel | None
    validation: dict[str, Any] | None = None
    adapted: Encoder | None = None
    adapted_source: SourceModel | None = None
    adaptation: dict[str, Any] | None = None
    not_adapted: str = ""


class Starter:
    """Makes what the plans of a comparison start from, each once.

    Args:
        setup: everything known before the first fit.
        runtime: device and precision.
        plans: what is to be fitted.
        cut: mean numbers of tokens, or None.
        cache: where trained source classifiers and adapted encoders lie.

    Attributes:
        uses: keeps them there until it is closed.
    """

    def __init__(
        self, setup: Setup, runtime: Runtime, plans: Sequence[Plan], cut: dict[str, Any] | None, cache: Path
    ) -> None:
        self.setup, self.config, self.runtime, self.plans = setup, setup.config, runtime, plans
        self.cut, self.cache = cut, cache
        self.uses = contextlib.ExitStack()
        self.adapting: AdaptStage | None = None
        if any(plan.adapted for plan in plans):
            self.adapting = AdaptStage.of(self.config, setup.splits, setup.text)
        self.adapts_source = any(plan.adapted and plan.from_source for plan in plans)

    def _needs_source(self) -> bool:
        return self.setup.source_data is not None and (
            self.config.is_gru or any(plan.needs_source for plan in self.plans)
        )

    def work(self) -> list[float]:
        """Return upper estimates of the work before the first fit, in encoder passes over one text."""
        work: list[float] = [self.adapting.work] if self.adapting is not None else []
        if self._needs_source():
            assert self.setup.source_data is not None
            data = self.setup.source_data.loaded.splits
            epochs = source_settings(self.setup.source_data, gru=self.config.is_gru).epochs
            cost = self._source_cost()
            trainings = 2 if self.adapts_source else 1
            work += [epochs * cost * (len(data.train) + len(data.validation))] * trainings
        return work

    def _source_cost(self) -> float:
        """Work per source text, in encoder passes over one target text."""
        cut = self.cut
        shorter = cut["source_mean_tokens"] / cut["mean_tokens"] if cut and "source_mean_tokens" in cut else 1.0
        return table.STRATEGIES["scratch-gru" if self.config.is_gru else "full"].cost * shorter

    def start(self, clock: Clock, reporter: Reporter) -> Start:
        """Make everything, or take it from the cache.

        Raises:
            HeadstartError: the source classifier cannot be trained, or something not be written.
        """
        self.clock, self.reporter = clock, reporter
        setup = self.setup
        start = Start(setup.encoder, setup.source)
        if self.adapting is not None:
            self._adapt(start)
        if self._needs_source():
            start.source, start.validation = self._train_source(setup.encoder)
            start.encoder = start.source.encoder if self.config.is_gru else setup.encoder
            if self.adapts_source and start.adapted is not None:
                start.adapted_source, _ = self._train_source(start.adapted)
            elif self.adapts_source:
                clock.begin("source classifier", 0.0)  # its place among the work
                clock.end()
        return start

    def _adapt(self, start: Start) -> None:
        """Adapt the encoder; what cannot be adapted leaves the strategies without the stage as they are."""
        assert self.adapting is not None
        assert self.setup.encoder is not None
        self.clock.begin("adapting", ADAPT_COST)
        try:
            done = self.adapting.run(
                self.setup.encoder, self.cache, runtime=self.runtime, threads=self.setup.threads, seed=self.config.seed,
                reporter=self.reporter, clock=self.clock,
            )  # fmt: skip
            self.uses.enter_context(in_use(done.encoder.folder))
            start.adapted, start.adaptation = done.encoder, self.adapting.about(done)
        except StorageError:
            raise
        except HeadstartError as problem:
            start.not_adapted = str(problem)
        self.clock.end()

    def _train_source(self, encoder: Encoder | None) -> tuple[SourceModel, dict[str, Any]]:
        """Return the source classifier trained on an encoder (None: the GRU), and its validation scores."""
        setup = self.setup
        assert setup.source_data is not None
        self.clock.begin("source classifier", self._source_cost())
        common = {
            "text": setup.text,
            "runtime": self.runtime,
            "threads": setup.threads,
            "advance": self.clock.trained,
            "cache": self.cache,
        }
        folder, labels, validation, cached = train_source(self.config, setup.source_data, encoder, common, self.cache)
        self.uses.enter_context(in_use(folder.folder))
        self.clock.end()
        scores = ", ".join(f"{k} {v:.3f}" for k, v in validation.items() if v is not None)
        self.reporter.say(f"source classifier{' (from the cache)' if cached else ''}: on its own validation {scores}")
        return match_labels(folder, labels, setup.splits.labels, self.config.map_labels), validation
