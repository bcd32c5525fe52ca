import csv
import os
import random
import re
from collections import defaultdict

import pytest
from listing_files import HEADER, ROWS, SORTED, as_csv, as_parquet, found
from PIL import Image

from tfrecords.convert.conversion import convert_images
from tfrecords.convert.options import ConvertOptions
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest
from tfrecords.sources.class_folders import list_images
from tfrecords.sources.tables import read_listing

ALLOWED = "allowed are path, label, group and split; the last two are optional"


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
        (("path", "label", "groups"),
         f"unknown column 'groups'; {ALLOWED}: rename or remove others, or pass them over with "
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
        (b'path,label\n"0.png"x,A\n', "line 2: is not CSV: ',' expected after '\"'"),
        (b'path,label\n0.png,"A\n', "line 2: is not CSV: unexpected end of data"),
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
        ([("0.png", 0.5)], "column 'label' holds float, first in row 1; it must hold text or whole numbers"),
        ([([1], "A")], "column 'path' holds list, first in row 1; it must hold text or whole numbers"),
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


@pytest.fixture
def images(tmp_path):
    """24 files id000.png to id023.png, and (path, label) of each."""
    folder = tmp_path / "24 images"
    folder.mkdir()
    for number in range(24):
        Image.new("L", (2, 1), number).save(folder / f"id{number:03d}.png")
    return folder, [(f"id{number:03d}.png", str(number % 2)) for number in range(24)]


@pytest.mark.parametrize(
    ("separator", "first", "encoding"),
    [
        *((";", "", "utf-8"), ("\t", "", "utf-8"), ("|", "", "utf-8"), (",", "sep=,\n", "utf-8")),
        *((";", "sep=;\n", "utf-8-sig"), (",", "", "utf-16"), ("\t", "", "utf-16-le")),
    ],
)
@pytest.mark.parametrize("change", [str, lambda path: path[:-4], lambda path: f".\\{path}"])
def test_one_table_written_in_many_ways(tmp_path, images, separator, first, encoding, change):
    folder, rows = images
    lines = [f"path{separator}label", *(f"{change(path)}{separator}{label}" for path, label in rows)]
    (tmp_path / "list.csv").write_text(first + "\n".join(lines) + "\n", encoding)
    listing = read_listing(tmp_path / "list.csv", folder)
    assert listing.class_names == ("0", "1")
    assert [(s.path, str(s.label), s.group) for s in listing.sources] == [(p, n, p) for p, n in rows]
    told = {"id000.png": (), "id000": ("24 paths of the listing have no extension",)}
    expected = told.get(change("id000.png"), ("24 paths of the listing have a backslash",))
    assert len(listing.notes) == len(expected)
    assert all(note.startswith(start) for note, start in zip(listing.notes, expected, strict=True))


def test_absolute_paths_are_those_below_the_folder(tmp_path, images):
    folder, rows = images
    file = as_csv(tmp_path / "list.csv", [(f"{folder}/{path}", label) for path, label in rows], HEADER[:2])
    listing = read_listing(file, folder)
    assert [s.path for s in listing.sources] == [path for path, _ in rows]
    assert [s.id for s in listing.sources] == [path for path, _ in rows]
    assert listing.notes == ("24 paths of the listing are absolute paths to files below --images",)


def test_named_columns(tmp_path, root):
    header = ("Image", "class", "Patient ID", "set", "path")
    file = as_csv(tmp_path / "list.csv", [(*row, "x") for row in ROWS], header)
    named = {"path": "Image", "label": "class", "group": "Patient ID", "split": "set"}
    with pytest.raises(InputError, match="unknown column 'path'"):
        read_listing(file, root, columns=named)
    assert found(read_listing(file, root, columns=named, allow_columns=True)) == SORTED


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
    rows[0] = (*rows[0][:3], "p2 ", rows[0][4])
    file = as_csv(tmp_path / "list.csv", rows, ("path", "age", *HEADER[1:]))
    arguments = (f"--images={root}", f"--out={tmp_path}/data", f"--listing={file}", "--size=4")
    done = run_command("tfrecords.convert", *arguments)
    assert done.returncode == 2
    assert "unknown column 'age'" in done.stderr
    done = run_command("tfrecords.convert", *arguments, "--label_column=label ", "--allow_columns")
    assert done.returncode == 0, done.stderr
    assert "normalized stray spaces or Unicode forms in the listing's values: 1 of group\n" in done.stdout
    manifest = Manifest.load(tmp_path / "data")
    assert (manifest.class_names, list(manifest.splits)) == (("sick", "well"), ["train", "test"])
    with (tmp_path / "data" / "sources.csv").open(newline="") as opened:
        assert [(row["id"], row["class"], row["split"]) for row in csv.DictReader(opened)] == [
            (path, label, split) for path, label, _, split in SORTED
        ]
    done = run_command("tfrecords.verify", f"--data={tmp_path}/data")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("what", ["path", "label", "group", "split"])
def test_named_columns_need_a_listing(tmp_path, what):
    with pytest.raises(InputError, match=rf"^--{what}_column=x: needs a --listing"):
        ConvertOptions(tmp_path, tmp_path / "data", **{f"{what}_column": "x"})


def test_allowed_columns_need_a_listing(tmp_path):
    with pytest.raises(InputError, match=r"^--allow_columns: needs a --listing"):
        ConvertOptions(tmp_path, tmp_path / "data", allow_columns=True)
