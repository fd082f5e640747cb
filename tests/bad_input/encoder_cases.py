"""Encoders and source classifiers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from broken import Case, World, change_json, truncate

_QUICK = "--strategies linear-probe --no-tracking --precision float32"
_RUN = f"compare reviews.csv --encoder encoder {_QUICK}"


def _without(*names: str) -> Callable[[World], object]:
    return lambda world: [(world.copied_encoder() if not (world.folder / "encoder").exists()
                           else world.folder / "encoder").joinpath(name).unlink() for name in names]  # fmt: skip


def _in_encoder(change: Callable[[Path], object]) -> Callable[[World], object]:
    return lambda world: change(world.copied_encoder())


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")


def _other_names(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    save_file({f"other.{name}": w for name, w in weights.items()}, folder / "model.safetensors", {"format": "pt"})


def _not_safetensors(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")


ENCODERS = [
    Case("hub encoder that is not at hand", f"compare reviews.csv --encoder nobody/nothing {_QUICK}",
         ["'nobody/nothing'", "HF_HUB_OFFLINE", "--encoder ./folder", "--encoder minilm"]),
    Case("misspelled catalog name", f"compare reviews.csv --encoder minilmm {_QUICK}",
         ["'minilmm'", "Did you mean 'minilm'?"]),
    Case("malformed hub name", f"compare reviews.csv --encoder a/b/c/d {_QUICK}", ["'a/b/c/d'", "well-formed"]),
    Case("encoder without a name", f"compare reviews.csv --encoder '' {_QUICK}", ["no encoder is named", "--encoder"]),
    Case("revision of a folder", f"{_RUN} --revision main",
         ["--revision main", "'encoder' is a folder", "leave it out"],
         _in_encoder(lambda folder: None)),
    Case("encoder folder that is not there", f"compare reviews.csv --encoder ./encodr {_QUICK}",
         ["'./encodr'", "folder", "--encoder"]),
    Case("file in place of an encoder", f"compare reviews.csv --encoder reviews.csv {_QUICK}",
         ["'reviews.csv'", "not a folder", "--encoder"]),
    Case("encoder without config.json", _RUN, ["encoder", "config.json"], _without("config.json")),
    Case("encoder with broken config.json", _RUN, ["config.json", "not valid JSON", "fetch the model again"],
         _in_encoder(lambda folder: truncate(folder / "config.json"))),
    Case("encoder whose config.json is a list", _RUN, ["config.json", "model_type"],
         _in_encoder(lambda folder: (folder / "config.json").write_text("[]"))),
    Case("encoder whose config.json is no text", _RUN, ["config.json", "not valid JSON"],
         _in_encoder(lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe\x00\x80"))),
    Case("encoder of an unknown architecture", _RUN, ["encoder", "`bertt`", "version of Transformers"],
         _in_encoder(lambda folder: change_json(folder / "config.json", model_type="bertt"))),
    Case("encoder that brings code", _RUN, ["encoder", "auto_map", "not loaded"],
         _in_encoder(lambda folder: change_json(folder / "config.json", auto_map={"AutoModel": "m.Model"}))),
    Case("encoder with pickled weights only", _RUN, ["pytorch_model.bin", "not read for safety", "save_pretrained"],
         _in_encoder(_pickled)),
    Case("encoder without weights", _RUN, ["encoder", "no safetensors weights"], _without("model.safetensors")),
    Case("encoder with truncated weights", _RUN, ["model.safetensors", "truncated", "again"],
         _in_encoder(lambda folder: truncate(folder / "model.safetensors"))),
    Case("encoder with empty weights", _RUN, ["model.safetensors", "truncated", "again"],
         _in_encoder(lambda folder: truncate(folder / "model.safetensors", 0))),
    Case("encoder whose weights were never fetched", _RUN, ["model.safetensors", "damaged", "again"],
         _in_encoder(_not_safetensors)),
    Case("encoder without a tokenizer", _RUN, ["encoder", "tokenizer"],
         _without("tokenizer.json", "tokenizer_config.json")),
    Case("encoder with a broken tokenizer", _RUN, ["encoder", "could not be loaded", "again"],
         _in_encoder(lambda folder: truncate(folder / "tokenizer.json"))),
    Case("encoder of another shape than its weights", _RUN,
         ["encoder", "config.json does not fit", "32", "48", "again"],
         _in_encoder(lambda folder: change_json(folder / "config.json", hidden_size=48))),
    Case("encoder with a number in words", _RUN, ["encoder", "hidden_size", "again"],
         _in_encoder(lambda folder: change_json(folder / "config.json", hidden_size="wide"))),
    Case("encoder with the weights of another model", _RUN, ["encoder", "weights", "not in the safetensors", "again"],
         _in_encoder(_other_names)),
    Case("source that is no classifier", f"{_RUN} --source plain", ["--source plain", "no classification head"],
         lambda world: (world.copied_encoder(), world.copied_encoder("plain"))),
    Case("source on frozen features", f"{_RUN} --source model", ["--source model", "fine-tuned"],
         lambda world: (world.copied_encoder(), world.copied_model("frozen"))),
    Case("source that counts words", f"{_RUN} --source model", ["--source model", "'tfidf'", "fine-tuned"],
         lambda world: (world.copied_encoder(), world.copied_model("tfidf"))),
    Case("source that is nowhere", f"{_RUN} --source nobody/nothing",
         ["source classifier 'nobody/nothing'", "HF_HUB_OFFLINE", "--source ./folder"],
         lambda world: world.copied_encoder()),
    Case("source with truncated weights", f"{_RUN} --source model", ["model.safetensors", "truncated"],
         lambda world: (world.copied_encoder(), truncate(world.copied_model("network") / "model.safetensors"))),
    Case("source with a damaged card", f"{_RUN} --source model", ["headstart.json", "damaged"],
         lambda world: (world.copied_encoder(), truncate(world.copied_model("network") / "headstart.json"))),
    Case("inspect of a name that is nowhere", "inspect nosuchmodel", ["'nosuchmodel'", "not on this machine"]),
    Case("inspect of truncated weights", "inspect encoder", ["model.safetensors", "truncated"],
         _in_encoder(lambda folder: truncate(folder / "model.safetensors"))),
    Case("inspect against nothing", "inspect encoder --against ./none", ["'./none'", "folder"],
         _in_encoder(lambda folder: None)),
    Case("inspect of tokens without a tokenizer", "inspect encoder --tokens hello", ["encoder", "tokenizer"],
         _without("tokenizer.json", "tokenizer_config.json")),
]  # fmt: skip
