"""Fill the tables of README.md and docs/*.md, and what `headstart strategies` shows, so that they cannot fall behind.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``; NAME is ``strategies``, ``experiment``,
``metrics``, ``encoders``, ``samples``, ``tasks``, the name of a strategy, ``adapt`` or ``self-train``
(settings).

    python docs/tables.py            # fill them
    python docs/tables.py --check    # exit code 1 if one is out of date
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from headstart.adaptation.config import AdaptConfig
from headstart.catalog import ENCODERS, SAMPLES
from headstart.cli.strategies import STORED, described
from headstart.evaluation.metrics import METRICS
from headstart.experiment.config import ExperimentConfig
from headstart.inference.api import flag_of
from headstart.inference.table import TASKS, Task
from headstart.records import read_json, write_json
from headstart.strategies.rows import STRATEGIES
from headstart.strategies.self_train import SelfTrainConfig
from headstart.strategies.table import ADAPT, SELF_TRAIN

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_BLOCK = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    """Fill or check the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; say which pages are out of date")
    check = parser.parse_args().check
    stale = [page for page in PAGES if filled(page.read_text(encoding="utf-8")) != page.read_text(encoding="utf-8")]
    if not STORED.is_file() or read_json(STORED) != described():
        stale.append(STORED)
    for page in stale:
        word = "is out of date: run python docs/tables.py" if check else "written"
        sys.stdout.write(f"{page.relative_to(ROOT)} {word}\n")
        if page == STORED and not check:
            write_json(STORED, described())
        elif not check:
            page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
    return 1 if check and stale else 0


def filled(text: str) -> str:
    """Return a page with every table as the code has it now."""
    return _BLOCK.sub(lambda block: f"{block[1]}{table(block['name'])}\n{block[3]}", text)


def table(name: str) -> str:
    """Return a table by name.

    Raises:
        KeyError: there is none of that name.
    """
    if name == "strategies":
        rows = [[f"`{s.name}`", _start(s.starts_from), s.summary, s.origin] for s in STRATEGIES.values()]
        return markdown(["name", "starts from", "what it does", "origin"], rows)
    if name == "experiment":
        return settings_table(ExperimentConfig)
    if name == "metrics":
        rows = [[f"`{m.name}`", m.title, "yes" if m.higher_is_better else "no"] for m in METRICS.values()]
        return markdown(["key", "name", "higher is better"], rows)
    if name == "encoders":
        rows = [[f"`{e.name}`", e.hub, e.languages, f"{e.parameters / 1e6:.1f}M", e.license] for e in ENCODERS.values()]
        return markdown(["name", "hub name", "languages", "weights", "license"], rows)
    if name == "tasks":
        return markdown(["task", "gives", "keys of the result", "options"], [_task_row(t) for t in TASKS.values()])
    if name == "samples":
        return markdown(["name", "rows", "texts"], [[f"`{s.name}`", f"{s.rows:,}", s.about] for s in SAMPLES.values()])
    stages = {SELF_TRAIN: SelfTrainConfig, ADAPT: AdaptConfig}
    return settings_table(stages[name] if name in stages else STRATEGIES[name].config)


def _task_row(task: Task) -> list[str]:
    flags = [
        f"`{flag_of(name)}`"
        for name in ("context", *task.options.model_fields)
        if name != "context" or task.takes_context
    ]
    return [f"`{task.name}`", task.summary, ", ".join(f"`{key}`" for key in task.keys), ", ".join(flags)]


def settings_table(config: type[BaseModel]) -> str:
    """Return a table of a configuration's fields with defaults and meaning."""
    if not config.model_fields:
        return "No settings."
    rows = [
        [f"`{key}`", shown(field.get_default(call_default_factory=True)) if not field.is_required() else "required",
         str(field.description)]
        for key, field in config.model_fields.items()
    ]  # fmt: skip
    return markdown(["setting", "default", "meaning"], rows)


def shown(default: Any) -> str:
    """Return a default as it would be written in YAML; nothing where nothing is given."""
    if default is None or default == () or default == {}:
        return "–"  # noqa: RUF001  # a dash for "not given"
    if isinstance(default, tuple):
        return f"`[{', '.join(_plain(value) for value in default)}]`"
    return f"`{_plain(default)}`"


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def _start(starts_from: str) -> str:
    words = {
        "nothing": "–",  # noqa: RUF001
        "architecture": "the encoder's architecture",
        "encoder": "encoder",
        "source": "source classifier",
    }
    return words[starts_from]


def markdown(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
