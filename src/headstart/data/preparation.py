"""The classic preparation of text as scikit-learn transformers, saved as JSON.

Each works in a `Pipeline` and in a `ColumnTransformer`: a Series, array or list of N texts gives N results, a frame or
array of one column (N, 1) gives (N, 1); `TokenIndex` always gives (N, length).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from headstart.errors import DataError, ModelError, unknown_name
from headstart.records import read_json, write_json

WORDS_AND_SIGNS = r"\w+|[^\w\s]"
PADDING, UNKNOWN = 0, 1
_FORMAT = 1
_Objects = npt.NDArray[np.object_]


class _TextStep(TransformerMixin, BaseEstimator):
    """What all steps share: the shape that went in comes out, and `save` / `load`."""

    def fit(self, X: Any, y: object = None) -> Self:
        """Learn nothing; there is nothing to learn."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def transform(self, X: Any) -> _Objects:
        """Return the cells changed one by one, in the shape of ``X``: (N,) or (N, K)."""
        cells = _cells(X)
        changed = np.empty(cells.size, dtype=object)
        for i, cell in enumerate(cells.ravel()):
            changed[i] = self._change(cell)
        return changed.reshape(cells.shape)

    def _change(self, cell: Any) -> Any:
        raise NotImplementedError

    def get_feature_names_out(self, input_features: Iterable[str] | None = None) -> _Objects:
        """Return the names that went in: one column out per column in."""
        return np.asarray(list(input_features or ["text"]), dtype=object)

    def to_json(self) -> dict[str, Any]:
        """Return kind, settings and what was learnt."""
        return {"kind": type(self).__name__, "settings": self.get_params(deep=False), "learnt": self._learnt()}

    def _learnt(self) -> dict[str, Any]:
        return {}

    def _relearn(self, learnt: dict[str, Any]) -> None:
        """Take over what `_learnt` gave."""

    def save(self, path: str | Path) -> None:
        """Write the step as JSON, whole or not at all.

        Raises:
            StorageError: the file cannot be written.
        """
        save_preparation(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a step of this kind.

        Raises:
            ModelError: the file does not hold one.
        """
        step = load_preparation(path)
        if not isinstance(step, cls):
            raise ModelError(f"{path} holds a {type(step).__name__}, not a {cls.__name__}")
        return step


class FillMissing(_TextStep):
    """Put a text where there is none (None, NaN, NA); other values become text.

    Args:
        fill: what to put.
    """

    def __init__(self, fill: str = "") -> None:
        self.fill = fill

    def _change(self, cell: Any) -> str:
        return self.fill if _missing(cell) else str(cell)


class Lowercase(_TextStep):
    """Write every text in lower case.

    `transform` raises `DataError` at a missing value: put `FillMissing` before.
    """

    def _change(self, cell: Any) -> str:
        return _text(cell, "Lowercase").lower()


class TokenizePattern(_TextStep):
    """Cut every text into the matches of a regular expression; a cell becomes a list of tokens.

    Args:
        pattern: what a token is; words and single signs by default.
    """

    def __init__(self, pattern: str = WORDS_AND_SIGNS) -> None:
        self.pattern = pattern

    def _change(self, cell: Any) -> list[str]:
        return [match.group() for match in re.finditer(self.pattern, _text(cell, "TokenizePattern"))]


class TokenIndex(_TextStep):
    """Replace tokens by whole numbers, cut or padded at the end to one length: (N,) lists of tokens to (N, length).

    0 is padding and 1 any token that was not learnt; the others are numbered by falling frequency in what it was
    fitted on, so fit it on training rows only.

    Args:
        length: tokens kept per text; None: those of the longest text it was fitted on.
        max_tokens: how many tokens to learn at most, padding and unknown aside; None: all.
        min_count: how often a token must occur to be learnt.
        keep: which end of a longer text is kept.

    Attributes:
        index_: number of each token learnt.
        length_: tokens per row.
    """

    def __init__(
        self,
        length: int | None = None,
        max_tokens: int | None = None,
        min_count: int = 1,
        keep: Literal["head", "tail"] = "head",
    ) -> None:
        self.length = length
        self.max_tokens = max_tokens
        self.min_count = min_count
        self.keep = keep

    def fit(self, X: Any, y: object = None) -> Self:
        """Learn the tokens of the training rows.

        Raises:
            DataError: cells are no lists of tokens, or there is no token at all.
        """
        if self.keep not in ("head", "tail"):
            raise DataError(unknown_name("keep", str(self.keep), ("head", "tail"), "TokenIndex"))
        if self.length is not None and self.length < 1:
            raise DataError(f"TokenIndex: length must be at least 1, got {self.length}")
        lists = _token_lists(X)
        counts = Counter(token for tokens in lists for token in tokens)
        if not counts:
            raise DataError("TokenIndex: no text has a token; check the column and the pattern")
        frequent = sorted((t for t, n in counts.items() if n >= self.min_count), key=lambda t: (-counts[t], t))
        self.index_ = {token: i for i, token in enumerate(frequent[: self.max_tokens], start=UNKNOWN + 1)}
        self.length_ = self.length or max(len(tokens) for tokens in lists)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "index_")

    def transform(self, X: Any) -> npt.NDArray[np.int64]:  # type: ignore[override]
        """Return token numbers, shape (N, length), int64."""
        check_is_fitted(self)
        lists = _token_lists(X)
        numbers = np.full((len(lists), self.length_), PADDING, dtype=np.int64)
        for row, tokens in enumerate(lists):
            kept = tokens[: self.length_] if self.keep == "head" else tokens[-self.length_ :]
            numbers[row, : len(kept)] = [self.index_.get(token, UNKNOWN) for token in kept]
        return numbers

    def get_feature_names_out(self, input_features: Iterable[str] | None = None) -> _Objects:
        """Return ``token_0`` ... ``token_{length-1}``."""
        check_is_fitted(self)
        return np.asarray([f"token_{i}" for i in range(self.length_)], dtype=object)

    def _learnt(self) -> dict[str, Any]:
        return {"tokens": list(self.index_), "length": self.length_} if hasattr(self, "index_") else {}

    def _relearn(self, learnt: dict[str, Any]) -> None:
        if learnt:
            self.index_ = {token: i for i, token in enumerate(learnt["tokens"], start=UNKNOWN + 1)}
            self.length_ = int(learnt["length"])


_KINDS: dict[str, type[_TextStep]] = {c.__name__: c for c in (FillMissing, Lowercase, TokenizePattern, TokenIndex)}


def text_preparation(*, length: int | None = None, max_tokens: int | None = None, min_count: int = 1) -> Pipeline:
    """Return the four steps as one pipeline: texts (N,) to token numbers (N, length)."""
    index = TokenIndex(length=length, max_tokens=max_tokens, min_count=min_count)
    steps = [("fill", FillMissing()), ("lowercase", Lowercase()), ("tokenize", TokenizePattern()), ("index", index)]
    return Pipeline(steps)


def save_preparation(preparation: _TextStep | Pipeline, path: str | Path) -> None:
    """Write a step, or a pipeline of such steps, as JSON, whole or not at all.

    Raises:
        ModelError: the pipeline has a step of another kind.
        StorageError: the file cannot be written.
    """
    steps = preparation.steps if isinstance(preparation, Pipeline) else [("", preparation)]
    foreign = [f"{name} ({type(step).__name__})" for name, step in steps if type(step).__name__ not in _KINDS]
    if foreign:
        raise ModelError(f"cannot save {', '.join(foreign)} as JSON; known: {', '.join(_KINDS)}")
    content = [{"name": name, **step.to_json()} for name, step in steps]
    write_json(Path(path), {"format": _FORMAT, "pipeline": isinstance(preparation, Pipeline), "steps": content})


def load_preparation(path: str | Path) -> Any:
    """Read what `save_preparation` wrote: a step, or a `Pipeline`.

    Raises:
        ModelError: the file is missing, damaged or of a newer format.
    """
    try:
        content = read_json(Path(path))
        if content["format"] != _FORMAT:
            raise ModelError(f"{path} has format {content['format']}; this version reads {_FORMAT}")
        steps = [(step["name"], _rebuilt(step)) for step in content["steps"]]
        return Pipeline(steps) if content["pipeline"] else steps[0][1]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as problem:
        raise ModelError(f"{path} is not a saved text preparation: {problem!r}") from problem


def _rebuilt(content: dict[str, Any]) -> _TextStep:
    step = _KINDS[content["kind"]](**content["settings"])
    step._relearn(content["learnt"])
    return step


def _missing(cell: Any) -> bool:
    return cell is None or cell is pd.NA or (isinstance(cell, float) and cell != cell)


def _text(cell: Any, step: str) -> str:
    if not isinstance(cell, str):
        raise DataError(f"{step}: got {cell!r}, expected text; put FillMissing before it")
    return cell


def _cells(X: Any) -> _Objects:
    """Return cells as objects, shape (N,) or (N, K)."""
    if isinstance(X, pd.DataFrame | pd.Series):
        return X.to_numpy(dtype=object)
    if isinstance(X, np.ndarray):
        return X.astype(object)
    cells = np.empty(len(X), dtype=object)
    cells[:] = list(X)
    return cells


def _token_lists(X: Any) -> list[list[str]]:
    cells = _cells(X)
    if cells.ndim == 2 and cells.shape[1] != 1:
        raise DataError(f"TokenIndex takes one column of token lists, got {cells.shape[1]}; use one per column")
    lists = list(cells.ravel())
    wrong = next((i for i, tokens in enumerate(lists) if not isinstance(tokens, list | tuple)), None)
    if wrong is not None:
        raise DataError(
            f"TokenIndex: row {wrong} is {lists[wrong]!r}, not a list of tokens: put TokenizePattern before"
        )
    return lists
