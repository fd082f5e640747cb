"""The public names: few, sorted, all there, and nothing loaded by importing the package."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import headstart

PUBLIC = ["Comparison", "Model", "TextFeatures", "TransferClassifier", "adapt", "compare", "fit", "infer", "load"]


def test_public_names_are_the_stored_ones_and_sorted() -> None:
    assert headstart.__all__ == PUBLIC == sorted(PUBLIC)
    assert set(PUBLIC) <= set(dir(headstart))


@pytest.mark.parametrize("name", PUBLIC)
def test_each_public_name_is_there_and_documented(name: str) -> None:
    member = getattr(headstart, name)
    assert (member.__doc__ or "").strip()
    assert member is getattr(importlib.import_module(member.__module__), name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'comparee'"):
        _ = headstart.comparee


def test_importing_loads_nothing_heavy_and_changes_nothing() -> None:
    code = (
        "import os, sys, warnings; before = dict(os.environ); filters = list(warnings.filters); import headstart; "
        "heavy = {'torch', 'transformers', 'numpy', 'pandas', 'sklearn', 'pydantic'} & set(sys.modules); "
        "assert not heavy, heavy; assert dict(os.environ) == before; assert list(warnings.filters) == filters"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
