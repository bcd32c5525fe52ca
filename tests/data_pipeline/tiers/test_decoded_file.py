import fcntl
import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.tiers import decoded_file, decoding
from tfrecords.errors import InputError
from tfrecords.example import FIELDS

ALL = tuple(FIELDS)


def load(data, folder, split="train", fields=ALL):
    return decoded_file.load(data.directory, data.manifest, split, fields, str(folder))


def files(folder):
    there = (folder / "decoded").iterdir()
    return sorted(path.name for path in there if not path.name.endswith(".lock"))


def assert_same(found, expected):
    assert sorted(found) == sorted(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        np.testing.assert_array_equal(found[name].numpy(), tensor.numpy())


@pytest.fixture
def reads(monkeypatch):
    """Notes each split whose shards are read."""
    noted, read = [], decoding.read

    def noting(directory, manifest, split, *others):
        noted.append(split)
        return read(directory, manifest, split, *others)

    monkeypatch.setattr(decoding, "read", noting)
    return noted


@pytest.mark.parametrize(("encoding", "channels"), [("raw", 1), ("png", 3), ("jpeg", 1)])
@pytest.mark.parametrize("split", ["train", "val"])
def test_the_file_holds_what_memory_would(converted, tmp_path, encoding, channels, split):
    data = converted(encoding, channels)
    expected = decoding.load(data.directory, data.manifest, split, ALL)
    assert_same(load(data, tmp_path / "new" / "cache", split), expected)
    assert_same(load(data, tmp_path / "new" / "cache", split), expected)


LOAD = """
import sys
from pathlib import Path
from data_pipeline.tiers import decoded_file
from tfrecords.manifest import Manifest
data, cache = map(Path, sys.argv[1:])
decoded_file.load(data, Manifest.load(data), "val", ("label",), str(cache))
"""


@pytest.mark.slow
def test_a_process_waits_for_the_one_that_decodes_the_same(data, tmp_path, start, wait_until, waits_for_lock):
    lock = decoded_file._path(str(tmp_path), data.manifest, "val").with_suffix(".lock")
    lock.parent.mkdir(parents=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        process = start("-c", LOAD, data.directory, tmp_path)
        wait_until(lambda: waits_for_lock(process), "the process waits for the lock")
        assert files(tmp_path) == []
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert len(files(tmp_path)) == 1


def test_a_second_start_reads_no_shard(data, tmp_path, reads):
    for _ in range(3):
        load(data, tmp_path)
    assert reads == ["train"]
    load(data, tmp_path, "val")
    assert reads == ["train", "val"]
    assert len(files(tmp_path)) == 2


def test_the_file_is_the_users_alone_and_leaves_no_other(data, tmp_path):
    load(data, tmp_path / "cache")
    (name,) = files(tmp_path / "cache")
    assert name.startswith("chest_xray-train-")
    assert (tmp_path / "cache" / "decoded" / name).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "cache" / "decoded").stat().st_mode & 0o777 == 0o700


def test_the_default_folder_is_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert decoded_file.folder_of("") == tmp_path / "shardlight" / "decoded"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert decoded_file.folder_of("") == Path.home() / ".cache" / "shardlight" / "decoded"
    assert decoded_file.folder_of("here") == Path("here/decoded")


def cut(path):
    os.truncate(path, path.stat().st_size - 1)


def lengthened(path):
    with path.open("ab") as file:
        file.write(b"0")


def emptied(path):
    path.write_bytes(b"")


def header_of_another_size(path):
    content = bytearray(path.read_bytes())
    header = json.loads(content[:4096])
    content[:4096] = json.dumps(header | {"size": 1 << 40}).encode().ljust(4096)
    path.write_bytes(content)


def zeroed(path):
    """What a lost write leaves: the size is right, the pages are empty."""
    content = path.read_bytes()
    path.write_bytes(content[:4096] + bytes(len(content) - 4096))


@pytest.mark.parametrize("harm", [cut, lengthened, emptied, header_of_another_size, zeroed])
def test_a_damaged_file_is_made_anew_and_that_is_said(data, tmp_path, reads, capfd, harm):
    expected = decoding.load(data.directory, data.manifest, "train", ALL)
    load(data, tmp_path, fields=("label",))  # a mapped file must not be cut
    path = tmp_path / "decoded" / files(tmp_path)[0]
    content = path.read_bytes()
    harm(path)
    capfd.readouterr()
    assert_same(load(data, tmp_path), expected)
    assert reads == ["train"] * 3  # the first is this test's
    assert capfd.readouterr().err.count(f"{path}: is damaged (") == 1
    assert path.read_bytes() == content


def test_the_full_check_finds_one_flipped_bit(data, tmp_path, reads, capfd):
    expected = decoding.load(data.directory, data.manifest, "train", ALL)
    load(data, tmp_path, fields=("label",))  # a mapped file must not be cut
    path = tmp_path / "decoded" / files(tmp_path)[0]
    decoded_file.require_sound(str(tmp_path), data.manifest)
    assert path.exists()
    content = bytearray(path.read_bytes())
    content[4096 + 1000] ^= 1  # not among the bytes that a start looks at
    path.write_bytes(content)
    decoded_file.require_sound(str(tmp_path), data.manifest)
    assert f"{path}: is damaged (its content is not what was written)" in capfd.readouterr().err
    assert_same(load(data, tmp_path), expected)
    assert reads == ["train"] * 3  # the first is this test's


def test_other_data_have_another_file(data, converted, tmp_path):
    load(data, tmp_path)
    other = replace(data, manifest=replace(data.manifest, plan="other"))
    assert decoded_file._path(str(tmp_path), other.manifest, "train").name not in files(tmp_path)
    load(converted("png", 1), tmp_path)
    assert len(files(tmp_path)) == 2  # the raw data are where they were


@pytest.mark.parametrize("gone", ["removed", "converted anew"])
def test_a_file_whose_data_are_gone_is_removed_when_another_is_made(harmed, data, tmp_path, gone):
    cache = tmp_path / "cache"
    old = replace(harmed.manifest, seed=99)
    old.save(harmed.directory)
    load(replace(harmed, manifest=old), cache)
    before = files(cache)
    load(data, cache)
    assert set(before) < set(files(cache))
    if gone == "removed":
        (harmed.directory / "manifest.json").unlink()
    else:
        harmed.manifest.save(harmed.directory)
    load(data, cache, "val")
    assert not set(before) & set(files(cache))
    assert len(files(cache)) == 2


def test_a_dead_writers_file_is_taken_over(data, tmp_path):
    path = decoded_file._path(str(tmp_path), data.manifest, "train")
    path.parent.mkdir()
    path.with_name(f".{path.name}.tmp").write_bytes(b"half")
    load(data, tmp_path)
    assert files(tmp_path) == [path.name]


def test_a_damaged_shard_leaves_no_file(harmed, tmp_path):
    path = harmed.paths("train")[1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="CRC mismatch"):
        load(harmed, tmp_path / "cache")
    assert files(tmp_path / "cache") == []


def test_a_folder_that_cannot_be_made_is_named(data, tmp_path, facts):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError) as caught:
        load(data, tmp_path / "file")
    path = decoded_file._path(str(tmp_path / "file"), data.manifest, "train")
    assert re.search(
        facts(
            f"{path}: the decoded data cannot be written or read: Not a directory; make room, name another "
            f"folder with --cache_dir, or use --cache=memory"
        ),
        str(caught.value),
    )


SHARING = """
import ctypes, json, sys
from pathlib import Path
from data_pipeline.tiers import decoding
from data_pipeline.dataset import make_dataset
from data_pipeline.options import PipelineOptions
from tfrecords.manifest import Manifest

reads, read = [], decoding.read
def noting(*arguments):
    reads.append(1)
    return read(*arguments)
decoding.read = noting

def anonymous():
    ctypes.CDLL(None).malloc_trim(0)  # what is held, without what was freed and is not given back yet
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) << 10

def mapped():
    # Of the file's mapping: bytes in memory, this process's part of those it shares, its own copies.
    sums, inside = dict.fromkeys(("Rss", "Pss", "Private_Dirty"), 0), False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name = line.split()[0]
        if not name.endswith(":"):
            inside = line.endswith(".decoded")
        elif inside and name[:-1] in sums:
            sums[name[:-1]] += int(line.split()[1]) << 10
    return sums

directory = Path(sys.argv[1])
decoding.load(Path(sys.argv[3]), Manifest.load(Path(sys.argv[3])), "train", ("image", "label"))
before = anonymous()
options = PipelineOptions(global_batch_size=2, cache="disk", cache_dir=sys.argv[2])
batches = iter(make_dataset(directory, Manifest.load(directory), "train", options, training=True))
for _ in range(100):  # an epoch; then the iterator still holds all that it needs
    next(batches)
print("gathered", flush=True)
sys.stdin.readline()  # until all have
print(json.dumps({"reads": len(reads), "anonymous": anonymous() - before} | mapped()), flush=True)
sys.stdin.readline()  # until all have looked
"""


@pytest.mark.stops
@pytest.mark.slow
def test_processes_share_one_copy_of_what_one_of_them_has_read(large, data, start, tmp_path):
    command = ("-c", SHARING, large.directory, tmp_path / "cache", data.directory)
    processes = [start(*command, stdin=subprocess.PIPE, stderr=None) for _ in range(2)]
    assert [process.stdout.readline() for process in processes] == ["gathered\n"] * 2
    found = []
    for process in processes:
        print(file=process.stdin, flush=True)
        found.append(json.loads(process.stdout.readline()))
    for process in processes:
        process.communicate("\n")
    size = 200 << 20
    assert sorted(each["reads"] for each in found) == [1, 2]  # the small data are read by both, these by one
    for each in found:
        assert size <= each["Rss"] <= 1.01 * size
        assert each["Pss"] <= 0.51 * size
        assert each["Private_Dirty"] == 0
        assert each["anonymous"] < 0.5 * size  # a few batches made ahead; a copy would be all of it
