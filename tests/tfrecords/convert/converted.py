"""What is in converted folders, for several test modules: `from converted import content`."""

import csv
import itertools
from pathlib import Path

from tfrecords.convert.changed import STAT_NAME
from tfrecords.example import decode
from tfrecords.manifest import Manifest, is_shard
from tfrecords.records import read_records

SIZE = (72, 60)


SMALL = ("--size=72x60", "--shard_size=64KB")


def content(folder):
    """Returns {name: bytes} of a folder, hidden files included."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def data_in(folder):
    """Returns the same without the record of what the system tells of the sources."""
    return {name: data for name, data in content(folder).items() if name != STAT_NAME}


def stamps(folder):
    return {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()}


def records_of(data, split):
    """Returns [[records of a shard]]."""
    shards = Manifest.load(data).split(split).shards
    return [[decode(record) for record in read_records(data / shard.name)] for shard in shards]


def all_records(data):
    for split in Manifest.load(data).splits:
        for record in itertools.chain.from_iterable(records_of(data, split)):
            yield split, record


def sources_of(data):
    with (data / "sources.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def members(session):
    """Returns the living processes of a session, zombies left out."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of_session = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(of_session) == session and state not in "ZX":
            found.append(int(path.parent.name))
    return found


LONG = ("--size=150x170", "--encoding=png", "--copies=6", "--shard_size=64KB", "--workers=2")


def whole_shards(out):
    return sorted(path.name for path in out.glob("*") if is_shard(path.name))
