"""Data sets for several test modules, and `from checked import ...` for what they do with them."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from checked import convert  # found by the line above


@pytest.fixture(scope="session")
def sound(image_folder, tmp_path_factory):
    """A data set of several train shards; read only."""
    return convert(image_folder, tmp_path_factory.mktemp("sound") / "data", copies=2)


@pytest.fixture(scope="session")
def encoded(image_folder, tmp_path_factory):
    """Data sets by (encoding, channels); read only."""
    folder = tmp_path_factory.mktemp("encoded")
    return {
        (encoding, channels): convert(
            image_folder, folder / f"{encoding}{channels}", encoding=encoding, channels=channels
        )
        for encoding in ("png", "jpeg")
        for channels in (1, 3)
    }


@pytest.fixture
def data(sound, tmp_path):
    """A copy to harm."""
    return shutil.copytree(sound, tmp_path / "data")
