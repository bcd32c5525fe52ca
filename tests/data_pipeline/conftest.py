"""Small real data sets for the tests of the input pipeline, converted from the drawn images."""

import hashlib
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from tfrecords.convert.conversion import convert_images
from tfrecords.convert.options import ConvertOptions
from tfrecords.example import Record, decode, encode
from tfrecords.manifest import Manifest, Shard
from tfrecords.records import frame, read_records

sys.path.insert(0, str(Path(__file__).parent))  # for `from dataset_batches import batches`


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


@pytest.fixture(autouse=True)
def user_cache(tmp_path, monkeypatch):
    """The user's cache folder, where decoded data are kept: of each test its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user_cache"))
    return tmp_path / "user_cache"


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


@pytest.fixture(scope="session")
def levelled(image_folder, tmp_path_factory):
    """A raw data set whose classes have different numbers of copies: 2 of each NORMAL, 1 of the others."""
    out = tmp_path_factory.mktemp("converted") / "levelled"
    options = ConvertOptions(
        image_folder, out, size=(32, 40), channels=1, copies=1, balance=True, shard_size=64 << 10, workers=1
    )
    convert_images(options)
    return Data(out, Manifest.load(out))


@pytest.fixture(scope="session")
def large(data, tmp_path_factory):
    """A raw data set of which train has 200 records of 1 MB, in 8 shards; noise, the manifest is real."""
    directory, random = tmp_path_factory.mktemp("large"), np.random.default_rng(0)
    shards, label = [], data.records("train")[0].label
    for number in range(8):
        name = f"large-train.tfrecord-{number:05d}-of-00008"
        images = (random.integers(0, 256, 1 << 20, np.uint8).tobytes() for _ in range(25))
        records = [replace(data.records("train")[0], image=image, label=label) for image in images]
        content = b"".join(frame(encode(record)) for record in records)
        (directory / name).write_bytes(content)
        shards.append(Shard(name, 25, len(content), hashlib.sha256(content).hexdigest()))
    train = replace(data.manifest.split("train"), shards=tuple(shards), records=200)
    manifest = replace(data.manifest, image_shape=(1024, 1024, 1), splits={"train": train})
    manifest.save(directory)
    return Data(directory, manifest)


@pytest.fixture
def harmed(data, tmp_path):
    """A copy of the raw grayscale data set, its manifest loaded already: to be damaged."""
    return Data(shutil.copytree(data.directory, tmp_path / "data"), data.manifest)
