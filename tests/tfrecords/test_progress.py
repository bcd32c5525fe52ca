"""Commands tell a launcher how far they have saved."""

import os

from tfrecords.convert.conversion import convert_images
from tfrecords.convert.options import ConvertOptions
from tfrecords.manifest import Manifest
from tfrecords.progress import PROGRESS_VARIABLE, tell_launcher


def test_without_a_launcher_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(PROGRESS_VARIABLE, raising=False)
    tell_launcher("step 1")
    assert not list(tmp_path.iterdir())


def test_a_conversion_counts_its_shards(image_folder, tmp_path, monkeypatch):
    monkeypatch.setenv(PROGRESS_VARIABLE, str(tmp_path / "progress"))
    convert_images(
        ConvertOptions(image_folder, tmp_path / "data", size=(24, 24), test_fraction=0.2, workers=1)
    )
    manifest = Manifest.load(tmp_path / "data")
    shards = sum(len(split.shards) for split in manifest.splits.values())
    assert (tmp_path / "progress").read_text() == f"{shards} of {shards} shards\n"


def test_what_is_no_file_is_written_into(tmp_path, monkeypatch):
    read, write = os.pipe()
    (tmp_path / "progress").symlink_to(f"/dev/fd/{write}")
    monkeypatch.setenv(PROGRESS_VARIABLE, str(tmp_path / "progress"))
    tell_launcher("step 1")
    os.close(write)
    assert os.read(read, 100) == b"step 1\n"
    os.close(read)
    assert (tmp_path / "progress").is_symlink()
