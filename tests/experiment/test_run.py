"""Whole comparisons on tiny random encoders: what is left behind, what is skipped, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score

import headstart
from conftest import separable_texts
from headstart.errors import ConfigError, StorageError
from headstart.experiment.comparison import Comparison, choose, choose_fit
from headstart.experiment.progress import Progress, Silent
from headstart.records import stable

FAST = {"tracking": False, "threads": 1, "precision": "float32", "max_length": 32}


class Listening(Silent):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []
        self.rows: list[dict[str, Any]] = []
        self.progress: list[Progress] = []

    def say(self, message: str) -> None:
        self.said.append(message)

    def warn(self, message: str) -> None:
        self.warned.append(message)

    def update(self, progress: Progress) -> None:
        self.progress.append(progress)

    def done(self, row: dict[str, Any]) -> None:
        self.rows.append(row)


def frame(n: int = 120, seed: int = 0, names: tuple[str, ...] = ("negative", "positive")) -> pd.DataFrame:
    texts, y = separable_texts(n, classes=len(names), seed=seed)
    return pd.DataFrame({"text": texts, "label": [names[c] for c in y]})


def csv(folder: Path, **kwargs: Any) -> str:
    path = folder / f"texts-{kwargs.get('seed', 0)}-{len(kwargs.get('names', 'ab'))}.csv"
    frame(**kwargs).to_csv(path, index=False)
    return str(path)


def test_a_comparison_leaves_a_whole_folder(tmp_path: Path, tiny_encoder: Path) -> None:
    out = tmp_path / "run"
    heard = Listening()
    comparison = headstart.compare(
        csv(tmp_path), encoder=str(tiny_encoder), strategies=["majority", "tfidf", "full"], seeds=2, out=str(out),
        settings={"full": {"epochs": 2, "learning_rate": 1e-3}}, reporter=heard, **FAST,
    )  # fmt: skip
    record = json.loads((out / "comparison.json").read_text())
    assert comparison.record == record
    assert [row["name"] for row in record["strategies"]] == ["majority", "tfidf", "full"]
    assert {row["status"] for row in record["strategies"]} == {"ok"}
    assert record["runtime"]["precision"] == "float32"
    full = record["strategies"][2]
    assert set(full) >= {
        "name", "status", "reason", "metrics", "validation", "fits", "seconds_fit", "texts_per_second",
        "peak_memory_bytes", "size_bytes", "parameters_total", "parameters_trained", "per_class", "confusion",
    }  # fmt: skip
    assert set(full["metrics"]["macro_f1"]) == {"value", "low", "high", "higher_is_better"}
    assert len(full["fits"]) == 2
    assert full["parameters_trained"] == full["parameters_total"]
    assert full["fits"][0]["epochs"][0]["epoch"] == 1
    assert full["peak_memory_bytes"] > 0
    assert full["size_bytes"] > 10_000
    assert comparison.best.predict(["a great lovely film", "a dull awful film"]) == ["positive", "negative"]
    assert {p.name for p in (out / "fits" / "full" / "seed-1").iterdir()} == {"record.json", "predictions.parquet"}
    assert not list(out.rglob("*.tmp"))
    assert len(heard.rows) == 6
    assert heard.progress[-1].fits == 6
    assert "winner" in comparison._repr_html_() or comparison.winner in comparison._repr_html_()


def test_metrics_are_those_of_scikit_learn_on_the_stored_predictions(tmp_path: Path) -> None:
    comparison = headstart.compare(
        csv(tmp_path, n=200), encoder=None, strategies=["tfidf"], out=str(tmp_path / "run"), **FAST
    )
    predictions = pd.read_parquet(tmp_path / "run/fits/tfidf/seed-0/predictions.parquet")
    holdout = predictions[predictions["split"] == "holdout"]
    y = (holdout["label"] == "positive").to_numpy()
    p = holdout["p_positive"].to_numpy()
    metrics = {k: v["value"] for k, v in comparison.record["strategies"][0]["metrics"].items()}
    assert metrics["accuracy"] == pytest.approx(accuracy_score(y, p > 0.5))
    assert metrics["macro_f1"] == pytest.approx(f1_score(y, p > 0.5, average="macro"))
    assert metrics["roc_auc"] == pytest.approx(roc_auc_score(y, p))
    assert metrics["log_loss"] == pytest.approx(log_loss(y, p), abs=1e-9)


def test_the_holdout_is_not_what_chooses() -> None:
    def row(name: str, validation: float, trained: int = 1) -> dict[str, Any]:
        return {
            "name": name, "status": "ok", "parameters_trained": trained,
            "validation": {"macro_f1": validation, "log_loss": 0.5}, "metrics": {"macro_f1": {"value": 1 - validation}},
        }  # fmt: skip

    assert choose([row("a", 0.7), row("b", 0.8), row("c", 0.75)], "macro_f1") == "b"
    assert choose([row("big", 0.8, 100), row("small", 0.8, 10)], "macro_f1") == "small"
    assert choose([row("a", 0.7) | {"status": "failed"}], "macro_f1") is None
    assert choose_fit([row("s0", 0.7), row("s1", 0.9), row("s2", 0.9)], "macro_f1") == 1


def test_the_same_command_again_skips_what_is_finished(tmp_path: Path, tiny_encoder: Path) -> None:
    settings: dict[str, Any] = {
        "encoder": str(tiny_encoder), "strategies": ["tfidf", "partial"], "out": str(tmp_path / "run"),
        "settings": {"partial": {"epochs": 1}}, "keep_models": True, **FAST,
    }  # fmt: skip
    data = csv(tmp_path)
    first = headstart.compare(data, **settings)
    (tmp_path / "run/comparison.json").unlink()
    kept = tmp_path / "run/fits/tfidf/seed-0/record.json"
    before = kept.stat().st_mtime_ns
    (tmp_path / "run/fits/partial/seed-0/record.json").unlink()
    again = headstart.compare(data, **settings)
    assert kept.stat().st_mtime_ns == before
    assert stable(again.record) == stable(first.record)
    finished = Listening()
    headstart.compare(data, reporter=finished, **settings)
    assert any("nothing to do" in s for s in finished.said)


def test_a_winner_lost_before_the_end_is_fitted_again(tmp_path: Path) -> None:
    """Models of finished fits are needed until the winner is known: one that is gone means the fit is not finished."""
    data, out = csv(tmp_path), tmp_path / "run"
    first = headstart.compare(data, encoder=None, strategies=["tfidf"], out=str(out), **FAST)
    (out / "comparison.json").unlink()
    for file in (out / "best").iterdir():
        file.unlink()
    (out / "best").rmdir()
    again = headstart.compare(data, encoder=None, strategies=["tfidf"], out=str(out), **FAST)
    assert stable(again.record) == stable(first.record)
    assert again.best.predict(["great"]) in (["positive"], ["negative"])


def test_two_seeds_differ_and_one_does_not(tmp_path: Path, tiny_encoder: Path) -> None:
    data = csv(tmp_path)

    def run(name: str, seed: int) -> Any:
        comparison = headstart.compare(
            data, encoder=str(tiny_encoder), strategies=["full"], out=str(tmp_path / name), seed=seed,
            settings={"full": {"epochs": 1}}, **FAST,
        )  # fmt: skip
        return stable(comparison.record)

    first = run("a", 0)
    assert run("b", 0) == first
    assert run("c", 1)["strategies"] != first["strategies"]


def test_a_folder_of_another_configuration_is_refused(tmp_path: Path) -> None:
    data, out = csv(tmp_path), str(tmp_path / "run")
    headstart.compare(data, encoder=None, strategies=["majority"], out=out, **FAST)
    with pytest.raises(StorageError, match="seed was 0, is now 1"):
        headstart.compare(data, encoder=None, strategies=["majority"], out=out, seed=1, **FAST)
    other = csv(tmp_path, seed=5)
    with pytest.raises(StorageError, match="data"):
        headstart.compare(other, encoder=None, strategies=["majority"], out=out, **FAST)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("precious")
    with pytest.raises(StorageError, match="not empty"):
        headstart.compare(data, encoder=None, strategies=["majority"], out=str(tmp_path / "mine"), **FAST)


def test_a_failing_strategy_does_not_end_the_comparison(tmp_path: Path, tiny_encoder: Path) -> None:
    comparison = headstart.compare(
        csv(tmp_path), encoder=str(tiny_encoder), strategies=["partial", "majority"], out=str(tmp_path / "run"),
        settings={"partial": {"pattern": "nothing_is_called_this"}}, **FAST,
    )  # fmt: skip
    partial, majority = comparison.record["strategies"]
    assert partial["status"] == "failed"
    assert "nothing_is_called_this" in partial["reason"]
    assert majority["status"] == "ok"
    assert comparison.winner == "majority"
    assert "nothing_is_called_this" in comparison.leaderboard.set_index("strategy").loc["partial", "reason"]


def test_source_is_trained_once_and_its_labels_are_matched(tmp_path: Path, tiny_encoder: Path) -> None:
    source = csv(tmp_path, n=160, seed=7, names=("neg", "pos"))
    heard = Listening()
    settings: dict[str, Any] = {
        "encoder": str(tiny_encoder), "source": source, "strategies": ["as-is", "source+full", "source+linear-probe"],
        "settings": {"source": {"epochs": 6, "learning_rate": 2e-3, "patience": 6}, "full": {"epochs": 1}}, **FAST,
    }  # fmt: skip
    data = csv(tmp_path)
    plain = headstart.compare(data, out=str(tmp_path / "a"), reporter=heard, **settings)
    as_is, with_head, _probe = plain.record["strategies"]
    assert as_is["status"] == "skipped"
    assert (as_is["metrics"], as_is["validation"], len(as_is["fits"])) == ({}, {}, 1)
    assert set(as_is) == set(with_head) - {"per_class", "confusion"}
    assert {k for k, v in as_is.items() if v is None} == {
        "seconds_fit", "texts_per_second", "peak_memory_bytes", "size_bytes", "parameters_total", "parameters_trained",
    }  # fmt: skip
    assert "neg" in as_is["reason"]
    assert "--map-labels" in as_is["reason"]
    assert with_head["status"] == "ok"
    assert plain.record["source"]["validation"]["accuracy"] > 0.6
    assert not any("from the cache" in s for s in heard.said)

    mapped = headstart.compare(
        data, out=str(tmp_path / "b"), reporter=heard, map_labels="neg=negative,pos=positive", **settings
    )
    assert mapped.record["strategies"][0]["status"] == "ok"
    assert mapped.record["strategies"][0]["metrics"]["accuracy"]["value"] > 0.6
    assert mapped.record["strategies"][0]["parameters_trained"] == 0
    assert any("from the cache" in s for s in heard.said)

    # The other way round: the same names mapped crosswise must turn every answer of the source classifier around.
    crossed = headstart.compare(data, out=str(tmp_path / "c"), map_labels="neg=positive,pos=negative",
                                **{**settings, "strategies": ["as-is"]})  # fmt: skip
    a = mapped.record["strategies"][0]["metrics"]["accuracy"]["value"]
    assert crossed.record["strategies"][0]["metrics"]["accuracy"]["value"] == pytest.approx(1 - a)

    with pytest.raises(ConfigError, match="no target label"):
        headstart.compare(data, out=str(tmp_path / "d"), map_labels="neg=bad", **settings)


def test_an_existing_classifier_is_a_source(tmp_path: Path, tiny_encoder: Path) -> None:
    data = csv(tmp_path)
    first = headstart.compare(
        data, encoder=str(tiny_encoder), strategies=["full"], out=str(tmp_path / "a"),
        settings={"full": {"epochs": 6, "learning_rate": 2e-3, "patience": 6}}, **FAST,
    )  # fmt: skip
    for at, source in enumerate((tmp_path / "a/best", tmp_path / "a")):  # the comparison's folder means its winner
        again = headstart.compare(
            data, encoder=str(tiny_encoder), source=str(source), strategies=["as-is"], out=str(tmp_path / f"b{at}"),
            **FAST,
        )  # fmt: skip
        value = again.record["strategies"][0]["metrics"]["accuracy"]["value"]
        assert value == first.record["strategies"][0]["metrics"]["accuracy"]["value"]


def test_the_gru_is_trained_on_the_source_and_transferred(tmp_path: Path) -> None:
    source, data = csv(tmp_path, n=240, seed=7), csv(tmp_path)
    comparison = headstart.compare(
        data, encoder="gru", source=source, out=str(tmp_path / "run"),
        strategies=["scratch-gru", "as-is", "linear-probe", "partial", "full", "source+full", "lora"],
        settings={"source": {"epochs": 15}}, **FAST,
    )  # fmt: skip
    rows = {row["name"]: row for row in comparison.record["strategies"]}
    assert rows["lora"]["status"] == "skipped"
    assert {n for n, r in rows.items() if r["status"] == "ok"} == set(rows) - {"lora"}
    assert rows["as-is"]["metrics"]["accuracy"]["value"] > 0.8
    assert rows["partial"]["parameters_trained"] < rows["full"]["parameters_trained"]
    assert rows["source+full"]["metrics"]["accuracy"]["value"] > 0.8


def test_frames_columns_and_class_weights(tmp_path: Path, tiny_encoder: Path) -> None:
    data = frame(150)
    data["label"] = data["label"].map({"negative": 0, "positive": 1})
    generator = np.random.default_rng(0)
    data["price"] = generator.normal(size=len(data))
    data["city"] = generator.choice(["Rome", "Oslo"], size=len(data))
    heard = Listening()
    comparison = headstart.compare(
        data, encoder=str(tiny_encoder), strategies=["boosted", "tfidf"], columns=["price", "city"],
        class_weights="balanced", out=str(tmp_path / "run"), reporter=heard,
        settings={"boosted": {"trees": 20}}, **FAST,
    )  # fmt: skip
    boosted = comparison.record["strategies"][0]
    assert boosted["fits"][0]["notes"]["columns"] == ["price", "city"]
    assert boosted["fits"][0]["notes"]["categorical"] == ["city"]
    assert any("probabilities shift" in w for w in heard.warned)
    assert comparison.record["labels"] == {"values": [0, 1], "names": ["0", "1"], "type": "int"}
    assert isinstance(Comparison.open(tmp_path / "run").best.predict(data.head(1))[0], int)


def test_fits_are_tracked_below_one_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    out = tmp_path / "run"
    settings = {k: v for k, v in FAST.items() if k != "tracking"}
    headstart.compare(csv(tmp_path), encoder=None, strategies=["majority", "tfidf"], out=str(out), seeds=2, **settings)
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    runs = [r for e in client.search_experiments() for r in client.search_runs([e.experiment_id])]
    parents = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    assert len(parents) == 1
    assert len(runs) == 5
    fit = next(r for r in runs if r.info.run_name.startswith("tfidf, seed 1"))
    assert 0 <= fit.data.metrics["final_macro_f1"] <= 1
    assert {a.path for a in client.list_artifacts(fit.info.run_id)} >= {"record.json", "signature.json"}
    assert {a.path for a in client.list_artifacts(parents[0].info.run_id)} >= {"comparison.json", "best"}


def test_a_frozen_encoder_sees_each_text_once_for_all_strategies_seeds_and_comparisons(
    tmp_path: Path, tiny_encoder: Path
) -> None:
    from torch import nn

    seen: list[int] = []

    def see(module: nn.Module, given: Any, _: Any) -> None:
        if type(module).__name__ == "BertEncoder":
            seen.append(len(given[0]))

    texts = frame()
    handle = nn.modules.module.register_module_forward_hook(see)
    try:
        for name in ("first", "second"):
            comparison = headstart.compare(
                texts, encoder=str(tiny_encoder), strategies=["linear-probe", "boosted"], seeds=3,
                settings={"boosted": {"trees": 3}}, out=str(tmp_path / name), **FAST,
            )  # fmt: skip
            assert [r["status"] for r in comparison.record["strategies"]] == ["ok", "ok"]
            unique = len(set(texts["text"])) if name == "first" else 0
            assert sum(seen) == unique
            seen.clear()
    finally:
        handle.remove()


def test_a_frozen_model_whose_weights_were_saved_wrongly_is_not_saved(
    tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headstart.models import frozen

    load = frozen.load_body

    def wrong(folder: Any) -> Any:
        body = load(folder)
        body.encoder.layer[0].output.dense.weight.data.mul_(3)
        return body

    monkeypatch.setattr(frozen, "load_body", wrong)
    comparison = headstart.compare(
        frame(), encoder=str(tiny_encoder), strategies=["linear-probe"], out=str(tmp_path / "run"), **FAST
    )
    (row,) = comparison.record["strategies"]
    assert row["status"] == "failed"
    assert "read back from disk differs" in row["reason"]
