"""The door to data: roles of files and columns, sizes, seeds, all faults at once, and mending only when told to."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from headstart.data.config import DataConfig
from headstart.data.load import check_source, load_data, load_source
from headstart.errors import DataError


def frame_of(n=100, classes=("neg", "pos"), **columns):
    frame = pd.DataFrame(
        {"text": [f"text number {i}" for i in range(n)], "label": [classes[i % len(classes)] for i in range(n)]}
    )
    return frame.assign(**columns)


def load(frame, holdout=None, seed=0, **settings):
    return load_data(DataConfig(data="memory", **settings), seed=seed, frame=frame, holdout_frame=holdout)


def faults(frame, holdout=None, **settings):
    with pytest.raises(DataError) as caught:
        load(frame, holdout, **settings)
    return list(caught.value.faults)


def codes(loaded):
    return [finding.code for finding in loaded.findings]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "b", "c"]), min_size=40, max_size=120),
    st.integers(0, 99),
    st.one_of(st.integers(6, 12), st.floats(0.1, 0.3)),
    st.one_of(st.integers(6, 12), st.floats(0.1, 0.3)),
)
def test_splits_are_disjoint_exhaustive_and_of_the_size_asked_for(labels, seed, validation, holdout):
    labels = [*labels, *"abc" * 6]
    frame = pd.DataFrame({"text": [f"t{i}" for i in range(len(labels))], "label": labels})
    splits = load(frame, seed=seed, validation_size=validation, holdout_size=holdout).splits
    parts = (splits.train, splits.validation, splits.holdout)
    ids = np.concatenate([p.ids for p in parts])
    assert sorted(ids.tolist()) == list(range(len(labels)))
    held = holdout if isinstance(holdout, int) else round(holdout * len(labels))
    assert len(splits.holdout) == held
    rest = len(labels) - held
    assert len(splits.validation) == (validation if isinstance(validation, int) else round(validation * rest))
    for part in parts:
        assert [f"t{i}" for i in part.ids] == list(part.texts)
        assert [labels[i] for i in part.ids] == splits.labels.decode(part.y)


def test_same_seed_same_fingerprints_other_seed_other():
    frame = frame_of()
    first, again, other = load(frame, seed=3), load(frame, seed=3), load(frame, seed=4)
    assert first.fingerprints == again.fingerprints == first.splits.fingerprints()
    assert first.fingerprints["holdout"] != other.fingerprints["holdout"]
    assert first.fingerprints["validation"] != other.fingerprints["validation"]


def test_labelled_cap_counts_train_and_validation_together_and_keeps_the_holdout():
    frame = frame_of(500)
    whole, capped = load(frame, holdout_size=100), load(frame, holdout_size=100, labeled=60)
    assert (len(capped.splits.train), len(capped.splits.validation)) == (48, 12)
    assert capped.fingerprints["holdout"] == whole.fingerprints["holdout"]
    assert np.bincount(capped.splits.train.y).tolist() == [24, 24]
    assert any("60 of 400 labeled rows are used" in note for note in capped.notes)
    assert any("only 400 rows are there" in note for note in load(frame, holdout_size=100, labeled=1000).notes)


def test_blank_labels_are_the_unlabelled_pool():
    frame = frame_of(100)
    frame.loc[60:, "label"] = [None, "", "  ", *[None] * 37]
    frame.loc[99, "text"] = " "
    splits = load(frame).splits
    assert splits.unlabeled.ids.tolist() == list(range(60, 99))
    assert set(splits.unlabeled.y.tolist()) == {-1}
    assert len(splits.train) + len(splits.validation) + len(splits.holdout) == 60


def test_labeled_rows_that_are_left_over_join_the_pool_without_their_labels(tmp_path):
    frame = frame_of(100)
    frame.loc[90:, "label"] = None
    splits = load(frame, holdout_size=20, labeled=30).splits
    fitted = {*splits.train.ids, *splits.validation.ids}
    assert len(fitted) == 30
    assert splits.unlabeled.ids.tolist() == sorted(set(range(100)) - fitted - set(splits.holdout.ids))
    assert set(splits.unlabeled.y.tolist()) == {-1}
    paths = {}
    for name, size in (("data", 40), ("validation", 20)):
        paths[name] = str(tmp_path / f"{name}.csv")
        frame_of(size).assign(text=lambda f, name=name: name + f["text"]).to_csv(paths[name], index=False)
    given = load_data(DataConfig(**paths, holdout_size=10, labeled=15), seed=0).splits
    assert len(given.train) + len(given.validation) == 15
    assert len(given.unlabeled) == 40 - 10 - len(given.train)
    assert all(text.startswith("data") for text in given.unlabeled.texts)


def test_given_files_are_used_as_they_are(tmp_path):
    paths = {}
    for name, size in (("data", 40), ("validation", 10), ("holdout", 12)):
        paths[name] = str(tmp_path / f"{name}.csv")
        frame_of(size).assign(text=lambda f, name=name: name + f["text"]).to_csv(paths[name], index=False)
    splits = load_data(DataConfig(**paths), seed=0).splits
    assert (len(splits.train), len(splits.validation), len(splits.holdout)) == (40, 10, 12)
    assert splits.holdout.ids.tolist() == list(range(12))
    capped = load_data(DataConfig(**paths, labeled=20), seed=0).splits
    assert (len(capped.train), len(capped.validation), len(capped.holdout)) == (16, 4, 12)


def test_labels_of_another_type_in_another_file_are_matched_by_name():
    frame = frame_of(40, ("1", "2"))
    holdout = frame_of(10, (1, 2)).assign(text=lambda f: "held " + f["text"])
    assert np.bincount(load(frame, holdout).splits.holdout.y).tolist() == [5, 5]


def test_split_column():
    parts = ["train"] * 60 + ["Valid"] * 20 + ["TEST"] * 20
    splits = load(frame_of(100, part=parts), split_column="part").splits
    assert splits.train.ids.tolist() == list(range(60))
    assert splits.validation.ids.tolist() == list(range(60, 80))
    assert splits.holdout.ids.tolist() == list(range(80, 100))
    carved = load(frame_of(100, part=["train"] * 80 + ["dev"] * 20), split_column="part").splits
    assert (len(carved.train), len(carved.validation), len(carved.holdout)) == (64, 20, 16)


def test_split_column_faults():
    found = faults(frame_of(10, part=["train"] * 8 + ["tset", None]), split_column="part")
    assert "says None, tset in rows 9, 10; known: train" in found[0]
    assert "no row says 'train'" in faults(frame_of(10, part=["test"] * 10), split_column="part")[0]
    twice = faults(frame_of(10, part=["train"] * 8 + ["test"] * 2), frame_of(4), split_column="part")
    assert "holdout rows are given twice" in twice[0]


def test_groups_are_kept_whole_and_given_splits_must_not_cut_them():
    group = [i // 4 for i in range(200)]
    splits = load(frame_of(200, customer=group), group="customer").splits
    held = [{group[i] for i in part.ids} for part in (splits.train, splits.validation, splits.holdout)]
    assert sum(map(len, held)) == len(set.union(*held)) == 50
    holdout = frame_of(10, customer=[1] * 10).assign(text=lambda f: "held " + f["text"])
    assert (
        "rows belong to a group that holdout also has (rows 5, 6, 7, 8)"
        in faults(frame_of(200, customer=group), holdout, group="customer")[0]
    )


def test_our_own_split_never_parts_equal_texts():
    frame = frame_of(200, ("a", "b"))
    frame["text"] = [f"text {i // 2}" for i in range(200)]  # every text twice, with two labels
    for seed in range(5):
        loaded = load(frame, seed=seed)
        texts = [set(part.texts) for part in (loaded.splits.train, loaded.splits.validation, loaded.splits.holdout)]
        assert sum(map(len, texts)) == len(set.union(*texts)) == 100
        assert "conflicts" in codes(loaded)


def test_source_has_no_holdout(tmp_path):
    path = tmp_path / "source.csv"
    frame_of(50, stars=3).to_csv(path, index=False)
    config = DataConfig(data=str(path), columns="stars")
    loaded = load_source(config, seed=0)
    assert (len(loaded.splits.train), len(loaded.splits.validation), len(loaded.splits.holdout)) == (40, 10, 0)
    assert list(loaded.splits.holdout.columns.columns) == ["stars"]


def test_pairs():
    frame = frame_of(50, second=[None, *("b" * 49)])
    splits = load(frame, text="text,second").splits
    pairs = dict(zip(splits.train.ids.tolist(), splits.train.pairs, strict=True))
    assert all(text == ("" if row == 0 else "b") for row, text in pairs.items())
    assert splits.train.columns is None


def test_all_faults_of_columns_and_settings_are_named_at_once():
    found = faults(frame_of(20), label="lable", columns="stars", group="who", mend="drop-emtpy", text="text")
    assert len(found) == 4
    assert "mending 'drop-emtpy' is unknown" in found[0]
    assert "Did you mean 'drop-empty'?" in found[0]
    assert any("no column 'lable' (--label)" in f and "Did you mean 'label'?" in f for f in found)


def test_faults_of_several_files_are_named_at_once(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\na,1,2\n")
    with pytest.raises(DataError) as caught:
        load_data(DataConfig(data=str(tmp_path / "a.csv"), holdout=str(tmp_path / "b.csv")), seed=0)
    assert len(caught.value.faults) == 2


def test_faults_of_rows_are_named_at_once_with_warnings_after():
    frame = frame_of(60)
    frame.loc[3, "label"] = " POS"
    frame.loc[4, "text"] = ""
    frame.loc[10, "label"] = "rare"
    found = faults(frame, frame_of(12))
    assert [f.split(":")[0] for f in found] == ["data", "data", "data", "warning"]
    assert "11 texts are also in the holdout" in found[0]
    assert any("' POS' and 'pos' (row 4)" in f for f in found)
    assert "1 text is empty (row 5)" in found[-1]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["pos"] * 60, "every label is 'pos'; there must be at least two classes"),
        ([None] * 60, "no row has a label"),
        ([i / 7 for i in range(60)], "looks like a quantity to regress"),
        (list(range(60)), "looks like an identifier or a quantity to regress"),
        ([f"id-{i}" for i in range(60)], "looks like an identifier"),
        ([1, "a"] * 30, "mixes int, str"),
        ([float("inf"), *map(float, range(59))], "looks like a quantity to regress"),
        ([["a"], ["b", "c"]] * 30, "column 'label' holds a list in row 1 (60 such rows)"),
        (["a", "b"] * 28 + ["c"] * 4, "fewer than the 6 rows that are needed: 'c' (4)"),
    ],
)
def test_labels_that_are_no_classes(labels, words):
    assert words in faults(frame_of(60).assign(label=pd.Series(labels, dtype=object)))[0]


def test_class_numbers_and_stars_are_classes():
    assert len(load(frame_of(300, tuple(range(30)))).splits.labels) == 30  # ten rows each: mentioned, not refused
    assert "regression-label" in codes(load(frame_of(300, tuple(range(30)))))
    assert codes(load(frame_of(200, (0.5, 1.0, 1.5, 2.0)))) == []
    assert codes(load(frame_of(60, (True, False)))) == []


def test_few_rows_are_a_warning():
    labels = ["a", "b"] * 27 + ["c"] * 6
    assert codes(load(frame_of(60).assign(label=labels))) == ["few-rows"]


def test_overlap_is_refused_unless_allowed_or_mended():
    frame, holdout = frame_of(60), frame_of(10).assign(text=[" text number 7 ", *[f"new {i}" for i in range(9)]])
    assert "1 text is also in the holdout (holdout): its scores would be too good (row 8)" in faults(frame, holdout)[0]
    allowed = load(frame, holdout, allow_overlap=True)
    assert [(f.code, f.severity, f.rows) for f in allowed.findings] == [("overlap", "warning", (8,))]
    mended = load(frame, holdout, mend="drop-overlap")
    assert mended.mended == {"drop-overlap": 1}
    assert 7 not in [*mended.splits.train.ids, *mended.splits.validation.ids]


def test_unknown_labels_in_the_holdout():
    holdout = frame_of(10, ("pos", "negg")).assign(text=lambda f: "new " + f["text"])
    fault = faults(frame_of(60), holdout)[0]
    assert "5 labels are not among those of data: negg (rows 2, 4, 6, 8, 10)" in fault
    assert "Did you mean 'neg'?" in fault


def test_a_column_that_gives_the_label_away():
    rng = np.random.default_rng(0)
    frame = frame_of(400)
    positive = (frame["label"] == "pos").astype(int)
    frame["stars"] = positive * 3 + rng.integers(0, 3, 400)
    frame["score"] = positive + rng.normal(0, 0.1, 400)
    frame["noise"] = rng.normal(size=400)
    frame["row"] = [f"id {i}" for i in range(400)]
    frame["shop"] = rng.choice(["a", "b"], 400)
    found = load(frame, columns="stars,score,noise,row,shop").findings
    assert [f.message.split("'")[1] for f in found] == ["stars", "score"]
    assert load(frame, columns="noise,row,shop").findings == ()


def test_feature_columns_must_be_of_one_kind():
    holdout = frame_of(10, size="large").assign(text=lambda f: "new " + f["text"])
    assert (
        "column 'size' holds numbers in data but text in holdout"
        in faults(frame_of(60, size=1), holdout, columns="size")[0]
    )


def test_label_among_texts_or_features_is_refused():
    found = faults(frame_of(20), text="text,label", columns="label")
    assert "also named in --text" in found[0]
    assert "also named in --columns" in found[1]


def test_nothing_is_mended_unasked_and_everything_is_counted():
    frame = pd.concat([frame_of(60), frame_of(2)], ignore_index=True)  # rows 61, 62 repeat rows 1, 2
    frame.loc[10, "text"] = "  "
    frame.loc[11, "text"] = "text number 12"  # conflicts with row 13
    loaded = load(frame)
    assert sorted(codes(loaded)) == ["conflicts", "duplicates", "empty-text"]
    assert sum(map(len, (loaded.splits.train, loaded.splits.validation, loaded.splits.holdout))) == 62
    assert loaded.mended == {}
    frame.loc[20, "label"] = "NEG "
    frame.loc[21, "label"] = "rare"
    mended = load(frame, mend="all")
    assert mended.mended == {
        "merge-labels": 1,
        "drop-empty": 1,
        "drop-conflicts": 2,
        "drop-duplicates": 2,
        "drop-overlap": 0,
        "drop-rare": 1,
    }
    assert sum(map(len, (mended.splits.train, mended.splits.validation, mended.splits.holdout))) == 56
    assert mended.findings == ()
    assert mended.splits.labels.values == ("neg", "pos")


def test_mending_is_for_every_file():
    frame, holdout = frame_of(60), frame_of(12).assign(text=lambda f: "new " + f["text"])
    holdout.loc[0, "label"] = "Neg"
    holdout.loc[1, "text"] = None
    loaded = load(frame, holdout, mend=["merge-labels", "drop-empty"])
    assert loaded.mended == {"merge-labels": 1, "drop-empty": 1}
    assert loaded.splits.holdout.ids.tolist() == [0, *range(2, 12)]


def test_unlabelled_rows_of_the_holdout_are_left_out_and_said():
    holdout = frame_of(10).assign(text=lambda f: "new " + f["text"])
    holdout.loc[2, "label"] = None
    loaded = load(frame_of(60), holdout)
    assert codes(loaded) == ["blank-label"]
    assert len(loaded.splits.holdout) == 9


def test_one_text_cannot_be_split():
    found = faults(frame_of(60).assign(text="the same"))
    assert found[0].startswith("the validation split would have no rows")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"holdout_size": 60}, "holdout of 60 rows leaves none of the 60 labeled rows"),
        ({"validation_size": 50}, "validation of 50 rows leaves none of the 48"),
        ({"labeled": 10, "validation_size": 10}, "validation of 10 rows leaves none of the 10"),
    ],
)
def test_sizes_that_leave_nothing(settings, words):
    assert words in faults(frame_of(60), **settings)[0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"text": "a,b,c"}, "must name one column, or two"),
        ({"text": ""}, "must name one column, or two"),
        ({"columns": "a,a"}, "names a column twice: a"),
        ({"holdout_size": 1.5}, "a share must lie between 0 and 1"),
        ({"validation_size": 0}, "must be at least 1"),
        ({"validation_size": True}, "a share between 0 and 1 or a number of rows"),
        ({"separator": ",,"}, "must be one character"),
        ({"holdout": "x.csv"}, "each needs its own file"),
        ({"validation": "x.csv"}, "each needs its own file"),
        ({"txt": "a"}, "Extra inputs are not permitted"),
        ({"labeled": 1}, "greater than or equal to 2"),
    ],
)
def test_settings_that_cannot_be(settings, words):
    with pytest.raises(ValidationError, match=words):
        DataConfig(data="x.csv", **settings)


def test_settings_as_a_flag_or_yaml_writes_them():
    config = DataConfig(
        data="x", text="a, b", columns=["c"], holdout_size="2000", validation_size="0.1", separator="tab"
    )
    assert (config.text, config.columns, config.holdout_size, config.validation_size) == (("a", "b"), ("c",), 2000, 0.1)
    assert isinstance(config.holdout_size, int)
    assert config.separator == "\t"
    assert DataConfig.model_validate_json(config.model_dump_json()) == config
    assert all(field.description for field in DataConfig.model_fields.values())


def test_source_texts_in_the_target_holdout_are_refused_unless_allowed():
    source, target = load(frame_of(60)), load(frame_of(60), frame_of(10).assign(text=lambda f: "new " + f["text"]))
    assert check_source(source, target) == ()
    holdout = frame_of(10).assign(text=[source.splits.train.texts[0], *[f"new {i}" for i in range(9)]])
    target = load(frame_of(60).assign(text=lambda f: "other " + f["text"]), holdout)
    with pytest.raises(DataError, match=r"source: 1 text is also in the target's holdout"):
        check_source(source, target)
    found = check_source(source, target, allow_overlap=True)
    assert [(f.severity, f.rows) for f in found] == [("warning", (source.splits.train.ids[0] + 1,))]
