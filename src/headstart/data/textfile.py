"""From the bytes of a text file to its characters: encodings found, or said."""

from __future__ import annotations

import codecs
from pathlib import Path

from headstart.errors import DataError, did_you_mean

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
    for magic, what, remedy in _OTHER_FORMATS:
        if raw.startswith(magic):
            raise DataError(f"{path.name} is {what}, not text: {remedy}")
    text, found = _decode(raw, path.name, encoding)
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise DataError(f"{path.name} is empty: it needs a header row and at least one row of data")
    return text, found


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
        raise DataError(
            f"encoding '{encoding}' is unknown; common ones: {', '.join(_COMMON)}.{did_you_mean(encoding, _COMMON)} "
            "(--encoding)"
        ) from None
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
