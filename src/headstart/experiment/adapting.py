"""The door to adaptation: texts of a file, a frame or a list, an encoder's folder out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from headstart.adaptation.adapt import Adapted, adapt_encoder, adaptation_key, finished_by_other
from headstart.adaptation.config import AdaptConfig
from headstart.data.examples import Splits
from headstart.data.pool import adaptation_texts
from headstart.data.read import read_table
from headstart.data.rows import row_numbers, rows_of
from headstart.errors import ConfigError, DataError, StorageError, counted
from headstart.experiment.config import ExperimentConfig
from headstart.experiment.estimate import Clock
from headstart.experiment.progress import Reporter, Silent
from headstart.experiment.setup import use_threads
from headstart.models.batching import TextSettings
from headstart.models.cache import cache_limit, drop_damaged, evict, touch
from headstart.models.encoders import Encoder, find_encoder
from headstart.models.runtime import Runtime, choose_runtime
from headstart.records import cores
from headstart.registry import place_of
from headstart.report.words import count
from headstart.strategies import table

ADAPT_COST = 3.0  # forward and backward
_SHORTEST = 8  # tokens in a row


def adapt(
    data: str | Path | pd.DataFrame | Sequence[str],
    *,
    out: str | Path,
    encoder: str = "minilm",
    revision: str | None = None,
    text: Sequence[str] = ("text",),
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    encoding: str | None = None,
    separator: str | None = None,
    reporter: Reporter | None = None,
    **settings: Any,
) -> Adapted:
    """Train an encoder further on texts without labels, and write it as a folder that anyone can load.

    The same call again goes on where an interrupted one stood; a finished folder is only opened.

    Args:
        data: N texts, or a file or table with a text column.
        out: folder to write.
        encoder: catalog name, local folder, hub name or ``models:/NAME@ALIAS``.
        revision: branch, tag or commit of a hub encoder.
        text: text column, or two columns whose texts are joined by a line break.
        seed: of masks, order, dropout and a fresh head.
        device: ``auto`` or a torch device name.
        precision: ``auto`` (measured), ``float32`` or ``bfloat16``.
        threads: processor threads; by default all cores.
        encoding: of a text file, else found.
        separator: of a CSV file, else found.
        reporter: told how it goes; nobody by default.
        settings: those of `AdaptConfig`: ``masking="span"``, ``epochs=5``, ...

    Raises:
        HeadstartError: settings, texts, encoder or folder are wrong.
    """
    reporter = reporter or Silent()
    config = adapt_config(settings)
    folder = Path(out)
    if finished_by_other(folder):
        raise StorageError(f"{folder} is not empty and is no adapted encoder; choose another with --out, or empty it")
    texts = _texts(data, text=text, encoding=encoding, separator=separator, reporter=reporter)
    found = find_encoder(place_of(encoder), revision)
    count_threads = threads or cores()
    with use_threads(count_threads):
        return run_adaptation(
            found,
            texts,
            folder,
            config,
            runtime=choose_runtime(device, precision),
            threads=count_threads,
            seed=seed,
            reporter=reporter,
        )


def adapt_config(settings: dict[str, Any]) -> AdaptConfig:
    """Return checked settings.

    Raises:
        ConfigError: all that is wrong with them.
    """
    faults = table.settings_faults({table.ADAPT: settings}, "--set")
    if faults:
        raise ConfigError(faults)
    return AdaptConfig(**settings)


def run_adaptation(
    encoder: Encoder,
    texts: Sequence[str],
    folder: Path,
    config: AdaptConfig,
    *,
    runtime: Runtime,
    threads: int,
    seed: int,
    reporter: Reporter,
    clock: Clock | None = None,
) -> Adapted:
    """Adapt, and tell a reporter how it goes; with a clock of a larger job, that one's progress is moved."""

    def started(rows: int) -> None:
        nonlocal clock
        if clock is None:
            clock = Clock(reporter, [float(rows)])
            clock.begin("adapting", 1.0)

    def advance(rows: int) -> None:
        assert clock is not None
        clock.trained(rows)

    adapted = adapt_encoder(
        encoder,
        texts,
        folder,
        config,
        runtime=runtime,
        threads=threads,
        seed=seed,
        advance=advance,
        on_epoch=lambda figures: reporter.say(epoch_line(figures)),
        on_start=started,
    )
    reporter.say(summary(adapted))
    return adapted


def epoch_line(figures: dict[str, Any]) -> str:
    """Return an epoch in words."""
    name = "head alone" if figures["phase"] == "head" else "adaptation"
    parts = [f"training loss {figures['train_loss']:.3f}"] if "train_loss" in figures else []
    parts.append(f"held-out loss {figures['held_out_loss']:.3f} (perplexity {figures['perplexity']:.1f})")
    return f"{name}, {f'epoch {epoch}' if (epoch := figures['epoch']) else 'start'}: {', '.join(parts)}"


def summary(adapted: Adapted) -> str:
    """Return what came of an adaptation in words."""
    card = adapted.card
    losses = {e["epoch"]: e["held_out_loss"] for e in card["epochs"] if e["phase"] == "all"}
    cached = " (done before)" if adapted.cached else ""
    best = card["best_epoch"]
    words = f"held-out loss {losses[0]:.3f} at the start, {losses[best]:.3f} in the kept epoch {best}"
    if best == 0:
        words = f"held-out loss {losses[0]:.3f} at the start was never reached again: the encoder is as it was"
    empty = card["texts_without_tokens"]
    left = f" ({counted(empty, 'text', 'texts')} without a token left out)" if empty else ""
    return f"encoder adapted to {card['texts']:,} texts of {count(card['tokens'])} tokens{left}{cached}: {words}"


def _texts(
    data: str | Path | pd.DataFrame | Sequence[str],
    *,
    text: Sequence[str],
    encoding: str | None,
    separator: str | None,
    reporter: Reporter,
) -> list[str]:
    if not isinstance(data, str | Path | pd.DataFrame):
        return list(data)
    read = read_table(data, encoding=encoding, separator=separator, text=text)
    for note in read.notes:
        reporter.say(note)
    rows = rows_of(read.frame, text=text, label=None, name=read.name)
    blank = rows.blank()
    if blank.any():
        reporter.warn(f"{read.name}: {row_numbers(rows.ids[blank])} without a text, not used")
    if blank.all():
        raise DataError(f"{read.name} has no text in column {', '.join(text)} (--text)")
    return rows.take(~blank).examples(None).joined()


@dataclass(frozen=True)
class AdaptStage:
    """The stage ``adapt+`` of one comparison: one adapted encoder for every strategy that starts from it.

    Attributes:
        config: its settings.
        texts: what is adapted to.
        transductive: the holdout's texts are among them.
        pool: how many rows without labels there are beside the training texts.
        left_out: unlabeled rows that are no part of them, for validation has the text.
    """

    config: AdaptConfig
    texts: list[str]
    transductive: bool
    pool: int
    left_out: int = 0

    @classmethod
    def of(cls, config: ExperimentConfig, splits: Splits, text: TextSettings) -> AdaptStage:
        """Return the stage of an experiment; rows are as long as its texts unless its settings say otherwise."""
        values = {"max_length": max(_SHORTEST, text.max_length), **config.settings.get(table.ADAPT, {})}
        texts = adaptation_texts(splits)
        pool = 0 if splits.unlabeled is None else len(splits.unlabeled)
        left_out = len(splits.train) + pool - len(texts)
        return cls(AdaptConfig(**values), texts, config.transductive, pool, left_out)

    @property
    def work(self) -> float:
        """An upper estimate of its work, in forward passes of the encoder over one text."""
        return ADAPT_COST * len(self.texts) * (self.config.epochs + self.config.head_epochs)

    def run(
        self,
        encoder: Encoder,
        cache: Path,
        *,
        runtime: Runtime,
        threads: int,
        seed: int,
        reporter: Reporter,
        clock: Clock,
    ) -> Adapted:
        """Adapt, or take the encoder from the cache where the same was done before.

        Raises:
            HeadstartError: the encoder cannot be adapted, or the cache not be written.
        """
        if not self.pool:
            reporter.warn(
                f"adapt+: there are no texts without labels (--unlabeled FILE, or rows whose label is blank), so the "
                f"encoder is adapted to the {counted(len(self.texts), 'training text', 'training texts')} alone"
            )
        machine = (runtime.device, runtime.precision, threads)
        key = adaptation_key(encoder, self.texts, self.config, seed=seed, machine=machine)
        folder = cache / "adapted" / key
        drop_damaged(folder)
        touch(folder)
        try:
            found = run_adaptation(
                encoder, self.texts, folder, self.config,
                runtime=runtime, threads=threads, seed=seed, reporter=reporter, clock=clock,
            )  # fmt: skip
        except StorageError as problem:  # not in the output folder
            words = str(problem).replace("folder with --out", "cache folder with HEADSTART_CACHE=FOLDER")
            raise StorageError(words) from problem
        if not found.cached:
            evict(cache, cache_limit(), keep=frozenset([folder]))
        return found

    def about(self, adapted: Adapted) -> dict[str, Any]:
        """Return what the comparison's record says of it."""
        kept = (
            "texts",
            "texts_without_tokens",
            "rows",
            "rows_held_out",
            "tokens",
            "objective",
            "fresh_head",
            "settings",
            "epochs",
            "best_epoch",
        )
        own = {
            "transductive": self.transductive,
            "texts_without_labels": self.pool,
            "texts_of_validation_left_out": self.left_out,
        }
        return {**own, **{key: adapted.card[key] for key in kept}}
