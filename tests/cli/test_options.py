from __future__ import annotations

import pytest
from commands import call

from headstart.cli.compare import fit_to_width
from headstart.cli.options import panel, resolve, settings_of, with_masking
from headstart.errors import ConfigError
from headstart.experiment.config import ExperimentConfig


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")  # descriptions on one line


def test_every_setting_is_a_flag_with_its_own_words():
    _, out, _ = call("compare", "--help")
    for name, field in ExperimentConfig.model_fields.items():
        if name in ("data", "settings"):
            continue
        assert f"--{name.replace('_', '-')} " in out, name
        assert field.description in out, name
    assert "--set " in out


def test_no_setting_is_without_a_place_in_help():
    homeless = [n for n in ExperimentConfig.model_fields if n not in ("data", "settings") and panel(n) == "Other"]
    assert homeless == []


def test_fit_has_strategy_instead_of_strategies():
    _, out, _ = call("fit", "--help")
    assert "--strategy " in out
    assert "--strategies" not in out


def test_set_reads_values_with_their_types():
    found = settings_of(["full.epochs=5", "lora.dora=true", "source+full.learning_rate=3e-5", "partial.pattern=a=b"])
    assert found == {
        "full": {"epochs": 5},
        "lora": {"dora": True},
        "source+full": {"learning_rate": "3e-5"},
        "partial": {"pattern": "a=b"},
    }


def test_masking_is_short_for_a_setting_and_wins():
    assert with_masking(None, None) == []
    found = settings_of(with_masking(["adapt.masking=span", "adapt.epochs=2"], "whole-word"))
    assert found == {"adapt": {"masking": "whole-word", "epochs": 2}}
    for command in (("compare", "a.csv"), ("fit", "a.csv", "--strategy", "adapt+full")):
        code, _, err = call(*command, "--masking", "whole-words")
        assert code == 2
        assert "Did you mean 'whole-word'?" in err
        assert "--masking" in err


def test_set_names_everything_that_is_not_of_its_form():
    with pytest.raises(ConfigError) as caught:
        settings_of(["epochs=5", "full.epochs", "full.a=[1"])
    assert len(caught.value.faults) == 3


def test_flags_win_over_the_file_and_settings_mix(tmp_path):
    file = tmp_path / "experiment.yaml"
    file.write_text(
        "data: a.csv\nmax-length: 64\nseed: 3\nstrategies: [tfidf, full]\n"
        "settings: {full: {epochs: 2, batch_size: 8}}\n"
    )
    config = resolve(str(file), {"seed": "5", "strategies": "full"}, ["full.epochs=7"])
    assert (config.data, config.max_length, config.seed, config.strategies) == ("a.csv", 64, 5, ("full",))
    assert config.settings == {"full": {"epochs": 7, "batch_size": 8}}


def test_a_fault_names_the_flag_or_the_place_in_the_file(tmp_path):
    file = tmp_path / "experiment.yaml"
    file.write_text("data: a.csv\nmax_length: 2\nsede: 1\n")
    with pytest.raises(ConfigError) as caught:
        resolve(str(file), {"seeds": "0"}, None)
    faults = caught.value.faults
    assert any(f.startswith("--seeds: ") for f in faults)
    assert any(f.startswith(f"{file}: max_length: ") for f in faults)
    assert any("'sede'" in f and "Did you mean 'seed'?" in f for f in faults)


def test_a_narrow_terminal_loses_columns_from_the_right_not_digits():
    from rich.console import Console
    from rich.table import Table

    table = Table("", "strategy", "Macro-F1", "acc", "size")
    table.add_row("*", "linear-probe", "0.812 [0.800, 0.824]", "0.812", "91MB")
    console = Console(width=54)
    assert fit_to_width(table, console) == ["size"]
    with console.capture() as got:
        console.print(table)
    assert "0.812 [0.800, 0.824]" in got.get()
    assert "…" not in got.get()
