from __future__ import annotations

import json

import pytest
from commands import call, labeled_rows, write_csv
from rich.console import Console

from headstart.cli.reporting import LineReporter, fit_line, reporter, time_left
from headstart.experiment.progress import Progress


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "reviews.csv", labeled_rows(80))


LIGHT = ("--strategies", "majority,tfidf", "--no-tracking", "--threads", "1")


def test_compare_ends_with_table_winner_place_and_next_step(tmp_path):
    code, out, err = call("compare", "reviews.csv", *LIGHT)
    assert code == 0, err
    assert "tfidf wins" in " ".join(out.split())
    assert "runs/reviews/comparison.json" in out
    assert "headstart predict runs/reviews/best FILE.csv --out predictions.csv" in out
    assert "majority, seed 0: Macro-F1" in err
    assert (tmp_path / "runs/reviews/best/headstart.json").is_file()


def test_json_is_the_record_and_nothing_else(tmp_path):
    code, out, err = call("compare", "reviews.csv", *LIGHT, "--json", "--quiet", "--out", "elsewhere", "--seed", "3")
    assert (code, err) == (0, "")
    record = json.loads(out)
    assert record == json.loads((tmp_path / "elsewhere/comparison.json").read_text())
    assert record["winner"] == "tfidf"
    assert {s["name"]: s["status"] for s in record["strategies"]} == {"majority": "ok", "tfidf": "ok"}


def test_experiment_file_and_flags_over_it(tmp_path):
    (tmp_path / "experiment.yaml").write_text(
        "data: reviews.csv\nstrategies: [majority]\nthreads: 1\ntracking: false\nname: mine\nseed: 1\n"
    )
    code, out, _ = call("compare", "experiment.yaml", "--strategies", "tfidf", "--json", "-q")
    assert code == 0
    assert [s["name"] for s in json.loads(out)["strategies"]] == ["tfidf"]
    assert (tmp_path / "runs/mine/comparison.json").is_file()


def test_fit_is_a_comparison_of_one_in_a_folder_of_its_own(tmp_path):
    code, out, err = call("fit", "reviews.csv", "--strategy", "tfidf", "--no-tracking", "--set", "tfidf.min_count=2")
    assert code == 0, err
    assert "runs/reviews-tfidf/best" in out
    record = json.loads((tmp_path / "runs/reviews-tfidf/comparison.json").read_text())
    assert [s["name"] for s in record["strategies"]] == ["tfidf"]


def test_fit_names_an_unknown_strategy():
    code, out, err = call("fit", "reviews.csv", "--strategy", "tfdif")
    assert (code, out) == (2, "")
    assert "Did you mean 'tfidf'?" in err


def test_nothing_is_left_behind_by_a_mistake(tmp_path):
    before = sorted(tmp_path.rglob("*"))
    for arguments in (("compare", "missing.csv"), ("compare", "reviews.csv", "--label", "lable", *LIGHT)):
        code, out, err = call(*arguments)
        assert (code, out) == (2, ""), err
        assert all(line.startswith(("error: ", "warning: ")) for line in err.splitlines())
    assert sorted(p for p in tmp_path.rglob("*") if "headstart-cache" not in p.parts) == before


def test_the_same_folder_with_other_settings_is_refused():
    assert call("compare", "reviews.csv", *LIGHT, "-q")[0] == 0
    code, _, err = call("compare", "reviews.csv", *LIGHT, "-q", "--seed", "1")
    assert code == 2
    assert "runs/reviews" in err
    assert "--out" in err


def test_ctrl_c_says_how_to_go_on(monkeypatch):
    from headstart.experiment import run

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run", interrupted)
    code, out, err = call("compare", "reviews.csv", *LIGHT)
    assert (code, out) == (130, "")
    assert "the same command again" in err


def test_without_a_winner_the_code_says_so(monkeypatch, tmp_path):
    from headstart.experiment import run
    from headstart.experiment.comparison import Comparison

    failed = {
        "name": "full",
        "status": "failed",
        "reason": "out of memory",
        "metrics": {},
        "validation": {},
        "fits": [],
    }
    record = {"metric": "macro_f1", "winner": None, "strategies": [failed]}
    monkeypatch.setattr(run, "run", lambda *_, **__: Comparison(tmp_path, record))
    code, out, _ = call("compare", "reviews.csv", *LIGHT)
    assert code == 1
    assert "out of memory" in out
    assert "headstart predict" not in out


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_lines_come_at_most_every_ten_seconds_and_tell_the_time_left(capsys):
    clock = Clock()
    listener = LineReporter(Console(stderr=True, width=200), "accuracy", clock=clock)
    for second in range(0, 31):
        clock.now = float(second)
        listener.update(Progress("full, seed 0", 2, 5, second / 40, second / 100, 70.0))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0] == "2/5 full, seed 0: 25%; all 10%, at most 1m10s left"


def test_quiet_keeps_warnings_only(capsys):
    with reporter("accuracy", quiet=True, console=Console(stderr=True, width=200)) as listener:
        listener.say("nothing")
        listener.update(Progress("full", 1, 1, 0.5, 0.5, None))
        listener.done({"name": "full", "status": "ok"})
        listener.warn("look [here]")
    assert capsys.readouterr().err == "warning: look [here]\n"


def test_a_terminal_gets_a_bar_and_lines_above_it():
    console = Console(force_terminal=True, width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    try:
        with reporter("accuracy", console=console) as listener:
            listener.update(Progress("full, seed 0", 1, 2, 0.5, 0.25, 12.0))
            listener.say("labels: [red]neg[/red]")
            listener.done({"name": "full", "seed": 0, "status": "failed", "reason": "too long"})
    finally:
        console.file.close()
    shown = console.export_text()
    assert "1/2 full, seed 0" in shown
    assert "at most 12s left" in shown
    assert "labels: [red]neg[/red]" in shown
    assert "full, seed 0: failed: too long" in shown


def test_how_a_fit_ended_in_words():
    row = {"name": "full", "seed": 1, "status": "ok", "validation": {"accuracy": 0.8512}, "seconds_fit": 41.0}
    assert fit_line(row, "accuracy") == "full, seed 1: Accuracy 0.851 on validation, 41s"
    assert fit_line({"name": "lora", "status": "skipped", "reason": "no"}, "accuracy") == "lora: skipped: no"
    assert time_left(None) == "time left not known yet"
