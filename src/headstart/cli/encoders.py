"""``headstart encoders``."""

from __future__ import annotations

import json
from typing import Any

import typer

from headstart import catalog
from headstart.cli import running
from headstart.cli.lazy import single
from headstart.cli.tables import line, show, table

_EPILOG = """Examples:

headstart encoders

headstart compare reviews.csv --encoder minilm
"""


def application() -> typer.Typer:
    """Return the application of this command."""
    return single("encoders", encoders, epilog=_EPILOG, needs_arguments=False)


def encoders(json_: running.AsJson = False) -> None:
    """List the encoders that have a short name, and whether each is on this machine.

    Any other encoder is given by its folder or its name on the Hugging Face hub; only safetensors weights are read.
    """
    found = [_about(entry) for entry in catalog.ENCODERS.values()]
    if json_:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    rows = [
        [e["name"], e["hub"], e["languages"], f"{e['parameters'] / 1e6:.1f}M", e["layers"], e["width"], e["license"],
         e["here"]]
        for e in found
    ]  # fmt: skip
    show(table(["name", "hub name", "languages", "weights", "layers", "width", "license", "here"], rows, left=3))
    line("'gru' as encoder is a GRU trained on the source (--source). Others: a folder, or any hub name.")


def _about(entry: catalog.EncoderEntry) -> dict[str, Any]:
    here = "packaged" if catalog.packaged_folder(entry.name) else "cached" if _cached(entry.hub) else "no"
    own = {key: getattr(entry, key) for key in ("name", "hub", "languages", "parameters", "layers", "width", "license")}
    return {**own, "here": here}


def _cached(hub: str) -> bool:
    """Whether the hub's cache on this machine holds the encoder's weights."""
    from pathlib import Path

    from huggingface_hub.constants import HF_HUB_CACHE

    return any(Path(HF_HUB_CACHE).glob(f"models--{hub.replace('/', '--')}/snapshots/*/*.safetensors"))
