from pathlib import Path

import pytest

from tfrecords.errors import InputError
from tfrecords.sources.table.columns import Columns

FILE = Path("list.csv")


def places(header, rows=(), **options):
    return Columns(**options).places(FILE, header, lambda _, *, strict: iter(rows))


def refusal(header, rows=(), **options):
    with pytest.raises(InputError) as caught:
        places(header, rows, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    "header",
    [
        *(["path", "label", "group", "split"], ["Path", "LABEL", "Group", "Split"]),
        *([" path", "label ", "\u00a0group", "split\t"], ["\ufeffpath", "la\u200bbel", "GROUP ", "split"]),
    ],
)
def test_names_in_any_case_and_with_stray_spaces(header):
    assert places(header) == {"path": 0, "label": 1, "group": 2, "split": 3}
    assert places(header[1::-1]) == {"path": 1, "label": 0}


def test_columns_that_the_user_names():
    named = {"path": "image", "label": "Class ", "group": "Patient ID", "split": "set"}
    assert places(["set", "class", "image", "Patient ID"], named=named) == {
        "path": 2,
        "label": 1,
        "group": 3,
        "split": 0,
    }


def test_the_usual_name_is_another_column_then():
    header = ["path", "label", "class"]
    assert "unknown column 'label'" in refusal(header, named={"label": "class"})
    assert places(header, named={"label": "class"}, allow_others=True) == {"path": 0, "label": 2}


def test_a_named_column_in_its_very_case_goes_first():
    header = ["path", "Class", "class"]
    assert places(header, named={"label": "class"}, allow_others=True)["label"] == 2


@pytest.mark.parametrize(
    ("header", "options", "said"),
    [
        (["path", "class"], {"named": {"group": "ward"}},
         ["--group_column=ward: no such column", "list.csv", "path, class"]),
        (["path", "label"], {"named": {"group": "label"}}, ["--group_column=label: is label and group"]),
        (["path", "Path", "label"], {}, ["'path' is there more than once", "'Path'"]),
        (["path", "label", "label"], {}, ["'label' is there more than once"]),
        (["", "path", "label"], {}, ["unknown column ''", "index=False"]),
        (["Unnamed: 0", "path", "label"], {}, ["'Unnamed: 0'", "index=False"]),
        (["path", "label", "patient_id", "age"], {},
         ["'patient_id', 'age'", "--allow_columns", "--group_column=patient_id"]),
        (["path", "label", *map(str, range(2000))], {}, ["unknown columns '0', '1'", "and 1,990 more"]),
    ],
)  # fmt: skip
def test_what_cannot_be(header, options, said):
    message = refusal(header, **options)
    assert all(text in message for text in said), message
    assert len(message) < 400


@pytest.mark.parametrize(
    ("header", "guess"),
    [
        (["path", "class"], "did you mean --label_column=class?"),
        (["image", "label"], "did you mean --path_column=image?"),
        (["Image Index", "Finding Labels"],
         "did you mean --path_column='Image Index' --label_column='Finding Labels'?"),
        (["file_name", "TARGET", "subject"], "did you mean --path_column=file_name --label_column=TARGET?"),
    ],
)  # fmt: skip
def test_likely_columns_are_suggested(header, guess):
    message = refusal(header)
    assert "no column" in message
    assert guess in message


def test_what_is_passed_over_and_may_be_the_group():
    columns = Columns(allow_others=True)
    header = ["path", "label", "age", "Patient ID", "set"]
    assert columns.passed_over(header, columns.places(FILE, header, None)) == [
        "column 'Patient ID' of the listing was ignored; if it is the group, give "
        "--group_column='Patient ID'",
        "column 'set' of the listing was ignored; if it is the split, give --split_column=set",
    ]
    columns = Columns({"group": "Patient ID", "split": "set"}, allow_others=True)
    assert columns.passed_over(header, columns.places(FILE, header, None)) == []


def test_the_index_of_pandas_in_parquet_is_no_column():
    assert places(["path", "label", "__index_level_0__"]) == {"path": 0, "label": 1}


def test_with_a_key_the_first_row_is_not_shown():
    message = refusal(["Doe/1.png", "sick", "Class"], quote=False)
    assert "Class, 2 others" in message
    assert "Doe" not in message


# ---- one-hot


@pytest.mark.parametrize("flags", ["01", ("0.0", "1.0"), ("False", "True"), (" 0", "1 ")])
def test_columns_of_0_and_1_are_named_with_the_fix(flags):
    rows = [(f"{n}.png", "57", *(flags[n % 3 == c] for c in range(3))) for n in range(9)]
    message = refusal(["path", "age", "MEL", "NV", "BCC"], rows)
    assert "no column label" in message
    assert "columns MEL, NV, BCC hold 0 and 1" in message
    assert "idxmax(axis=1))" in message
    assert "'none'" not in message


def test_rows_without_a_class_get_one():
    message = refusal(["path", "MEL", "NV"], [("a.png", "1", "0"), ("b.png", "0", "0"), ("c.png", "0", "1")])
    assert "1 rows, first row 2, have none and get the class 'none'" in message
    assert "idxmax(axis=1).where(t[c].any(axis=1), 'none')" in message


def test_several_labels_an_image_are_refused_by_name():
    rows = [("a.png", "1", "0"), ("b.png", "1", "1"), ("c.png", "0", "1"), ("d.png", "1", "1")]
    message = refusal(["image", "effusion", "mass"], rows)
    assert "2 of 4 rows, first row 2, have more than one 1" in message
    assert "multi-label data are not supported (docs/decisions.md)" in message
    assert "--path_column=image" in message


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("a.png", "1", "5"), ("b.png", "0", "x")], "--label_column=ill"),
        ([("a.png", "1", "5"), ("b.png", "2", "0")], "hold"),
        ([], "hold"),
    ],
)
def test_other_columns_are_no_classes(rows, said):
    message = refusal(["path", "ill", "age"], rows)
    assert (said in message) == (said != "hold")
