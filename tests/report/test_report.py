"""Tables and sentences from records, whole ones and odd ones."""

from __future__ import annotations

import copy
import html.parser
import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from headstart import errors
from headstart.report import conclusion, leaderboard, render_html, render_table, words

DASH = "\u2013"
NASTY = "[bold]</b><script>alert('x')</script>&\x1b[31m"


def interval(value, half=0.015, better=True):
    if value is None:
        return {"value": None, "low": None, "high": None, "higher_is_better": better}
    return {"value": value, "low": value - half, "high": value + half, "higher_is_better": better}


def fitted(name, f1, validation, **changes):
    return {
        "name": name,
        "status": "ok",
        "reason": None,
        "metrics": {
            "accuracy": interval(f1),
            "macro_f1": interval(f1),
            "roc_auc": interval(None),
            "log_loss": interval(1 - f1, better=False),
            "matthews": interval(2 * f1 - 1),
        },
        "validation": {"macro_f1": interval(validation), "log_loss": interval(1 - validation, better=False)},
        "fits": [{"seed": 0}, {"seed": 1}],
        "seconds_fit": 61.4,
        "texts_per_second": 1234.5,
        "peak_memory_bytes": 1_250_000_000,
        "size_bytes": 91_000_000,
        "parameters_total": 22_713_601,
        "parameters_trained": 294_912,
        **changes,
    }


def unfitted(name, status, reason):
    return {"name": name, "status": status, "reason": reason, "metrics": {}, "validation": {}, "fits": []}


@pytest.fixture
def record():
    return {
        "metric": "macro_f1",
        "winner": "source+full",
        "ties": ["lora"],
        "differences": {
            "tfidf": {"value": 0.033, "low": 0.016, "high": 0.05},
            "lora": {"value": 0.001, "low": -0.01, "high": 0.012},
        },
        "strategies": [
            unfitted("as-is", "skipped", "it needs --source"),
            fitted("tfidf", 0.833, 0.840, seconds_fit=0.512, parameters_total=None, parameters_trained=None),
            unfitted("boosted", "failed", "not enough memory"),
            fitted("lora", 0.865, 0.869),
            fitted("source+full", 0.866, 0.871),
        ],
    }


def drawn(record, width=110):
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=False).print(render_table(record, width=width))
    return stream.getvalue()


def line_of(text, name):
    return next(line for line in text.splitlines() if name in line)


def test_leaderboard_is_ordered_by_validation_then_status(record):
    table = leaderboard(record)
    assert table["strategy"].tolist() == ["source+full", "lora", "tfidf", "boosted", "as-is"]
    assert table["status"].tolist() == ["ok", "ok", "ok", "failed", "skipped"]


def test_leaderboard_columns_and_units(record):
    table = leaderboard(record)
    scores = ["macro_f1", "macro_f1_low", "macro_f1_high", "accuracy", "roc_auc", "log_loss", "matthews", "validation"]
    costs = ["seconds_fit", "texts_per_second", "peak_memory_mb", "size_mb", "parameters_trained", "parameters_total"]
    assert table.columns.tolist() == ["strategy", "status", *scores, *costs, "reason"]
    first = table.iloc[0]
    assert (first["macro_f1"], first["validation"]) == (0.866, 0.871)
    assert (first["peak_memory_mb"], first["size_mb"]) == (1250.0, 91.0)
    assert table["parameters_trained"].dtype == "Int64"
    assert table["roc_auc"].isna().all()
    assert table["parameters_trained"].isna().tolist() == [False, False, True, True, True]
    assert table["reason"].tolist()[3:] == ["not enough memory", "it needs --source"]


def test_a_loss_is_ordered_upwards(record):
    record["metric"] = "log_loss"
    table = leaderboard(record)
    assert table["strategy"].tolist()[:3] == ["source+full", "lora", "tfidf"]
    assert table["validation"].tolist()[:3] == pytest.approx([0.129, 0.131, 0.16])
    assert table.columns[2] == "log_loss"
    assert table.columns.tolist().count("log_loss") == 1


def test_validation_may_be_a_plain_number_and_unknown_goes_last_among_the_fitted(record):
    record["strategies"][1]["validation"] = {"macro_f1": 0.9}
    record["strategies"][3]["validation"] = {"macro_f1": None}
    assert leaderboard(record)["strategy"].tolist() == ["tfidf", "source+full", "lora", "boosted", "as-is"]


def test_an_empty_record_has_an_empty_leaderboard():
    assert len(leaderboard({"strategies": [], "winner": None})) == 0
    assert "no winner" in conclusion({"strategies": [], "winner": None})
    assert "strategy" in drawn({"strategies": [], "winner": None})
    assert "<table>" in render_html({"strategies": [], "winner": None})


def test_the_record_is_not_changed(record):
    before = copy.deepcopy(record)
    leaderboard(record), drawn(record), render_html(record), conclusion(record)
    assert record == before


def test_terminal_marks_and_numbers(record):
    text = drawn(record)
    winner = line_of(text, "source+full")
    assert winner.split()[:2] == ["*", "source+full"]
    for part in ("0.866 [0.851, 0.881]", "0.871", "1m01s", "1.2k", "1.2GB", "91MB", "295k", DASH):
        assert part in winner
    assert line_of(text, "lora").split()[0] == "="
    assert line_of(text, "tfidf").split()[0] == "tfidf"
    assert "0.51s" in line_of(text, "tfidf")
    assert "boosted failed: not enough memory" in text
    assert "as-is skipped: it needs --source" in text
    assert "mean of 2 seeds" in text


@pytest.mark.parametrize("width", [110, 100, 80])
def test_no_number_is_cut_at_any_usual_width(record, width):
    record["strategies"].append(fitted("source+scratch-transformer", 0.5, 0.5))
    text = drawn(record, width)
    assert max(len(line) for line in text.splitlines()) <= width
    for name in ("source+full", "lora", "tfidf", "source+scratch-transformer"):
        assert "]" in line_of(text, name)
    assert "…" not in text
    assert all(heading in text for heading in ("Macro-F1 (95%)", "val", "fit"))
    assert ("size" in text) == (width == 110)


def test_one_seed_is_said(record):
    for strategy in record["strategies"]:
        strategy["fits"] = strategy["fits"][:1]
    assert "not of the seed" in drawn(record)


def test_names_and_reasons_of_any_characters(record):
    record["strategies"][4]["name"] = record["winner"] = NASTY
    record["strategies"][0]["reason"] = NASTY
    text = drawn(record)
    assert "[bold]</b><script>alert('x" in text  # neither read as markup nor lost
    assert "\x1b" not in text
    assert "\x1b" not in conclusion(record)
    page = render_html(record)
    assert "<script>" not in page
    assert "\x1b" not in page
    assert "&lt;script&gt;" in page


class Tags(html.parser.HTMLParser):
    """Collects what was opened and not closed, and counts rows."""

    def __init__(self):
        super().__init__()
        self.open, self.rows = [], 0

    def handle_starttag(self, tag, attrs):
        self.rows += tag == "tr"
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_is_well_formed_and_says_the_conclusion(record):
    page = render_html(record)
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.rows == 1 + 5
    assert "source+full wins" in page
    assert page.count("font-weight:bold") == 1


def test_conclusion_of_a_clear_winner(record):
    assert conclusion(record) == (
        "source+full wins: macro-F1 0.866 on the holdout (95% interval 0.851 to 0.881). "
        "The holdout cannot tell it from lora. It beats tfidf by 0.033 (95% interval 0.016 to 0.050)."
    )


def test_conclusion_when_the_lead_over_tfidf_may_be_chance(record):
    record["ties"] = ["lora", "tfidf"]
    record["differences"]["tfidf"] = {"value": 0.01, "low": -0.005, "high": 0.025}
    assert "The holdout cannot tell it from lora. tfidf is not beaten: a lead of 0.010" in conclusion(record)


def test_conclusion_when_tfidf_wins(record):
    record |= {"winner": "tfidf", "ties": [], "differences": {}}
    assert conclusion(record).endswith("tfidf is not beaten: nothing did better on validation.")


def test_conclusion_when_the_holdout_disagrees_with_validation(record):
    record["ties"] = []
    record["differences"]["lora"] = {"value": -0.03, "low": -0.05, "high": -0.01}
    record["differences"]["tfidf"] = {"value": -0.02, "low": -0.04, "high": -0.001}
    said = conclusion(record)
    assert "On the holdout lora did better beyond chance, but validation chooses, not the holdout." in said
    assert "tfidf is not beaten: the winner's lead over it on the holdout is -0.020" in said


def test_conclusion_of_a_loss_turns_the_sign(record):
    record["metric"] = "log_loss"
    record["differences"] = {"tfidf": {"value": -0.1, "low": -0.12, "high": -0.08}}
    assert "source+full wins: log loss 0.134" in conclusion(record)
    assert "It beats tfidf by 0.100 (95% interval 0.080 to 0.120)." in conclusion(record)


@pytest.mark.parametrize("gone", ["ties", "differences", "metric"])
def test_a_record_may_lack_what_only_helps(record, gone):
    del record[gone]
    assert conclusion(record).startswith("source+full wins: macro-F1 0.866")
    assert "0.866" in drawn(record)


def test_undefined_metrics_are_dashes(record):
    record["metric"] = "roc_auc"
    assert f"ROC AUC {DASH} on the holdout." in conclusion(record)
    assert DASH in line_of(drawn(record), "source+full")
    assert "None" not in drawn(record) + render_html(record) + conclusion(record)
    assert "nan" not in drawn(record)


@pytest.mark.parametrize(
    "write, value, text",
    [
        (words.seconds, 0.004, "0.00s"),
        (words.seconds, 0.997, "1.0s"),
        (words.seconds, 9.96, "10s"),
        (words.seconds, 59.6, "1m00s"),
        (words.seconds, 3599.7, "1h00m"),
        (words.seconds, 7512, "2h05m"),
        (words.seconds, None, DASH),
        (words.count, 0, "0"),
        (words.count, 950, "950"),
        (words.count, 999.7, "1.0k"),
        (words.count, 9.54, "9.5"),
        (words.count, 22_713_601, "22.7M"),
        (words.count, 109_486_464, "109M"),
        (words.count, None, DASH),
        (words.size, 0, "0B"),
        (words.size, 4096, "4.1kB"),
        (words.size, 91_000_000, "91MB"),
        (words.size, 1_250_000_001, "1.3GB"),
        (words.size, None, DASH),
        (words.listed, ["a", "b", "c"], "a, b and c"),
    ],
)
def test_words(write, value, text):
    assert write(value) == text


def test_a_report_needs_no_heavy_package():
    code = (
        "import sys, headstart.report as r\n"
        "r.render_html({'strategies': [], 'winner': None})\n"
        "heavy = {'torch', 'transformers', 'mlflow', 'catboost', 'sklearn', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    source = str(Path(errors.__file__).parents[1])
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": source})
