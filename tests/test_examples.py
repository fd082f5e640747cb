"""Every example is a well-formed experiment, has its page, and runs once it is made tiny."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import headstart
from headstart import catalog
from headstart.cli.main import run
from headstart.errors import HeadstartError
from headstart.experiment.config import parse, read_yaml

ROOT = Path(__file__).resolve().parents[1]
WRONG = ROOT / "examples" / "bad_input.yaml"  # on purpose
EXAMPLES = [file for file in sorted((ROOT / "examples").glob("*.yaml")) if file != WRONG]
SHARED = ROOT.parent / "shared" / "data"
NAMES = [file.stem for file in EXAMPLES]
TINY = {"labeled": 40, "holdout_size": 30, "validation_size": 10, "seeds": 1, "max_length": 16, "encoder": None}


def test_there_is_an_example_per_line_of_what_is_claimed() -> None:
    pages = {file.stem for file in (ROOT / "examples").glob("*.md")} - {"README"}
    claimed = {
        "film_reviews",
        "hotel_remarks",
        "hotel_remarks_gru",
        "hotel_few_labels",
        "clothing_reviews",
        "sst2",
        "portuguese_reviews",
        "same_seed",
        "interrupted",
    }
    assert set(NAMES) == claimed
    assert pages == claimed | {"bad_input", "domain_shift"}


@pytest.mark.parametrize("file", EXAMPLES, ids=NAMES)
def test_example_is_well_formed_and_explained(file: Path) -> None:
    config = parse(read_yaml(file), str(file))
    page = file.with_suffix(".md").read_text(encoding="utf-8")
    assert f"examples/{file.name}" in page
    assert f"[{file.name}]({file.name})" in page
    assert {plan.name for plan in config.plans()} - {"full", "lora"} or file.stem == "sst2"
    if "../shared" in config.data or "../shared" in (config.source or ""):
        assert "Needs ../shared/data" in file.read_text(encoding="utf-8").split("\nname:")[0]
        assert "../shared/data" in page


@pytest.mark.parametrize("file", EXAMPLES, ids=NAMES)
def test_index_lists_the_example(file: Path) -> None:
    assert f"({file.stem}.md)" in (ROOT / "examples" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("file", EXAMPLES, ids=NAMES)
def test_example_runs_tiny(file: Path, tmp_path: Path) -> None:
    values = tiny(read_yaml(file))
    data = values.pop("data")
    comparison = headstart.compare(data, **values, tracking=False, out=str(tmp_path / "out"))
    assert comparison.winner == "tfidf"
    assert comparison.record["rows"]["train"] + comparison.record["rows"]["validation"] == TINY["labeled"]


def tiny(values: dict[str, Any]) -> dict[str, Any]:
    """Return an example's settings with few rows, `tfidf` only, and the shared data where it lies."""
    values = {**values, **TINY, "strategies": ["tfidf"]}
    for key in ("source", "settings"):
        values.pop(key, None)
    if values.get("holdout"):
        del values["holdout_size"]
    for key in ("data", "holdout"):
        place = str(values.get(key, ""))
        if "/shared/" not in place:
            continue
        values[key] = str(SHARED / Path(place).name)
        if not Path(values[key]).is_file():
            pytest.skip("the shared data folder is not there")
    if values["data"] in catalog.SAMPLES:
        try:
            catalog.sample_frame(values["data"])
        except HeadstartError:
            pytest.skip("headstart[samples] is not installed")
    return values


def bad_commands() -> list[str]:
    """Return the commands of the page on bad input."""
    text = (ROOT / "examples" / "bad_input.md").read_text(encoding="utf-8")
    return re.findall(r"^headstart .+$", text, re.MULTILINE)


@pytest.mark.parametrize("command", bad_commands())
def test_bad_input_is_refused_and_leaves_nothing(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"text number {i} is {'good' if i % 2 else 'bad'},{'pos' if i % 2 else 'neg'}" for i in range(60)]
    (tmp_path / "reviews.csv").write_text("\n".join(["text,sentiment", *rows]), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert run(shlex.split(command.replace("examples/bad_input.yaml", str(WRONG)))[1:]) == 2
    assert "error: " in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["reviews.csv"]


def test_every_fault_of_the_wrong_example_is_named_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", str(WRONG)]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    meant = ("mean 'label'", "mean 'macro_f1'", "max_length: ", "holdout_size: ", "mean 'lora'", "mean 'epochs'")
    assert len(said) == len(meant)
    assert all(sum(word in line for line in said) == 1 for word in meant)
    assert all("bad_input.yaml" in line for line in said)
