"""Every code block of the documents is run or parsed, tables equal the code, links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from headstart import catalog
from headstart.cli.main import application, run
from headstart.cli.options import resolve, with_masking
from headstart.experiment.config import parse

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += sorted((ROOT / "examples").glob("*.md"))
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
needs_samples = pytest.mark.skipif(
    catalog.packaged_folder("minilm") is None, reason="headstart[samples] is not installed"
)


def blocks(page: Path, *kinds: str) -> list[str]:
    """Return a page's code blocks of some kinds, in order."""
    return [body for kind, body in _FENCE.findall(page.read_text(encoding="utf-8")) if kind in kinds]


def lines_of(block: str) -> Iterator[list[str]]:
    """Yield each command of a block as words; a backslash at the end of a line goes on with the next."""
    for line in block.replace("\\\n", " ").splitlines():
        if line.strip():
            yield shlex.split(line, comments=True)


def with_blocks(*kinds: str) -> Any:
    """Parametrize a test by the pages that have a block of these kinds."""
    pages = [page for page in PAGES if blocks(page, *kinds)]
    return pytest.mark.parametrize("page", pages, ids=[str(page.relative_to(ROOT)) for page in pages])


def script(path: Path) -> ModuleType:
    """Import a script that is no part of a package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def small_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the files that the documents speak of; it is the working directory."""
    snippets = catalog.sample_frame("film-snippets").rename(columns={"label": "sentiment"})
    drawn = snippets.sample(260, random_state=0)
    drawn[:100].to_csv(tmp_path / "reviews.csv", index=False)
    drawn[100:160].to_csv(tmp_path / "films.csv", index=False)
    drawn[160:].to_csv(tmp_path / "later.csv", index=False)
    drawn[160:][["text"]].to_csv(tmp_path / "new.csv", index=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    return tmp_path


@needs_samples
@with_blocks("bash")
def test_bash_blocks_run(page: Path, small_files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (words for block in blocks(page, "bash") for words in lines_of(block)):
        assert words[0] == "headstart", f"only headstart can be run here: {words}"
        code = run(words[1:])
        kept = words[1] == "promote" and page.name == "domain_shift.md"  # 1: the champion stays, which is an answer
        assert code in ((0, 1) if kept else (0,)), f"{shlex.join(words)}\n{capsys.readouterr().err}"
    if page.name == "README.md":  # what the tour says it leaves
        assert (small_files / "runs/reviews/comparison.json").is_file()
        assert (small_files / "runs/reviews/best/headstart.json").is_file()
        assert len(pd.read_csv("labeled.csv")) == len(pd.read_csv("new.csv"))


@needs_samples
@with_blocks("python")
def test_python_blocks_run(page: Path, small_files: Path) -> None:
    for block in blocks(page, "python"):
        exec(compile(block, f"{page.name}, a python block", "exec"), {"__name__": "documents"})


@with_blocks("sh", "text")
def test_sh_commands_are_well_formed(page: Path) -> None:
    for words in (words for block in blocks(page, "sh", "text") for words in lines_of_commands(block)):
        if page.name == "bad_input.md" and words[0] == "headstart":
            continue  # wrong on purpose; run in test_examples.py
        problem = fault(words)
        assert problem is None, f"{shlex.join(words)}: {problem}"


def lines_of_commands(block: str) -> Iterator[list[str]]:
    """Yield the lines that are commands: trees and drawings in text blocks are not."""
    for line in block.replace("\\\n", " ").splitlines():
        if re.match(r"(headstart|make|pip|python|\.venv/bin/\w+) \S", line):
            yield shlex.split(line, comments=True)


def fault(words: list[str]) -> str | None:
    """Return what is wrong with a command that is too heavy to run here, or None."""
    program, *rest = words
    if program == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return None if set(rest) <= set(targets) else f"the Makefile makes {targets}"
    if program == "pip":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        extras = re.findall(r"headstart\[([\w,]+)\]", " ".join(rest))
        known = set(project["optional-dependencies"])
        return None if all(set(e.split(",")) <= known for e in extras) else f"extras are {sorted(known)}"
    if program == "headstart":
        return _command_fault(rest)
    return None if (ROOT / rest[0]).exists() else f"there is no {rest[0]}"


def _command_fault(words: list[str]) -> str | None:
    group: Any = typer.main.get_command(application())
    try:
        with group.make_context("headstart", list(words), resilient_parsing=True) as context:
            name, command, rest = group.resolve_command(context, list(words))
        context = command.make_context(name, list(rest))
        if name in ("compare", "fit"):
            _resolve(dict(context.params))
    except Exception as problem:
        return f"{type(problem).__name__}: {problem}"
    return None


def _resolve(values: dict[str, Any]) -> None:
    own = {name: values.pop(name, None) for name in ("data", "set_", "masking", "json_", "quiet", "strategy")}
    given = {key: value for key, value in values.items() if value is not None}
    named = {"strategies": own["strategy"]} if own["strategy"] else {}
    resolve(own["data"], given | named, with_masking(own["set_"], own["masking"]))


@pytest.mark.parametrize(
    "command",
    [
        "headstart compair x.csv",
        "headstart compare x.csv --strategie full",
        "headstart compare x.csv --set full.epoch=3",
        "headstart fit x.csv --strategy fulll",
        "make dmeo",
        "pip install 'headstart[al]'",
        "python benchmarks/sst3.py",
    ],
)
def test_a_malformed_command_is_found(command: str) -> None:
    assert fault(shlex.split(command)) is not None


def test_tables_equal_the_code() -> None:
    tables = script(ROOT / "docs" / "tables.py")
    for page in tables.PAGES:
        text = page.read_text(encoding="utf-8")
        assert tables.filled(text) == text, f"{page.name} is out of date: run python docs/tables.py"


def test_extras_are_those_of_the_project() -> None:
    """What the README lists and what messages name can be installed, and `all` brings all of it."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    smaller = set(extras) - {"all", "dev"}
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("| extra | brings | for |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == smaller
    assert extras["all"] == [f"headstart[{','.join(name for name in extras if name in smaller)}]"]
    sources = [file.read_text(encoding="utf-8") for file in (ROOT / "src").rglob("*.py")]
    raised = {name for text in sources for name in re.findall(r'MissingExtraError\("(\w+)"', text)}
    assert raised
    assert raised <= smaller


def test_every_strategy_has_a_section() -> None:
    from headstart.strategies.table import STRATEGIES

    text = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
    for name in STRATEGIES:
        assert f"## `{name}`" in text
        assert f"<!-- table: {name} -->" in text


@given(st.text(alphabet="ab\n|", max_size=40))
def test_filling_leaves_other_text_alone(text: str) -> None:
    tables = script(ROOT / "docs" / "tables.py")
    assert tables.filled(text) == text


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file) if file else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_yaml_blocks_are_experiments() -> None:
    import yaml

    for page in PAGES:
        for block in blocks(page, "yaml"):
            parse({"data": "reviews.csv", "source": "films.csv", **yaml.safe_load(block)})


def test_records_page_names_every_key(small_files: Path) -> None:
    from headstart import compare
    from headstart.records import read_json

    found = compare("reviews.csv", label="sentiment", strategies=["tfidf"], tracking=False, out="runs/keys")
    text = (ROOT / "docs" / "records.md").read_text(encoding="utf-8")
    record = found.record
    fit = read_json(small_files / "runs/keys/fits/tfidf/seed-0/record.json")
    card = read_json(small_files / "runs/keys/best/headstart.json")
    missing = [key for part in (record, record["strategies"][0], fit, card) for key in part if f"`{key}`" not in text]
    assert not missing


def test_readme_is_in_american_spelling() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8").lower()
        for word in ("labelled", "initialis", "behaviour", "licence", "colour", "neighbour", "optimis"):
            assert word not in text, f"{page.name}: {word}"
