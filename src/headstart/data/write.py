"""Writing a table that fits in memory, by the suffix of its name."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from headstart.data.table import clean_text
from headstart.records import whole_file

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_JSON = (".jsonl", ".ndjson")


def write_table(frame: pd.DataFrame, target: Path) -> None:
    """Write a frame whole or not at all: CSV, TSV, JSON lines, else Parquet; characters no file can hold are U+FFFD.

    Raises:
        StorageError: the file cannot be written.
    """
    clean = frame.rename(columns=clean_text)
    for name in clean.columns:
        if clean[name].dtype == object or pd.api.types.is_string_dtype(clean[name].dtype):
            clean[name] = [clean_text(v) if isinstance(v, str) else v for v in clean[name]]
    suffix = target.suffix.lower()
    with whole_file(target) as temporary:
        if suffix in _SEPARATORS:
            clean.to_csv(temporary, sep=_SEPARATORS[suffix], index=False, lineterminator="\n")
        elif suffix in _JSON:
            clean.to_json(temporary, orient="records", lines=True, force_ascii=False, double_precision=15)
        else:
            clean.to_parquet(temporary, index=False)
