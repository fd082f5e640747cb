"""The main job: many fits on the same splits, one holdout, one winner."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from headstart.experiment import setup as preparation
from headstart.experiment.comparison import (
    BEST,
    COMPARISON,
    Comparison,
    choose,
    choose_fit,
    differences,
    stage_gains,
    strategy_row,
)
from headstart.experiment.config import ExperimentConfig
from headstart.experiment.estimate import Clock, first_rate
from headstart.experiment.fitting import MODEL, RECORD, Fit, run_fit
from headstart.experiment.progress import Reporter
from headstart.experiment.setup import Setup
from headstart.experiment.starting import Start, Starter
from headstart.experiment.state import open_folder, write_state
from headstart.models.cache import cache_folder
from headstart.models.folder import CARD
from headstart.models.runtime import Runtime
from headstart.records import RECORD_FORMAT, fingerprint_json, hardware, read_json, versions, whole_folder, write_json
from headstart.strategies import table
from headstart.strategies.table import Plan
from headstart.strategies.task import Task
from headstart.tracking import FitLog, Tracker, open_tracker, output_columns


def run(
    config: ExperimentConfig,
    *,
    reporter: Reporter,
    frame: pd.DataFrame | None = None,
    holdout_frame: pd.DataFrame | None = None,
) -> Comparison:
    """Fit every strategy with every seed, judge them on the holdout, name the winner.

    The same call again skips finished fits and tries failed ones again; a finished comparison without any is only
    opened.

    Args:
        config: the settings.
        reporter: told how it goes.
        frame: labeled texts in memory, instead of ``config.data``.
        holdout_frame: holdout in memory, instead of ``config.holdout``.

    Raises:
        HeadstartError: settings, data, models or the output folder are wrong; nothing was fitted.
    """
    setup = preparation.set_up(config, reporter, frame=frame, holdout_frame=holdout_frame)
    state = open_folder(config.folder, setup.deciding())
    settled: frozenset[str] = frozenset()
    if (config.folder / COMPARISON).is_file():
        earlier = Comparison.open(config.folder)
        if not earlier.failed:
            reporter.say(
                f"{config.folder} is finished; nothing to do (choose another folder with --out to run it again)"
            )
            _drop_models(config)  # an interruption between the record and the clean-up leaves them
            return earlier
        reporter.say(f"{config.folder}: tried again, for it failed: {', '.join(earlier.failed)}")
        settled = earlier.settled
    with preparation.use_threads(setup.threads):
        return _Run(setup, reporter, state, settled).go()


def _drop_models(config: ExperimentConfig) -> None:
    """Drop every fit's model folder, unless they are to be kept; the winner's stands in ``best/``."""
    if not config.keep_models:
        for folder in (config.folder / "fits").glob(f"*/*/{MODEL}"):
            shutil.rmtree(folder, ignore_errors=True)


class _Run:
    """One comparison while it runs."""

    def __init__(self, setup: Setup, reporter: Reporter, state: dict[str, Any], settled: frozenset[str]) -> None:
        self.setup, self.reporter = setup, reporter
        self.config, self.folder = setup.config, setup.config.folder
        self.cache = preparation.cache_or_none(cache_folder())
        if not state:
            cut = preparation.cut_shares(setup)
            state = {"deciding": setup.deciding(), "precision": setup.runtime.precision, "cut": cut}
            write_state(self.folder, state)
        self.state = state
        # A resumed comparison goes on in the precision it began with.
        self.runtime: Runtime = replace(setup.runtime, precision=state["precision"])
        self.plans = self.config.plans()
        self.settled = settled
        self.starter = Starter(setup, self.runtime, self.plans, self.state["cut"], self.cache or self.folder / "cache")
        self.fits = {plan.name: [self._fit(plan, seed) for seed in self._seeds()] for plan in self.plans}

    def _seeds(self) -> range:
        return range(self.config.seed, self.config.seed + self.config.seeds)

    def _fit(self, plan: Plan, seed: int) -> Fit:
        config = table.config_for(plan, self.config.settings, gru=self.config.is_gru)
        folder = self.folder / "fits" / plan.name / f"seed-{seed}"
        return Fit(plan, config, seed, folder, settled=plan.name in self.settled)

    def go(self) -> Comparison:
        """Do all of it."""
        self._say_cut()
        self._say_alone()
        tracker = self._open_tracker()
        self.clock = Clock(self.reporter, self._work(), rate=self._first_rate())
        try:
            start = self.starter.start(self.clock, self.reporter)
            records = {
                plan.name: [self._one(fit, start, tracker) for fit in self.fits[plan.name]] for plan in self.plans
            }
            comparison = self._conclude(records, start)
        except BaseException as problem:
            tracker.finish("cancelled" if isinstance(problem, KeyboardInterrupt) else "failed", {}, [])
            raise
        finally:
            self.starter.uses.close()
        self._finish_tracking(tracker, comparison)
        return comparison

    # --- before the fits -------------------------------------------------------------------------------------

    def _say_cut(self) -> None:
        cut = self.state["cut"]
        if cut is not None:
            text = self.setup.text
            self.reporter.say(
                f"at most {text.max_length} tokens per text: {cut['texts']:.1%} of texts are longer, "
                f"{cut['tokens']:.1%} of all tokens are cut off ({text.truncate} is kept)"
            )

    def _say_alone(self) -> None:
        """Say what nothing will be known of, for the strategy without it is not in the comparison."""
        names = [plan.name for plan in self.plans]
        for name in names:
            for stage, without in [found for found in table.counterparts(name) if found[1] not in names]:
                self.reporter.say(
                    f"'{name}' without '{without}' beside it: the record cannot say whether '{stage}' helped; "
                    "to see it, add that to --strategies of compare"
                )

    def _open_tracker(self) -> Tracker:
        tracker, sentence = open_tracker(
            self.folder, experiment=self.config.title, enabled=self.config.tracking, warn=self.reporter.warn
        )
        if sentence:
            self.reporter.say(sentence)
        key = fingerprint_json([str(self.folder.resolve()), self.state["deciding"]])
        params = {k: v for k, v in self.state["deciding"].items() if k != "settings"}
        tracker.start(self.config.title, key, params, {"headstart.version": versions()["headstart"]})
        return tracker

    def _work(self) -> list[float]:
        splits = self.setup.splits
        sizes = {"train": len(splits.train), "validation": len(splits.validation), "holdout": len(splits.holdout)}
        work = self.starter.work()
        for plan in self.plans:
            for fit in self.fits[plan.name]:
                work.append(0.0 if fit.finished() else table.work(plan, fit.config, **sizes))
        return work

    def _first_rate(self) -> float | None:
        cut, encoder = self.state["cut"], self.setup.encoder
        if cut is None or encoder is None:
            return None
        width = getattr(encoder.config, "hidden_size", 0) or 0
        layers = getattr(encoder.config, "num_hidden_layers", 0) or 0
        inner = getattr(encoder.config, "intermediate_size", 0) or 4 * width
        rate = self.setup.runtime.product_rates.get(self.runtime.precision)
        return first_rate(rate, layers * (4 * width * width + 2 * width * inner), cut["mean_tokens"])

    # --- one fit ---------------------------------------------------------------------------------------------

    def _one(self, fit: Fit, start: Start, tracker: Tracker) -> dict[str, Any]:
        self.clock.begin(fit.title, fit.plan.strategy.cost)
        record = fit.finished()
        if record is None:
            reason = self._not_possible(fit.plan, start)
            if reason is not None:
                record = {"format": RECORD_FORMAT, "name": fit.plan.name, "seed": fit.seed, "settings": {}}
                record |= {"status": "skipped", "reason": reason}
                write_json(fit.folder / RECORD, record)
            else:
                card = {
                    "text_columns": list(self.config.text),
                    "label_column": self.config.label,
                    "fingerprints": self.setup.loaded.fingerprints,
                    "metric": self.config.metric,
                }
                record = run_fit(fit, self._task(fit, start), self.setup.splits, card, self.clock.scored)
        self.clock.end()
        self.reporter.done(record)
        self._track(fit, record, tracker)
        return record

    def _not_possible(self, plan: Plan, start: Start) -> str | None:
        if plan.strategy.starts_from == "source" and start.source is not None and start.source.order is None:
            return start.source.mismatch
        if not plan.strategy.gru and self.config.is_gru:
            return f"'{plan.strategy.name}' means nothing for a GRU"
        if plan.adapted and start.adapted is None:
            return start.not_adapted
        if plan.adapted and plan.from_source and start.adapted_source is None:
            return "the source is a finished classifier: give --source a labeled file, to train one after adapting"
        return None

    def _task(self, fit: Fit, start: Start) -> Task:
        setup, splits = self.setup, self.setup.splits
        plan = fit.plan
        source = start.adapted_source if plan.adapted and plan.from_source else start.source
        from_source = plan.from_source and source is not None
        return Task(
            labels=splits.labels,
            train=splits.train,
            validation=splits.validation,
            text=setup.text,
            runtime=self.runtime,
            seed=fit.seed,
            encoder=source.encoder if from_source and source else start.adapted if plan.adapted else start.encoder,
            keep_head=bool(from_source and source and source.order is not None),
            source=source,
            unlabeled=splits.unlabeled,
            class_weights=setup.class_weights,
            cache=self.cache,
            threads=setup.threads,
            advance=self.clock.trained,
        )

    def _track(self, fit: Fit, record: dict[str, Any], tracker: Tracker) -> None:
        if record["status"] == "skipped":
            return
        labels = self.setup.splits.labels
        inputs = dict.fromkeys(self.config.text, "string")
        for name in self.config.columns:
            column = None if self.setup.splits.train.columns is None else self.setup.splits.train.columns[name]
            inputs[name] = "double" if column is not None and pd.api.types.is_numeric_dtype(column) else "string"
        final = {
            **record.get("metrics", {}),
            **{f"validation_{k}": v for k, v in record.get("validation", {}).items()},
            **{k: record.get(k) for k in ("seconds_fit", "texts_per_second", "peak_memory_bytes", "size_bytes")},
        }
        keep = [fit.folder / MODEL] if self.config.keep_models else []
        tracker.log_fit(
            FitLog(
                name=fit.title,
                params={"strategy": fit.plan.name, "seed": fit.seed, **record["settings"]},
                epochs=record.get("epochs", []),
                final=final,
                artifacts=[p for p in (fit.folder / RECORD, *keep) if p.exists()],
                inputs=inputs,
                outputs=output_columns(labels.names, labels.to_json()["type"]),
                status="finished" if record["status"] == "ok" else "failed",
            )
        )

    # --- the end ---------------------------------------------------------------------------------------------

    def _conclude(self, records: dict[str, list[dict[str, Any]]], start: Start) -> Comparison:
        config, splits = self.config, self.setup.splits
        rows = [
            strategy_row(plan.name, self.fits[plan.name], records[plan.name], splits, config.seed)
            for plan in self.plans
        ]
        winner = choose(rows, config.metric)
        leads, ties = differences(rows, self.fits, winner, splits, config.metric, config.seed)
        if winner is not None:
            at = choose_fit(records[winner], config.metric)
            self._keep_best(self.fits[winner][at], next(r for r in rows if r["name"] == winner))
        record = {
            "format": RECORD_FORMAT,
            "name": config.title,
            "metric": config.metric,
            "winner": winner,
            "ties": ties,
            "differences": leads,
            "stages": stage_gains(rows, self.fits, splits, config.metric, config.seed),
            "strategies": rows,
            "labels": splits.labels.to_json(),
            "rows": {
                "train": len(splits.train),
                "validation": len(splits.validation),
                "holdout": len(splits.holdout),
                "unlabeled": len(splits.unlabeled) if splits.unlabeled else 0,
            },
            "source": None if start.validation is None else {"validation": start.validation},
            "transductive": config.transductive,
            "adaptation": start.adaptation,
            "encoder_adapted_on": self.setup.texts_seen,
            "cut": self.state["cut"],
            "findings": [str(f) for f in self.setup.loaded.findings],
            "mended": self.setup.loaded.mended,
            "config": self.state["deciding"],
            "runtime": {
                "device": self.runtime.device,
                "precision": self.runtime.precision,
                "threads": self.setup.threads,
                "product_rates": self.runtime.product_rates,
            },
            "versions": versions(),
            "hardware": hardware(),
        }
        write_json(self.folder / COMPARISON, record)
        _drop_models(config)
        return Comparison(self.folder, record)

    def _keep_best(self, fit: Fit, row: dict[str, Any]) -> None:
        if fit.settled and not (fit.folder / MODEL).is_dir():
            return  # it won before, and its model stands there
        with whole_folder(self.folder / BEST) as temporary:
            shutil.copytree(fit.folder / MODEL, temporary, dirs_exist_ok=True)
            card = read_json(temporary / CARD)
            card["metrics"]["holdout_intervals"] = row["metrics"]
            write_json(temporary / CARD, card)

    def _finish_tracking(self, tracker: Tracker, comparison: Comparison) -> None:
        best = next((r for r in comparison.record["strategies"] if r["name"] == comparison.winner), None)
        metrics = {} if best is None else {k: v["value"] for k, v in best["metrics"].items()}
        places: list[Path] = [self.folder / COMPARISON, self.folder / BEST]
        tracker.finish("finished", metrics, [p for p in places if p.exists()])
