"""A whole data set: sound, or with shards, records and numbers that do not belong together."""

import csv
import os
import re
import shutil
from dataclasses import replace

import pytest
from checked import check, convert, flip, frames, rebuild, shard_names
from PIL import Image

from tfrecords.errors import InputError
from tfrecords.example import decode
from tfrecords.manifest import Manifest
from tfrecords.records import read_records
from tfrecords.verification.data_set import require_sound, verify


def test_a_folder_may_be_text(sound):
    assert verify(str(sound), quick=True) == []


def test_what_was_converted_is_sound(sound):
    assert len(Manifest.load(sound).split("train").shards) > 2
    for quick in (False, True):
        assert verify(sound, quick=quick, workers=1) == []
    require_sound(sound, quick=False, workers=1)


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_encoding_is_sound(encoded, encoding, channels):
    assert verify(encoded[encoding, channels], workers=1) == []


def test_a_data_set_of_one_split_without_copies_is_sound(image_folder, tmp_path):
    out = convert(image_folder, tmp_path / "data", copies=0, val_fraction=0.0, test_fraction=0.0)
    assert list(Manifest.load(out).splits) == ["train"]
    assert verify(out, workers=1) == []


def test_what_is_nobodys_data_is_passed_over(data):
    """What `show`, a killed conversion and people leave in the folder."""
    Image.new("L", (9, 9)).save(data / "contact_sheet_train.png")
    (data / "convert.lock").write_text("host elsewhere, process 7\n")
    (data / "plan.json").write_text('{"plan": "x"}')
    name = shard_names(data)[0]
    shutil.copy(data / name, data / f".{name}.4000000.tmp")
    (data / f"{name}.result.json").write_text("{}")
    (data / "notes.txt").write_text("mine")
    (data / "empty").touch()
    (data / "folder").mkdir()
    shutil.copy(data / name, data / "folder" / name)
    assert verify(data, workers=1) == []


@pytest.mark.slow
@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("workers", [1, 2])
def test_progress_ends_at_the_bytes_of_the_shards(data, quick, workers):
    size = sum((data / name).stat().st_size for name in shard_names(data))
    first, second, third, *_ = (data / name for name in shard_names(data))
    for harm in (
        lambda: None,
        first.unlink,
        lambda: os.truncate(second, 100),
        lambda: os.truncate(third, 1 << 20),
    ):
        harm()
        seen = []
        verify(data, quick=quick, workers=workers, progress=seen.append)
        assert sum(seen) == size
        assert min(seen) >= 0


@pytest.mark.slow
def test_processes_find_the_same(data):
    names = shard_names(data)
    for name in names[::2]:
        flip(data / name, 8 * 777)
    expected = check(data)
    assert len(expected) >= 2 * len(names[::2])
    assert check(data, workers=3) == expected


@pytest.mark.parametrize("quick", [True, False])
def test_a_missing_shard(data, quick):
    path = data / shard_names(data)[-1]
    path.unlink()
    assert check(data, quick=quick) == [f"{path}: No such file or directory; restore it or convert again"]


@pytest.mark.parametrize("quick", [True, False])
def test_a_folder_in_a_shards_place(data, quick):
    path = data / shard_names(data)[-1]
    path.unlink()
    path.mkdir()
    assert any(problem.startswith(f"{path}: ") for problem in check(data, quick=quick))


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize(
    "name", ["chest_xray-train.tfrecord-00000-of-99999", "other-val.tfrecord-00000-of-00001", "copy", "a.bak"]
)
def test_a_shard_doubled_under_another_name(data, name, quick):
    shutil.copy(data / shard_names(data)[0], data / name)
    assert check(data, quick=quick) == [
        f"{data / name}: holds records, but the manifest does not list it; remove it"
    ]


@pytest.mark.parametrize("quick", [True, False])
def test_an_extra_shard_even_if_it_is_empty(data, quick):
    path = data / "chest_xray-train.tfrecord-00099-of-00100"
    path.touch()
    assert check(data, quick=quick) == [
        f"{path}: holds records, but the manifest does not list it; remove it"
    ]


def test_two_swapped(data):
    one, other = (data / name for name in (shard_names(data)[0], shard_names(data)[-1]))
    first, second = one.read_bytes(), other.read_bytes()
    assert first != second
    one.write_bytes(second)
    other.write_bytes(first)
    for quick in (True, False):
        problems = check(data, quick=quick)
        for path in (one, other):
            assert any(problem.startswith(f"{path}: ") for problem in problems)
    assert any("sources.csv says" in problem for problem in check(data))


@pytest.mark.parametrize("quick", [True, False])
def test_a_shard_of_another_data_set(data, image_folder, tmp_path, quick):
    other = convert(image_folder, tmp_path / "other", copies=2, seed=1)
    name = shard_names(data)[0]
    shutil.copy(other / name, data / name)
    assert check(data, quick=quick)[0].startswith(f"{data / name}: ")


@pytest.mark.parametrize("quick", [True, False])
def test_a_manifest_that_was_edited(data, quick):
    path = data / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"seed": 0', b'"seed": 1'))
    assert check(data, quick=quick) == [
        f"{path}: is not as it was written (its content and its SHA-256 differ); restore it or convert again"
    ]


def test_a_duplicate_record(data):
    def change(it):
        first, second = list(it.shards)[:2]
        it.shards[second].append(it.shards[first][3])

    rebuild(data, change)
    name = shard_names(data)[1]
    number = len(frames(data / name)) - 1
    twin = decode(list(read_records(data / name))[-1])
    problems = check(data)
    doubled = f"{twin.id.decode()}, copy {twin.copy}, is a second time in the data set"
    assert f"{data / name}: record {number}: {doubled}" in problems
    assert not [problem for problem in problems if "missing" in problem]


def test_a_duplicate_in_the_place_of_another(data):
    """All counts are right."""
    gone = []

    def change(it):
        records = it.shards[next(iter(it.shards))]
        gone.append(records[5])
        records[5] = records[3]

    rebuild(data, change)
    path = data / shard_names(data)[0]
    twin = decode(list(read_records(path))[3])
    assert check(data) == [
        f"{path}: record 5: {twin.id.decode()}, copy {twin.copy}, is a second time in the data set",
        f"{data}: {gone[0].id.decode()}, copy {gone[0].copy}, is missing in train",
    ]


@pytest.mark.parametrize("all_of_it", [False, True])
def test_a_missing_record(data, all_of_it):
    gone = []

    def change(it):
        first = next(iter(it.shards))
        one = it.shards[first][0]
        gone.append(one)
        it.shards[first] = [
            r for r in it.shards[first] if r.source != one.source or (not all_of_it and r.copy != one.copy)
        ]

    rebuild(data, change)
    copies = "0, 1, 2" if all_of_it else gone[0].copy
    assert f"{data}: {gone[0].id.decode()}, copy {copies}, is missing in train" in check(data)


def test_many_missing_records_are_counted(data):
    rebuild(data, lambda it: it.shards[list(it.shards)[-1]].clear())
    problems = [problem for problem in check(data) if problem.startswith(f"{data}: ")]
    count = Manifest.load(data).split("test").images
    assert len(problems) == 6
    assert problems[-1] == f"{data}: {count - 5} more problems"


@pytest.mark.parametrize("off", [-1, 1])
def test_a_wrong_record_count(data, off):
    name = shard_names(data)[0]
    count = len(frames(data / name))
    rebuild(data, lambda it: it.announced.update({name: count + off}))
    problems = check(data)
    assert problems[0] == f"{data / name}: has {count} records, the manifest says {count + off}"


@pytest.mark.parametrize(
    "changes", [{"records": 5}, {"images": 5}, {"groups": 5}, {"records_per_class": (5, 5)}]
)
def test_wrong_numbers_of_a_split(data, changes):
    split = Manifest.load(data).split("val")
    rebuild(
        data,
        lambda it: setattr(it, "splits", lambda splits: splits | {"val": replace(splits["val"], **changes)}),
    )
    ((name, value),) = changes.items()
    assert check(data)[0] == (
        f"{data / 'manifest.json'}: split val has {name} {value}, sources.csv gives {getattr(split, name)}"
    )


def test_a_group_in_two_splits(data):
    places = {}

    def change(it):
        """Moves one image of a group of test to the group of an image of train."""
        first, last = next(iter(it.shards)), list(it.shards)[-1]
        one, other = it.shards[first][0], it.shards[last][0]
        places.update(one=one, other=other)
        it.shards[last][0] = replace(other, group=one.group)
        it.rows[1 + other.source][4] = one.group.decode()

    rebuild(data, change)
    one, other = (places[name] for name in ("one", "other"))
    with (data / "sources.csv").open(newline="") as file:
        train = [row["id"] for row in csv.DictReader(file) if row["group"] == one.group.decode()]
    (problem,) = [problem for problem in check(data) if "in two splits" in problem]
    assert problem.startswith(f"{data / 'sources.csv'}: group {one.group.decode()} is in two splits: ")
    assert problem.endswith(f" in train, {other.id.decode()} in test")
    assert any(f": {name} in train" in problem for name in train)


def test_require_sound_lists(data, facts):
    path = data / "sources.csv"
    path.unlink()
    with pytest.raises(InputError) as caught:
        require_sound(data, quick=True, workers=1)
    assert re.search(
        facts(
            f"{data}: 1 problem:\n"
            f"  {path}: cannot be read: No such file or directory; convert again with --overwrite\n"
            f"Restore these files, or convert again with --overwrite."
        ),
        str(caught.value),
    )
