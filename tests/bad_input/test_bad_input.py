"""Every broken file and setting gets one clear error, and leaves nothing half-written."""

from __future__ import annotations

import re

import pytest
from broken import Call, Case, World, half_written, snapshot
from data_cases import DATA
from encoder_cases import ENCODERS
from model_cases import MODELS
from output_cases import OUTPUTS
from setting_cases import SETTINGS
from yaml_cases import YAML

pytest_plugins = ("places",)
CASES: list[Case] = [*SETTINGS, *YAML, *DATA, *ENCODERS, *MODELS, *OUTPUTS]
FEWEST_CASES = 200
_NOT_FOR_USERS = ("Traceback", "This is a bug", "Error:", "Exception", "pydantic", 'File "')


def test_there_are_as_many_cases_as_promised():
    assert len({case.name for case in CASES}) == len(CASES) >= FEWEST_CASES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_clear_error_and_nothing_half_written(case: Case, world: World, call: Call):
    case.make(world)
    before = snapshot(world.folder)
    code, out, err = call(world, case.command)
    assert (code, out) == (2, ""), err
    said = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(said) == len(set(said)) == case.errors, err
    after = err.splitlines()[err.splitlines().index(said[0]) :]  # before it: what was found in the data so far
    assert all(line.startswith(("error: ", "warning: ", "`headstart ")) for line in after), err
    assert [word for word in case.words if word not in err] == []
    assert [word for word in _NOT_FOR_USERS if re.search(rf"(?<!error: ){re.escape(word)}", err)] == []
    assert snapshot(world.folder) == before
    assert half_written(world.folder) == []
