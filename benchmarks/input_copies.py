"""What `input.py` reads: our data sets by encoding, and the copies of them that its peers want."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfrecords.example import decode
from tfrecords.manifest import MANIFEST_NAME, Manifest
from tfrecords.records import read_records

SIZE = (180, 180)
ENCODINGS = ("raw", "png", "jpeg")


@dataclass(frozen=True)
class Source:
    """What a contender reads.

    Attributes:
        images: class folders of images.
        data: folder of what was converted from them: our data sets by encoding, and the peers' copies.
        batch: images a batch.
    """

    images: Path
    data: Path
    batch: int

    @property
    def raw(self) -> Path:
        """Our data set of raw pixels."""
        return self.data / "raw"


def convert(images: Path, data: Path) -> None:
    """Converts the images to `data`/raw, png and jpeg, those that are not there yet."""
    from tfrecords.convert.conversion import convert_images
    from tfrecords.convert.options import ConvertOptions

    for encoding in ENCODINGS:
        if not (data / encoding / MANIFEST_NAME).exists():
            convert_images(
                ConvertOptions(
                    images,
                    data / encoding,
                    size=SIZE,
                    copies=0,
                    val_fraction=0.0,
                    test_fraction=0.0,
                    encoding=encoding,
                    dali_index=encoding == "raw",
                )
            )


def _records(raw: Path) -> Iterator[tuple[bytes, int]]:
    """Yields (pixels, label) of each record."""
    for shard in Manifest.load(raw).split("train").shards:
        for record in map(decode, read_records(raw / shard.name)):
            yield record.image, record.label


def write_arrayrecord(source: Source, out: Path) -> None:
    """Writes Grain's copy: the label in one byte, then the pixels, uncompressed, each found by itself."""
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(out / "train.arrayrecord"), "group_size:1,uncompressed")
    for pixels, label in _records(source.raw):
        writer.write(bytes([label]) + pixels)
    writer.close()


def write_tar(source: Source, out: Path) -> None:
    """Writes WebDataset's copy: the pixels as they are, in shards enough for two workers."""
    import webdataset

    with webdataset.ShardWriter(str(out / "%03d.tar"), maxcount=512, verbose=0) as writer:
        for number, (pixels, label) in enumerate(_records(source.raw)):
            writer.write({"__key__": f"{number:06d}", "image": pixels, "label": bytes([label])})


def write_mds(source: Source, out: Path) -> None:
    """Writes MosaicML Streaming's copy, uncompressed."""
    from streaming import MDSWriter

    columns = {"image": f"ndarray:uint8:{SIZE[0]},{SIZE[1]},1", "label": "int"}
    with MDSWriter(out=str(out), columns=columns, size_limit=32 << 20) as writer:
        for pixels, label in _records(source.raw):
            writer.write({"image": np.frombuffer(pixels, np.uint8).reshape(*SIZE, 1), "label": label})


COPIES: dict[str, tuple[str, Callable[[Source, Path], None]]] = {  # folder -> package, writer
    "arrayrecord": ("grain", write_arrayrecord),
    "tar": ("webdataset", write_tar),
    "mds": ("streaming", write_mds),
}
