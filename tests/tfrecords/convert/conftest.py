"""Fixtures of several test modules, and `from converted import ...` for what they look at."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import converted  # found by the line above


@pytest.fixture(scope="session")
def convert(run_command):
    def run(images, out, *arguments, **options):
        return run_command("tfrecords.convert", f"--images={images}", f"--out={out}", *arguments, **options)

    return run


@pytest.fixture(scope="session")
def data(convert, image_folder, tmp_path_factory):
    """One conversion by one worker, looked at by many tests; copy it to harm it."""
    out = tmp_path_factory.mktemp("converted") / "data"
    done = convert(image_folder, out, *converted.SMALL, "--workers=1", "--copies=2")
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="session")
def long_one(convert, image_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("uninterrupted") / "data"
    done = convert(image_folder, out, *converted.LONG)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def images(image_folder, tmp_path):
    """A copy of the image folder to harm."""
    return shutil.copytree(image_folder, tmp_path / "chest_xray")


@pytest.fixture
def begin(image_folder, start, tmp_path):
    """Starts the long conversion in a session of its own."""

    def begin(images=image_folder, out="data", arguments=converted.LONG):
        with (tmp_path / "stderr").open("w") as stderr:
            return start(
                *("-m", "tfrecords.convert", f"--images={images}", f"--out={out}", *arguments),
                stdout=None,
                stderr=stderr,
                start_new_session=True,
            )

    return begin
