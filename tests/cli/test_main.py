from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest
from commands import call

from headstart import __version__, catalog
from headstart.adaptation.config import MASKINGS
from headstart.cli import completion, main
from headstart.cli.strategies import STORED, described
from headstart.data.mend import MENDS
from headstart.errors import ConfigError
from headstart.evaluation.metrics import METRICS
from headstart.inference.table import TASKS
from headstart.models.batching import TRUNCATIONS
from headstart.models.runtime import PRECISIONS
from headstart.records import read_json
from headstart.strategies.table import known_names

COMMANDS = [
    "compare", "fit", "adapt", "predict", "serve", "evaluate", "infer", "inspect", "register", "models", "promote",
    "rollback", "strategies", "encoders", "export", "cache",
]  # fmt: skip


def test_version():
    assert call("--version") == (0, f"headstart {__version__}\n", "")


def test_help_lists_every_command():
    code, out, _ = call("--help")
    assert code == 0
    assert [name for name in COMMANDS if f" {name} " in out] == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_each_help_has_text_and_examples(name):
    code, out, err = call(name, "--help")
    assert (code, err) == (0, "")
    assert "Examples:" in out
    assert f"headstart {name}" in out.split("Examples:")[1]


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["compare", "--help"], ["infer", "--help"], ["encoders"], ["strategies"], ["strategies", "lora"]],
)
def test_light_commands_do_not_load_torch(arguments):
    program = (
        "import sys; from headstart.cli.main import run; code = run(sys.argv[1:]); "
        "heavy = {'torch', 'transformers', 'sklearn', 'catboost', 'mlflow'} & set(sys.modules); "
        "sys.exit(code if not heavy else ' '.join(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_names_offered_by_completion_are_the_real_ones():
    assert list(completion.STRATEGIES) == known_names()
    assert list(completion.METRICS) == list(METRICS)
    assert tuple(TASKS) == completion.TASKS
    assert completion.TRUNCATIONS == TRUNCATIONS
    assert completion.PRECISIONS == PRECISIONS
    assert completion.MASKINGS == MASKINGS
    assert set(completion.MENDINGS) == {"all", *MENDS}
    assert set(catalog.ENCODERS) < set(completion.encoder(""))


def test_completion_of_a_list_completes_its_last_name_and_offers_none_twice():
    complete = completion.FOR_SETTINGS["strategies"]
    assert complete("tfidf,li") == ["tfidf,linear-probe"]
    assert "full,full" not in complete("full,")
    assert "full,lora" in complete("full,")


def test_unknown_command_and_flag_name_the_closest():
    code, out, err = call("comparre")
    assert (code, out) == (2, "")
    assert err.splitlines()[0] == "error: no such command 'comparre'. Did you mean 'compare'?"
    code, out, err = call("compare", "x.csv", "--lable", "y")
    assert (code, out) == (2, "")
    assert "--lable" in err
    assert "--label" in err
    assert "headstart compare --help" in err


def test_every_fault_gets_its_line(tmp_path):
    code, out, err = call("compare", tmp_path / "r.csv", "--metric", "f1", "--seeds", "none", "--set", "full.rate=1")
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("error: ") for line in lines)
    assert [any(word in line for line in lines) for word in ("--seeds", "'f1'", "'rate'")] == [True] * 3


def raising(monkeypatch, problem):
    """Make every command raise."""

    class Broken:
        def main(self, *_, **__):
            raise problem

    monkeypatch.setattr(main.typer.main, "get_command", lambda _: Broken())


def test_a_bug_is_one_line_and_a_traceback_only_on_request(monkeypatch):
    raising(monkeypatch, KeyError("lost"))
    code, out, err = call("encoders")
    assert (code, out) == (1, "")
    assert err.splitlines()[0] == "error: KeyError: 'lost'"
    assert "bug" in err
    assert "Traceback" not in err
    monkeypatch.setenv("HEADSTART_DEBUG", "1")
    assert "Traceback" in call("encoders")[2]


def test_faults_warnings_and_interrupts_have_their_codes(monkeypatch):
    raising(monkeypatch, ConfigError(["one", "warning: two"]))
    assert call("encoders") == (2, "", "error: one\nwarning: two\n")
    raising(monkeypatch, KeyboardInterrupt())
    assert call("encoders")[0] == 130


@pytest.mark.parametrize(
    "problem",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        RuntimeError("I/O error: No space left on device (os error 28)"),
        OSError(errno.EACCES, os.strerror(errno.EACCES), "runs/x"),
    ],
)
def test_an_unwritable_disk_is_not_called_a_bug(monkeypatch, problem):
    raising(monkeypatch, problem)
    code, out, err = call("encoders")
    assert (code, out) == (2, "")
    assert err.startswith("error: cannot write ")
    assert "--out" in err


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    program = f"{sys.executable} -m headstart.cli.main encoders | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    assert done.stdout.strip() in ("0", "1")


def test_encoders_and_strategies_as_json():
    import json

    code, out, err = call("encoders", "--json")
    assert (code, err) == (0, "")
    assert [e["name"] for e in json.loads(out)] == list(catalog.ENCODERS)
    code, out, err = call("strategies", "--json")
    found = {s["name"]: s for s in json.loads(out)}
    assert (code, err) == (0, "")
    assert found["lora"]["settings"]["rank"]["default"] == 8
    assert found["lora"]["takes_source"] is True


def test_stored_strategies_are_those_of_the_code():
    assert read_json(STORED) == described(), "run python docs/tables.py"


def test_strategies_lists_settings_of_one():
    code, out, _ = call("strategies", "source+lora")
    assert code == 0
    assert "lora.rank" in out
    code, _, err = call("strategies", "lorra")
    assert code == 2
    assert "Did you mean 'lora'?" in err
