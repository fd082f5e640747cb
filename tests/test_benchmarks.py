"""The benchmarks' own logic: claims, comparison of records, candidates, ranks, pages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks"
sys_path = pytest.MonkeyPatch()
sys_path.syspath_prepend(str(FOLDER))
import adapt_killed  # noqa: E402
import adapt_race  # noqa: E402
import adapt_rows  # noqa: E402
import common  # noqa: E402
import cost_growth  # noqa: E402
import defaults  # noqa: E402
import demo_sum  # noqa: E402
import export_int8  # noqa: E402
import film_to_hotel  # noqa: E402
import finance_to_fashion  # noqa: E402
import frozen_once  # noqa: E402
import hotel_few_labels  # noqa: E402
import killed  # noqa: E402
import mlflow_versions  # noqa: E402
import page  # noqa: E402
import portuguese_reviews  # noqa: E402
import precision_noise  # noqa: E402
import predict_killed  # noqa: E402
import predict_memory  # noqa: E402
import predict_race  # noqa: E402
import recipe_race  # noqa: E402
import same_seed  # noqa: E402
import serve_fuzz  # noqa: E402
import serve_load  # noqa: E402
import serve_start  # noqa: E402
import setfit_race  # noqa: E402
import sst2  # noqa: E402
import useful_arithmetic  # noqa: E402

sys_path.undo()


def comparison(winner: str = "full", **values: float) -> Any:
    """Return something like a comparison: one metric value per strategy, the same for every metric."""
    rows = [
        {
            "name": name.replace("_", "-").replace("source-", "source+"),
            "status": "ok",
            "metrics": {m: {"value": v} for m in ("roc_auc", "macro_f1", "accuracy")},
        }
        for name, v in values.items()
    ]
    return SimpleNamespace(winner=winner, record={"strategies": rows, "rows": {"train": 100, "validation": 20}})


MODULES = (
    adapt_killed, adapt_race, adapt_rows, portuguese_reviews,
    film_to_hotel, finance_to_fashion, sst2, same_seed, killed, defaults, page, recipe_race, useful_arithmetic,
    frozen_once, demo_sum, cost_growth, predict_race, predict_memory, predict_killed, export_int8,
    serve_fuzz, serve_load, serve_start,
    hotel_few_labels, setfit_race, mlflow_versions, precision_noise,
)  # fmt: skip


def test_no_script_is_left_out() -> None:
    assert {module.__name__ for module in MODULES} == {f.stem for f in FOLDER.glob("*.py")} - {
        "common",
        "servers",
        "setfit_side",
    }


@pytest.mark.parametrize("module", MODULES, ids=[m.__name__ for m in MODULES])
def test_every_script_says_what_it_shows(
    module: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [f"{module.__name__}.py", "--help"])
    with pytest.raises(SystemExit, match="0"):
        module.main()
    assert f"python benchmarks/{module.__name__}.py" in capsys.readouterr().out


def test_claims_of_hotel_are_met_and_missed() -> None:
    good = comparison(as_is=0.95, full=0.97, tfidf=0.96, lora=0.965, scratch_gru=0.9)
    assert [c.met for c in film_to_hotel.claims_of(good)] == [True] * 5
    bad = comparison(as_is=0.93, full=0.95, tfidf=0.96, lora=0.93, scratch_gru=0.97)
    assert [c.met for c in film_to_hotel.claims_of(bad)] == [False] * 5
    assert film_to_hotel.claims_of(comparison(tfidf=0.9)) == []


def test_claims_of_few_labels() -> None:
    def claims(low: float, seconds: float) -> list[bool]:
        lead = {"value": low + 0.01, "low": low, "high": low + 0.02, "p_holm": 0.01}
        worse = {"value": -0.1, "low": -0.2, "high": 0.0, "p_holm": 1.0}
        against = {"full": {"accuracy": {"gradual": worse, "contrastive": lead}}}
        return [c.met for c in hotel_few_labels.claims_of(against, {"contrastive": seconds})]

    assert claims(0.001, 60.0) == [True, True]
    assert claims(0.0, 61.0) == [False, False]
    assert hotel_few_labels.claims_of({}, {}) == []


@pytest.mark.skipif(not (ROOT.parent / "shared" / "data").is_dir(), reason="the shared data folder is not there")
def test_few_labels_runs_tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "result.json"
    words = "hotel_few_labels.py --labeled 40 --holdout 60 --seeds 2 --strategies tfidf,tfidf+self-train --quiet"
    monkeypatch.setattr("sys.argv", [*words.split(), "--json", str(file), "--out", str(tmp_path / "out")])
    assert hotel_few_labels.main() == 0
    found = json.loads(file.read_text())
    leads = found["against"]["tfidf"]["accuracy"]
    assert list(leads) == ["tfidf+self-train"]
    accuracy = {name: np.mean(values) for name, values in found["by_seed"].items()}
    assert leads["tfidf+self-train"]["value"] == pytest.approx(accuracy["tfidf+self-train"] - accuracy["tfidf"])
    assert [c["rows"]["holdout"] for c in found["comparisons"]] == [60, 60]
    assert found["comparisons"][0]["rows"]["unlabeled"] > 10_000
    assert len(set(found["by_seed"]["tfidf"])) == 2, "each seed has labels of its own"
    assert f"| `tfidf` | {accuracy['tfidf']:.4f} |" in page._by_seed(found["by_seed"])
    assert [n["rounds"][0]["looked_at"] for n in found["self_train"]["tfidf+self-train"]] == [4000, 4000]
    assert "`tfidf+self-train` | `tfidf` |" in page._leads(found["against"])
    records = sorted((tmp_path / "out").glob("seed-*/fits/*/seed-*/record.json"))
    times = [record.stat().st_mtime_ns for record in records]
    monkeypatch.setattr("sys.argv", [*words.split(), "--out", str(tmp_path / "out"), "--resume"])
    assert hotel_few_labels.main() == 0
    assert [record.stat().st_mtime_ns for record in records] == times, "a finished fit was made again"


def test_pairs_of_the_race_are_those_of_setfits_shape() -> None:
    y = np.arange(30) % 2
    options = SimpleNamespace(seed=0, steps=5)
    ours, theirs = (list(draw(y, options)) for draw in (setfit_race.same_pairs, setfit_race.other_pairs))
    for steps in (ours, theirs):
        assert len(steps) == 5
        for first, second, same in steps:
            assert len(first) == len(second) == len(same) == setfit_race.PAIRS
            np.testing.assert_array_equal(same, y[first] == y[second])
            assert same.sum() == setfit_race.PAIRS // 2
    assert all(len({*first, *second}) <= setfit_race.TEXTS for first, second, _ in ours)
    pairs = [(int(a), int(b)) for first, second, _ in theirs for a, b in zip(first, second, strict=True)]
    assert len(set(pairs)) == len(pairs)  # none again before all were drawn


def test_race_against_setfit_takes_the_median() -> None:
    def runs(seconds: list[float], accuracy: float) -> list[dict[str, float]]:
        return [{"seconds": s, "accuracy": accuracy} for s in seconds]

    found = setfit_race.summary({"ours": runs([10, 5, 10], 0.9), "same_pairs": runs([20, 20, 35], 0.92)})
    assert found["ratios"] == {"same_pairs": [2.0, 4.0, 3.5]}
    claims = setfit_race.claims_of(found)
    assert [c.met for c in claims] == [True, False, *[False] * 4]
    assert {c.got for c in claims[2:]} == {"not installed"}


def test_claims_of_fashion() -> None:
    def claims(best: float, source: float) -> list[bool]:
        found = {"as_is": source, "source_lora": best, "tfidf": 0.5}
        return [c.met for c in finance_to_fashion.claims_of(comparison("source+lora", **found))]

    assert claims(0.6, 0.25) == [True, True, True]
    assert claims(0.6, 0.31) == [False, True, True]
    assert claims(0.56, 0.2) == [True, False, True]
    assert claims(0.5, 0.2) == [True, False, False]


def test_race_takes_the_median_of_the_pairs_and_the_mean_of_the_seeds() -> None:
    def runs(seconds: list[float], accuracy: float, memory: int) -> list[dict[str, Any]]:
        rates = {"float32": 50.0, "bfloat16": 100.0}
        own = {"accuracy": accuracy, "peak_memory_bytes": memory, "product_rates": rates, "precision": "bfloat16"}
        own["useful_gflop"] = 300.0
        return [{"seconds": s, **own} for s in seconds]

    found = recipe_race.summary(
        {
            "recipe_float32": runs([100, 90, 80, 70], 0.80, 900),
            "recipe_bfloat16": runs([30, 30, 30], 0.80, 900),
            "ours": runs([10, 10, 5, 1], 0.79, 800),
        },
        pairs=3,
    )
    assert (found["ratio_float32"], found["ratios_float32"]) == (10.0, [10.0, 9.0, 16.0])
    assert found["ratio_bf16"] == 3.0
    assert found["floor_float32"] == 30.0  # 90 s over 300 GFLOP at 100 GFLOP/s
    assert [c.met for c in recipe_race.claims_of(found)] == [True, True, False, True]
    found["accuracy"]["ours"] = 0.796
    assert all(c.met for c in recipe_race.claims_of(found))


def test_race_without_bfloat16_products_says_so() -> None:
    rates = {"float32": 300.0, "bfloat16": 60.0}
    own = {"accuracy": 0.8, "peak_memory_bytes": 900, "product_rates": rates, "precision": "float32"}
    own["useful_gflop"] = 300.0
    runs = {"ours": [{"seconds": 10, **own}] * 2, "recipe_float32": [{"seconds": 40, **own}] * 2, "recipe_bfloat16": []}
    found = recipe_race.summary(runs, pairs=1)
    assert not recipe_race.has_bfloat16(runs["ours"][0])
    assert (found["ratio_float32"], found["ratio_bf16"]) == (4.0, None)
    assert [(c.got, c.met) for c in recipe_race.claims_of(found)][1] == ("no such products here", False)


def test_the_page_tells_what_no_claim_says() -> None:
    known = json.loads((ROOT / "benchmarks/results/same_seed.json").read_text())
    assert "- One.\n- Two." in page._result_parts(known | {"told": ["One.", "Two."]})


def test_padding_and_useful_claims() -> None:
    assert useful_arithmetic.padding(np.full(640, 10)) == 0
    assert 0 < useful_arithmetic.padding(np.arange(1, 641)) < 0.05
    good = {"shares_training": [0.41], "shares_scoring": [0.5, 0.66, 0.7], "padding": {"a": 0.04, "b": 0.01}}
    assert all(c.met for c in useful_arithmetic.claims_of(good))
    bad = {"shares_training": [0.2], "shares_scoring": [0.3], "padding": {"a": 0.04, "b": 0.051}}
    assert not any(c.met for c in useful_arithmetic.claims_of(bad))


def test_what_the_top_layer_spares_is_no_executed_arithmetic(tiny_encoder: Path) -> None:
    """Of a layer's matrices, query, output and both of the feed-forward part, for all tokens but the first."""
    from headstart.models.loading import load_body

    body = load_body(tiny_encoder)
    config = body.config
    d, wide, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    spared = (2 * d * d + 2 * d * wide) / (layers * (4 * d * d + 2 * d * wide))
    classifier: Any = SimpleNamespace(model=SimpleNamespace(base_model=body))
    assert useful_arithmetic.executed(classifier, np.ones(5)) == 1
    assert useful_arithmetic.executed(classifier, np.full(5, 10)) == pytest.approx(1 - spared * 0.9)


def test_encoder_passes_are_counted(tiny_encoder: Path) -> None:
    from headstart.models.loading import load_body

    body = load_body(tiny_encoder)
    with frozen_once.counted() as seen:
        body(torch.ones(3, 5, dtype=torch.long))
    body(torch.ones(2, 5, dtype=torch.long))
    assert seen == [3]
    figures = {"passes": {"first": 1.01, "second": 0.0}, "partial_over_full": [0.3, 0.5, 0.2]}
    assert all(c.met for c in frozen_once.claims_of(figures))
    figures["passes"]["second"] = 0.01
    assert [c.met for c in frozen_once.claims_of(figures)] == [True, False, True]


def test_demo_and_growth_claims(tmp_path: Path) -> None:
    rounds = [{"ratio": ratio, "seconds": seconds} for ratio, seconds in ((0.55, 300.0), (0.7, 200.0), (0.5, 390.0))]
    assert [(c.got, c.met) for c in demo_sum.claims_of(rounds)] == [
        ("0.55 (0.5 to 0.7)", True),
        ("300 (200 to 390)", False),
        ("300 (200 to 390)", True),
    ]
    same: dict[str, Any] = {"seconds": 30.0, "peak_memory_bytes": 10**9}
    rows = [{"of": "texts", "times": t, "seconds_fit": 2.0 * t, **same} for t in cost_growth.TEXTS]
    rows += [{"of": "length", "times": t, "seconds_fit": 3.0 * t, **same} for t in cost_growth.LENGTHS]
    assert all(c.met for c in cost_growth.claims_of(rows))
    rows += [{"of": "strategies", "times": 1, "seconds_fit": 1.0, **same}]
    cost_growth.plot(rows, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert "| strategies | 1 | 100 | 32 | 2 | 1.0s | 30s | 1.0GB |" in page._growth(
        [{**rows[-1], "texts": 100, "tokens": 32, "strategies": 2}]
    )
    runs = [{"seconds": s, "seconds_fit": s / 2, "peak_memory_bytes": 7} for s in (4.0, 2.0, 10.0)]
    found = {"seconds": 4.0, "seconds_fit": 2.0, "peak_memory_bytes": 7, "runs": [2.0, 1.0, 5.0]}
    assert cost_growth.middle(runs) == found
    rows[2]["seconds_fit"] = 60.0
    assert not cost_growth.claims_of(rows)[0].met


def test_precisions_are_compared_with_the_spread_of_the_seeds() -> None:
    float32 = [{"accuracy": a} for a in (0.70, 0.74, 0.72)]
    near = precision_noise.summary({"float32": float32, "bfloat16": [{"accuracy": a} for a in (0.71, 0.73, 0.72)]})
    assert near["spread"] == pytest.approx(0.02, abs=1e-4)  # numpy: std([.70, .74, .72], ddof=1)
    assert all(c.met for c in precision_noise.claims_of(near))
    far = precision_noise.summary({"float32": float32, "bfloat16": [{"accuracy": a} for a in (0.61, 0.63, 0.62)]})
    assert not any(c.met for c in precision_noise.claims_of(far))


def test_sst2_speed_counts_refits_and_the_goal_needs_both() -> None:
    found = comparison(full=0.91)
    fit = {"epochs": [{}, {}], "notes": {"best_epoch": 2}, "settings": {"refit": True}, "seconds_fit": 10.0}
    found.record["strategies"][0]["fits"] = [fit]
    figures = sst2.speed(found)
    assert figures["samples"] == 100 * 2 + 120 * 2
    assert figures["samples_per_second"] == 44.0
    assert [c.met for c in sst2.claims_of(found, figures)] == [True, False, True]
    fast = figures | {"samples_per_second": 451.0}
    assert [c.met for c in sst2.claims_of(found, fast)] == [True, True, True]
    assert [c.met for c in sst2.claims_of(found, fast | {"seconds": 439.0})] == [True, True, False]


def test_settings_of_a_flag_keep_those_of_the_example() -> None:
    own = common.read_yaml(ROOT / "examples" / "sst2.yaml")["settings"]["full"]
    assert sst2.settings_of(None, None, None) is None
    assert sst2.settings_of(None, 3e-4, None) == {"full": {**own, "learning_rate": 3e-4}}


def test_stable_takes_out_volatile_keys_at_any_depth() -> None:
    record = {"a": 1, "seconds_fit": 2, "fits": [{"texts_per_second": 3, "b": {"product_rates": {}, "c": 4}}]}
    assert common.stable(record) == {"a": 1, "fits": [{"b": {"c": 4}}]}


def test_claims_of_int8_and_of_killed_labeling(tmp_path: Path) -> None:
    def claims(lost: float, batches: float, single: float, *faults: str) -> list[bool]:
        speed = {"batches_ratio": batches, "single_ratio": single}
        report = {"accuracy": {"points_lost": lost}, "speed_against_bfloat16": speed, "faults": list(faults)}
        return [c.met for c in export_int8.claims_of("x", report)]

    assert claims(0.5, 1.2, 2.0) == [True] * 4
    assert claims(0.6, 1.1, 1.9) == [False] * 4
    assert claims(0.6, 1.1, 1.9, "it loses too much") == [False, False, False, True]
    for name, content in (("one", "a"), ("other", "b")):
        (tmp_path / name).write_text("same")
        (tmp_path / f"{name}.rejected.jsonl").write_text(content)
    assert predict_killed.same(tmp_path / "one", tmp_path / "one")
    assert not predict_killed.same(tmp_path / "one", tmp_path / "other")


@pytest.mark.parametrize("moments", [[0.02, 0.02], [0.02, 0.02, 30.0]])
def test_labeling_is_killed_until_it_is_done(moments: list[float], tmp_path: Path) -> None:
    """A command that hangs twice after it began, and is done at the third time."""
    code = """
import pathlib, sys, time
out = pathlib.Path(sys.argv[1])
journal = out.with_name(f".{out.name}.journal")
began = journal.read_text().count("x") if journal.exists() else 0
journal.write_text("x" * (began + 1))
time.sleep(60 * (began < 2))
journal.unlink()
out.write_text("whole")
sys.exit(3)
"""
    out = tmp_path / "out.csv"
    kills = predict_killed.run_killed([sys.executable, "-c", code, str(out)], moments, out)
    assert [(kill.seconds, kill.named) for kill in kills] == [(0.02, None)] * 2
    assert out.read_text() == "whole"


def test_claims_of_mlflow_versions_ask_for_every_version_door_and_kind() -> None:
    def rows(kinds: list[str], gap: float = 1e-7) -> list[dict[str, Any]]:
        asked: list[dict[str, Any]] = [
            {"mlflow": v, "bare": True, "door": d} for v in mlflow_versions.VERSIONS for d in mlflow_versions.DOORS
        ]
        asked.append({"door": mlflow_versions.OURS})
        return [{"kind": kind, "largest_difference": gap, **row} for kind in kinds for row in asked]

    assert all(c.met for c in mlflow_versions.claims_of(rows(["full", "tfidf"]), ["full", "tfidf"]))
    assert not any(c.met for c in mlflow_versions.claims_of(rows(["full"], gap=1e-4), ["full", "tfidf"]))
    lacking = [row for row in rows(["full"]) if row["door"] not in ("spark_udf", mlflow_versions.OURS)]
    assert [c.met for c in mlflow_versions.claims_of(lacking, ["full"])][:3] == [False] * 3
    installed = [{**row, "bare": False} if "bare" in row else row for row in rows(["full"])]
    assert [c.met for c in mlflow_versions.claims_of(installed, ["full"])][:2] == [False] * 2


def test_ratios_are_within_rounds() -> None:
    ours, theirs = ([{"texts_per_second": rate} for rate in rates] for rates in ((10.0, 30.0, 8.0), (2.0, 10.0, 2.0)))
    found = predict_race.ratios_of(ours, theirs)
    assert found == [5.0, 3.0, 4.0]
    assert common.spread(found) == "4 (3 to 5)"
    assert common.median_at_least("x", found, 4.0).met
    assert not common.median_at_least("x", [], 4.0).met
    assert not common.median_at_most("x", found, 3.9).met


def test_memory_of_a_program_is_its_own(tmp_path: Path) -> None:
    """What a program had is told, not what the one that started it had."""
    held = bytearray(400 << 20)
    code = "import sys; print('up', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        peak = predict_memory.peak_so_far(process.pid)
        assert process.stdin
        process.stdin.close()
    assert 1 << 20 < peak < len(held) // 2
    assert predict_memory.peak_so_far(process.pid) == 0


def test_differing_names_the_place() -> None:
    assert list(common.differing({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]})) == ["a[1].b: 2 / 3"]
    assert list(common.differing({"a": 1}, {"a": 1, "b": None})) == []
    assert list(common.differing([1], [1, 2])) == [": [1] / [1, 2]"]


def test_same_files_sees_changed_and_missing_ones(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, content in ((one, b"x"), (other, b"y")):
        folder.mkdir()
        (folder / "same").write_bytes(b"s")
        (folder / "changed").write_bytes(content)
    (other / "more").write_bytes(b"")
    assert common.same_files(one, other, "*") == (3, ["changed", "more"])


def test_broken_files_are_found_and_temporary_ones_passed_over(tmp_path: Path) -> None:
    (tmp_path / "good.json").write_text("{}")
    (tmp_path / "half.json").write_text('{"a": ')
    (tmp_path / "half.parquet").write_bytes(b"PAR1")
    (tmp_path / "half.safetensors").write_bytes(b"\x10")
    (tmp_path / ".half.json.1.tmp").write_text("{")
    (tmp_path / ".model.tmp").mkdir()
    (tmp_path / ".model.tmp" / "half.json").write_text("{")
    assert sorted(killed.broken_files(tmp_path)) == ["half.json", "half.parquet", "half.safetensors"]


def test_recorded_command_leaves_out_where_output_goes() -> None:
    words = ["/x/benchmarks/sst2.py", "--out", "/tmp/a", "--epochs", "2", "--json=/tmp/b", "--quiet"]
    assert common._command_line(words) == "python benchmarks/sst2.py --epochs 2"


def test_grid_is_every_combination() -> None:
    assert defaults.grid([]) == [{}]
    assert defaults.grid(["learning_rate=5e-5,1e-4", "targets=null;a,b"]) == [
        {"learning_rate": 5e-5, "targets": None},
        {"learning_rate": 5e-5, "targets": "a,b"},
        {"learning_rate": 1e-4, "targets": None},
        {"learning_rate": 1e-4, "targets": "a,b"},
    ]
    with pytest.raises(SystemExit, match="must look like"):
        defaults.grid(["epochs"])


def test_ranking_is_by_mean_rank() -> None:
    scores = {("a", 1): 0.9, ("a", 2): 0.8, ("b", 1): 0.5, ("b", 2): 0.4, ("c", 1): 0.1, ("c", 2): 0.9}
    rows = [
        {"dataset": d, "candidate": {"epochs": e}, "macro_f1": v, "log_loss": 0.5, "seconds_fit": 1.0}
        for (d, e), v in scores.items()
    ]
    first, second = defaults.ranked(rows, [{"epochs": 1}, {"epochs": 2}])
    assert first["candidate"] == {"epochs": 1}
    assert first["rank"] == pytest.approx(4 / 3)
    assert second["per_dataset"] == {"a": 0.8, "b": 0.4, "c": 0.9}


def test_tuning_rows_hold_none_of_a_benchmarks_holdout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": [f"text {i}" for i in range(4000)], "label": ["neg", "pos"] * 2000})
    (tmp_path / "data").mkdir()
    frame.to_parquet(tmp_path / "data" / "hotel_reviews.parquet")
    monkeypatch.setenv("HEADSTART_SHARED", str(tmp_path))
    left = defaults.tuning_frame("hotel")
    held = defaults.held_out("hotel_remarks.yaml", "hotel_reviews.parquet")
    assert len(held) == 2000
    assert len(left) == 2000
    assert not held & set(left["text"])


def test_missing_shared_data_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADSTART_SHARED", str(tmp_path))
    with pytest.raises(SystemExit, match="HEADSTART_SHARED"):
        common.shared_data("hotel_reviews.parquet")


def test_defaults_are_marked() -> None:
    from headstart.strategies.full import FullConfig

    assert page.is_default("full", {"epochs": FullConfig().epochs})
    assert not page.is_default("full", {"epochs": FullConfig().epochs + 1})
    assert not page.is_default("as-is", {"source.epochs": 1})


def test_pages_equal_the_results() -> None:
    for file, text in page.pages().items():
        assert file.read_text(encoding="utf-8") == text, f"{file.name}: run python benchmarks/page.py"


def test_page_shows_what_a_result_holds(tmp_path: Path) -> None:
    claims = [{"claim": "it holds", "bound": ">= 1", "got": "0", "met": False}]
    machine = {"processor": "P", "cores": 2, "memory_bytes": 8e9, "system": "S"}
    result = {"claims": claims, "date": "2026-01-02", "machine": machine, "versions": {"torch": "9"}}
    kills = [{"seconds": 3.0, "fits_finished": ["tfidf/seed-0"]}]
    (tmp_path / "killed.json").write_text(json.dumps(result | {"kills": kills, "seconds_undisturbed": 9.0}))
    text = page.pages(tmp_path)[page.BENCHMARKS_PAGE]
    assert "| it holds | >= 1 | 0 | **no** |" in text
    assert "2026-01-02, P, 2 cores" in text
    assert "| 3 | 1 |" in text
    assert text.count("No results yet") == len(page._SECTIONS) - 1


def test_claims_of_load_are_against_the_better_handler() -> None:
    def one(rate: float, p50: float, p99: float, lost: int = 0) -> dict[str, float]:
        return {"requests": rate, "rate": rate, "p50_ms": p50, "p99_ms": p99, "not_200": lost, "broken": 0}

    plain = {"plain def": one(50, 600, 900), "plain async def": one(100, 300, 400), "mlflow": one(20, 1, 2)}
    good = plain | {"headstart": one(400, 80, 200), "headstart int8": one(500, 80, 299)}
    assert [c.met for c in serve_load.claims_of(good, one(300, 1, 1) | {"switches": 20}, 20)] == [True] * 6
    slow = plain | {"headstart": one(399, 80, 301), "headstart int8": one(399, 80, 301)}
    assert [c.met for c in serve_load.claims_of(slow, one(300, 1, 1, 1) | {"switches": 19}, 20)] == [False] * 6


def test_claims_of_fuzzing() -> None:
    from collections import Counter

    level, growing = [100] * 50, [100 + i for i in range(40)]
    fine = serve_fuzz.claims_of(Counter({200: 5, 422: 4, 503: 3, "raw: 400": 1}), level, 13, alive=True, same=True)
    assert [c.met for c in fine] == [True] * 5
    bad = serve_fuzz.claims_of(Counter({200: 5, 500: 1}), growing, 7, alive=False, same=False)
    assert [c.met for c in bad] == [False] * 5


def test_mutated_bodies_are_the_same_for_the_same_seed() -> None:
    import random

    real = ["one text", "another text", *map(str, range(10))]
    one, two = ([serve_fuzz.body_of(random.Random(seed), real) for seed in range(200)] for _ in range(2))
    assert one == two
    assert len(set(one)) > 100


def test_claims_of_portuguese_reviews() -> None:
    def met(**values: float) -> list[bool]:
        rows = [
            {"name": name, "status": "ok", "metrics": {"accuracy": {"value": value}}}
            for key, value in values.items()
            if (name := key.replace("_", "-").replace("adapt-", "adapt+"))
        ]
        found: Any = SimpleNamespace(record={"strategies": rows})
        return [c.met for c in portuguese_reviews.claims_of(found)]

    assert met(tfidf=0.92, scratch_transformer=0.85, full=0.95, adapt_full=0.941) == [True] * 3
    assert met(tfidf=0.94, scratch_transformer=0.88, full=0.95, adapt_full=0.93) == [False] * 3
    assert met(full=0.95, adapt_full=0.96) == [True]


def test_claim_about_rows_is_about_the_default_over_all_seeds() -> None:
    def runs(losses: list[float], seconds: float) -> list[dict[str, Any]]:
        return [{"losses": [9.0, loss], "seconds": seconds} for loss in losses]

    claims = adapt_rows.claims_of({"blocks": runs([2.0, 2.2], 10.0), "texts": runs([2.1, 2.2], 20.0)})
    assert [(c.got, c.met) for c in claims] == [("2.1000", True), ("0.50", True)]
    assert not adapt_rows.claims_of({"blocks": runs([2.3], 1.0), "texts": runs([2.2], 1.0)})[0].met


def test_a_kill_counts_where_a_step_was_kept_and_gone_on_from(tmp_path: Path) -> None:
    kill = {"hit": True, "step": 7, "went_back": False, "files": 2, "broken": []}
    assert [c.met for c in adapt_killed.claims_of([kill])] == [True, True, True]
    for change in ({"step": 0}, {"hit": False}):
        assert [c.met for c in adapt_killed.claims_of([kill | change])] == [False, True, True]
    assert [c.met for c in adapt_killed.claims_of([kill | {"went_back": True}])] == [True, False, True]
    for change in ({"files": 0}, {"broken": ["state.safetensors"]}):
        assert [c.met for c in adapt_killed.claims_of([kill | change])] == [True, True, False]
    assert adapt_killed.kept_step(tmp_path / "none") == 0


def test_the_race_counts_seconds_to_the_end_of_the_epoch_that_reaches_the_goal() -> None:
    run = {"seconds": [10.0, 20.0, 30.0], "losses": [3.0, 2.5, 2.4]}
    assert adapt_race.seconds_to(run, 2.5) == 20.0
    assert adapt_race.seconds_to(run, 2.0) is None

    def one(times: float | None, end: float, theirs: float = 2.4) -> dict[str, Any]:
        return {"times": times, "ours": {"start": 3.0, "losses": [2.9, end]}, "trainer": {"losses": [2.9, theirs]}}

    assert [c.met for c in adapt_race.claims_of([one(3.0, 2.4), one(4.1, 2.3), one(5.0, 2.4)])] == [True] * 3
    assert [c.met for c in adapt_race.claims_of([one(3.9, 2.4), one(3.0, 2.4), one(5.0, 2.43)])] == [False, True, False]
    assert [c.met for c in adapt_race.claims_of([one(5.0, 2.4), one(None, 3.1)])] == [False, False, False]
