import os
import random
import re
import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from listing_files import HEADER, ROWS, SORTED, as_csv, as_parquet, found
from PIL import Image

from tfrecords.errors import InputError
from tfrecords.sources.class_folders import list_images
from tfrecords.sources.privacy import GroupKey
from tfrecords.sources.rejection import MaxRejects
from tfrecords.sources.splits import assign_splits
from tfrecords.sources.tables import read_listing


@pytest.mark.parametrize("write", [as_csv, as_parquet])
@pytest.mark.parametrize("name", ["list.csv", "list.parquet", "list"])
def test_csv_and_parquet_tell_the_same_whatever_their_names(tmp_path, root, write, name):
    listing = read_listing(write(tmp_path / name, ROWS), root)
    assert listing.class_names == ("sick", "well")
    assert found(listing) == SORTED
    assert [s.size for s in listing.sources] == [(root / s.path).stat().st_size for s in listing.sources]
    assert listing.rejected == ()


@pytest.mark.parametrize("write", [as_csv, as_parquet])
def test_the_order_of_rows_and_columns_does_not_matter(tmp_path, root, write):
    rows = [(f"{n}.png", "AB"[n % 2], f"g{n}", "") for n in range(40)]
    expected = read_listing(write(tmp_path / "1", rows), root)
    random.Random(0).shuffle(rows)
    swapped = [row[::-1] for row in rows]
    assert read_listing(write(tmp_path / "2", swapped, HEADER[::-1]), root) == expected


def test_a_csv_as_spreadsheets_and_unix_tools_write_it(tmp_path, root):
    text = '\ufeffpath,label\r\n"3.png",well\r\n\r\n"a/1.jpeg","sick"\r\n'
    (tmp_path / "list.csv").write_bytes(text.encode())
    expected = [("3.png", "well", "3.png", None), ("a/1.jpeg", "sick", "a/1.jpeg", None)]
    assert found(read_listing(tmp_path / "list.csv", root)) == expected


@pytest.mark.parametrize(
    "name", ["a, b.png", 'quo"te.png', "new\nline.png", "Röntgen.png", "latin\udce9.png"]
)
def test_odd_file_names(listed, root, name):
    Image.new("L", (1, 1)).save(os.fsencode(root) + b"/" + os.fsencode(name), "PNG")
    assert [s.path for s in listed([(name, "A"), ("3.png", "B")], HEADER[:2]).sources] == sorted(
        [name, "3.png"], key=os.fsencode
    )


def test_whole_numbers_are_labels_groups_and_splits_need_not_be_there(tmp_path, root):
    rows = [("0.png", 7, 12), ("1.png", 10, None)]
    listing = read_listing(as_parquet(tmp_path / "list", rows, HEADER[:3]), root)
    assert found(listing) == [("0.png", "7", "12", None), ("1.png", "10", "1.png", None)]


def test_a_group_column_beats_the_expression_and_the_naming(listed, root):
    for name in ("person1_virus_2.png", "person1_virus_3.png", "person2_virus_1.png"):
        Image.new("L", (1, 1)).save(root / name)
    rows = [
        ("person1_virus_2.png", "A", "mine"),
        ("person1_virus_3.png", "A", ""),
        ("person2_virus_1.png", "B", ""),
    ]
    named = [s.group for s in listed(rows, HEADER[:3]).sources]
    assert named == ["mine", "person1_virus", "person2_virus"]
    by_expression = [s.group for s in listed(rows, HEADER[:3], group_regex=r"_(\d)\.png").sources]
    assert by_expression == ["mine", "3", "1"]


# ---- splits


def splits_of(listing, **options):
    found = assign_splits(listing, **({"val_fraction": 0.15, "test_fraction": None, "seed": 0} | options))
    return {source.path: split for source, split in zip(listing.sources, found, strict=True)}


def test_given_splits_stay_and_the_rest_is_carved(listed):
    rows = [(f"{n}.png", "AB"[n % 2], "", ("train", "test", "", "")[n // 10]) for n in range(40)]
    splits = splits_of(listed(rows), val_fraction=0.3)
    assert {splits[f"{n}.png"] for n in range(10)} == {"train"}
    assert {splits[f"{n}.png"] for n in range(10, 20)} == {"test"}
    assert {splits[f"{n}.png"] for n in range(20, 40)} == {"train", "val"}
    assert sum(splits[f"{n}.png"] == "val" for n in range(20, 40)) == 6


def test_nothing_is_carved_where_every_row_has_a_split(listed):
    assert splits_of(listed(ROWS)) == {path: split for path, _, _, split in ROWS}


def test_without_a_split_column_all_are_carved_as_for_a_folder(listed, root, image_folder, tmp_path):
    folder = list_images(image_folder)
    rows = [(s.path, folder.class_names[s.label]) for s in folder.sources]
    listing = read_listing(as_csv(tmp_path / "all.csv", rows, HEADER[:2]), image_folder)
    assert listing.sources == folder.sources
    assert splits_of(listing) == splits_of(folder)
    assert set(splits_of(listing).values()) == {"train", "val", "test"}


def test_a_row_without_a_split_goes_where_its_group_is(listed):
    rows = [(f"{n}.png", "AB"[n % 2], f"g{n // 4}", "test" * (n % 4 == 0 and n < 12)) for n in range(40)]
    splits = splits_of(listed(rows))
    assert {splits[f"{n}.png"] for n in range(12)} == {"test"}
    assert "test" not in {splits[f"{n}.png"] for n in range(12, 40)}


def test_a_group_with_two_given_splits_is_refused(listed):
    rows = [("0.png", "A", "g", "train"), ("1.png", "B", "h", "train"), ("2.png", "A", "g", "test")]
    with pytest.raises(InputError, match=r"^1 of 2 groups are in two splits, first 'g' "):
        splits_of(listed(rows))


# ---- what cannot be


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (("", "A", "", ""), "no path"),
        (("1.png", "", "", ""), "no label"),
        (("\u00a0", "A", "", ""), "no path"),
        (("1.png", "\u200b", "", ""), "no label"),
        (("1.png", "A\x07B", "", ""), "the label 'A\\x07B' has characters that cannot be printed"),
        (("1.png", "A\udce9", "", ""),
         "the label 'A\\udce9' has bytes that are not UTF-8: save the listing as UTF-8"),
        (("1.png", "A", "", "holdout"), "unknown split 'holdout'; allowed are train, val, test, or none"),
        (("1.png", "nan", "", ""), "the label 'nan' stands for a missing value: leave the cell empty"),
        (("1.png", "A", "#N/A", ""), "the group '#N/A' stands for a missing value: leave the cell empty"),
        (("1.png", ' "A"', "", ""), "the label has quotes around it, perhaps after a space: remove them"),
        (("0.png", "A", "", ""), "the same path as in row 1, '0.png'"),
        (("a/.././0.png", "A", "", ""), "the same path as in row 1, '0.png'"),
        (("../images/1.png", "A", "", ""),
         "the path '../images/1.png' leads out of --images; it is there as '1.png': leave '../images/' out "
         "of the paths"),
        (("a/../../x.png", "A", "", ""), "the path '../x.png' leads out of --images"),
        (("..", "A", "", ""), "the path '..' leads out of --images"),
        (("gone.png", "A", "", ""), "the file 'gone.png' cannot be found: No such file or directory"),
        (("1.png/x", "A", "", ""), "the file '1.png/x' cannot be found: Not a directory"),
        (("a", "A", "", ""), "the path 'a' is a folder"),
        (("nul\0.png", "A", "", ""), "the path 'nul\\x00.png' holds a NUL character"),
        (("1.png", "A", ""), "has 3 fields, the header has 4"),
        (("1.png", "A", "", "", "x"), "has 5 fields, the header has 4"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be(refusal, row, problem):
    assert refusal([("0.png", "A", "", ""), row, ("2.png", "B", "", "")]) == (
        f"1 of 3 rows cannot be used (row 1 is the first below the header):\n  row 2: {problem}\n"
        f"Correct or remove them, then run the same command again."
    )


def test_all_problems_are_told_together_and_ten_named(refusal):
    rows = [("0.png", "A", "", "")]
    rows += [(f"gone{n}.png", "A", "", "") for n in range(5)]
    rows += [("1.png", "", "", ""), ("2.png", "A", "", "x"), ("0.png", "B", "", "")]
    rows += [("/x", "B", "", "")] * 4
    message = refusal(rows)
    assert message.startswith(
        "12 of 13 rows cannot be used (row 1 is the first below the header):\n  row 2: "
    )
    assert [line.split(":")[0] for line in message.splitlines()[1:12]] == [
        *(f"  row {n}" for n in range(2, 12)),
        "  ... and 2 more",
    ]


def test_an_expression_that_does_not_match_is_a_problem_of_the_row(refusal):
    message = refusal([("0.png", "A", "g", ""), ("a/1.png", "B", "", "")], group_regex=r"^(\d+)\.")
    assert "\n  row 2: no group, and --group_regex='^(\\\\d+)\\\\.' does not match 'a/1.png'\n" in message


# ---- files that are no images, and names that are secret


def test_files_that_are_no_images(listed):
    rows = [*ROWS, ("words.png", "well", "", "")]
    reason = (
        "text, not an image: it starts with b'some wor'; "
        "allowed are JPEG, PNG, BMP, WebP, TIFF, GIF, AVIF, HEIC, JPEG 2000, DICOM"
    )
    with pytest.raises(InputError) as caught:
        listed(rows)
    assert f": 1 of 5 listed files cannot be used:\n  words.png: {reason}\n" in str(caught.value)
    listing = listed(rows, max_rejects=MaxRejects(1))
    (number,) = [n for n, source in enumerate(listing.sources) if source.path == "words.png"]
    assert listing.rejected == ((number, reason),)


def test_with_a_key_errors_and_sources_name_nobody(listed, refusal):
    key = GroupKey(b"k" * 32)
    rows = [("0.png", "A", "Doe^John", ""), ("1.png", "B", "Doe^Jane", "")]
    listing = listed(rows, key=key)
    assert [source.group for source in listing.sources] == [key.group("Doe^John"), key.group("Doe^Jane")]
    assert [source.shown for source in listing.sources] == ["row 1 of the listing", "row 2 of the listing"]
    assert "png" not in "".join(source.id for source in listing.sources)
    secret = "doe_john"
    bad = [(f"{secret}.png", "A", "", ""), ("0.png", "A", "", secret), (f"/{secret}", "A", "", "")]
    bad += [(f"../{secret}", "A", "", ""), ("2.png", f"{secret}\x07", "", ""), (f"{secret}\0", "A", "", "")]
    bad += [("3.png", "A", "doe^john", ""), ("4.png", "a", "", ""), (f"images/{secret}/5.png", "A", "", "")]
    message = refusal([*rows, *bad], key=key)
    assert message.startswith("9 of 11 rows cannot be used")
    assert "row 9: the group and that of row 1 differ only in case" in message
    assert not re.search(rf"(?i){secret}|doe|\.png", message)


# ---- text that looks the same

STRAY = ["{} ", " {}", "{}\t", "\u00a0{}", "{}\u2009", "{}\u200b", "\ufeff{}"]
NFC, NFD = (unicodedata.normalize(form, "Müller") for form in ("NFC", "NFD"))


@pytest.mark.parametrize("write", [as_csv, as_parquet])
def test_stray_spaces_in_any_column_change_nothing(tmp_path, root, write):
    rows = [(f"{n}.png", "AB"[n % 2], f"patient {n // 4}", ("train", "val")[n // 4 % 2]) for n in range(28)]
    expected = read_listing(write(tmp_path / "1", rows), root)
    spaced = [
        tuple(STRAY[(n + place) % 7].format(cell) if n % 2 else cell for place, cell in enumerate(row))
        for n, row in enumerate(rows)
    ]
    listing = read_listing(write(tmp_path / "2", spaced), root)
    assert replace(listing, notes=()) == expected
    assert expected.notes == ()
    assert listing.notes == (
        "normalized stray spaces or Unicode forms in the listing's values: "
        "14 of path, 14 of label, 14 of group, 14 of split",
    )


def test_forms_of_unicode_in_any_column_change_nothing(tmp_path, root):
    for name in (f"{NFC}1", f"{NFD}2", f"{NFC}3", f"{NFD}4"):
        Image.new("L", (1, 1)).save(root / f"{name}.png")
    rows = [
        (f"{form}{number}.png", f"{form}{label}", form, "")
        for number, label, form in [(1, "A", NFC), (2, "A", NFC), (3, "B", NFD), (4, "B", NFD)]
    ]
    rows += [("0.png", f"{NFD}A", NFC, ""), ("1.png", f"{NFC}B", NFD, "")]
    listing = read_listing(as_csv(tmp_path / "list.csv", rows), root)
    assert listing.class_names == (f"{NFC}A", f"{NFC}B")
    assert {source.group for source in listing.sources} == {NFC}
    on_disk = sorted(os.fsencode(path.name) for path in root.iterdir() if "ller" in path.name)
    assert [os.fsencode(s.path) for s in listing.sources if "ller" in s.path] == on_disk
    assert listing.notes[0].endswith("2 of path, 3 of label, 3 of group")


def test_no_patient_is_in_two_splits_by_a_space(tmp_path, root):
    rows = [(f"{n}.png", "AB"[n // 2 % 2], f"patient{n // 2}{' ' * (n % 2)}") for n in range(40)]
    listing = read_listing(as_csv(tmp_path / "list.csv", rows, HEADER[:3]), root)
    assert {source.group for source in listing.sources} == {f"patient{n}" for n in range(20)}
    split_of = splits_of(listing)
    assert all(split_of[f"{n}.png"] == split_of[f"{n + 1}.png"] for n in range(0, 40, 2))
    assert listing.notes == ("normalized stray spaces or Unicode forms in the listing's values: 20 of group",)


def test_the_patient_of_a_dicom_file_is_unified_too(listed, root):
    pytest.importorskip("pydicom", reason="the dicom extra is not installed")
    from dicom_files import dicom

    for number, patient in enumerate([" P 1", "P 1", "P  1"]):
        pixels = np.full((4, 4), number, np.uint8)
        (root / f"{number}.dcm").write_bytes(dicom(pixels, PatientID=patient))
    key = GroupKey(b"k" * 32)
    rows = [("0.dcm", "A", ""), ("1.dcm", "B", ""), ("2.dcm", "A", ""), ("3.png", "B", "P\u00a01 ")]
    assert {source.group for source in listed(rows, HEADER[:3], key=key).sources} == {key.group("P 1")}


def test_two_rows_that_come_to_one_file(refusal):
    message = refusal([("0.png", "A", "", ""), ("0.png ", "B", "", ""), ("0", "B", "", "")])
    for row in (2, 3):
        assert f"row {row}: the same path as in row 1, '0.png'" in message


@pytest.mark.parametrize("expression", [None, r"^(.*?)_"])
def test_expressions_see_unified_paths(listed, root, expression):
    for form, end in [(NFC, 1), (NFD, 2), (NFC, "2\u00a0")]:
        Image.new("L", (1, 1)).save(root / f"{form} person1_virus_{end}.png")
    rows = [(f"{NFC} person1_virus_1.png", "A"), (f"{NFD} person1_virus_2.png", "B")]
    groups = {s.group for s in listed(rows, HEADER[:2], group_regex=expression or f"{NFD}.*virus").sources}
    assert groups == {f"{NFC} person1" if expression else f"{NFC} person1_virus"}


@pytest.mark.parametrize(("column", "name"), [(1, "label"), (2, "group")])
@pytest.mark.parametrize(
    ("one", "other", "how"),
    [
        *(
            ("3", "3.0", "number"),
            ("007", "7", "number"),
            ("1e5", "100000", "number"),
            ("3", "3,0", "number"),
        ),
        *(("Mass", "mass", "case"), ("No Finding", "no_finding", "case")),
    ],
)
def test_what_is_most_probably_one_is_refused_with_both_rows(refusal, column, name, one, other, how):
    rows = [[f"{n}.png", "AB"[n % 2], f"g{n}", ""] for n in range(6)]
    rows[1][column], rows[3][column], rows[5][column] = one, other, one
    message = refusal(rows)
    assert message.startswith("1 of 6 rows")
    assert f"\n  row 4: the {name} {other!r} and {one!r} of row 2 differ only in " in message
    assert how in message


def test_one_form_of_a_number_is_no_fault(listed):
    rows = [(f"{n}.png", f"{n % 2}.0", f"00{n}", "") for n in range(4)]
    assert listed(rows).class_names == ("0.0", "1.0")


def test_whole_numbers_that_pandas_made_floats(tmp_path, root):
    rows = [("0.png", 1.0, 7.0), ("1.png", 0.0, None), ("2.png", 1.0, 8.0)]
    listing = read_listing(as_parquet(tmp_path / "list", rows, HEADER[:3]), root)
    assert found(listing) == [
        ("0.png", "1", "7", None),
        ("1.png", "0", "1.png", None),
        ("2.png", "1", "8", None),
    ]


@pytest.mark.parametrize("separator", ["|", ";", ", "])
def test_labels_made_of_several_are_refused_by_name(refusal, separator):
    joined = separator.join(["Mass", "Nodule"])
    message = refusal([(f"{n}.png", label, "", "") for n, label in enumerate(["Mass", joined, "Nodule"])])
    assert f"row 2: the label {joined!r} joins 2 labels that other rows have alone" in message
    assert "multi-label data are not supported (docs/decisions.md)" in message


def test_a_label_that_only_looks_like_several(listed):
    assert listed([("0.png", "a;b", "", ""), ("1.png", "A/B, C", "", "")]).class_names == ("A/B, C", "a;b")


@pytest.mark.parametrize(
    "names",
    [("train", "validation", "testing"), ("Training", "DEV", "Test"), ("TRAIN ", "Eval", "test")],
)
def test_usual_names_of_splits(listed, names):
    rows = [(f"{n}.png", "AB"[n % 2], "", names[n // 2]) for n in range(6)]
    assert [s.split for s in listed(rows).sources] == ["train", "train", "val", "val", "test", "test"]


# ---- tables as they are found


# ---- the whole way
