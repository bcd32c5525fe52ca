"""Folders of tiny images, and listings of them, for the tests of what is listed."""

import io
import os
from shutil import copytree

import pytest
from listing_files import HEADER, ROWS, as_csv
from PIL import Image

from tfrecords.errors import InputError
from tfrecords.sources.tables import read_listing


def _png():
    buffer = io.BytesIO()
    Image.new("L", (1, 1), 9).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def plant(tmp_path):
    """Makes files below a root: names, or names with their bytes."""
    root = tmp_path / "images"
    root.mkdir()

    def make(*names, **contents):
        for name, data in {**dict.fromkeys(names, _png()), **contents.get("files", {})}.items():
            path = os.path.join(os.fsencode(root), os.fsencode(name))  # noqa: PTH118  # bytes have no Path
            os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
            with open(path, "wb") as file:  # noqa: PTH123
                file.write(data)
        return root

    return make


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """Images of two pixels for `ROWS`, 0.png to 39.png, and a file that is none."""
    folder = tmp_path_factory.mktemp("drawn") / "images"
    for number, name in enumerate([*(row[0] for row in ROWS), *(f"{n}.png" for n in range(40))]):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 1), number).save(path)
    (folder / "words.png").write_text("some words")
    return folder


@pytest.fixture
def root(tmp_path, drawn):
    """What `drawn` holds, to be changed."""
    return copytree(drawn, tmp_path / "images", copy_function=os.link)


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
