"""What MLflow runs to open a model of ours: it stands inside the MLflow model, as `loader.py` beside `MLmodel`.

A script and not part of the package: `mlflow.pyfunc` executes it ("models from code"), so no pickle is written or
read. The model folder lies in the MLflow model, and so does the source of headstart that predicting needs, for
machines on which headstart is not installed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class TextClassifier(PythonModel):
    """A model folder as an MLflow model: texts in, ``prediction`` and a probability ``p_LABEL`` per class out."""

    def load_context(self, context: Any) -> None:
        """Open the model folder; ``model_config`` may name another ``precision`` or ``device``."""
        from headstart.models.folder import load

        settings = context.model_config or {}
        self.model = load(
            context.artifacts["model"],
            precision=settings.get("precision", "float32"),
            device=settings.get("device", "auto"),
        )

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Return a DataFrame of N rows: the likeliest label, and the probability of each.

        Args:
            context: not used.
            model_input: a DataFrame with the model's columns. Called directly, not through MLflow, which checks the
                signature first, N strings will do.
            params: not used.
        """
        from headstart.models.predicting import added_columns, columns_read, predict_table

        given: Any = model_input
        if not isinstance(given, pd.DataFrame):
            texts = [given] if isinstance(given, str) else list(given)
            given = pd.DataFrame({columns_read(self.model)[0][0]: pd.Series(texts, dtype=object)})
        return predict_table(self.model, given)[added_columns(self.model)]


def _put_carried_source_last() -> None:
    """Let an installed headstart, which has all its parts, go before the part of its source that is carried along.

    MLflow puts `code/` first on the path. A notebook that opened a model this way could not import the rest of
    headstart any more.
    """
    carried = os.path.realpath(Path(__file__).parent / "code")
    last = [place for place in sys.path if os.path.realpath(place) == carried]
    sys.path[:] = [place for place in sys.path if place not in last] + last


_put_carried_source_last()
set_model(TextClassifier())
