"""The Python doors: `compare` and `fit`, with the words of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from headstart.errors import ConfigError
from headstart.experiment.comparison import Comparison
from headstart.experiment.config import is_experiment_file, parse, read_yaml
from headstart.experiment.progress import Reporter, Silent
from headstart.experiment.run import run


def compare(
    data: str | Path | pd.DataFrame,
    *,
    holdout: str | Path | pd.DataFrame | None = None,
    reporter: Reporter | None = None,
    **settings: Any,
) -> Comparison:
    """Compare ways of transferring a pretrained encoder to labeled texts.

    Args:
        data: a file of labeled texts, a DataFrame, or an experiment file (``.yaml``).
        holdout: texts to be scored once at the end; by default taken from ``data``.
        reporter: told how it goes; nobody by default.
        settings: everything else, as on the command line: ``label="stars"``, ``strategies=["tfidf", "full"]``,
            ``encoder="minilm"``, ``seeds=3``, ``settings={"full": {"epochs": 3}}``, ...

    Returns:
        The finished comparison: ``.leaderboard`` (DataFrame), ``.winner``, ``.best`` (model), ``.record``.

    Raises:
        HeadstartError: settings, data, models or the output folder are wrong.
    """
    frame = data if isinstance(data, pd.DataFrame) else None
    holdout_frame = holdout if isinstance(holdout, pd.DataFrame) else None
    values: dict[str, Any] = {}
    where = ""
    if frame is not None:
        values["data"] = "dataframe"
    elif is_experiment_file(str(data)):
        values, where = read_yaml(str(data)), str(data)
    else:
        values["data"] = str(data)
    if holdout is not None and holdout_frame is None:
        values["holdout"] = str(holdout)
    words = {name.replace("-", "_"): value for name, value in values.items()}  # as in YAML; settings have no dashes
    config = parse(words | settings, where)
    return run(config, reporter=reporter or Silent(), frame=frame, holdout_frame=holdout_frame)


def fit(data: str | Path | pd.DataFrame, strategy: str, **settings: Any) -> Comparison:
    """Fit one strategy: a comparison with one row; arguments as for `compare`.

    Raises:
        ConfigError: ``strategies`` was given too.
        HeadstartError: settings, data, models or the output folder are wrong.
    """
    if "strategies" in settings:
        raise ConfigError("fit takes one strategy; use compare for several")
    name = settings.pop("name", None)
    if name is None:
        name = "dataframe" if isinstance(data, pd.DataFrame) else Path(data).stem
    return compare(data, strategies=[strategy], name=f"{name}-{strategy}", **settings)
