import csv
import os
import random
import re
from collections import defaultdict

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tfrecords.convert.conversion import convert_images
from tfrecords.convert.options import ConvertOptions
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest
from tfrecords.sources.class_folders import list_images
from tfrecords.sources.privacy import GroupKey
from tfrecords.sources.rejection import MaxRejects
from tfrecords.sources.splits import assign_splits
from tfrecords.sources.tables import read_listing

ROWS = [
    ("b/2.png", "sick", "p2", "train"),
    ("a/1.png", "well", "p1", "train"),
    ("a/1.jpeg", "sick", "p9", "test"),
    ("3.png", "well", "p3", "test"),
]
HEADER = ("path", "label", "group", "split")


def as_csv(file, rows, header=HEADER):
    with file.open("w", newline="", encoding="utf-8", errors="surrogateescape") as opened:
        csv.writer(opened).writerows([header, *rows])
    return file


def as_parquet(file, rows, header=HEADER):
    columns = zip(*rows, strict=True) if rows else [[] for _ in header]
    table = pa.table({name: pa.array(values) for name, values in zip(header, columns, strict=True)})
    pq.write_table(table, file, row_group_size=3)
    return file


@pytest.fixture
def root(tmp_path):
    """Images of one pixel for `ROWS`, 0.png to 39.png, and a file that is none."""
    folder = tmp_path / "images"
    for number, name in enumerate([*(row[0] for row in ROWS), *(f"{n}.png" for n in range(40))]):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 1), number).save(path)
    (folder / "words.png").write_text("some words")
    return folder


@pytest.fixture
def listed(tmp_path, root):
    """Writes rows as CSV and reads them."""

    def read(rows, header=HEADER, **options):
        return read_listing(as_csv(tmp_path / "list.csv", rows, header), root, **options)

    return read


@pytest.fixture
def refusal(tmp_path, root, listed):
    """What is said against rows, without the name of the file in front."""

    def refuse(rows, header=HEADER, **options):
        with pytest.raises(InputError) as caught:
            listed(rows, header, **options)
        return str(caught.value).removeprefix(f"--listing={tmp_path}/list.csv: ")

    return refuse


def found(listing):
    return [(s.path, listing.class_names[s.label], s.group, s.split) for s in listing.sources]


SORTED = [ROWS[1], ROWS[0], ROWS[3], ROWS[2]]  # by split, then path


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
        (("1.png", " A", "", ""), "the label ' A' has spaces around it or characters that cannot be printed"),
        (("1.png", "A\nB", "", ""),
         "the label 'A\\nB' has spaces around it or characters that cannot be printed"),
        (("1.png", "A", "", "training"), "unknown split 'training'; allowed are train, val, test, or none"),
        (("0.png", "A", "", ""), "the same path as in row 1, '0.png'"),
        (("a/.././0.png", "A", "", ""), "the same path as in row 1, '0.png'"),
        (("/etc/passwd", "A", "", ""), "the path '/etc/passwd' is absolute; give it below --images"),
        (("../images/1.png", "A", "", ""), "the path '../images/1.png' leads out of --images"),
        (("a/../../images/1.png", "A", "", ""), "the path 'a/../../images/1.png' leads out of --images"),
        (("..", "A", "", ""), "the path '..' leads out of --images"),
        (("gone.png", "A", "", ""), "the file 'gone.png' cannot be found: No such file or directory"),
        (("1.png/2.png", "A", "", ""), "the file '1.png/2.png' cannot be found: Not a directory"),
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


ALLOWED = "allowed are path, label, group and split, the last two if wanted"


@pytest.mark.parametrize("write", [as_csv, as_parquet])
@pytest.mark.parametrize(
    ("header", "message"),
    [
        (("file", "label"), f"no column path (found: file, label); {ALLOWED}, named in the first row"),
        (("0.png", "A"),
         f"no column path and none label (found: 0.png, A); {ALLOWED}, named in the first row"),
        (("path", "label", "age", "sex"),
         f"unknown columns 'age', 'sex'; {ALLOWED}: rename or remove others, or pass them over with "
         f"--allow_columns"),
        (("path", "label", "Group"),
         f"unknown column 'Group'; {ALLOWED}: rename or remove others, or pass them over with "
         f"--allow_columns"),
    ],
)  # fmt: skip
def test_columns_that_cannot_be(tmp_path, root, write, header, message, facts):
    file = write(tmp_path / "list", [("0.png", "A", "x", "y")[: len(header)]], header)
    with pytest.raises(InputError) as caught:
        read_listing(file, root)
    assert re.search(facts(f"--listing={file}: {message}"), str(caught.value))


@pytest.mark.parametrize("write", [as_csv, as_parquet])
def test_other_columns_are_passed_over_if_allowed(tmp_path, root, write):
    rows = [(9, *row, "x") for row in ROWS]
    file = write(tmp_path / "list", rows, ("age", *HEADER, "note"))
    assert found(read_listing(file, root, allow_columns=True)) == SORTED


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", f"no column path and none label (found: -); {ALLOWED}, named in the first row"),
        (b"path,label,path\n", f"column 'path' is there more than once; {ALLOWED}"),
        (b"path,label\n", "found 0 labels (-) in 0 rows; classification needs two or more"),
        (b"path,label\n0.png,A\n", "found 1 label (A) in 1 rows; classification needs two or more"),
        (b'path,label\n"0.png"x,A\n', "line 2: is no CSV: ',' expected after '\"'"),
        (b'path,label\n0.png,"A\n', "line 2: is no CSV: unexpected end of data"),
    ],
)
def test_a_file_that_is_no_listing(tmp_path, root, data, message, facts):
    file = tmp_path / "list.csv"
    file.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_listing(file, root)
    assert re.search(facts(f"--listing={file}: {message}"), str(caught.value))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(1, "A")], "column 'path' holds int; it must hold text"),
        ([("0.png", 0.5)], "column 'label' holds float; it must hold text or whole numbers"),
        ([("0.png", True)], "column 'label' holds bool; it must hold text or whole numbers"),
    ],
)
def test_columns_of_other_types(tmp_path, root, rows, message, facts):
    file = as_parquet(tmp_path / "list", rows, HEADER[:2])
    with pytest.raises(InputError) as caught:
        read_listing(file, root)
    assert re.search(facts(f"--listing={file}: {message}"), str(caught.value))


def test_a_cut_parquet_file(tmp_path, root):
    file = as_parquet(tmp_path / "list", ROWS)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"^--listing=.*/list: cannot be read as Parquet: "):
        read_listing(file, root)


def test_files_and_folders_that_are_not_there(tmp_path, root, facts):
    with pytest.raises(InputError) as caught:
        read_listing(tmp_path / "none.csv", root)
    assert re.search(
        facts(f"--listing={tmp_path}/none.csv: cannot be read: No such file or directory"), str(caught.value)
    )
    with pytest.raises(InputError) as caught:
        read_listing(as_csv(tmp_path / "list", ROWS), tmp_path / "none")
    assert re.search(facts(f"--images={tmp_path}/none: no such folder"), str(caught.value))


@pytest.mark.slow
def test_pyarrow_is_asked_for_only_by_parquet(tmp_path, root, command_environment, run_command, facts):
    (tmp_path / "hidden" / "pyarrow").mkdir(
        parents=True
    )  # in front of the installed one, as if there was none
    (tmp_path / "hidden" / "pyarrow" / "__init__.py").write_text("raise ModuleNotFoundError('pyarrow')\n")
    path = os.pathsep.join([str(tmp_path / "hidden"), command_environment.get("PYTHONPATH", "")])
    arguments = (f"--images={root}", f"--out={tmp_path}/data", "--size=4", "--name=x", "--val_fraction=0")
    file = as_parquet(tmp_path / "list.parquet", ROWS)
    done = run_command("tfrecords.convert", *arguments, f"--listing={file}", PYTHONPATH=path)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(
        facts(
            f"error: --listing={file}: Parquet needs pyarrow, which is not installed; install it with\n"
            f"  pip install 'shardlight[parquet]'\nor write the listing as CSV\n"
        ),
        done.stderr,
    )
    file = as_csv(tmp_path / "list.csv", ROWS)
    done = run_command("tfrecords.convert", *arguments, f"--listing={file}", PYTHONPATH=path)
    assert done.returncode == 0, done.stderr


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
    bad += [(f"../{secret}", "A", "", ""), ("0.png", f" {secret}", "", ""), (f"{secret}\0", "A", "", "")]
    message = refusal([*rows, *bad], key=key)
    assert message.startswith("6 of 8 rows cannot be used")
    assert secret not in message


# ---- the whole way


def test_a_conversion_of_a_listing_is_that_of_the_folder(image_folder, tmp_path):
    folder = list_images(image_folder)
    rows = [(s.path, folder.class_names[s.label]) for s in folder.sources]
    random.Random(1).shuffle(rows)
    options = {"size": (24, 20), "workers": 1}
    convert_images(ConvertOptions(image_folder, tmp_path / "folder", **options))
    for write in (as_csv, as_parquet):
        listing = write(tmp_path / write.__name__, rows, HEADER[:2])
        out = tmp_path / f"{write.__name__} out"
        convert_images(ConvertOptions(image_folder, out, listing=listing, **options))
        names = sorted(path.name for path in out.iterdir())
        assert names == sorted(path.name for path in (tmp_path / "folder").iterdir())
        for name in names:
            assert (out / name).read_bytes() == (tmp_path / "folder" / name).read_bytes(), name


@pytest.mark.parametrize("column", [1, 2, 3])
def test_another_label_group_or_split_is_another_plan(image_folder, tmp_path, column):
    folder = list_images(image_folder)
    by_label = defaultdict(list)
    for source in folder.sources:
        by_label[source.label].append(source.path)
    rows = [
        [path, f"class{label}", path, ("train", "val")[place % 2]]
        for label, paths in by_label.items()
        for place, path in enumerate(paths)
    ]
    listing = as_csv(tmp_path / "list.csv", rows)
    options = ConvertOptions(image_folder, tmp_path / "data", listing=listing, size=(8, 8), workers=1)
    convert_images(options)
    assert convert_images(options).was_complete
    rows[0][column] = {1: "class1", 2: "another", 3: "val"}[column]
    as_csv(listing, rows)
    with pytest.raises(InputError, match="holds a conversion of other images or with other options"):
        convert_images(options)


@pytest.mark.slow
def test_the_command(run_command, root, tmp_path):
    rows = [(row[0], 5, *row[1:]) for row in ROWS]
    file = as_csv(tmp_path / "list.csv", rows, ("path", "age", *HEADER[1:]))
    arguments = (f"--images={root}", f"--out={tmp_path}/data", f"--listing={file}", "--size=4")
    done = run_command("tfrecords.convert", *arguments)
    assert done.returncode == 2
    assert "unknown column 'age'" in done.stderr
    done = run_command("tfrecords.convert", *arguments, "--allow_columns")
    assert done.returncode == 0, done.stderr
    manifest = Manifest.load(tmp_path / "data")
    assert (manifest.class_names, list(manifest.splits)) == (("sick", "well"), ["train", "test"])
    with (tmp_path / "data" / "sources.csv").open(newline="") as opened:
        assert [(row["id"], row["class"], row["split"]) for row in csv.DictReader(opened)] == [
            (path, label, split) for path, label, _, split in SORTED
        ]
    done = run_command("tfrecords.verify", f"--data={tmp_path}/data")
    assert done.returncode == 0, done.stderr


def test_allowed_columns_need_a_listing(tmp_path):
    with pytest.raises(InputError, match=r"^--allow_columns: is for a --listing, and there is none"):
        ConvertOptions(tmp_path, tmp_path / "data", allow_columns=True)
