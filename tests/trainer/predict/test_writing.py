import csv
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from tfrecords.errors import EndedEarly, InputError
from trainer.predict.files import LeftOut, Prediction
from trainer.predict.writing import header, row, write_predictions
from trainer.run import Run


@pytest.fixture(scope="module")
def run(trained):
    return Run.load(trained.folder)


@pytest.fixture
def folder(image_folder, tmp_path):
    """Three images, one of them cut, and two texts."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name, source in zip(
        ("a.jpeg", "b.jpeg", "c.jpeg"), sorted(image_folder.rglob("*.jpeg")), strict=False
    ):
        (folder / name).write_bytes(source.read_bytes())
    (folder / "b.jpeg").write_bytes((folder / "b.jpeg").read_bytes()[:300])
    (folder / "README.txt").write_text("Three images.")
    (folder / "labels.csv").write_text("a,b\n")
    return folder


def test_the_table_has_full_precision_and_any_name():
    probabilities = np.array([1 / 3, 2 / 3])
    lines = [
        header(("A", "B")),
        row(("A", "B"), Prediction(Path('a,"b".png'), "B", probabilities)),
        row(("A", "B"), LeftOut(Path("c.png"), "c.png", "cut, damaged")),
        row(("A", "B"), Prediction(Path("caf\udce9.png"), "B", probabilities)),
    ]
    assert b"".join(lines) == (
        b"file,predicted,probability_A,probability_B,error\n"
        b'"a,""b"".png",B,0.3333333333333333,0.6666666666666666,\n'
        b'c.png,,,,"cut, damaged"\n'
        b"caf\xe9.png,B,0.3333333333333333,0.6666666666666666,\n"
    )


@pytest.mark.slow
def test_one_bad_image_does_not_end_the_others(run, folder, tmp_path, capsys):
    table = tmp_path / "out.csv"
    with pytest.raises(EndedEarly) as ended:
        write_predictions(run, [folder], str(table))
    assert ended.value.code == 3
    assert "1 of 3 files were left out" in str(ended.value)
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [(Path(one["file"]).name, bool(one["predicted"]), bool(one["error"])) for one in rows] == [
        ("a.jpeg", True, False),
        ("b.jpeg", False, True),
        ("c.jpeg", True, False),
    ]
    assert rows[1]["probability_NORMAL"] == ""
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert [line.split("\t")[:2] for line in lines[:-1]] == [
        [rows[n]["file"], rows[n]["predicted"]] for n in (0, 2)
    ]
    assert lines[-1] == f"3 rows: {table}"
    left_out, passed = err.splitlines()
    assert left_out == f"left out: {folder}/b.jpeg: {rows[1]['error']}"
    assert passed == "skipped, because they are no images: 2 (.csv 1, .txt 1)"


@pytest.mark.slow
def test_where_nothing_can_be_predicted_the_table_stays(run, folder, tmp_path, capsys):
    table = tmp_path / "out.csv"
    table.write_text("old")
    with pytest.raises(InputError, match=r"1 left out"):
        write_predictions(run, [folder / "b.jpeg"], str(table))
    for name in ("a.jpeg", "b.jpeg", "c.jpeg"):
        (folder / name).unlink()
    with pytest.raises(InputError, match=r"2 \(\.csv 1, \.txt 1\)"):
        write_predictions(run, [folder], str(table))
    assert table.read_text() == "old"
    assert capsys.readouterr().err.count("left out: ") == 1


@pytest.mark.slow
def test_rows_go_into_a_pipe_one_by_one(run, image_folder):
    """The header and each row is there before the next file is asked for."""
    files = sorted(image_folder.glob("*/*"))[:3]
    read, write = os.pipe()
    os.set_blocking(read, False)
    seen = []

    class Printed:
        """Standard output: a line is printed before its row is written, so those before are there."""

        def write(self, text):
            seen.append(len(os.read(read, 1 << 16).splitlines()) if text.endswith("\n") else 0)

        def flush(self):
            pass

        def isatty(self):
            return True

    kept, sys.stdout = sys.stdout, Printed()
    try:
        write_predictions(run, files, f"/dev/fd/{write}")
    finally:
        sys.stdout = kept
        os.close(write)
        os.close(read)
    assert [count for count in seen if count] == [1, 1, 1, 1]


@pytest.mark.slow
def test_a_table_that_is_standard_output_is_alone_there(run, image_folder, capfd):
    (file,) = sorted(image_folder.glob("*/*"))[:1]
    write_predictions(run, [file], "-")
    out, err = capfd.readouterr()
    head, line = csv.reader(out.splitlines())
    assert (head[:2], line[0]) == (["file", "predicted"], str(file))
    probability = float(line[head.index(f"probability_{line[1]}")])
    assert err.splitlines() == [f"{file}\t{line[1]}\t{probability:.4f}", "1 rows: -"]


@pytest.mark.slow
def test_an_image_is_no_place_for_a_table(run, folder):
    """`--csv *.png` without its value names the first image."""
    before = (folder / "a.jpeg").read_bytes()
    with pytest.raises(InputError, match=r"--csv=.*a\.jpeg: .*image \(JPEG\)"):
        write_predictions(run, [folder / "c.jpeg"], str(folder / "a.jpeg"))
    assert (folder / "a.jpeg").read_bytes() == before


@pytest.mark.slow
def test_a_table_that_cannot_be_written_is_named_before_anything_is_predicted(run, folder, tmp_path, capsys):
    with pytest.raises(InputError, match=r"--csv=.*out\.csv: cannot be written: No such file or directory"):
        write_predictions(run, [folder], str(tmp_path / "none" / "out.csv"))
    assert capsys.readouterr() == ("", "")
