"""The source classifier: trained once on a labeled file of another domain, or an existing one; its labels matched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart import catalog
from headstart.data.config import DataConfig
from headstart.data.labels import Labels
from headstart.data.load import Loaded, load_source
from headstart.errors import ConfigError, DataError, ModelError, StorageError
from headstart.evaluation.metrics import METRICS, score
from headstart.experiment.config import ExperimentConfig
from headstart.models import folder as model_folder
from headstart.models.batching import TextSettings
from headstart.models.cache import cache_limit, drop_damaged, evict, touch
from headstart.models.encoders import Encoder, find_encoder
from headstart.models.loading import label_names_of
from headstart.models.predicting import winner_or_self
from headstart.models.runtime import Runtime
from headstart.records import fingerprint_json, read_json
from headstart.registry import is_registered, resolve
from headstart.strategies import full, scratch_gru, table
from headstart.strategies.task import SourceModel, Task
from headstart.training.loop import TrainingConfig

_FILE_SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".parquet")
# A source set is usually larger than the target's: fewer passes, larger steps.
_DEFAULTS: dict[str, Any] = {"learning_rate": 1e-4, "epochs": 2, "batch_size": 32, "patience": 1}
_RECIPE = 2  # counted up when training changes, so that older cached classifiers are not taken for new ones


@dataclass(frozen=True)
class SourceData:
    """A labeled file of another domain, read and checked."""

    loaded: Loaded
    settings: dict[str, Any]


def is_labeled_data(source: str) -> bool:
    """Whether ``--source`` names labeled data (else it names a classifier)."""
    if is_registered(source):
        return False
    if source in catalog.SAMPLES or Path(source).suffix.lower() in _FILE_SUFFIXES:
        return True
    path = winner_or_self(source)
    return path.is_dir() and not any((path / name).is_file() for name in ("config.json", model_folder.CARD))


def read_source(config: ExperimentConfig) -> SourceData:
    """Read and check the source file.

    Raises:
        DataError: everything that is wrong with it, with the source's own flags.
        ConfigError: the settings of the source classifier are wrong.
    """
    assert config.source is not None
    given = DataConfig(
        data=config.source,
        text=config.source_text or config.text,
        label=config.source_label or config.label,
        validation_size=0.1,
        mend=config.mend,
        encoding=config.encoding,
        separator=config.separator,
    )
    try:
        loaded = load_source(given, seed=config.seed)
    except DataError as problem:
        raise DataError([_of_source(fault) for fault in problem.faults]) from problem
    return SourceData(loaded, dict(config.settings.get(table.SOURCE, {})))


def _of_source(fault: str) -> str:
    return fault.replace("--label", "--source-label").replace("--text", "--source-text")


def train_source(
    config: ExperimentConfig, source: SourceData, encoder: Encoder | None, task: Mapping[str, Any], cache: Path
) -> tuple[Encoder, Labels, dict[str, Any], bool]:
    """Train the source classifier, or take it from the cache where the same one was trained before.

    Args:
        config: the experiment.
        source: its source data.
        encoder: the pretrained encoder; None for the GRU.
        task: what else a `Task` needs: ``text``, ``runtime``, ``threads``, ``advance``, ``on_epoch``.
        cache: where trained source classifiers lie.

    Returns:
        The classifier's folder as an encoder, its labels, its validation scores, and whether it was cached.
    """
    strategy = table.plan("scratch-gru" if encoder is None else "full")
    settings = source_settings(source, gru=encoder is None)
    runtime: Runtime = task["runtime"]
    text: TextSettings = task["text"]
    key = fingerprint_json(
        {
            "recipe": _RECIPE,
            "data": source.loaded.fingerprints,
            "encoder": "gru" if encoder is None else encoder.fingerprint,
            "settings": settings.model_dump(mode="json"),
            "text": [text.max_length, text.truncate],
            "runtime": runtime.arithmetic(),
            "seed": config.seed,
            "labels": source.loaded.splits.labels.to_json(),
        }
    )
    folder = cache / "sources" / key
    drop_damaged(folder)
    touch(folder)
    cached = (folder / model_folder.CARD).is_file()
    if not cached:
        splits = source.loaded.splits
        fitted = table.fit(
            strategy,
            Task(splits.labels, splits.train, splits.validation, seed=config.seed, encoder=encoder, **task),
            settings,
        )
        scores = {m: score(m, splits.validation.y, fitted.validation) for m in METRICS}
        card = {"strategy": strategy.name, "validation": scores, "epochs": fitted.epochs, "fingerprint": key}
        try:
            model_folder.save(fitted.classifier, folder, text=text, check=splits.validation, card=card)
        except StorageError as problem:  # not in the output folder
            words = str(problem).replace("folder with --out", "cache folder with HEADSTART_CACHE=FOLDER")
            raise StorageError(words) from problem
        evict(cache, cache_limit(), keep=frozenset([folder]))
    card = read_json(folder / model_folder.CARD)
    return Encoder(str(config.source), folder), Labels.from_json(card["labels"]), card["validation"], cached


def existing_source(name: str) -> tuple[Encoder, Labels]:
    """Find an existing sequence classifier and its labels.

    Args:
        name: its folder, that of the comparison it won, its hub name, or its name in the model registry.

    Raises:
        ModelError: it is not there, or is no fine-tuned network.
    """
    folder = resolve(name) if is_registered(name) else winner_or_self(name)
    card = model_folder.read_card(folder) if (folder / model_folder.CARD).is_file() else None
    if card is not None and card.get("kind") != "network":
        raise ModelError(f"--source {name} is a '{card.get('strategy')}' model; a fine-tuned one is needed")
    encoder = find_encoder(str(folder) if folder.is_dir() else name, what="source classifier", flag="--source")
    if card is not None:
        return encoder, Labels.from_json(card["labels"])
    architectures = getattr(encoder.config, "architectures", None) or []
    if not any(a.endswith("ForSequenceClassification") for a in architectures):
        raise ModelError(f"--source {name} has no classification head; give it to --encoder, or name a classifier")
    names = label_names_of(encoder.config)
    return encoder, Labels(tuple(names), tuple(names))


def match_labels(encoder: Encoder, source: Labels, target: Labels, mapping: Mapping[str, str]) -> SourceModel:
    """Find for each target class the source class of the same name (case and outer blanks do not count).

    Args:
        encoder: the source classifier's folder.
        source: its labels.
        target: the task's labels.
        mapping: source label names in the target's words (``--map-labels``).

    Raises:
        ConfigError: the mapping names a label that is not there.
    """
    unknown = [f"'{old}' is no source label" for old in mapping if old not in source.names]
    unknown += [f"'{new}' is no target label" for new in mapping.values() if new not in target.names]
    if unknown:
        raise ConfigError(
            f"--map-labels: {'; '.join(unknown)}. Source labels: {', '.join(source.names)}; "
            f"target labels: {', '.join(target.names)}"
        )
    renamed = [mapping.get(name, name) for name in source.names]
    at = {_folded(name): i for i, name in enumerate(renamed)}
    wanted = [_folded(name) for name in target.names]
    if len(at) == len(renamed) and set(at) == set(wanted):
        return SourceModel(encoder, source, tuple(at[name] for name in wanted))
    return SourceModel(
        encoder,
        source,
        None,
        f"source labels ({', '.join(source.names)}) are not the target's ({', '.join(target.names)}); "
        "say which mean the same with --map-labels source=target,...",
    )


def _folded(name: str) -> str:
    return " ".join(name.casefold().split())


def source_settings(source: SourceData, *, gru: bool) -> TrainingConfig:
    """Return the resolved settings of the source classifier (``settings: source: {...}``)."""
    if gru:
        return scratch_gru.ScratchGruConfig(**source.settings)
    return full.FullConfig(**(_DEFAULTS | source.settings))
