"""From the bytes of a text file to its characters: encodings found, or said."""

from __future__ import annotations

import codecs
import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

from headstart.errors import DataError, NoRowsError, counted, did_you_mean

_SNIFFED_BYTES = 4 << 20

_MARKS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHER_FORMATS = (
    (b"PAR1", "a Parquet file", "name it .parquet"),
    (b"PK\x03\x04", "a zip archive or Excel workbook", "export it as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "export it as CSV"),
    (b"\x1f\x8b", "gzip-compressed", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed", "unpack it first"),
    (b"%PDF", "a PDF document", "export its table as CSV"),
    (b"\x89PNG", "a picture", "give a table"),
)
_COMMON = ("utf-8", "utf-16", "cp1252", "latin-1", "cp1250", "cp1251", "gb18030", "shift_jis", "euc-kr", "big5")


def read_text(path: Path, *, encoding: str | None) -> tuple[str, str]:
    """Read a whole text file.

    Returns:
        Its characters without byte-order mark, and a few words on the encoding.

    Raises:
        DataError: it is empty, is not text, or the given encoding does not fit.
    """
    raw = read_bytes(path)
    _refuse_other_formats(raw, path.name)
    text, found = _decode(raw, path.name, encoding)
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise _empty(path.name)
    return text, found


@dataclass(frozen=True)
class TextStream:
    """A text file that is read a piece at a time.

    Attributes:
        lines: its characters; a byte that does not fit the encoding is a surrogate U+DC80 to U+DCFF, where the
            encoding allows it.
        head: its first characters, without byte-order mark.
        cut: whether there is more than the head.
        found: a few words on the encoding.
    """

    lines: TextIO
    head: str
    cut: bool
    found: str


def open_text(raw: BinaryIO, name: str, *, encoding: str | None, newline: str) -> TextStream:
    """Open a text file for reading in constant memory; its encoding is found from its first 4 MiB.

    Args:
        raw: the file, or standard input.
        name: what messages call it.
        encoding: else found.
        newline: as for `open`.

    Raises:
        DataError: it is empty, is not text, or the given encoding is unknown.
    """
    head = raw.read(_SNIFFED_BYTES)
    if not head:
        raise NoRowsError(f"{name} is empty (0 bytes): it needs column names and at least one row")
    _refuse_other_formats(head, name)
    cut = len(head) == _SNIFFED_BYTES
    chosen, found = _chosen_encoding(head, name, encoding)
    # Encodings of two and four bytes a character lose their step at a wrong byte: there is no going on.
    errors = "strict" if chosen.lower().replace("_", "-").startswith(("utf-16", "utf-32")) else "surrogateescape"
    text = codecs.getincrementaldecoder(chosen)(errors).decode(head, final=not cut)
    if not text.strip():
        raise _empty(name)
    joined = io.BufferedReader(_Rejoined(head, raw), 1 << 16)
    return TextStream(io.TextIOWrapper(joined, encoding=chosen, errors=errors, newline=newline), text, cut, found)


class _Rejoined(io.RawIOBase):
    """A stream of which the first bytes were taken already."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head: memoryview | None = memoryview(head)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._head is not None:
            n = min(len(buffer), len(self._head))
            buffer[:n] = self._head[:n]
            self._head = self._head[n:] if n < len(self._head) else None
            return n
        piece = self._rest.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        if not self.closed:
            self._rest.close()
        super().close()


def _chosen_encoding(head: bytes, name: str, encoding: str | None) -> tuple[str, str]:
    if encoding is not None:
        try:
            chosen = codecs.lookup(encoding).name
        except LookupError:
            raise _unknown_encoding(encoding) from None
        marked = chosen == "utf-8" and head.startswith(codecs.BOM_UTF8)
        return "utf-8-sig" if marked else chosen, f"encoding {encoding}"
    for mark, marked_name in _MARKS:
        if head.startswith(mark):
            return marked_name, f"encoding {marked_name} (by its byte-order mark)"
    _refuse_unmarked_utf16(head, name)
    wrong, right = _lines_beyond_ascii(head)
    if not wrong:
        return "utf-8", "encoding utf-8"
    if right > len(wrong):  # hardly any text in another encoding looks like UTF-8 by chance
        return "utf-8", f"encoding utf-8, {counted(len(wrong), 'line', 'lines')} damaged"
    guess = next((g for g in ("cp1252", "latin-1") if _decodes(head, g)), "latin-1")
    return guess, f"not UTF-8 (line {wrong[0] + 1}), read as {guess}; if that is wrong, give --encoding"


def _lines_beyond_ascii(head: bytes) -> tuple[list[int], int]:
    """Return which lines (from 0) are no UTF-8, and how many are, of those that are not ASCII."""
    if head.isascii():
        return [], 0
    lines = head.split(b"\n")
    if len(head) == _SNIFFED_BYTES and len(lines) > 1:
        lines.pop()  # may end within a character
    beyond = [(i, line) for i, line in enumerate(lines) if not line.isascii()]
    wrong = [i for i, line in beyond if not _decodes(line, "utf-8")]
    return wrong, len(beyond) - len(wrong)


def _decodes(raw: bytes, encoding: str) -> bool:
    try:
        raw.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _refuse_other_formats(raw: bytes, name: str) -> None:
    for magic, what, remedy in _OTHER_FORMATS:
        if raw.startswith(magic):
            raise DataError(f"{name} is {what}, not text: {remedy}")


def _empty(name: str) -> NoRowsError:
    return NoRowsError(f"{name} is empty: it needs a header row and at least one row of data")


def _unknown_encoding(encoding: str) -> DataError:
    return DataError(
        f"encoding '{encoding}' is unknown; common ones: {', '.join(_COMMON)}.{did_you_mean(encoding, _COMMON)} "
        "(--encoding)"
    )


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Raises:
        DataError: it cannot be read, or has no bytes.
    """
    try:
        raw = path.read_bytes()
    except OSError as problem:
        raise DataError(f"cannot read {path}: {problem.strerror or problem}") from problem
    if not raw:
        raise DataError(f"{path.name} is empty (0 bytes): it needs column names and at least one row")
    return raw


def _decode(raw: bytes, name: str, encoding: str | None) -> tuple[str, str]:
    if encoding is not None:
        return _decode_as(raw, name, encoding), f"encoding {encoding}"
    for mark, marked in _MARKS:
        if raw.startswith(mark):
            return _decode_as(raw, name, marked), f"encoding {marked} (by its byte-order mark)"
    _refuse_unmarked_utf16(raw, name)
    try:
        return raw.decode("utf-8"), "encoding utf-8"
    except UnicodeDecodeError as problem:
        where = f"byte 0x{raw[problem.start]:02x} at offset {problem.start:,}, line {_line(raw, problem.start)}"
    for guess in ("cp1252", "latin-1"):
        try:
            text = raw.decode(guess)
        except UnicodeDecodeError:
            continue
        return text, f"not UTF-8 ({where}), read as {guess}; if that is wrong, give --encoding"
    raise DataError(f"{name} is not text in a known encoding ({where}): give --encoding")


def _decode_as(raw: bytes, name: str, encoding: str) -> str:
    try:
        return raw.decode(encoding)
    except LookupError:
        raise _unknown_encoding(encoding) from None
    except UnicodeError as problem:
        start = problem.start if isinstance(problem, UnicodeDecodeError) else 0
        raise DataError(
            f"{name} is not {encoding}: the bytes at offset {start:,} (line {_line(raw, start)}) do not fit; "
            "leave --encoding out to have it found, or give another"
        ) from problem


def _refuse_unmarked_utf16(raw: bytes, name: str) -> None:
    head = raw[:2000]
    for offset, guess in ((1, "utf-16-le"), (0, "utf-16-be")):
        half = head[offset::2]
        if len(half) > 4 and half.count(0) > 0.4 * len(half) and head[1 - offset :: 2].count(0) == 0:
            raise DataError(f"{name} looks like UTF-16 without a byte-order mark: try --encoding {guess}")


def _line(raw: bytes, offset: int) -> int:
    return raw[:offset].count(b"\n") + 1
