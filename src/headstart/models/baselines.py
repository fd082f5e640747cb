"""Classifiers without an encoder: the majority class, and TF-IDF with logistic regression."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.data.examples import Examples
from headstart.data.labels import Labels
from headstart.models.batching import TextSettings
from headstart.models.classifier import Advance, Prepared, Probabilities, check_classes, softmax
from headstart.models.runtime import Runtime
from headstart.records import read_json, write_json

_WEIGHTS_FILE = "tfidf.safetensors"
_VOCABULARY_FILE = "vocabulary.json"


class MajorityClassifier:
    """Gives every text the class shares of the training rows: the floor of every table."""

    kind = "majority"
    text = TextSettings()

    def __init__(self, shares: npt.NDArray[np.float64], labels: Labels) -> None:
        self.shares = shares
        self.labels = labels

    def predict_proba(self, examples: Examples, advance: Advance | None = None) -> Probabilities:
        """Return the same class shares for each of N texts, shape (N, C)."""
        if advance is not None:
            advance(len(examples))
        return np.tile(self.shares, (len(examples), 1))

    def prepare(self, examples: Examples) -> Prepared:
        """Return the texts as they are."""
        return Prepared(examples)

    def score(self, prepared: Prepared, advance: Advance | None = None) -> Probabilities:
        """Return class probabilities (N, C)."""
        return self.predict_proba(prepared.examples, advance)

    def parameters(self) -> int:
        """Return the number of class shares."""
        return int(self.shares.size)

    def write(self, folder: Path) -> dict[str, Any]:
        """Write nothing but the shares."""
        return {"shares": [float(s) for s in self.shares]}

    @classmethod
    def read(
        cls, folder: Path, about: dict[str, Any], labels: Labels, text: TextSettings, runtime: Runtime
    ) -> MajorityClassifier:
        """Read what `write` wrote."""
        shares = np.asarray(about["shares"], dtype=np.float64)
        check_classes(len(shares), labels)
        return cls(shares, labels)


class TfidfClassifier:
    """Logistic regression on TF-IDF of word 1- and 2-grams.

    Args:
        vectorizer: a fitted scikit-learn ``TfidfVectorizer`` with V terms.
        weights: shape (C, V).
        bias: shape (C,).
        labels: C labels.
    """

    kind = "tfidf"
    text = TextSettings()

    def __init__(
        self, vectorizer: Any, weights: npt.NDArray[np.float64], bias: npt.NDArray[np.float64], labels: Labels
    ) -> None:
        self.vectorizer, self.weights, self.bias, self.labels = vectorizer, weights, bias, labels

    def predict_proba(self, examples: Examples, advance: Advance | None = None) -> Probabilities:
        """Return class probabilities (N, C)."""
        if not len(examples):  # scikit-learn refuses an empty matrix
            return np.zeros((0, len(self.labels)))
        logits = self.vectorizer.transform(examples.joined()) @ self.weights.T + self.bias
        if advance is not None:
            advance(len(examples))
        return softmax(np.asarray(logits))

    def prepare(self, examples: Examples) -> Prepared:
        """Return the texts as they are."""
        return Prepared(examples)

    def score(self, prepared: Prepared, advance: Advance | None = None) -> Probabilities:
        """Return class probabilities (N, C)."""
        return self.predict_proba(prepared.examples, advance)

    def parameters(self) -> int:
        """Return the size of weights and bias."""
        return int(self.weights.size + self.bias.size)

    def write(self, folder: Path) -> dict[str, Any]:
        """Write vocabulary as JSON, numbers as safetensors."""
        from safetensors.numpy import save_file

        terms = sorted(self.vectorizer.vocabulary_, key=self.vectorizer.vocabulary_.__getitem__)
        write_json(folder / _VOCABULARY_FILE, terms)
        arrays = {"idf": np.asarray(self.vectorizer.idf_), "weights": self.weights, "bias": self.bias}
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, str(folder / _WEIGHTS_FILE))
        return {"sublinear": bool(self.vectorizer.sublinear_tf)}

    @classmethod
    def read(
        cls, folder: Path, about: dict[str, Any], labels: Labels, text: TextSettings, runtime: Runtime
    ) -> TfidfClassifier:
        """Read what `write` wrote."""
        from safetensors.numpy import load_file

        arrays = load_file(str(folder / _WEIGHTS_FILE))
        vectorizer = new_vectorizer(sublinear=about["sublinear"], vocabulary=read_json(folder / _VOCABULARY_FILE))
        vectorizer.idf_ = arrays["idf"]
        check_classes(len(arrays["bias"]), labels)
        return cls(vectorizer, arrays["weights"], arrays["bias"], labels)


def new_vectorizer(*, sublinear: bool, min_count: int = 1, vocabulary: list[str] | None = None) -> Any:
    """Return an unfitted word 1-2-gram TF-IDF vectorizer; single characters count as words."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        ngram_range=(1, 2),
        sublinear_tf=sublinear,
        min_df=min_count,
        token_pattern=r"(?u)\b\w+\b",
        strip_accents=None,
        vocabulary=vocabulary,
    )
