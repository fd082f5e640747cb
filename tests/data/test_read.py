"""Reading: every kind of source, and one clear error for every way a file can be broken."""

from __future__ import annotations

import csv
import json
import sys

import numpy as np
import pandas as pd
import pytest

from headstart.data.labels import Labels
from headstart.data.read import examples_of, read_table
from headstart.errors import DataError, MissingExtraError

GOOD = "text,label\nfine film,1\ndull film,0\n"


def write(tmp_path, content, name="reviews.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def fault(path, **options):
    with pytest.raises(DataError) as caught:
        read_table(path, **options)
    return str(caught.value)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separator_is_found(tmp_path, separator):
    rows = [["text", "label"], ["a, b; c | d", "1"], ['say "hi"\nthere', "0"], ["plain", "1"]]
    path = tmp_path / "reviews.csv"
    with path.open("w", newline="") as handle:
        csv.writer(handle, delimiter=separator).writerows(rows)
    table = read_table(path)
    assert table.frame["text"].tolist() == [r[0] for r in rows[1:]]
    assert table.frame["label"].tolist() == [1, 0, 1]
    assert "separator" in table.notes[0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_encodings_are_found(tmp_path, encoding):
    table = read_table(write(tmp_path, "text,label\nça va été,oui\n", encoding=encoding))
    assert list(table.frame.columns) == ["text", "label"]
    assert table.frame["text"][0] == "ça va été"


def test_other_encodings_are_guessed_and_said(tmp_path):
    table = read_table(write(tmp_path, "text,label\nok,1\ncafé “bon”,1\n", encoding="cp1252"))
    assert table.frame["text"][1] == "café “bon”"
    assert "not UTF-8 (byte 0xe9 at offset 19, line 3), read as cp1252" in table.notes[0]


def test_given_encoding_is_obeyed(tmp_path):
    path = write(tmp_path, "text,label\nждём,1\n", encoding="cp1251")
    assert read_table(path, encoding="cp1251").frame["text"][0] == "ждём"


def test_cells_stay_what_the_user_wrote(tmp_path):
    content = "text,label,code,price,seen,note\nNA,None,001,1.50,true,\nnull,NA,002,2,False,nan\n12,x,010,,TRUE,1\n"
    frame = read_table(write(tmp_path, content), text=("text",)).frame
    assert frame["text"].tolist() == ["NA", "null", "12"]
    assert frame["label"].tolist() == ["None", "NA", "x"]
    assert frame["code"].tolist() == ["001", "002", "010"]
    assert frame["price"].tolist()[:2] == [1.5, 2.0]
    assert frame["seen"].tolist() == [True, False, True]
    assert frame["note"].tolist() == ["", "nan", "1"]


def test_whole_number_labels_stay_whole_beside_blank_ones(tmp_path):
    frame = read_table(write(tmp_path, "text,label\na,1\nb,\nc,0\n")).frame
    examples = examples_of(frame, text=("text",), label="label")
    assert examples.y.tolist() == [1, -1, 0]
    assert Labels.of(frame["label"]).values == (0, 1)


def test_a_text_column_of_numbers_stays_text(tmp_path):
    path = write(tmp_path, "text,label\n1.50,a\n2,b\n")
    assert examples_of(read_table(path, text=("text",)).frame, text=("text",)).texts == ("1.50", "2")


def test_tsv_with_quotes_that_are_no_quotes(tmp_path):
    path = write(tmp_path, 'text\tlabel\n"bad" film\t0\n5" disc\t1\n"open\t0\n', "reviews.tsv")
    table = read_table(path)
    assert table.frame["text"].tolist() == ['"bad" film', '5" disc', '"open']
    assert "quotes are part of the text" in table.notes[0]


def test_backslash_escapes_and_excel_separator_line(tmp_path):
    escaped = read_table(write(tmp_path, 'text,label\n"he said \\"hi\\", left",1\n'))
    assert escaped.frame["text"][0] == 'he said "hi", left'
    excel = read_table(write(tmp_path, "sep=;\r\ntext;label\r\na,b;1\r\n"))
    assert excel.frame["text"][0] == "a,b"


def test_one_column_is_not_cut_at_its_commas(tmp_path):
    path = write(tmp_path, "text\nhello, world\nfine; really\n")
    assert read_table(path).frame["text"].tolist() == ["hello, world", "fine; really"]


def test_a_cell_of_ten_megabytes_is_cut_and_said(tmp_path):
    cell = "a" * 5_000_000 + "b" * 5_000_000
    path = write(tmp_path, f"text,label\nshort,0\n{cell},1\n")
    limit = csv.field_size_limit()
    table = read_table(path)
    assert table.frame["text"][1] == "a" * 50_000 + "b" * 50_000
    assert any("row 2, column 'text': 10,000,000 characters cut" in note for note in table.notes)
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty (0 bytes)"),
        (b"  \n\n", "is empty"),
        ("text,label\n", "has a header but no rows"),
        ("text,text\na,b\n", "two columns of one name: text"),
        (
            "text,label\na,1\nb,2,3\nc\n",
            "2 rows have 1, 3 columns where the header has 2 (row 2 on line 3, row 3 on line",
        ),
        ("text,label\na,1\nb\0c,2\n", "NUL bytes in row 2 on line 3"),
        ('text,label\n"a",1\n"never closed,1\nmore,2\n', 'row 2 (line 3) opens a quote (") that is never closed'),
        ('text,label\n"a "b" c",1\nd,2\n', "row 1 (line 2) has text after a closing quote"),
        (b"PAR1xxxx", "is a Parquet file, not text"),
        (b"PK\x03\x04rest", "is a zip archive or Excel workbook"),
        (b"\x1f\x8b\x08rest", "is gzip-compressed"),
        ("text,label\na,1\n".encode("utf-16-le"), "try --encoding utf-16-le"),
    ],
)
def test_broken_csv(tmp_path, content, words):
    message = fault(write(tmp_path, content))
    assert words in message
    assert "reviews.csv" in message


def test_wrong_encoding_names_the_place(tmp_path):
    path = write(tmp_path, "text,label\nok,1\ncafé,1\n", encoding="latin-1")
    assert "is not utf-8: the bytes at offset 19 (line 3)" in fault(path, encoding="utf-8")
    assert "Did you mean 'utf-16'?" in fault(path, encoding="utf-61")
    assert "is not utf-16" in fault(write(tmp_path, b"abc"), encoding="utf-16")


def test_missing_sources_name_the_closest(tmp_path):
    write(tmp_path, GOOD)
    assert "does not exist. Did you mean 'reviews.csv'?" in fault(tmp_path / "revews.csv")
    assert "does not exist either" in fault(tmp_path / "no" / "reviews.csv")
    assert "Did you mean 'film-reviews'?" in fault("film-review")
    assert "no data is named" in fault("")
    assert "fetch the file first" in fault("https://example.org/reviews.csv")


def test_other_kinds_of_source_are_refused(tmp_path):
    assert "known: .csv, .tsv" in fault(write(tmp_path, GOOD, "reviews.xyz"))
    assert "not one that `datasets` saved" in fault(tmp_path)


def test_json_lines(tmp_path):
    lines = ['{"text": "a\u2028b", "label": true}', "", '{"text": "\\ud800x", "label": false, "n": 1}']
    frame = read_table(write(tmp_path, "\n".join(lines), "reviews.jsonl")).frame
    assert frame["text"].tolist() == ["a\u2028b", "\ufffdx"]
    assert frame["label"].tolist() == [True, False]
    assert frame["n"].isna().tolist() == [True, False]


def test_json_text_labels_that_look_like_numbers_stay_text(tmp_path):
    frame = read_table(write(tmp_path, '[{"text": "a", "label": "1"}, {"text": "b", "label": "0"}]', "r.json")).frame
    assert frame["label"].tolist() == ["1", "0"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"text": "a"}\n{"text": \n', "line 2 is not a JSON object: Expecting value"),
        ('{"text": "a"}\n[1]\n3\n', "line 2 is not a JSON object: a list"),
        ('"just text"\n', "line 1 is not a JSON object: a text"),
        ("{}\n{}\n", "has no columns"),
        ('[{"text": "a"}, 3]', "entry 2 of the list is not an object"),
        ('[{"text": "a"},', "is not valid JSON"),
        (b"\0\0\0\0", "is not a JSON object"),
        ("[" * 100_000, "is not valid JSON"),
        ('{"a":' * 100_000, "line 1 is not a JSON object"),
        ('{"text": ' + "9" * 5000 + "}", "line 1 is not a JSON object"),
    ],
)
def test_broken_json_lines(tmp_path, content, words):
    assert words in fault(write(tmp_path, content, "reviews.jsonl"))


def test_parquet_round_trip(tmp_path):
    path = tmp_path / "reviews.parquet"
    frame = pd.DataFrame(
        {"text": ["a", None], "label": pd.array([1, None], dtype="Int64"), "x": [0.5, 2]}, index=[7, 9]
    )
    frame.to_parquet(path)
    table = read_table(path)
    assert list(table.frame.columns) == ["text", "label", "x"]
    examples = examples_of(table.frame, text=("text",), label="label", columns=("x",))
    assert examples.texts == ("a", "")
    assert examples.y.tolist() == [0, -1]
    assert examples.ids.tolist() == [0, 1]
    whole = path.read_bytes()
    for size in (4, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert "is not a whole Parquet file" in fault(path)
    path.write_bytes(b"")
    assert "is empty" in fault(path)


def test_frame_is_read_and_not_changed():
    frame = pd.DataFrame({"text": ["a", "b", "c"], "label": [1.0, np.nan, 0.0]}, index=[5, 5, 2])
    before = frame.copy()
    table = read_table(frame)
    assert table.frame.index.tolist() == [0, 1, 2]
    assert Labels.of(table.frame["label"].dropna()).values == (0.0, 1.0)
    assert examples_of(table.frame, text=("text",), label="label").y.tolist() == [1, -1, 0]
    pd.testing.assert_frame_equal(frame, before)


def test_frames_that_are_no_tables():
    assert "two columns of one name: a" in fault(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    assert "has no rows" in fault(pd.DataFrame({"text": []}))
    assert "several levels" in fault(pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])))


def test_examples_of_names_every_missing_column_and_the_closest():
    frame = pd.DataFrame({"text": ["a"], "stars": [1]})
    with pytest.raises(DataError) as caught:
        examples_of(frame, text=("txt",), label="star", columns=("nope",), name="x.csv")
    assert len(caught.value.faults) == 3
    assert "x.csv has no column 'txt' (--text); its columns: text, stars. Did you mean 'text'?" in caught.value.faults


def test_examples_of_encodes_by_value_and_else_by_name():
    frame = pd.DataFrame({"text": ["a", "b", " "], "label": [1, 0, 1]})
    labels = Labels.of(["1", "0", "x"])
    examples = examples_of(frame, text=("text",), label="label", labels=labels)
    assert examples.y.tolist() == [1, 0, 1]
    assert examples.texts == ("a", "b", "")
    with pytest.raises(DataError, match=r"column 'label': 2 labels are not among 0, x \(row 1: 1, row 3: 1\)"):
        examples_of(frame, text=("text",), label="label", labels=Labels.of(["0", "x"]))


def test_examples_of_features_are_of_three_plain_kinds():
    frame = pd.DataFrame(
        {
            "text": ["a", "b"],
            "number": pd.array([1, None], dtype="Int64"),
            "whole": [1, 2],
            "flag": [True, False],
            "word": ["x", None],
            "when": pd.to_datetime(["2020-01-01", "2020-01-02"]),
        }
    )
    columns = examples_of(frame, text=("text",), columns=("number", "whole", "flag", "word", "when")).columns
    assert columns.dtypes.astype(str).tolist() == ["float64", "int64", "bool", "object", "object"]
    assert columns["word"].tolist() == ["x", ""]
    json.loads(columns.to_json())


def test_whole_numbers_too_large_for_64_bits_stay_apart():
    frame = read_table(pd.DataFrame({"text": ["a", "b"], "label": [10**30, 10**30 + 1]}, dtype=object)).frame
    assert Labels.of(frame["label"]).values == (10**30, 10**30 + 1)


def test_lone_surrogates_are_replaced():
    frame = read_table(pd.DataFrame({"text": ["\ud800 a"]}, dtype=object)).frame
    assert frame["text"].tolist() == ["\ufffd a"]


def test_texts_that_are_no_texts():
    with pytest.raises(DataError, match="column 'text' holds a list in row 2"):
        examples_of(pd.DataFrame({"text": ["a", ["b"]]}), text=("text",))


def test_optional_library_is_named(monkeypatch, tmp_path):
    (tmp_path / "state.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"headstart\[datasets\]"):
        read_table(tmp_path)
