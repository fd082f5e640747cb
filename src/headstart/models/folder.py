"""A model folder: written whole, read back and compared before it counts as saved, opened without running code.

headstart.json     format version, kind, labels with their type, text settings, columns, metrics, fingerprints
model.safetensors  and config.json, tokenizer.json, ...: an ordinary transformers checkpoint, where there is one
head.*, tfidf.*    what stands on frozen features, or the TF-IDF numbers
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from headstart.data.examples import Examples
from headstart.data.labels import Labels, Value
from headstart.errors import DataError, ModelError, did_you_mean, unknown_name
from headstart.models import checkpoint
from headstart.models.baselines import MajorityClassifier, TfidfClassifier
from headstart.models.batching import TRUNCATIONS, TextSettings
from headstart.models.checkpoint import check_folder, check_safetensors, refuse_unsafe
from headstart.models.classifier import Advance, Classifier, Probabilities
from headstart.models.frozen import FrozenClassifier
from headstart.models.loading import label_names_of
from headstart.models.network import NetworkClassifier
from headstart.models.onnx_classifier import OnnxClassifier
from headstart.models.runtime import Runtime, choose_runtime
from headstart.records import read_json, whole_folder, write_json

CARD = checkpoint.CARD
FORMAT = 1
_CLASSES = (MajorityClassifier, TfidfClassifier, FrozenClassifier, NetworkClassifier, OnnxClassifier)
_KINDS: dict[str, Any] = {c.kind: c for c in _CLASSES}
# A reloaded model runs the same code on the same numbers; only the order of sums may differ.
_SAME_PROBABILITIES = 1e-5
_CHECKED_TEXTS = 16


class Model:
    """A classifier from a folder, for texts as users have them.

    Attributes:
        classifier: what predicts.
        card: the content of ``headstart.json``.
        folder: where it was read from, or None.
    """

    def __init__(self, classifier: Classifier, card: dict[str, Any], folder: Path | None = None) -> None:
        self.classifier = classifier
        self.card = card
        self.folder = folder

    @property
    def labels(self) -> Labels:
        """Labels in the order of `predict_proba`'s columns."""
        return self.classifier.labels

    def predict(self, texts: Any) -> list[Value]:
        """Return the likeliest label of each text, with the labels' original type."""
        return self.labels.decode(self.predict_proba(texts).argmax(axis=1)) if len(texts) else []

    def predict_proba(self, texts: Any, advance: Advance | None = None) -> Probabilities:
        """Return class probabilities, shape (N, C).

        Args:
            texts: N strings, a Series of them, or a DataFrame with the columns the model was fitted on.
            advance: told how many texts were done.

        Raises:
            DataError: a column is missing.
        """
        return self.classifier.predict_proba(self.examples(texts), advance)

    def examples(self, texts: Any) -> Examples:
        """Return ``texts`` as examples without labels."""
        names = [str(n) for n in self.card["text"]["columns"]]
        if isinstance(texts, str):
            texts = [texts]
        if not isinstance(texts, pd.DataFrame):
            if len(names) > 1:
                raise DataError(f"this model reads pairs: give a DataFrame with columns {names}")
            return Examples.of([_as_text(t) for t in texts])
        for name in names + self._feature_columns():
            if name not in texts:
                raise DataError(
                    f"column '{name}' is missing; there are {list(texts.columns)}.{did_you_mean(name, texts.columns)}"
                )
        columns = texts[self._feature_columns()] if self._feature_columns() else None
        first, *second = ([_as_text(t) for t in texts[name]] for name in names)
        return Examples.of(first, pairs=second[0] if second else None, columns=columns)

    def _feature_columns(self) -> list[str]:
        return [str(c) for c in self.card.get("about", {}).get("head", {}).get("columns", [])]

    def __repr__(self) -> str:
        return f"Model({self.card['strategy']}: {', '.join(self.labels.names)})"


def _as_text(value: Any) -> str:
    return "" if value is None or (isinstance(value, float) and np.isnan(value)) else str(value)


def save(
    classifier: Classifier, folder: Path, *, text: TextSettings, check: Examples, card: dict[str, Any]
) -> dict[str, Any]:
    """Write a model folder whole, read it back and compare probabilities; only then is it put in place.

    Args:
        classifier: what to save.
        folder: where; a model that stood there is replaced.
        text: text settings kept with the model.
        check: texts to compare on (up to 16 are used).
        card: what else ``headstart.json`` shall hold: ``strategy``, ``text_columns``, ``metrics``, ``fingerprints``...

    Returns:
        The content of ``headstart.json``.

    Raises:
        ModelError: the reloaded model gives other probabilities.
        StorageError: the folder cannot be written.
    """
    columns = card.get("text_columns", ["text"])
    with whole_folder(folder) as temporary:
        about = classifier.write(temporary)
        full = {
            "format": FORMAT,
            "kind": classifier.kind,
            "labels": classifier.labels.to_json(),
            "text": {"columns": list(columns), **asdict(text)},
            "about": about,
            **{name: value for name, value in card.items() if name != "text_columns"},
        }
        write_json(temporary / CARD, full)
        _compare(classifier, temporary, check.take(np.arange(min(_CHECKED_TEXTS, len(check)))))
    return full


def _compare(classifier: Classifier, folder: Path, examples: Examples) -> None:
    runtime = getattr(classifier, "runtime", None) or getattr(
        getattr(classifier, "extractor", None), "runtime", Runtime()
    )
    again = load(folder, runtime=runtime).classifier
    if (
        isinstance(classifier, FrozenClassifier)
        and isinstance(again, FrozenClassifier)
        and again.extractor.same_as(classifier.extractor, examples)
    ):
        again.extractor = classifier.extractor  # equal weights need not be run to be compared, and features are stored
    difference = np.abs(again.predict_proba(examples) - _computed(classifier, examples)).max(initial=0.0)
    if not difference <= _SAME_PROBABILITIES:
        raise ModelError(
            f"the model read back from disk differs from the fitted one by {difference:.2g} in probability; "
            "it was not saved. Please report this with the encoder's name"
        )


def _computed(classifier: Classifier, examples: Examples) -> Probabilities:
    """Return probabilities (N, C); those of a network come from every layer of it, not from stored states."""
    if isinstance(classifier, NetworkClassifier):
        return classifier.score(classifier.prepare(examples))
    return classifier.predict_proba(examples)


def load(folder: str | Path, *, precision: str = "auto", device: str = "auto", runtime: Runtime | None = None) -> Model:
    """Open a model folder.

    Args:
        folder: as written by `save`, or an ordinary transformers sequence classifier.
        precision: ``auto``, ``float32`` or ``bfloat16``.
        device: ``auto`` or a torch device name.
        runtime: device and precision already chosen.

    Raises:
        ModelError: it is not a model folder, is damaged, of a newer format, or wants to run code.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise ModelError(f"there is no model folder at {folder}; `headstart compare` leaves one in runs/NAME/best")
    card = read_card(path)
    if card["kind"] in ("network", "frozen"):
        check_folder(path)
    for file in path.glob("*.safetensors"):
        check_safetensors(file)
    labels = Labels.from_json(card["labels"])
    chosen = runtime or choose_runtime(device, precision)
    try:
        classifier = _KINDS[card["kind"]].read(path, card["about"], labels, _text_settings(card), chosen)
    except (OSError, KeyError, ValueError, TypeError) as problem:
        raise ModelError(f"{path} is damaged: {problem}; save or fit the model again") from problem
    return Model(classifier, card, path)


def read_card(path: Path) -> dict[str, Any]:
    """Return the content of ``headstart.json``, or what stands for it where a folder of transformers has none.

    Whoever uses a model folder comes through here, so here it is refused where it holds what could run code.

    Raises:
        ModelError: it is damaged, of another format or kind, is no model, or holds a pickle, code or a way out.
    """
    refuse_unsafe(path)
    file = path / CARD
    if not file.is_file():
        return _foreign_card(path)
    try:
        card = dict(read_json(file))
        version, kind = card["format"], str(card["kind"])
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        raise _damaged(file, problem) from problem
    if version != FORMAT:
        raise ModelError(f"{file} has format {version}; this version of headstart reads {FORMAT}: upgrade headstart")
    if kind not in _KINDS:
        raise ModelError(f"{file} names kind '{kind}'; known: {', '.join(_KINDS)}; upgrade headstart")
    try:
        _check_labels(Labels.from_json(card["labels"]))
        _ = _text_settings(card), list(card["text"]["columns"]), dict(card["about"])
    except (ValueError, KeyError, TypeError) as problem:
        raise _damaged(file, problem) from problem
    return card


def _text_settings(card: dict[str, Any]) -> TextSettings:
    max_length, truncate = int(card["text"]["max_length"]), card["text"]["truncate"]
    if max_length < 1:
        raise ValueError(f"a maximum length of {max_length} tokens")
    if truncate not in TRUNCATIONS:
        raise ValueError(unknown_name("truncation", truncate, TRUNCATIONS))
    return TextSettings(max_length, truncate)


def _check_labels(labels: Labels) -> None:
    if not len(labels) == len(labels.names) > 0:
        raise ValueError(f"{len(labels)} labels with {len(labels.names)} names")


def _damaged(file: Path, problem: Exception) -> ModelError:
    """Say what is wrong with a card."""
    if isinstance(problem, json.JSONDecodeError | UnicodeDecodeError | RecursionError):
        reason = f"it is not valid JSON, {problem}"
    else:
        words = {KeyError: f"{problem} is missing", TypeError: "it does not hold what it should"}
        reason = words.get(type(problem), str(problem))
    return ModelError(f"{file} is damaged ({reason}); save or fit the model again")


def _foreign_card(path: Path) -> dict[str, Any]:
    """Describe an ordinary transformers sequence classifier, which has no ``headstart.json``."""
    from headstart.models.encoders import Encoder

    encoder = Encoder(str(path), check_folder(path))
    architectures: Sequence[str] = getattr(encoder.config, "architectures", None) or ()
    if not any(a.endswith("ForSequenceClassification") for a in architectures):
        raise ModelError(
            f"{path} is an encoder without a classification head ({', '.join(architectures) or 'no architecture'}); "
            "give it to --encoder, or fit a classifier first"
        )
    names = label_names_of(encoder.config)
    return {
        "format": FORMAT,
        "kind": "network",
        "strategy": "transformers",
        "labels": {"values": names, "names": names, "type": "str"},
        "text": {"columns": ["text"], "max_length": min(encoder.token_limit(), 512), "truncate": "head"},
        "about": {},
    }
