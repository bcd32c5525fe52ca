import shutil
from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from tfrecords.manifest import Manifest
from trainer.evaluation import figures
from trainer.run import Run


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the trained run, elsewhere."""
    shutil.copytree(trained.folder, tmp_path / "run")
    return Run.load(tmp_path / "run")


@pytest.fixture
def data(converted, tmp_path):
    shutil.copytree(converted, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def without_pictures(monkeypatch):
    """One picture for all, for drawing takes most of the time; `test_report` looks at them."""
    picture = BytesIO()
    Image.new("RGB", (1, 1)).save(picture, "PNG")
    monkeypatch.setattr(figures, "png", lambda _: picture.getvalue())


@pytest.fixture(scope="session")
def rewrite():
    """Changes what the manifest of a data set in a folder says."""

    def change(folder, **changes):
        replace(Manifest.load(folder), **changes).save(folder)

    return change
