"""Data sets of the `datasets` library: a folder it saved, or a name on the hub. Offline it fails at once."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from headstart.data.table import Table, cut_long_cells, frame_of_values
from headstart.errors import DataError, MissingExtraError

_HUB_TIMEOUT_SECONDS = 10.0
_VALIDATION_NAMES = ("validation", "valid", "val", "dev")
_POOL_NAMES = ("unsupervised", "unlabeled", "unlabelled")
# Data sets known by one word: in "glue/sst2" the second word is a configuration, elsewhere the first is an owner.
_ONE_WORD_SETS = frozenset(
    {
        *("ag_news", "amazon_polarity", "anli", "dbpedia_14", "emotion", "glue", "imdb", "paws", "rotten_tomatoes"),
        *("snli", "sst2", "super_glue", "trec", "tweet_eval", "xnli", "yelp_polarity", "yelp_review_full"),
    }
)


def is_saved_folder(folder: Path) -> bool:
    """Say whether ``save_to_disk`` of the `datasets` library wrote this folder."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def read_saved_folder(folder: Path) -> Table:
    """Read a folder that ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` wrote.

    Raises:
        DataError: it is damaged.
        MissingExtraError: the `datasets` library is not installed.
    """
    datasets = _library(f"the folder {folder.name}")
    try:
        loaded = datasets.load_from_disk(str(folder))
        return _table(loaded, folder.name)
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as problem:
        raise DataError(f"{folder} is not a whole `datasets` folder: {problem}; save it again") from problem


def read_hub(name: str, *, cache_dir: Path | None = None) -> Table:
    """Read a data set of the hub, from the local cache where there is no network.

    Args:
        name: ``imdb``, ``glue/sst2`` (configuration), ``owner/set`` or ``owner/set/configuration``.
        cache_dir: where the `datasets` library keeps what it fetched, else its default.

    Raises:
        DataError: it does not exist, or cannot be reached and is not in the cache.
        MissingExtraError: the `datasets` library is not installed.
    """
    datasets = _library(f"'{name}' is no file here; reading it from the Hugging Face hub")
    problems = []
    reachable = ""
    for repository, configuration in _readings(name):
        reachable = reachable if reachable == "offline" else _reach(repository)  # a hub that is away is asked once
        if reachable == "absent":
            problems.append(f"no data set '{repository}' on the hub")
            continue
        try:
            with _offline(datasets) if reachable == "offline" else contextlib.nullcontext():
                loaded = datasets.load_dataset(repository, configuration, cache_dir=cache_dir and str(cache_dir))
            return _table(loaded, name)
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as problem:
            where = "the hub cannot be reached and the set is not in the cache" if reachable == "offline" else "hub"
            problems.append(f"'{repository}': {where}: {str(problem).splitlines()[0]}")
    raise DataError(
        f"'{name}' is neither a file or folder here nor a data set that can be read from the hub "
        f"({'; '.join(problems)}). Check the path; or fetch it where there is a network with "
        "datasets.load_dataset(...).save_to_disk(FOLDER) and give that folder"
    )


def _library(purpose: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise MissingExtraError("datasets", purpose) from None
    return datasets


def _readings(name: str) -> list[tuple[str, str | None]]:
    """Return what a name can mean, likeliest first: repository and configuration."""
    parts = name.split("/")
    if len(parts) == 3:
        return [("/".join(parts[:2]), parts[2])]
    if len(parts) == 1:
        return [(name, None)]
    as_configuration, as_owner = (parts[0], parts[1]), (name, None)
    return [as_configuration] if parts[0] in _ONE_WORD_SETS else [as_owner, as_configuration]


def _reach(repository: str) -> str:
    """Return "there", "absent" or "offline", asking once: the library itself would retry for half a minute."""
    import huggingface_hub
    from huggingface_hub import errors

    if huggingface_hub.constants.is_offline_mode():
        return "offline"
    try:
        huggingface_hub.HfApi().dataset_info(repository, timeout=_HUB_TIMEOUT_SECONDS)
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        return "absent"
    except Exception:  # whatever HTTP library the client uses today raises its own types
        return "offline"
    return "there"


@contextlib.contextmanager
def _offline(datasets: Any) -> Iterator[None]:
    """Switch the libraries' own offline mode on for the block, so that they look into their cache and give up."""
    import huggingface_hub

    switches: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    before = [switch.HF_HUB_OFFLINE for switch in switches]
    for switch in switches:
        switch.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.HF_HUB_OFFLINE = value


def _table(loaded: Any, name: str) -> Table:
    """Turn a Dataset or DatasetDict into a table; its test split is the holdout if it has labels."""
    splits: Mapping[str, Any] = loaded if hasattr(loaded, "keys") else {"train": loaded}
    if not splits:
        raise DataError(f"{name} has no splits")
    label_names = _label_names(next(iter(splits.values())))
    notes: list[str] = []
    frames = {split: _frame(data, label_names, f"{name}, split {split}", notes) for split, data in splits.items()}
    train_name = "train" if "train" in frames else next(iter(frames))
    train = frames.pop(train_name)
    pools = [frames.pop(pool) for pool in _POOL_NAMES if pool in frames]
    train = pd.concat([train, *pools], ignore_index=True) if pools else train
    further, words = _roles(frames, label_names)
    notes += [f"{name}: {words}"] if words else []
    return Table(train, name, tuple(notes), label_names, further)


def _roles(
    frames: Mapping[str, pd.DataFrame], label_names: Mapping[str, list[str]]
) -> tuple[dict[str, pd.DataFrame], str]:
    """Give the further splits their roles.

    Published test splits often come without labels (GLUE); then the validation split is what can be held out.
    """
    validation = next((f for n in _VALIDATION_NAMES for s, f in frames.items() if s.startswith(n)), None)
    test = frames.get("test")
    blank = test is not None and any(test[column].isna().all() for column in label_names)
    if test is not None and not blank:
        return {"holdout": test} | ({} if validation is None else {"validation": validation}), ""
    if validation is None:
        return {}, "its test split has no labels and is left out" if blank else ""
    why = "its test split has no labels" if blank else "it has no test split"
    return {"holdout": validation}, f"{why}: its validation split is held out, and validation is taken from train"


def _label_names(data: Any) -> dict[str, list[str]]:
    return {c: list(f.names) for c, f in data.features.items() if hasattr(f, "names") and hasattr(f, "int2str")}


def _frame(data: Any, label_names: Mapping[str, list[str]], name: str, notes: list[str]) -> pd.DataFrame:
    """Return a split's frame, class numbers replaced by their names and -1 by "no label"."""
    table = data.with_format("arrow")[:]
    columns: dict[str, list[Any]] = {column: table.column(column).to_pylist() for column in table.column_names}
    for column, names in label_names.items():
        columns[column] = [names[c] if c is not None and c >= 0 else None for c in columns[column]]
    notes += cut_long_cells(columns, name)
    return frame_of_values(columns)
