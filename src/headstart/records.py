"""What a run leaves behind: files that appear whole or not at all, fingerprints, versions, hardware."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from headstart.errors import StorageError

RECORD_FORMAT = 1
VOLATILE = frozenset(
    {
        "seconds_fit",
        "seconds_holdout",
        "texts_per_second",
        "peak_memory_bytes",
        "product_rates",
        "hardware",
    }
)
_PACKAGES = ("headstart", "torch", "transformers", "tokenizers", "peft", "scikit-learn", "numpy", "pandas", "catboost")

_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def storage_error(path: Path | str, problem: OSError) -> StorageError:
    """Turn an operating-system error about ``path`` into one sentence with a remedy."""
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "the disk is full; free some space or choose another folder with --out"
    elif problem.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        remedy = "it is not writable; choose another folder with --out or change its permissions"
    elif problem.errno in (errno.ENOTDIR, errno.EEXIST):
        remedy = "a file of that name is in the way; choose another folder with --out"
    else:
        remedy = "choose another folder with --out"
    return StorageError(f"cannot write {path}: {problem.strerror or problem}: {remedy}")


def storage_problem(problem: BaseException | None, path: Path | str | None = None) -> StorageError | None:
    """Return words on a full or unwritable disk, if that is what is behind an error; else None.

    Args:
        problem: any error; libraries with types of their own (safetensors, CatBoost, shutil) only say it in their text.
        path: what was being written; else what the error names.
    """
    full = "No space left on device"
    while problem is not None:
        if isinstance(problem, OSError) and problem.errno in _CANNOT_WRITE:
            return storage_error(path or problem.filename or "the output", problem)
        if full in str(problem):
            return storage_error(path or "the output", OSError(errno.ENOSPC, full))
        problem = problem.__cause__ or problem.__context__
    return None


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it there when the block ends without an error.

    Raises:
        StorageError: the file cannot be written; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as problem:
        raise storage_error(path, problem) from problem
    except Exception as problem:
        gone = os.strerror(errno.ENOENT)  # another process has dropped the folder; safetensors says so in its own way
        if gone in str(problem):
            raise storage_error(path, OSError(errno.ENOENT, gone)) from problem
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``; it takes the place of ``path`` when the block ends well.

    Raises:
        StorageError: the folder cannot be written; what stood at ``path`` stays as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    except OSError as problem:
        raise storage_error(path, problem) from problem
    try:
        temporary.chmod(0o755)
        yield temporary
        if path.exists():
            old = temporary.with_suffix(".old")
            os.replace(path, old)
            os.replace(temporary, path)
            shutil.rmtree(old)
        else:
            os.replace(temporary, path)
    except Exception as problem:
        if (full := storage_problem(problem, path)) is not None:
            raise full from problem
        if isinstance(problem, OSError):
            raise storage_error(path, problem) from problem
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented UTF-8 JSON, whole or not at all; NaN is refused.

    Raises:
        StorageError: the file cannot be written.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    with whole_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON from ``path`` (UTF-8)."""
    return json.loads(path.read_text(encoding="utf-8"))


def fingerprint(parts: Iterable[str | bytes]) -> str:
    """Return 16 hexadecimal digits of a SHA-256 over the parts, each with its length (so ``ab|c`` != ``a|bc``)."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.hexdigest()[:16]


def fingerprint_json(value: Any) -> str:
    """Return the fingerprint of a JSON value, independent of key order."""
    return fingerprint([json.dumps(value, sort_keys=True, ensure_ascii=False)])


def fingerprint_file(path: Path) -> str:
    """Return 16 hexadecimal digits of a SHA-256 over the bytes of a file, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while piece := handle.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()[:16]


def folder_size(folder: Path) -> int:
    """Return the bytes of all files below ``folder``."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def stable(record: Any) -> Any:
    """Return a record without what differs from run to run: times, rates, memory, hardware.

    Two runs of one configuration with one seed on one machine leave equal stable records.
    """
    if isinstance(record, dict):
        return {k: stable(v) for k, v in record.items() if k not in VOLATILE}
    return [stable(v) for v in record] if isinstance(record, list) else record


def versions() -> dict[str, str]:
    """Return the installed version of Python and of each package that can change a result."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def cores() -> int:
    """Return the processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def hardware() -> dict[str, Any]:
    """Return processor name, usable cores and memory in bytes."""
    import psutil

    return {
        "processor": _processor_name(),
        "cores": cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor_name() -> str:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            for line in Path("/proc/cpuinfo").read_text().splitlines():
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
