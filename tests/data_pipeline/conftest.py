"""Small real data sets for the tests of the input pipeline, converted from the drawn images."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from tfrecords.conversion import ConvertOptions, convert_images
from tfrecords.example import Record, decode
from tfrecords.manifest import Manifest
from tfrecords.records import read_records


@dataclass(frozen=True)
class Data:
    """A converted data set and what is in it, read without TensorFlow."""

    directory: Path
    manifest: Manifest

    def paths(self, split: str) -> list[Path]:
        return [self.directory / shard.name for shard in self.manifest.split(split).shards]

    def records(self, split: str) -> list[Record]:
        return [decode(data) for path in self.paths(split) for data in read_records(path)]

    def pixels(self, record: Record) -> np.ndarray:
        """Returns a raw record's image, uint8 [H, W, C]."""
        return np.frombuffer(record.image, np.uint8).reshape(self.manifest.image_shape)

    def patched(self, split: str, number: int, **values: int) -> "Data":
        """Returns the data set with other values in the manifest for one of its shards."""
        described = self.manifest.split(split)
        shards = list(described.shards)
        shards[number] = replace(shards[number], **values)
        splits = {**self.manifest.splits, split: replace(described, shards=tuple(shards))}
        return Data(self.directory, replace(self.manifest, splits=splits))


@pytest.fixture(scope="session")
def converted(image_folder, tmp_path_factory):
    """Converts the drawn images, once for each encoding and number of channels.

    32x40 pixels, 3 copies of each train image. Train has about 170 records: raw grayscale makes 3
    shards, raw RGB 10, which is more than a stream reads side by side.
    """
    made = {}

    def convert(encoding="raw", channels=1):
        if (encoding, channels) not in made:
            out = tmp_path_factory.mktemp("converted") / f"{encoding}_{channels}"
            options = ConvertOptions(
                images=image_folder,
                out=out,
                size=(32, 40),
                channels=channels,
                copies=3,
                encoding=encoding,
                shard_size=64 << 10,
                workers=1,
            )
            convert_images(options)
            made[encoding, channels] = Data(out, Manifest.load(out))
        return made[encoding, channels]

    return convert


@pytest.fixture(scope="session")
def data(converted):
    """The raw grayscale data set; read only."""
    return converted()


@pytest.fixture
def harmed(data, tmp_path):
    """A copy of the raw grayscale data set, its manifest loaded already: to be damaged."""
    return Data(shutil.copytree(data.directory, tmp_path / "data"), data.manifest)
