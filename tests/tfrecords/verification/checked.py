"""Data sets to check, and to harm, for several test modules: `from checked import check`."""

import csv
import hashlib
import io
from dataclasses import replace
from types import SimpleNamespace

from tfrecords.convert.conversion import convert_images
from tfrecords.convert.options import ConvertOptions
from tfrecords.errors import InputError
from tfrecords.example import decode, encode
from tfrecords.interop.companions import write_companions
from tfrecords.manifest import Manifest, Shard
from tfrecords.records import frame, read_records
from tfrecords.verification.data_set import verify

SIZE = (40, 48)


def convert(images, out, **options):
    convert_images(ConvertOptions(images, out, size=SIZE, shard_size=1 << 16, workers=1, **options))
    return out


def shard_names(data):
    return [shard.name for split in Manifest.load(data).splits.values() for shard in split.shards]


def check(data, *, quick=False, workers=1):
    """Returns the problems, a refusal of the manifest among them."""
    try:
        return verify(data, quick=quick, workers=workers)
    except InputError as error:
        return [str(error)]


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def frames(path):
    return [frame(record) for record in read_records(path)]


def rebuild(data, change):
    """Changes records, rows or splits, and writes all anew, so that sizes and hashes agree.

    `change` gets a namespace: `shards` {name: [Record]}, `rows` (lists of sources.csv's cells, header
    first), and `splits` (of the manifest, taken as they are if `change` replaces them).
    """
    manifest = Manifest.load(data)
    with (data / "sources.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    names = shard_names(data)
    it = SimpleNamespace(
        shards={name: [decode(record) for record in read_records(data / name)] for name in names},
        rows=rows,
        splits=None,
        announced={},
    )
    change(it)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(it.rows)
    (data / "sources.csv").write_text(text.getvalue())
    described = {}
    for name, records in it.shards.items():
        content = b"".join(frame(encode(record)) for record in records)
        (data / name).write_bytes(content)
        count = it.announced.get(name, len(records))
        described[name] = Shard(name, count, len(content), hashlib.sha256(content).hexdigest())
    splits = {
        name: replace(split, shards=tuple(described[shard.name] for shard in split.shards))
        for name, split in manifest.splits.items()
    }
    manifest = replace(
        manifest,
        splits=it.splits(splits) if it.splits else splits,
        sources_sha256=hashlib.sha256(text.getvalue().encode()).hexdigest(),
    )
    manifest.save(data)
    write_companions(data, manifest, index=False)


def put(name_at, number, **changes):
    """Returns a change of one record's fields; values may be functions of the record."""

    def change(it):
        records = it.shards[list(it.shards)[name_at]]
        values = {k: v(records[number]) if callable(v) else v for k, v in changes.items()}
        records[number] = replace(records[number], **values)

    return change
