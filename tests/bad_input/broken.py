"""What a case of bad input is, and the place it is tried in."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

POSITIVE = ("good", "great", "warm", "bright")
NEGATIVE = ("bad", "awful", "dull", "poor")
CACHE = "headstart-cache"  # tests/conftest.py puts the cache below the test's own folder


def rows(n: int, *, start: int = 0) -> list[tuple[str, str]]:
    """Return N different texts, every second one positive, with their labels."""
    made = []
    for i in range(start, start + n):
        label, words = (("neg", NEGATIVE), ("pos", POSITIVE))[i % 2]
        made.append((f"this film number {i} is {words[i % 4]} and very {words[(i + 1) % 4]}", label))
    return made


def lines(n: int, *, start: int = 0, header: str = "text,label") -> str:
    """Return the same as the content of a CSV file."""
    return "\n".join([header, *(",".join(row) for row in rows(n, start=start))]) + "\n"


Call = Callable[["World", str], tuple[int, str, str]]  # a command line to exit code, stdout and stderr


@dataclass(frozen=True)
class World:
    """The folder that a command runs in, with what may be broken there.

    Attributes:
        folder: holds ``reviews.csv``, 80 labeled texts, and nothing else.
        encoder: a tiny encoder; copy it before breaking it.
        models: model folders by kind (tfidf, frozen, boosted, network); copy them before breaking them.
    """

    folder: Path
    encoder: Path
    models: Mapping[str, Path]

    def file(self, name: str, content: str | bytes) -> Path:
        """Write a file; text as UTF-8."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def arguments(self, command: str) -> list[str]:
        """Return a command line's arguments; ``ENCODER`` stands for the whole encoder's folder."""
        return [str(self.encoder) if word == "ENCODER" else word for word in shlex.split(command)]

    def copied_encoder(self, name: str = "encoder") -> Path:
        """Return a copy that may be broken."""
        return Path(shutil.copytree(self.encoder, self.folder / name))

    def copied_model(self, kind: str, name: str = "model") -> Path:
        """Return a copy that may be broken."""
        return Path(shutil.copytree(self.models[kind], self.folder / name))


def _as_it_is(world: World) -> None:
    pass


@dataclass(frozen=True)
class Case:
    """One thing that is wrong.

    Attributes:
        name: of the test.
        command: the command line, run in the world's folder; see `World.arguments`.
        words: what standard error has to say: file, row, column or flag, and the remedy.
        make: breaks something first.
        errors: how many faults there are; each gets one line.
    """

    name: str
    command: str
    words: Sequence[str]
    make: Callable[[World], object] = _as_it_is
    errors: int = 1


def with_file(name: str, content: str | bytes) -> Callable[[World], object]:
    """Return what writes one file."""
    return lambda world: world.file(name, content)


def change_json(path: Path, **values: object) -> None:
    """Set keys of a JSON file; None takes a key out."""
    found = json.loads(path.read_text(encoding="utf-8")) | values
    path.write_text(json.dumps({k: v for k, v in found.items() if v is not None}), encoding="utf-8")


def truncate(path: Path, share: float = 0.5) -> None:
    """Cut a file's end off, as an interrupted download does."""
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])


def snapshot(folder: Path) -> dict[str, str]:
    """Return every path below a folder with a hash of its content; the cache of computed features aside."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.split("/")[0] != CACHE:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "a folder"
    return found


def half_written(folder: Path) -> list[str]:
    """Return what should only exist while something is written, the cache included."""
    return [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix in (".tmp", ".old", ".part")]
