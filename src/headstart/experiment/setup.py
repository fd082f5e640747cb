"""From settings to everything a comparison needs, checked before anything costly is done."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from headstart.adaptation.seen import count_seen, read_seen
from headstart.data.examples import Examples, Splits
from headstart.data.labels import Labels
from headstart.data.load import Loaded, check_source, load_data
from headstart.errors import ConfigError, HeadstartError, counted, did_you_mean
from headstart.experiment.config import ExperimentConfig
from headstart.experiment.progress import Reporter
from headstart.experiment.source import SourceData, existing_source, is_labeled_data, match_labels, read_source
from headstart.models import batching
from headstart.models.batching import TextSettings, Tokens
from headstart.models.encoders import Encoder, check_loadable, find_encoder
from headstart.models.loading import load_tokenizer
from headstart.models.runtime import Runtime, choose_runtime
from headstart.models.text_features import text_settings
from headstart.records import cores
from headstart.registry import place_of
from headstart.strategies.task import SourceModel

_SAMPLED_TEXTS = 2000
_ALL_COUNTED = 8000  # up to so many texts all are counted
T = TypeVar("T")


@dataclass(frozen=True)
class Setup:
    """Everything that is known before the first fit.

    Attributes:
        config: the settings.
        loaded: data, checked and split.
        encoder: the pretrained encoder; None without one, or where it is the GRU.
        source_data: labeled source file, read; None without one.
        source: existing source classifier, found; None without one.
        text: maximum length and truncation.
        runtime: device and precision.
        threads: processor threads.
        class_weights: shape (C,), or None.
    """

    config: ExperimentConfig
    loaded: Loaded
    encoder: Encoder | None
    source_data: SourceData | None
    source: SourceModel | None
    text: TextSettings
    runtime: Runtime
    threads: int
    class_weights: npt.NDArray[np.float64] | None

    @property
    def splits(self) -> Splits:
        """Train, validation and holdout."""
        return self.loaded.splits

    @functools.cached_property
    def texts_seen(self) -> dict[str, int] | None:
        """On how many texts the encoder was adapted, and how many of the validation and holdout were among them.

        None where the encoder says nothing of it. What ``adapt+`` of this comparison learns from is told elsewhere.
        """
        seen = None if self.encoder is None else read_seen(self.encoder.folder)
        if seen is None:
            return None
        parts = {"validation": self.splits.validation, "holdout": self.splits.holdout}
        return {"texts": len(seen), **{name: count_seen(part, seen) for name, part in parts.items()}}

    def deciding(self) -> dict[str, Any]:
        """Return everything that results depend on, as JSON."""
        found = self.config.deciding()
        found["max_length"] = self.text.max_length
        found["data_fingerprints"] = self.loaded.fingerprints
        if self.encoder is not None:
            found["encoder_fingerprint"] = self.encoder.fingerprint
        if self.source_data is not None:
            found["source_fingerprints"] = self.source_data.loaded.fingerprints
        elif self.source is not None:
            found["source_fingerprint"] = self.source.encoder.fingerprint
        found["threads"] = self.threads
        return found


def set_up(
    config: ExperimentConfig, reporter: Reporter, *, frame: pd.DataFrame | None, holdout_frame: pd.DataFrame | None
) -> Setup:
    """Read, check and find everything; faults of all parts are raised together.

    Raises:
        HeadstartError: what is wrong; several faults are joined in one `ConfigError`.
    """
    gathered = _Faults()
    loaded = gathered.get(lambda: load_data(config, seed=config.seed, frame=frame, holdout_frame=holdout_frame))
    encoder = gathered.get(lambda: _encoder(config))
    source_data, existing = gathered.get(lambda: _source(config)) or (None, None)
    runtime = gathered.get(lambda: _runtime(config))
    found = [e for e in (encoder, existing[0] if existing else None) if e is not None]
    text = gathered.get(lambda: text_settings(found, config.max_length, config.truncate, name="--max-length"))
    weights, source, shared = None, None, None
    if loaded is not None:
        labels, y = loaded.splits.labels, loaded.splits.train.y
        weights = gathered.get(lambda: class_weights(config.class_weights, labels, y))
        if existing is not None:
            source = gathered.get(lambda: match_labels(*existing, labels, config.map_labels))
        if source_data is not None:
            fitted = source_data.loaded
            shared = gathered.get(lambda: check_source(fitted, loaded, allow_overlap=config.allow_overlap))
    gathered.raise_all()
    assert loaded is not None
    assert runtime is not None
    assert text is not None
    for finding in shared or ():
        reporter.warn(str(finding))
    threads = config.threads or cores()
    setup = Setup(config, loaded, encoder, source_data, source, text, runtime, threads, class_weights=weights)
    _tell(setup, reporter)
    return setup


def _runtime(config: ExperimentConfig) -> Runtime:
    """Measure with as many threads as will be used: precisions may differ by them."""
    with use_threads(config.threads or cores()):
        return choose_runtime(config.device, config.precision)


def _encoder(config: ExperimentConfig) -> Encoder | None:
    if config.encoder is None or config.is_gru:
        return None
    encoder = find_encoder(place_of(config.encoder), config.revision)
    check_loadable(encoder)
    return encoder


def _source(config: ExperimentConfig) -> tuple[SourceData | None, tuple[Encoder, Labels] | None]:
    """Return the source's labeled file, read, or the existing classifier that it names."""
    if config.source is None:
        return None, None
    if is_labeled_data(config.source):
        return read_source(config), None
    if config.is_gru:
        raise ConfigError("--encoder gru is trained on --source: give a labeled file, not a classifier")
    return None, existing_source(config.source)


class _Faults:
    """Gathers our own errors, to raise them together."""

    def __init__(self) -> None:
        self.problems: list[HeadstartError] = []

    def get(self, make: Callable[[], T]) -> T | None:
        """Return what is made, or None where an error of ours was raised."""
        try:
            return make()
        except HeadstartError as problem:
            self.problems.append(problem)
            return None

    def raise_all(self) -> None:
        """Raise the one problem as it is, or several as one."""
        if len(self.problems) == 1:
            raise self.problems[0]
        if self.problems:
            raise ConfigError([f for p in self.problems for f in getattr(p, "faults", (str(p),))])


def class_weights(
    wanted: str | Mapping[str, float], labels: Labels, y: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64] | None:
    """Return a weight per class, shape (C,), or None.

    Args:
        wanted: ``none``, ``balanced`` (N / (C * count), as in scikit-learn), or weights by label name; 1 if not named.
        labels: C labels.
        y: training classes, shape (N,).

    Raises:
        ConfigError: a label is unknown.
    """
    if wanted == "none":
        return None
    if isinstance(wanted, str):
        counts = np.bincount(y, minlength=len(labels)).astype(np.float64)
        return np.asarray(len(y) / (len(labels) * np.maximum(counts, 1.0)))
    unknown = [n for n in wanted if n not in labels.names]
    if unknown:
        raise ConfigError(
            f"--class-weights names '{unknown[0]}', which is no label; labels: {', '.join(labels.names)}."
            f"{did_you_mean(unknown[0], labels.names)}"
        )
    return np.asarray([float(wanted.get(n, 1.0)) for n in labels.names])


def _tell(setup: Setup, reporter: Reporter) -> None:
    splits = setup.splits
    for note in setup.loaded.notes:
        reporter.say(note)
    for name, count in setup.loaded.mended.items():
        reporter.say(f"mended: {name}: {count}")
    for finding in setup.loaded.findings:
        reporter.warn(str(finding))
    if setup.source_data is not None:
        for finding in setup.source_data.loaded.findings:
            reporter.warn(f"source: {finding}")
    pool = f", {len(splits.unlabeled)} unlabeled" if splits.unlabeled else ""
    reporter.say(
        f"{counted(len(splits.train), 'text', 'texts')} to train on, {len(splits.validation)} to choose with, "
        f"{len(splits.holdout)} held out{pool}; labels: {', '.join(splits.labels.names)}"
    )
    seen = setup.texts_seen
    if seen is not None and (seen["validation"] or seen["holdout"]):
        as_if = "; scores are as with --transductive" if seen["holdout"] else ""
        reporter.warn(
            f"the encoder was adapted on texts that judge here: {seen['holdout']:,} of {len(splits.holdout):,} held "
            f"out, {seen['validation']:,} of {len(splits.validation):,} to choose with{as_if}"
        )
    if setup.class_weights is not None:
        reporter.warn("classes are weighted: predicted probabilities shift towards the heavier classes")
    rates = ", ".join(f"{name} {rate:.0f}" for name, rate in setup.runtime.product_rates.items())
    measured = f" (measured, GFLOP/s: {rates})" if rates else ""
    reporter.say(
        f"arithmetic: {setup.runtime.precision} on {setup.runtime.device}, "
        f"{counted(setup.threads, 'thread', 'threads')}{measured}"
    )


def cut_shares(setup: Setup) -> dict[str, float] | None:
    """Return the share of texts cut and of tokens cut off by the encoder's tokenizer, over all splits (0-1).

    Beside them ``mean_tokens`` after cutting, and ``source_mean_tokens`` where there is a source file. Counted on
    all texts, or on 2,000 of them where there are more than 8,000.
    """
    if setup.encoder is None:
        return None
    tokenizer = load_tokenizer(setup.encoder.folder)
    splits = setup.splits
    parts = (splits.train, splits.validation, splits.holdout)
    if sum(map(len, parts)) <= _ALL_COUNTED:  # before they are joined: the fits will ask for the same tokens
        for part in parts:
            batching.tokenize(tokenizer, part, setup.text)
    tokens = _tokens(tokenizer, setup, splits.train.concat(splits.validation).concat(splits.holdout))
    texts, cut = tokens.cut_shares()
    found = {"texts": round(texts, 4), "tokens": round(cut, 4), "mean_tokens": round(float(tokens.lengths.mean()), 1)}
    if setup.source_data is not None:
        source = _tokens(tokenizer, setup, setup.source_data.loaded.splits.train)
        found["source_mean_tokens"] = round(float(source.lengths.mean()), 1)
    return found


def _tokens(tokenizer: Any, setup: Setup, examples: Examples) -> Tokens:
    if len(examples) > _ALL_COUNTED:
        rows = np.random.default_rng(setup.config.seed).choice(len(examples), _SAMPLED_TEXTS, replace=False)
        examples = examples.take(np.sort(rows))
    return batching.tokenize(tokenizer, examples, setup.text)


@contextlib.contextmanager
def use_threads(threads: int) -> Iterator[None]:
    """Let torch use this many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cache_or_none(folder: Path) -> Path | None:
    """Return the cache folder if it can be written, else None."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None
