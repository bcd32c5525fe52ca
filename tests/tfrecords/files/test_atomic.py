import os
import subprocess

import pytest

from tfrecords.errors import InputError
from tfrecords.files.atomic import (
    create_atomically,
    file_sha256,
    publish_folder,
    replace_atomically,
    temporary_path,
    write_atomically,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "file"
    for data in (b"old", b"new", b""):
        write_atomically(path, data)
        assert path.read_bytes() == data
        assert names(tmp_path) == ["file"]


def test_a_file_that_cannot_be_written_is_named_with_the_fix(tmp_path, facts):
    path = tmp_path / "none" / "file"
    with pytest.raises(InputError, match=facts(f"{path}: cannot be written; make room")):
        write_atomically(path, b"data")
    with pytest.raises(FileNotFoundError):
        replace_atomically(path, b"data")


def test_a_folder_in_the_files_place_stays_and_nothing_else_is_left(tmp_path):
    (tmp_path / "file" / "inside").mkdir(parents=True)
    with pytest.raises(InputError):
        write_atomically(tmp_path / "file", b"data")
    assert names(tmp_path) == ["file"]


def test_one_of_several_writers_creates_a_file(tmp_path):
    path = tmp_path / "file"
    assert [create_atomically(path, b"%d" % writer, writer=writer) for writer in range(3)] == [
        True,
        False,
        False,
    ]
    assert path.read_bytes() == b"0"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["file", "x" * 255, "ü" * 127])
def test_hidden_names_stand_beside_the_file_and_are_short_enough(tmp_path, name):
    path = temporary_path(tmp_path / name)
    assert path.parent == tmp_path
    assert path.name.startswith(".")
    assert path.name.endswith(f".{os.getpid()}.tmp")
    assert len(os.fsencode(path.name)) <= 255
    assert temporary_path(tmp_path / name, 7).name.endswith(".7.tmp")


def test_a_folder_appears_with_its_files_and_replaces_no_other(tmp_path):
    for name in ("first", "second"):
        (tmp_path / ".new" / "inside").mkdir(parents=True)
        (tmp_path / ".new" / "inside" / "file").write_text(name)
        if name == "first":
            publish_folder(tmp_path / ".new", tmp_path / "folder")
        else:
            with pytest.raises(OSError, match="not empty"):
                publish_folder(tmp_path / ".new", tmp_path / "folder")
    assert (tmp_path / "folder" / "inside" / "file").read_text() == "first"


def test_the_sha256_is_the_systems(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    expected = subprocess.run(["sha256sum", tmp_path / "file"], capture_output=True, text=True, check=True)
    assert file_sha256(tmp_path / "file") == expected.stdout.split()[0]
