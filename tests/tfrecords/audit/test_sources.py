"""The numbers of source files come from sources.csv, and only if all are there."""

import csv

import numpy as np
import pytest
from PIL import Image

from tfrecords.audit.audit import audit_split, describe
from tfrecords.audit.sources import SOURCE_NUMBERS, source_numbers
from tfrecords.convert.conversion import convert_images
from tfrecords.convert.options import ConvertOptions
from tfrecords.manifest import Manifest
from tfrecords.pool import Pool


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data set whose classes were saved with another JPEG quality each."""
    root = tmp_path_factory.mktemp("sources")
    random = np.random.default_rng(3)
    for number in range(80):
        folder = root / "images" / ("old", "new")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(random.integers(0, 256, (40, 30), np.uint8))
        image.save(folder / f"{number}.jpg", quality=(70, 90)[number % 2])
    out = root / "data"
    convert_images(ConvertOptions(root / "images", out, size=(16, 16), group_regex="(.*)", workers=1))
    return out


def rows_of(data):
    with (data / "sources.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_numbers_follow_from_the_table(data):
    rows = rows_of(data)
    found = source_numbers(data, list(range(len(rows))))
    assert found.shape == (len(rows), len(SOURCE_NUMBERS))
    for row, values in zip(rows, found, strict=True):
        size = int(row["bytes"])
        quality = 70 if row["class"] == "old" else 90
        np.testing.assert_allclose(values, (40, 30, 0.75, size, size / 1200, 1, quality, 0))


@pytest.mark.slow
def test_an_encoder_that_tells_the_class_is_found_and_named(data):
    manifest = Manifest.load(data)
    with Pool(1) as pool:
        audit = audit_split(data, manifest, "train", pool)
    assert audit.shortcut.families[0][0] == "source file"
    assert "JPEG quality of the source" in "\n".join(describe(audit))
    assert audit.shortcut.auroc > 0.95


def test_a_table_without_the_facts_of_all_gives_none(data, tmp_path):
    rows = rows_of(data)
    assert source_numbers(tmp_path, [0]) is None  # no table
    for change in ("blank", "older"):
        with (tmp_path / "sources.csv").open("w", newline="") as file:
            names = [name for name in rows[0] if change == "blank" or name != "height"]
            writer = csv.DictWriter(file, names, extrasaction="ignore")
            writer.writeheader()
            writer.writerows([rows[0], rows[1] | {"height": ""}])
        assert source_numbers(tmp_path, [0, 1]) is None
        assert (source_numbers(tmp_path, [0]) is not None) == (change == "blank")
