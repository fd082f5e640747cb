"""Labeling tables of any size: chunk by chunk, in the table's order, in constant memory, and to be taken up again."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from headstart.data.partial import PartialFile
from headstart.data.read import examples_of
from headstart.data.row_output import RowOutput, Values, row_output
from headstart.data.row_stream import BadRow, Row, shown, without_text
from headstart.data.rows import missing_columns
from headstart.data.stream import PARQUET, RowStream, open_stream
from headstart.data.table import cut_long_cells, frame_of_cells, frame_of_values
from headstart.errors import DataError
from headstart.models.classifier import Advance, Prepared
from headstart.models.folder import Model
from headstart.models.identity import run_identity
from headstart.models.output_places import SIDE_KEYS, check_out, check_side, is_standard
from headstart.models.predicting import added_columns, columns_read, features_named, refuse_clash
from headstart.models.standard_output import StandardOutput

# Enough rows that batches of equal length are found among them; few enough that they take no memory worth naming.
CHUNK_ROWS = 4096
_CHUNK_CHARACTERS = 8 << 20
_NOTES_KEPT = 10


@dataclass(frozen=True)
class Predicted:
    """What labeling came to.

    Attributes:
        out: the file written, or ``-``.
        rows: texts labeled.
        counts: how often each label was given, by name.
        rejected: rows left out.
        rejected_file: where they stand with the reasons; None where there are none.
        resumed: rows that an interrupted run had done.
        notes: what the user should know: encoding found, cells cut, texts over the limit.
    """

    out: Path
    rows: int
    counts: dict[str, int]
    rejected: int
    rejected_file: Path | None
    resumed: int
    notes: tuple[str, ...]


@dataclass
class _Progress:
    """What is counted while rows are labeled; kept in the journal."""

    read: int = 0
    labeled: int = 0
    rejected: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    texts_cut: int = 0
    tokens: int = 0
    tokens_kept: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Chunk:
    """Some rows in order, read and tokenized."""

    read: int
    rows: list[Row]
    bad: list[BadRow]
    prepared: Prepared | None
    notes: list[str]


def predict_file(
    model: Model,
    source: str | Path,
    out: str | Path,
    *,
    text: Sequence[str] = (),
    encoding: str | None = None,
    separator: str | None = None,
    rejected: str | Path | None = None,
    started: Callable[[int | None], Advance] | None = None,
) -> Predicted:
    """Label the texts of a table and write its columns with the answers to a file.

    Rows without a text and rows that cannot be read go to a side file with the reason. Killed or interrupted, the
    same call goes on where it stopped; the file is then the same, byte for byte, as that of an undisturbed call.

    Args:
        model: an opened model.
        source: CSV, TSV, JSON lines or Parquet by suffix, a folder of such files, or ``-``, standard input.
        out: what to write, likewise; replaced if it exists; ``-`` is standard output.
        text: text columns, where they are not called as when the model was fitted.
        encoding: of the input, where the one found is wrong.
        separator: of the input, where the one found is wrong.
        rejected: side file; by default beside ``out``, ``OUT.rejected.jsonl``.
        started: told the number of texts (None: not known), returns what is told how many were done.

    Raises:
        DataError: the input cannot be used, or has a column of a name that is added.
        ConfigError: ``out`` has an unknown suffix, or is the input; or ``rejected`` is a file of something else.
        StorageError: ``out`` or ``rejected`` cannot be written.
    """
    target = check_out(source, out)
    side = check_side(source, out, rejected)
    columns, features = columns_read(model, text)
    stream = open_stream(source, encoding=encoding, separator=separator, text=columns)
    settings = {"text": columns, "encoding": encoding, "separator": separator, "rejected": str(side)}
    with contextlib.ExitStack() as opened:
        opened.callback(stream.close)
        _check_columns(model, stream, columns, features)
        output = row_output(_suffix(target, stream), stream.columns, added_fields(model), stream.schema)
        identity = run_identity(model, stream.files, {**settings, "rows": CHUNK_ROWS}) if stream.files else None
        grown = StandardOutput(side if rejected else None) if is_standard(out) else PartialFile(target, side, identity)
        opened.callback(grown.close)
        run = _Run(model, stream, columns, features, output, _Progress(**grown.progress))
        resumed = run.progress.read
        if not grown.finished:
            run.to_end(grown, None if started is None else started(stream.total))
        grown.finish(output.finish if target.suffix.lower() in PARQUET else None)
    notes = list(stream.notes)
    if grown.dropped:
        notes.append(f"an interrupted run of other settings or data was found at {out} and begun anew")
    done = run.progress
    known = side if done.rejected and not (is_standard(out) and rejected is None) else None
    by_label = {name: done.counts.get(name, 0) for name in model.labels.names}
    all_notes = (*notes, *done.notes, *_cut_note(model, done))
    return Predicted(target, done.labeled, by_label, done.rejected, known, resumed, all_notes)


class _Run:
    """One pass over a stream: a thread reads and tokenizes the next chunk while the model scores this one."""

    def __init__(
        self,
        model: Model,
        stream: RowStream,
        text: Sequence[str],
        features: Sequence[str],
        output: RowOutput,
        progress: _Progress,
    ) -> None:
        self._model, self._stream, self._output = model, stream, output
        self._text, self._features = list(text), list(features)
        self._added = added_columns(model)
        self._known = frozenset(stream.columns)
        about: Any = model.card.get("about", {}).get("head", {})
        self._as_written = [str(c) for c in about.get("categorical", [])]
        self.progress = progress

    def to_end(self, grown: PartialFile | StandardOutput, advance: Advance | None) -> None:
        """Label what is left and add it to the output, chunk by chunk."""
        chunks = self._chunks(self.progress.read)
        if advance is not None:
            advance(self.progress.read)
        with ThreadPoolExecutor(1, thread_name_prefix="reading") as pool:
            ahead: Future[_Chunk | None] = pool.submit(next, chunks, None)
            while (chunk := ahead.result()) is not None:
                ahead = pool.submit(next, chunks, None)
                data, rejected = self._labeled(chunk)
                grown.commit(data, rejected, vars(self.progress))
                if advance is not None:
                    advance(chunk.read)

    def _labeled(self, chunk: _Chunk) -> tuple[bytes, bytes]:
        progress = self.progress
        proba = None if chunk.prepared is None else self._model.classifier.score(chunk.prepared)  # (N, C)
        answers: list[Values] = []
        if proba is not None:
            classes = proba.argmax(axis=1)
            values = self._model.labels.decode(classes)
            for row, value, shares in zip(chunk.rows, values, proba.tolist(), strict=True):
                answers.append({**row.values, **dict(zip(self._added, [value, *shares], strict=True))})
            names = Counter(self._model.labels.names[c] for c in classes)
            progress.counts = {n: progress.counts.get(n, 0) + names[n] for n in self._model.labels.names}
        data = self._output.encode(answers, first=progress.read == 0)
        progress.read += chunk.read
        progress.labeled += len(chunk.rows)
        progress.rejected += len(chunk.bad)
        progress.notes = [*progress.notes, *chunk.notes][:_NOTES_KEPT]
        if chunk.prepared is not None and chunk.prepared.tokens is not None:
            tokens = chunk.prepared.tokens
            progress.texts_cut += int((tokens.lengths < tokens.full_lengths).sum())
            progress.tokens += int(tokens.full_lengths.sum())
            progress.tokens_kept += int(tokens.lengths.sum())
        return data, "".join(_side_line(bad) for bad in chunk.bad).encode()

    def _chunks(self, done: int) -> Iterator[_Chunk]:
        """Yield the chunks after the first ``done`` rows; the cuts between chunks do not depend on where one begins."""
        before = 0
        for rows in _cut_rows(self._stream.rows):
            before += len(rows)
            if before > done:
                yield self._prepared(rows)
            elif before == len(rows):  # the first one decides the types of columns
                self._sorted_out(rows)

    def _sorted_out(self, rows: Sequence[Row | BadRow]) -> tuple[list[Row], list[BadRow]]:
        """Return the rows to label and those to leave out, each in their order."""
        good: dict[int, Row] = {}
        bad: dict[int, BadRow] = {}
        for at, row in enumerate(rows):
            if isinstance(row, BadRow):
                bad[at] = row
            elif (reason := self._fault(row)) is not None:
                bad[at] = BadRow.of(row.file, row.number, reason, shown(row))
            else:
                good[at] = row
        places = list(good)
        for number, reason in self._output.unfit([row.values for row in good.values()]).items():
            row = good.pop(places[number])
            bad[places[number]] = BadRow.of(row.file, row.number, reason, shown(row))
        return list(good.values()), [bad[at] for at in sorted(bad)]

    def _fault(self, row: Row) -> str | None:
        if row.values.keys() != self._known:
            clash = [name for name in self._added if name in row.values]
            if clash:
                return f"has a '{clash[0]}' already, which predicting adds"
            unknown = [name for name in row.values if name not in self._known]
            if unknown and not self._output.any_columns:
                return f"has a '{unknown[0]}', which the first rows have not; JSON lines can hold it"
        return without_text(row, self._text)

    def _prepared(self, rows: Sequence[Row | BadRow]) -> _Chunk:
        good, bad = self._sorted_out(rows)
        notes = [note for row in good for note in self._cut_cells(row)]
        prepared = self._model.classifier.prepare(self._examples(good)) if good else None
        return _Chunk(len(rows), good, bad, prepared, notes)

    def _cut_cells(self, row: Row) -> list[str]:
        columns = {name: [value] for name, value in row.values.items()}
        notes = cut_long_cells(columns, row.file)
        if notes:
            row.values.update({name: cells[0] for name, cells in columns.items()})
        return [note.replace("row 1,", f"row {row.number},", 1) for note in notes]

    def _examples(self, rows: Sequence[Row]) -> Any:
        def column(name: str) -> list[Any]:
            return [row.values.get(name) for row in rows]

        frame = pd.DataFrame({name: pd.Series(column(name), dtype=object) for name in self._text})
        cells = {name: column(name) for name in self._features}
        if self._stream.kind == "delimited":
            made = frame_of_cells(cells, text=self._as_written)
        else:
            made = frame_of_values(cells)
        whole = pd.concat([frame, made[[c for c in made if c not in frame]]], axis=1) if cells else frame
        return examples_of(whole, text=self._text, columns=self._features, name=self._stream.name)


def _cut_rows(rows: Iterator[Row | BadRow]) -> Iterator[list[Row | BadRow]]:
    chunk: list[Row | BadRow] = []
    characters = 0
    for row in rows:
        chunk.append(row)
        if isinstance(row, Row):
            characters += sum(len(v) for v in row.values.values() if isinstance(v, str))
        if len(chunk) == CHUNK_ROWS or characters > _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _side_line(bad: BadRow) -> str:
    line = dict(zip(SIDE_KEYS, (bad.file, bad.number, bad.reason, bad.content), strict=True))
    return json.dumps(line, ensure_ascii=False) + "\n"


def _cut_note(model: Model, done: _Progress) -> list[str]:
    if not done.texts_cut:
        return []
    limit, kept = model.card["text"]["max_length"], model.card["text"]["truncate"]
    return [
        f"{done.texts_cut / done.labeled:.1%} of texts are longer than the model's {limit} tokens; "
        f"{1 - done.tokens_kept / done.tokens:.1%} of all tokens were cut off ({kept} kept)"
    ]


def _check_columns(model: Model, stream: RowStream, text: Sequence[str], features: Sequence[str]) -> None:
    wanted = {**dict.fromkeys(text, "--text"), **dict.fromkeys(features, "--columns")}
    with features_named():
        if faults := missing_columns(pd.DataFrame(columns=list(stream.columns)), wanted, stream.name):
            raise DataError(faults)
    refuse_clash(model, stream.columns, stream.name)


def added_fields(model: Model) -> list[Any]:
    """Return the Arrow fields of the columns that predicting adds."""
    import pyarrow as pa

    kinds = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
    prediction, *shares = added_columns(model)
    kind = kinds[type(model.labels.values[0])]
    return [pa.field(prediction, kind), *(pa.field(name, pa.float64()) for name in shares)]


def _suffix(target: Path, stream: RowStream) -> str:
    """Return the format to write: by the output's name, on standard output that of the input."""
    if not is_standard(target):
        return target.suffix.lower()
    return ".csv" if stream.kind == "delimited" else ".jsonl"
