"""Files of texts and labels."""

from __future__ import annotations

import json
from collections.abc import Callable

from broken import Case, World, lines, rows, truncate, with_file

_QUICK = "--strategies majority --no-tracking --encoder ENCODER"
_BAD = f"compare bad.csv {_QUICK}"
_GOOD = lines(40)


def _csv(content: str | bytes) -> Callable[[World], object]:
    return with_file("bad.csv", content)


def _labels(values: list[object]) -> Callable[[World], object]:
    """Return what writes a file whose labels are these."""
    return _csv("text,label\n" + "".join(f"{t},{v}\n" for (t, _), v in zip(rows(len(values)), values, strict=True)))


def _parquet(world: World) -> None:
    import pandas as pd

    pd.DataFrame(rows(40), columns=["text", "label"]).to_parquet(world.folder / "bad.parquet")
    truncate(world.folder / "bad.parquet")


def _nested_parquet(world: World) -> None:
    import pandas as pd

    frame = pd.DataFrame({"text": [[t] for t, _ in rows(20)], "label": [v for _, v in rows(20)]})
    frame.to_parquet(world.folder / "bad.parquet")


def _folder(name: str) -> Callable[[World], object]:
    return lambda world: (world.folder / name).mkdir()


def _many_findings(world: World) -> None:
    labels = ("yes", "no", "Yes", "no")
    written = "".join(f"{t},{labels[i % 4]}\n" for i, (t, _) in enumerate(rows(40)))
    world.file("bad.csv", f"text,label\n{written}odd one,rare\n,yes\n")
    world.file("later.csv", "text,label\nodd one,no\nnew one,yes\n")


def _json(*records: object) -> str:
    return "".join(r if isinstance(r, str) else json.dumps(r) + "\n" for r in records)


_OBJECTS = [{"text": t, "label": v} for t, v in rows(20)]
_FILES = [
    Case("missing file", f"compare review.csv {_QUICK}", ["review.csv does not exist", "Did you mean 'reviews.csv'?"]),
    Case("missing folder", f"compare nowhere/a.csv {_QUICK}", ["nowhere/a.csv does not exist", "folder"]),
    Case("folder in place of a file", f"compare bad.csv {_QUICK}", ["bad.csv is a folder", "give a file"],
         _folder("bad.csv")),
    Case("damaged datasets folder", f"compare saved {_QUICK}",
         ["saved", "not a whole `datasets` folder", "save it again"],
         with_file("saved/dataset_dict.json", '{"splits": ["train"')),
    Case("unknown suffix", f"compare bad.docx {_QUICK}", ["bad.docx", "'.docx'", ".csv", ".parquet"],
         with_file("bad.docx", "text")),
    Case("address in place of a file", f"compare https://example.org/a.csv {_QUICK}", ["https://", "fetch the file"]),
    Case("hub set that is not at hand", f"compare nobody/nothing-here {_QUICK}",
         ["'nobody/nothing-here'", "save_to_disk"]),
    Case("empty file", _BAD, ["bad.csv is empty", "at least one row"], _csv(b"")),
    Case("blank file", _BAD, ["bad.csv is empty", "header row"], _csv(b"\n \n")),
    Case("header only", _BAD, ["bad.csv", "no rows", "add a row"], _csv("text,label\n")),
    Case("workbook named .csv", _BAD, ["bad.csv", "Excel", "export it as CSV"], _csv(b"PK\x03\x04" + b"x" * 100)),
    Case("compressed file named .csv", _BAD, ["bad.csv", "gzip", "unpack"], _csv(b"\x1f\x8b\x08\x00" + b"x" * 100)),
    Case("NUL bytes", _BAD, ["bad.csv", "NUL", "row 40 on line 41", "write it again"],
         _csv(_GOOD.replace("39 is", "39\0is"))),
    Case("ragged rows", _BAD, ["bad.csv", "2 rows", "row 3 on line 4", "row 5 on line 6", "--separator"],
         _csv("text,label\na b,x\na c,y\na, d,x\na e,y\na f\n")),
    Case("open quote", _BAD, ["bad.csv", "row 2 (line 3)", "never closed"],
         _csv('text,label\na b,x\n"a c,y\na d,x\n')),
    Case("text after a closing quote", _BAD, ["bad.csv", "row 1 (line 2)", "twice"],
         _csv('text,label\n"a "big" b",x\na c,y\n')),
    Case("two columns of one name", _BAD, ["bad.csv", "two columns", "text", "rename"],
         _csv("text,text,label\na,b,x\nc,d,y\n")),
    Case("UTF-16 without a mark", _BAD, ["bad.csv", "UTF-16", "--encoding utf-16-le"], _csv(_GOOD.encode("utf-16-le"))),
    Case("unknown encoding", f"{_BAD} --encoding utf9", ["'utf9'", "utf-8", "--encoding"], _csv(_GOOD)),
    Case("encoding that does not fit", f"{_BAD} --encoding utf-8", ["bad.csv is not utf-8", "line 3", "--encoding"],
         _csv("text,label\na,x\ncafé,y\n".encode("latin-1"))),
    Case("wrong separator given", f"{_BAD} --separator ;", ["bad.csv", "'label'", "--label"], _csv(_GOOD), errors=2),
    Case("JSON lines with bad lines", f"compare bad.jsonl {_QUICK}",
         ["bad.jsonl", "line 3", "line 5", "not a JSON object"],
         with_file("bad.jsonl", _json(*_OBJECTS[:2], '{"text": "cut off\n', *_OBJECTS[3:4], "[1, 2]\n")), errors=2),
    Case("JSON list cut short", f"compare bad.json {_QUICK}", ["bad.json", "not valid JSON", "line"],
         with_file("bad.json", json.dumps(_OBJECTS, indent=1)[:300])),
    Case("truncated Parquet", f"compare bad.parquet {_QUICK}", ["bad.parquet", "cut short"], _parquet),
    Case("Parquet with lists in place of texts", f"compare bad.parquet {_QUICK}",
         ["bad.parquet", "'text'", "row 1", "list"], _nested_parquet),
]  # fmt: skip
_COLUMNS = [
    Case("missing label column", f"compare reviews.csv --label lable {_QUICK}",
         ["reviews.csv", "'lable'", "Did you mean 'label'?", "--label"]),
    Case("missing text column", f"compare reviews.csv --text txt {_QUICK}",
         ["reviews.csv", "'txt'", "Did you mean 'text'?", "--text"]),
    Case("every missing column at once",
         f"compare reviews.csv --text a,b --label c --columns d --group e --split-column f {_QUICK}",
         ["--text", "--label", "--columns", "--group", "--split-column"], errors=6),
    Case("label that is also the text", f"compare reviews.csv --text text --label text {_QUICK}",
         ["'text'", "--text", "take it out"]),
    Case("label that is also a feature", f"compare reviews.csv --columns label {_QUICK}",
         ["'label'", "--columns", "take it out"]),
    Case("unknown part in the split column", f"{_BAD} --split-column part",
         ["bad.csv", "'part'", "tset", "row 2", "holdout"],
         _csv("text,label,part\n" + "".join(f"{t},{v},{'tset' if i == 1 else 'train'}\n"
                                            for i, (t, v) in enumerate(rows(20))))),
    Case("no training row in the split column", f"{_BAD} --split-column part", ["bad.csv", "'part'", "'train'"],
         _csv("text,label,part\n" + "".join(f"{t},{v},test\n" for t, v in rows(20)))),
    Case("one group in two splits", f"{_BAD} --split-column part --group who",
         ["bad.csv", "group", "rows 1, 5, 9", "--group"],
         _csv("text,label,part,who\n" + "".join(f"{t},{v},{('train', 'train', 'dev', 'test')[i % 4]},{i % 4 % 3}\n"
                                                for i, (t, v) in enumerate(rows(48))))),
    Case("group that holds all rows", f"{_BAD} --group who", ["split", "no rows", "groups are kept whole"],
         _csv("text,label,who\n" + "".join(f"{t},{v},me\n" for t, v in rows(40))), errors=2),
]  # fmt: skip
_LABELS = [
    Case("one class", _BAD, ["bad.csv", "every label is 'same'", "two classes", "--label"], _labels(["same"] * 30)),
    Case("no labels", _BAD, ["bad.csv", "no row has a label", "--label"], _labels([""] * 30)),
    Case("number to regress", _BAD, ["bad.csv", "30 different numbers", "regress", "--label"],
         _labels([f"{i / 7:.3f}" for i in range(30)])),
    Case("identifier as label", _BAD, ["bad.csv", "30 different labels in 30 rows", "identifier", "--label"],
         _labels([f"id-{i}" for i in range(30)])),
    Case("labels that differ in case and blanks", _BAD,
         ["bad.csv", "'Yes' and 'yes'", "rows 3, 9", "--mend merge-labels"],
         _labels(["yes", "no", "Yes", "no", "yes", "no"] * 9)),
    Case("classes with too few rows", _BAD, ["bad.csv", "'rare' (2)", "rows 1, 2", "6 rows", "--mend drop-rare"],
         _labels(["rare"] * 2 + ["a", "b"] * 15)),
    Case("labels of mixed types", "compare bad.jsonl " + _QUICK, ["bad.jsonl", "bool", "str", "in the same way"],
         with_file("bad.jsonl", _json(*({"text": f"t{i}", "label": True if i % 2 else "no"} for i in range(30))))),
    Case("labels that are lists", "compare bad.jsonl " + _QUICK, ["bad.jsonl", "'label'", "list", "row 1"],
         with_file("bad.jsonl", _json(*({"text": f"t{i}", "label": ["a"]} for i in range(30))))),
    Case("every text empty", _BAD, ["bad.csv", "every text is empty", "--text"],
         _csv("text,label\n" + ",x\n ,y\n" * 20)),
]  # fmt: skip
_SPLITS = [
    Case("missing holdout file", f"compare reviews.csv --holdout latr.csv {_QUICK}", ["latr.csv", "'later.csv'"],
         with_file("later.csv", lines(20, start=100))),
    Case("holdout without the label column", f"compare reviews.csv --holdout later.csv {_QUICK}",
         ["later.csv", "'label'", "'labl'", "--label"],
         with_file("later.csv", lines(20, start=100, header="text,labl"))),
    Case("holdout with labels that training has not", f"compare reviews.csv --holdout later.csv {_QUICK}",
         ["later.csv", "positive", "known: neg, pos", "row 21", "Did you mean 'pos'?"],
         with_file("later.csv", lines(20, start=100) + "something else,positive\n")),
    Case("holdout without any label", f"compare reviews.csv --holdout later.csv {_QUICK}",
         ["later.csv", "no row has a label"],
         with_file("later.csv", "text,label\n" + "".join(f"later {i},\n" for i in range(20)))),
    Case("texts both in train and holdout", f"compare reviews.csv --holdout later.csv {_QUICK}",
         ["reviews.csv", "5 texts", "later.csv", "rows 76, 77, 78, 79, 80", "--mend drop-overlap", "--allow-overlap"],
         with_file("later.csv", lines(20, start=75))),
    Case("holdout larger than the data", f"compare reviews.csv --holdout-size 80 {_QUICK}",
         ["holdout of 80 rows", "80 labeled rows", "--holdout-size"]),
    Case("validation larger than the data", f"compare reviews.csv --validation-size 500 {_QUICK}",
         ["validation of 500 rows", "--validation-size"]),
    Case("source file of one class", f"compare reviews.csv --source bad.csv {_QUICK}",
         ["bad.csv", "every label is 'same'", "--source-label"], _labels(["same"] * 30)),
    Case("source texts in the holdout", f"compare reviews.csv --source bad.csv {_QUICK}",
         ["source", "16 texts", "--allow-overlap"], with_file("bad.csv", lines(80))),
    Case("every finding at once", f"compare bad.csv --holdout later.csv {_QUICK}",
         ["'Yes' and 'yes'", "fewer than the 4 rows", "also in the holdout", "warning: ", "1 text is empty"],
         _many_findings, errors=3),
]  # fmt: skip
DATA = [*_FILES, *_COLUMNS, *_LABELS, *_SPLITS]
