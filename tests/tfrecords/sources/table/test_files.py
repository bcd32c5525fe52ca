import codecs
import datetime
import gzip
import io
import os
import zipfile
from decimal import Decimal
from threading import Thread

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tfrecords.errors import InputError
from tfrecords.sources.table.columns import Columns
from tfrecords.sources.table.files import open_table

ROWS = [("a.png", "sick"), ("b, c.png", "well"), ('say "d".png', "größer")]


def read(file):
    with open_table(file, Columns().rate) as table:
        return [table.header, *map(tuple, table.rows(range(len(table.header))))]


def text_of(rows, separator, end="\n"):
    quoted = [[f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in row] for row in rows]
    return end.join([f"path{separator}label", *map(separator.join, quoted)]) + end


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("first", ["", "\n\n"])
def test_separators_and_ends_of_lines(tmp_path, separator, end, first):
    file = tmp_path / "list"
    file.write_bytes(f"{first.replace(chr(10), end)}{text_of(ROWS, separator, end)}".encode())
    assert read(file) == [("path", "label"), *ROWS]


@pytest.mark.parametrize("separator", [",", ";", "\t", ":", "|"])
@pytest.mark.parametrize("line", ["sep={}\r\n", "SEP={}\n", '"sep={}"\r\n'])
def test_excels_first_line_says_the_separator(tmp_path, separator, line):
    file = tmp_path / "list"
    file.write_bytes(codecs.BOM_UTF8 + f"{line.format(separator)}{text_of(ROWS, separator)}".encode())
    assert read(file) == [("path", "label"), *ROWS]


@pytest.mark.parametrize(
    "header",
    ['"path";"label"', '"path";"la,bel";label', "path;label;a,b,c,d", "Path;LABEL", "image;class;patient_id"],
)
def test_the_header_tells_the_separator_and_not_the_rows(tmp_path, header):
    file = tmp_path / "list"
    file.write_text(f"{header}\n1,2,3;4,5,6\n")
    names, *rows = read(file)
    assert len(names) == header.count(";") + 1
    assert rows == [("1,2,3", "4,5,6")]


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        *(("utf-8", b""), ("utf-8-sig", b""), ("utf-16", b""), ("utf-32", b"")),
        *(("utf-16-le", b""), ("utf-16-be", b""), ("utf-16-be", codecs.BOM_UTF16_BE)),
    ],
)
def test_encodings(tmp_path, encoding, mark):
    file = tmp_path / "list"
    file.write_bytes(mark + text_of(ROWS, "\t", "\r\n").encode(encoding))
    assert read(file) == [("path", "label"), *ROWS]


def test_bytes_that_are_no_utf8_are_kept(tmp_path):
    file = tmp_path / "list"
    file.write_bytes("path,label\nRöntgen.png,A\n".encode("latin-1"))
    assert read(file)[1] == (os.fsdecode("Röntgen.png".encode("latin-1")), "A")


def test_a_pipe_is_read_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = Thread(target=(tmp_path / "pipe").write_text, args=[text_of(ROWS, ";")], daemon=True)
    writer.start()
    assert read(tmp_path / "pipe") == [("path", "label"), *ROWS]
    writer.join()


def zipped(*names):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return data.getvalue()


def saved(kind):
    data = io.BytesIO()
    Image.new("L", (4, 4)).save(data, kind)
    return data.getvalue()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (zipped("[Content_Types].xml", "xl/workbook.xml"), r"spreadsheet \(Excel.*save it as CSV"),
        (zipped("mimetype", "content.xml"), r"OpenDocument.*save it as CSV"),
        (zipped("list.csv"), "ZIP archive.*unpack it"),
        (b"PK\x03\x04 cut", "ZIP archive"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", r"Excel file \(.xls\).*save it as CSV"),
        (gzip.compress(b"path,label\n", mtime=0), "gzip.*gunzip"),
        (b'[{"path": "a.png", "label": "A"}]', "JSON.*read_json"),
        (b'\xef\xbb\xbf\n {"path": "a.png"}', "JSON.*read_json"),
        (b"<!DOCTYPE html><html>", "HTML page"),
        (b"\n<HTML><body>", "HTML page"),
        (b'<?xml version="1.0"?>', "XML.*CSV"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS.*git lfs pull"),
        (b"ARROW1\0\0", "Arrow or Feather"),
        (b"\x80\x04\x95", "pickle"),
        (saved("PNG"), r"image \(PNG\)"),
        (saved("BMP"), r"image \(BMP\)"),
        (np.lib.format.magic(1, 0), "NumPy"),
    ],
)
def test_other_files_are_called_by_their_names(tmp_path, data, said):
    (tmp_path / "list.csv").write_bytes(data)
    with pytest.raises(InputError, match=rf"(?s)^--listing=.*/list\.csv: is .*{said}"):
        read(tmp_path / "list.csv")


def test_text_that_starts_as_an_image_does(tmp_path):
    (tmp_path / "list").write_text("BMI,path,label\n1,a.png,B\n")
    assert read(tmp_path / "list")[0] == ("BMI", "path", "label")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'path;label\n"a";b\n"c"x;d\n', "line 3: is not CSV"),
        (b'sep=;\npath;label\n"c"x;d\n', "line 3: is not CSV"),
        (b'"path"x\n', "line 1: is not CSV"),
        ("path,label\na,b\n".encode("utf-16")[:-1], "cut or damaged text"),
    ],
)
def test_damage_is_told_with_its_line(tmp_path, data, said):
    (tmp_path / "list").write_bytes(data)
    with pytest.raises(InputError, match=f"^--listing=.*/list: .*{said}"):
        read(tmp_path / "list")


@pytest.mark.parametrize(
    ("array", "texts"),
    [
        (pa.array([3.0, None, float("nan"), -0.0, 1e6]), ["3", "", "", "0", "1000000"]),
        (pa.array([3, None, 7]), ["3", "", "7"]),
        (pa.array([3, None], pa.uint8()), ["3", ""]),
        (pa.array([True, False, None]), ["True", "False", ""]),
        (pa.array(["a", None, "b"], pa.large_string()), ["a", "", "b"]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
        (pa.array([2, 1, 2]).dictionary_encode(), ["2", "1", "2"]),
        (pa.array([b"a", "é".encode()]), ["a", "é"]),
        (pa.array([Decimal("3.00"), None]), ["3", ""]),
        (pa.array(np.array([1.0, 2.0], np.float32)), ["1", "2"]),
        (pa.array([None, None]), ["", ""]),
    ],
)
def test_types_of_parquet(tmp_path, array, texts):
    pq.write_table(pa.table({"path": array}), tmp_path / "list", row_group_size=2)
    assert [row[0] for row in read(tmp_path / "list")[1:]] == texts


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (pa.array([1.0, 0.5]), "'label' holds floats .*first in row 2"),
        (pa.array([2.0**53 + 2]), "'label' holds floats .* too large to be exact"),
        (pa.array([float("inf")]), "'label' holds floats"),
        (pa.array([Decimal("0.5")]), "'label' holds Decimals"),
        (pa.array([datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)]), "'label' holds datetime"),
        (pa.array([datetime.date(2020, 1, 1)]), "'label' holds date"),
        (pa.array([["A", "B"]]), "'label' holds list"),
        (pa.array([{"a": 1}]), "'label' holds dict"),
    ],
)
def test_types_of_parquet_that_are_refused(tmp_path, array, said):
    pq.write_table(pa.table({"label": array}), tmp_path / "list")
    with pytest.raises(InputError, match=f"^--listing=.*/list: column {said}.*text or whole numbers"):
        read(tmp_path / "list")


def test_only_wanted_columns_of_parquet_are_read(tmp_path):
    odd = pa.array([["A", "B"]])
    pq.write_table(pa.table({"odd": odd, "path": pa.array(["a"])}), tmp_path / "list")
    with open_table(tmp_path / "list", Columns().rate) as table:
        assert list(table.rows([1])) == [["", "a"]]
