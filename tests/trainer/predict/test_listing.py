import errno
import os
from pathlib import Path

import pytest

from trainer.predict.listing import ending_of, is_no_image, list_files, named_as_dicom


def test_files_below_folders_come_sorted_and_without_what_systems_leave(tmp_path):
    for name in (
        "b/2.png",
        "b/1.png",
        "a.txt",
        "b/.DS_Store",
        "Thumbs.db",
        "@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg",
        "c/d/3.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "b" / "pipe")
    (tmp_path / "link").symlink_to("b")
    named = tmp_path / "c" / "d" / "3.png"
    found = list_files([named, tmp_path])
    assert found[0] == (str(named), True, "")
    assert [
        (Path(one.path).relative_to(tmp_path).as_posix(), one.named, one.problem) for one in found[1:]
    ] == [
        ("a.txt", False, ""),
        ("b/1.png", False, ""),
        ("b/2.png", False, ""),
        ("c/d/3.png", False, ""),
        ("link/1.png", False, ""),
        ("link/2.png", False, ""),
    ]


def test_what_cannot_be_reached_is_listed_with_the_reason(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.png").touch()
    (folder / "nowhere.png").symlink_to("gone")
    (folder / "round.png").symlink_to("round.png")
    (folder / "up").symlink_to(folder)
    (tmp_path / "empty").mkdir()
    found = list_files([tmp_path / "none.png", folder, tmp_path / "empty", folder / "round.png"])
    problems = {Path(one.path).relative_to(tmp_path).as_posix(): one.problem for one in found[:-1]}
    assert problems == {
        "none.png": "No such file or directory",
        "images/a.png": "",
        "images/nowhere.png": "a symbolic link that leads nowhere",
        "images/round.png": "Too many levels of symbolic links",
        "images/up": "a symbolic link to a folder above it",
        "empty": "a folder without files",
    }
    assert found[-1] == (str(folder / "round.png"), True, "Too many levels of symbolic links")


def test_a_folder_that_may_not_be_read_is_listed(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def guarded(folder):
        if str(folder).endswith("closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", guarded)
    (found,) = list_files([tmp_path])
    assert (found.path, found.problem) == (
        str(tmp_path / "closed"),
        "a folder that cannot be read: Permission denied",
    )


@pytest.mark.parametrize(
    ("path", "head", "none"),
    [
        ("README.md", b"# Images", True),
        ("labels.csv", b"", True),
        ("volume.nii.gz", b"\x1f\x8b\x08\x00", True),
        ("README", b"These are images.\n", True),
        ("LISEZMOI", "été\n".encode("latin-1"), True),
        ("IM0001", b"\x08\x00\x05\x00", False),  # a DICOM file that is cut, for all we know
        ("IM0001", b"", False),
        ("1.2.840.113619.2.5.1762583153", b"\x08\x00\x05\x00", False),
        ("scan.JPG", b"<!doctype html>", False),
        ("scan.png", b"", False),
        ("scan.dcm", b"text", False),
        ("folder.old/IM1", b"\x00", False),
    ],
)
def test_what_is_no_image_to_its_owner_either(path, head, none):
    assert is_no_image(path, head) is none


def test_endings():
    assert [ending_of(name) for name in ("a/b.TXT", "a.d/b", "1.2.3", "x.tar.gz")] == [".txt", "", "", ".gz"]
    assert named_as_dicom("Doe.DCM")
    assert not named_as_dicom("Doe.png")
