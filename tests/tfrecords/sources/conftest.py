"""A folder of images of one pixel, for the tests of what is listed."""

import io
import os

import pytest
from PIL import Image


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
