"""``boosted``: CatBoost on the frozen encoder's features plus named columns of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from headstart.models.frozen import BoostedHead, FrozenClassifier, feature_table, import_catboost
from headstart.strategies.features import extractor_of
from headstart.strategies.task import Fitted, Task


class BoostedConfig(BaseModel):
    """Settings of ``boosted``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trees: int = Field(500, ge=1, description="most trees")
    depth: int = Field(4, ge=1, le=12, description="depth of each tree")
    learning_rate: float = Field(0.1, gt=0, description="shrinkage")
    l2: float = Field(10.0, ge=0, description="L2 penalty of leaf values")
    patience: int = Field(50, ge=1, description="trees without a better validation log loss before stopping")
    layer: int = Field(-1, description="which layer's states are averaged; -1 the last")
    refit: bool = Field(True, description="fit again on train + validation with the best number of trees")


def fit(task: Task, config: BoostedConfig) -> Fitted:
    """Stop on validation log loss, then fit on everything (unless told otherwise)."""
    catboost = import_catboost("strategy 'boosted'")
    extractor = extractor_of(task, layer=config.layer)
    names, categorical = _columns(task.train.columns)
    table = feature_table(extractor(task.train, task.advance), task.train.columns, names, categorical)
    held = feature_table(extractor(task.validation, task.advance), task.validation.columns, names, categorical)
    pool = _pool(catboost, table, task.train.y, categorical)
    held_pool = _pool(catboost, held, task.validation.y, categorical)
    trees = _classifier(catboost, task, config, config.trees, early_stopping_rounds=config.patience)
    trees.fit(pool, eval_set=held_pool, use_best_model=True, verbose=False)
    validation = _all_classes(trees, held, len(task.labels))
    best = max(1, int(trees.tree_count_))
    if config.refit:
        both = pd.concat([table, held], ignore_index=True)
        y = np.concatenate([task.train.y, task.validation.y])
        trees = _classifier(catboost, task, config, best)
        trees.fit(_pool(catboost, both, y, categorical), verbose=False)
    head = BoostedHead(trees, names, categorical)
    notes = {"trees": best, "refit": config.refit, "columns": list(names), "categorical": list(categorical)}
    return Fitted(FrozenClassifier(extractor, head, task.labels), validation, head.parameters(), notes=notes)


def _columns(columns: pd.DataFrame | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if columns is None:
        return (), ()
    numeric = [c for c in columns if pd.api.types.is_numeric_dtype(columns[c]) and columns[c].dtype != bool]
    return tuple(map(str, columns)), tuple(str(c) for c in columns if c not in numeric)


def _pool(catboost: Any, table: pd.DataFrame, y: npt.NDArray[np.int64], categorical: tuple[str, ...]) -> Any:
    return catboost.Pool(table, y, cat_features=list(categorical))


def _classifier(catboost: Any, task: Task, config: BoostedConfig, trees: int, **more: Any) -> Any:
    return catboost.CatBoostClassifier(
        iterations=trees,
        depth=config.depth,
        learning_rate=config.learning_rate,
        l2_leaf_reg=config.l2,
        loss_function="Logloss" if len(task.labels) == 2 else "MultiClass",
        class_weights=None if task.class_weights is None else list(task.class_weights),
        classes_count=None if len(task.labels) == 2 else len(task.labels),
        random_seed=task.seed,
        thread_count=task.threads,
        allow_writing_files=False,
        **more,
    )


def _all_classes(trees: Any, table: pd.DataFrame, classes: int) -> npt.NDArray[np.float64]:
    probabilities = np.asarray(trees.predict_proba(table), dtype=np.float64)
    assert probabilities.shape[1] == classes
    return probabilities
