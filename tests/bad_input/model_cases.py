"""Model folders, and the files they are asked to label."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from broken import Case, World, change_json, lines, truncate

_PREDICT = "predict model reviews.csv --out out.csv --precision float32"
_EVALUATE = "evaluate model --data reviews.csv --precision float32"


def _broken(kind: str, change: Callable[[Path], object] = lambda folder: None) -> Callable[[World], object]:
    return lambda world: change(world.copied_model(kind))


def _with(name: str, content: str | bytes) -> Callable[[World], object]:
    return lambda world: (world.copied_model("tfidf"), world.file(name, content))


MODELS = [
    Case("model that is not there", _PREDICT, ["model", "no model folder", "runs/NAME/best"]),
    Case("folder that is no model", _PREDICT, ["model", "config.json"], lambda w: (w.folder / "model").mkdir()),
    Case("encoder in place of a model", _PREDICT, ["model", "without a classification head", "--encoder"],
         lambda world: world.copied_encoder("model")),
    Case("damaged headstart.json", _PREDICT, ["headstart.json", "damaged", "again"],
         _broken("tfidf", lambda folder: truncate(folder / "headstart.json"))),
    Case("headstart.json that is a list", _PREDICT, ["headstart.json", "damaged", "again"],
         _broken("tfidf", lambda folder: (folder / "headstart.json").write_text("[1]"))),
    Case("headstart.json without labels", _PREDICT, ["headstart.json", "'labels'", "again"],
         _broken("tfidf", lambda folder: change_json(folder / "headstart.json", labels=None))),
    Case("headstart.json with labels of no type", _PREDICT, ["headstart.json", "damaged", "again"],
         _broken("tfidf", lambda folder: change_json(folder / "headstart.json", labels={"values": ["neg", "pos"]}))),
    Case("headstart.json with text settings that are none", _PREDICT, ["headstart.json", "damaged", "again"],
         _broken("tfidf", lambda folder: change_json(folder / "headstart.json", text={"columns": ["text"]}))),
    Case("model of a newer format", _PREDICT, ["headstart.json", "format 99", "upgrade"],
         _broken("tfidf", lambda folder: change_json(folder / "headstart.json", format=99))),
    Case("model of an unknown kind", _PREDICT, ["headstart.json", "'magic'", "tfidf"],
         _broken("tfidf", lambda folder: change_json(folder / "headstart.json", kind="magic"))),
    Case("model with truncated weights", _PREDICT, ["model.safetensors", "truncated", "again"],
         _broken("network", lambda folder: truncate(folder / "model.safetensors"))),
    Case("model without weights", _PREDICT, ["model", "no safetensors weights"],
         _broken("network", lambda folder: (folder / "model.safetensors").unlink())),
    Case("TF-IDF without its numbers", _PREDICT, ["model", "damaged", "tfidf.safetensors"],
         _broken("tfidf", lambda folder: (folder / "tfidf.safetensors").unlink())),
    Case("TF-IDF with a shorter vocabulary", _PREDICT, ["model", "damaged"],
         _broken("tfidf", lambda folder: (folder / "vocabulary.json").write_text('["good", "bad"]'))),
    Case("model without its head", _PREDICT, ["model", "head.safetensors"],
         _broken("frozen", lambda folder: (folder / "head.safetensors").unlink())),
    Case("model with a truncated head", _EVALUATE, ["head.safetensors", "truncated"],
         _broken("frozen", lambda folder: truncate(folder / "head.safetensors"))),
    Case("model without its trees", _PREDICT, ["head.cbm is missing", "again"],
         _broken("boosted", lambda folder: (folder / "head.cbm").unlink())),
    Case("model with truncated trees", _PREDICT, ["head.cbm", "damaged", "again"],
         _broken("boosted", lambda folder: truncate(folder / "head.cbm"))),
    Case("model without a tokenizer", _PREDICT, ["model", "tokenizer"],
         _broken("network", lambda f: [p.unlink() for p in f.glob("tokenizer*")])),
    Case("model that brings code", _PREDICT, ["model", "auto_map"],
         _broken("network", lambda folder: change_json(folder / "config.json", auto_map={"AutoModel": "m.M"}))),
    Case("inspect of a damaged model", "inspect model", ["headstart.json", "damaged"],
         _broken("network", lambda folder: truncate(folder / "headstart.json"))),
    Case("evaluate with one of two models missing", "evaluate model nomodel --data reviews.csv",
         ["nomodel", "no model folder"], _broken("tfidf")),
    Case("predict for a file without the text column", "predict model new.csv --out out.csv",
         ["new.csv", "'text'", "'txt'", "--text"], _with("new.csv", lines(5, header="txt,label"))),
    Case("predict for two text columns", f"{_PREDICT} --text text,label", ["--text", "1 text column"],
         _broken("tfidf")),
    Case("predict for a file that is missing", "predict model none.csv --out out.csv", ["none.csv does not exist"],
         _broken("tfidf")),
    Case("predict for a folder without files", "predict model nothing --out out.csv", ["nothing", ".jsonl"],
         _with("nothing/readme.md", "empty\n")),
    Case("predict into the folder that is read", "predict model parts --out parts/out.csv", ["parts", "--out"],
         _with("parts/a.csv", lines(5))),
    Case("predict with a separator of three characters", f"{_PREDICT} --separator abc",
         ["one character", "'abc'", "--separator"], _broken("tfidf")),
    Case("predict in an unknown encoding", f"{_PREDICT} --encoding utf-61", ["'utf-61'", "'utf-16'", "--encoding"],
         _broken("tfidf")),
    Case("predict with no threads", f"{_PREDICT} --threads 0", ["--threads", "headstart predict --help"],
         _broken("tfidf")),
    Case("inspect of a damaged vocabulary", "inspect model --tokens good", ["model is damaged", "again"],
         _broken("tfidf", lambda folder: truncate(folder / "vocabulary.json"))),
    Case("predict with a damaged vocabulary", _PREDICT, ["model", "damaged", "again"],
         _broken("tfidf", lambda folder: truncate(folder / "vocabulary.json"))),
    Case("predict for a file with a column of that name", "predict model new.csv --out out.csv",
         ["new.csv", "prediction", "rename"], _with("new.csv", lines(5, header="text,prediction"))),
    Case("evaluate with labels the model does not know", "evaluate model --data new.csv",
         ["model", "new.csv", "row 1: 'good'", "neg, pos"], _with("new.csv", "text,label\na b,good\nc d,bad\n")),
    Case("evaluate without labels", "evaluate model --data new.csv", ["new.csv", "no row has a label", "--label"],
         _with("new.csv", "text,label\na b,\nc d,\n")),
    Case("evaluate without the label column", f"{_EVALUATE} --label lable", ["reviews.csv", "'lable'", "'label'"],
         _broken("tfidf")),
    Case("evaluate on an unknown device", "evaluate model --data reviews.csv --device gpu", ["'gpu'", "--device cpu"],
         _broken("tfidf")),
    Case("predict in an unknown precision", "predict model reviews.csv --out out.csv --precision half",
         ["'half'", "float32", "--precision"], _broken("tfidf")),
]  # fmt: skip
