import csv
import hashlib
import io
import os
import random
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tfrecords.convert.conversion import convert_images
from tfrecords.convert.encoding import encode_image
from tfrecords.convert.options import ConvertOptions
from tfrecords.errors import InputError
from tfrecords.example import decode, encode
from tfrecords.interop.companions import write_companions
from tfrecords.manifest import Manifest, Shard
from tfrecords.records import frame, read_records
from tfrecords.verification.data_set import require_sound, verify

SIZE = (40, 48)


def convert(images, out, **options):
    convert_images(ConvertOptions(images, out, size=SIZE, shard_size=1 << 16, workers=1, **options))
    return out


@pytest.fixture(scope="module")
def sound(image_folder, tmp_path_factory):
    """A data set of several train shards; read only."""
    return convert(image_folder, tmp_path_factory.mktemp("sound") / "data", copies=2)


@pytest.fixture(scope="module")
def encoded(image_folder, tmp_path_factory):
    """Data sets by (encoding, channels); read only."""
    folder = tmp_path_factory.mktemp("encoded")
    return {
        (encoding, channels): convert(
            image_folder, folder / f"{encoding}{channels}", encoding=encoding, channels=channels
        )
        for encoding in ("png", "jpeg")
        for channels in (1, 3)
    }


@pytest.fixture
def data(sound, tmp_path):
    """A copy to harm."""
    return shutil.copytree(sound, tmp_path / "data")


def shard_names(data):
    return [shard.name for split in Manifest.load(data).splits.values() for shard in split.shards]


def check(data, *, quick=False, workers=1):
    """Returns the problems, a refusal of the manifest among them."""
    try:
        return verify(data, quick=quick, workers=workers)
    except InputError as error:
        return [str(error)]


# ---- no false alarm


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


def test_processes_find_the_same(data):
    names = shard_names(data)
    for name in names[::2]:
        flip(data / name, 8 * 777)
    expected = check(data)
    assert len(expected) >= 2 * len(names[::2])
    assert check(data, workers=3) == expected


# ---- damaged files


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_every_flipped_bit_is_found_and_its_file_named(data):
    chance = random.Random(7)
    names = ["manifest.json", "sources.csv", *shard_names(data)]
    for turn in range(60):
        path = data / names[turn % len(names)]
        bit = chance.randrange(8 * path.stat().st_size)
        flip(path, bit)
        for quick in (True, False):
            assert any(problem.startswith(f"{path}: ") for problem in check(data, quick=quick)), (path, bit)
        flip(path, bit)
    assert check(data) == []


def frames(path):
    return [frame(record) for record in read_records(path)]


def test_a_flipped_bit_is_traced_to_its_record(data):
    path = data / shard_names(data)[1]
    start = sum(map(len, frames(path)[:3]))
    flip(path, 8 * (start + 500))
    assert check(data) == [
        f"{path}: its SHA-256 is not the manifest's",
        f"{path}: record 3 at byte {start} has damaged data (CRC mismatch); convert again",
    ]
    assert check(data, quick=True) == [f"{path}: its SHA-256 is not the manifest's"]


@pytest.mark.parametrize("quick", [True, False])
def test_cut_in_mid_record(data, quick):
    path = data / shard_names(data)[0]
    whole = frames(path)
    size, start = path.stat().st_size, sum(map(len, whole[:-1]))
    os.truncate(path, size - 100)
    expected = [f"{path}: has {size - 100} bytes, the manifest says {size}"]
    if not quick:
        announced = len(whole[-1]) - 16
        expected += [
            f"{path}: record {len(whole) - 1} at byte {start} is cut: {announced} bytes announced; "
            f"convert again"
        ]
    assert check(data, quick=quick) == expected


def test_cut_at_a_record_boundary(data):
    path = data / shard_names(data)[0]
    whole = frames(path)
    gone = decode(list(read_records(path))[-1])
    size, left = path.stat().st_size, path.stat().st_size - len(whole[-1])
    os.truncate(path, left)
    assert check(data) == [
        f"{path}: has {left} bytes, the manifest says {size}",
        f"{path}: has {len(whole) - 1} records, the manifest says {len(whole)}",
        f"{data}: {gone.id.decode()}, copy {gone.copy}, is missing in train",
    ]


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
def test_sources_csv_missing_or_edited(data, quick):
    path = data / "sources.csv"
    path.write_bytes(path.read_bytes().replace(b",train,", b",val,", 1))
    edited = f"{path}: its SHA-256 is not the manifest's; convert again with --overwrite"
    assert check(data, quick=quick) == [edited]
    path.unlink()
    missing = f"{path}: cannot be read: No such file or directory; convert again with --overwrite"
    assert check(data, quick=quick) == [missing]


@pytest.mark.parametrize("quick", [True, False])
def test_a_manifest_that_was_edited(data, quick):
    path = data / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"seed": 0', b'"seed": 1'))
    assert check(data, quick=quick) == [
        f"{path}: is not as it was written (its content and its SHA-256 differ); restore it or convert again"
    ]


def test_without_sources_csv_records_are_still_checked(data):
    (data / "sources.csv").unlink()
    path = data / shard_names(data)[0]
    flip(path, 8 * 500)
    assert len([problem for problem in check(data) if problem.startswith(f"{path}: ")]) == 2


# ---- damage that agrees with every size and hash


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


def test_rebuilt_unchanged_is_sound(data):
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    rebuild(data, lambda _: None)
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before
    assert check(data) == []


@pytest.mark.parametrize(
    ("shard", "changes", "message"),
    [
        (1, {"label": lambda r: 1 - r.label}, "it says "),
        (0, {"label": 2}, "label 2, but there are 2 classes"),
        (0, {"label": 2**63}, f"label {2**63}, but there are 2 classes"),
        (-1, {"copy": 1}, "copy 1, but test has 0 of each image of "),
        (0, {"copy": 3}, "copy 3, but train has 2 of each image of "),
        (0, {"copy": 2**63 - 1}, f"copy {2**63 - 1}, but train has 2 of each image of "),
        (0, {"id": b"NORMAL/nobody.png"}, "it says NORMAL/nobody.png ("),
        (0, {"id": b"\xff\xfe"}, "it says \\xff\\xfe ("),
        (0, {"source": 60}, "source 60, but sources.csv has 60"),
        (0, {"source": 2**63}, f"source {2**63}, but sources.csv has 60"),
        (0, {"group": b"0123456789abcdef"}, "it says "),
        (0, {"image": b"x" * 100}, "its image has 100 bytes, raw of 40x48x1 has 1920"),
        (0, {"image": b""}, "its image has 0 bytes, "),
    ],
)
def test_a_record_that_is_wrong(data, shard, changes, message):
    rebuild(data, put(shard, 4, **changes))
    assert check(data, quick=True) == []
    path = data / shard_names(data)[shard]
    problems = check(data)
    assert problems[0].startswith(f"{path}: record 4: {message}"), problems
    assert "Traceback" not in "".join(problems)


def test_the_whole_message_of_a_wrong_label(data):
    path = data / shard_names(data)[0]
    record = decode(next(read_records(path)))
    classes, group = ("NORMAL", "PNEUMONIA"), record.group.decode()
    rebuild(data, put(0, 0, label=1 - record.label))
    assert check(data) == [
        f"{path}: record 0: it says {record.id.decode()} ({classes[1 - record.label]}, train, group "
        f"{group}), sources.csv says {record.id.decode()} ({classes[record.label]}, train, group {group}) "
        f"of source {record.source}"
    ]


def test_a_record_in_another_splits_shard(data):
    def change(it):
        first, last = next(iter(it.shards)), list(it.shards)[-1]
        it.shards[first][0], it.shards[last][0] = it.shards[last][0], it.shards[first][0]

    rebuild(data, change)
    names = shard_names(data)
    problems = check(data)
    for name in (names[0], names[-1]):
        assert any(problem.startswith(f"{data / name}: record 0: ") for problem in problems), problems


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[3].pop(), "row 2 has 4 cells, the header has 5"),
        (lambda rows: rows[3].__setitem__(0, "7"), "row 2 has the number '7'"),
        (lambda rows: rows[3].__setitem__(1, rows[2][1]), "row 2 has the id "),
        (lambda rows: rows[3].__setitem__(2, "CAT"), "row 2 has 'CAT', which is not in the manifest"),
        (lambda rows: rows[3].__setitem__(3, "night"), "row 2 has 'night', which is not in the manifest"),
        (lambda rows: rows[0].__setitem__(1, "name"), "has no column id; there must be source,id,class,"),
        (lambda rows: rows.clear(), "is empty, it must start with source,id,class,split,group"),
        (lambda rows: rows.pop(), "source 59, but sources.csv has 59"),
    ],
)
def test_a_wrong_table_of_sources(data, change, message):
    rebuild(data, lambda it: change(it.rows))
    assert check(data, quick=True) == [] or "column" in message or "empty" in message
    assert any(message in problem for problem in check(data)), check(data)


# ---- images that agree with every size and hash


def as_file(kind, pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def png_with_a_wrong_crc(record):
    at = record.image.index(b"IDAT") - 4
    length = int.from_bytes(record.image[at : at + 4], "big")
    damaged = bytearray(record.image)
    damaged[at + 8 + length] ^= 1
    return bytes(damaged)


GREY = np.zeros(SIZE, np.uint8)


@pytest.mark.parametrize(
    ("encoding", "image", "message"),
    [
        ("png", lambda r: r.image[:-30], "its image cannot be decoded, allowed is png of 40x48x1: "),
        ("png", lambda r: r.image[:40], "its image cannot be decoded, allowed is png of 40x48x1: "),
        ("png", png_with_a_wrong_crc, "its image cannot be decoded, allowed is png of 40x48x1: "),
        ("png", lambda _: b"", "its image cannot be decoded, allowed is png of 40x48x1: "),
        ("png", lambda _: as_file("PNG", GREY.T), "its image has 48x40 pixels of mode L, allowed is png of "),
        ("png", lambda _: as_file("PNG", GREY[:20]), "its image has 20x48 pixels of mode L, allowed is "),
        (
            "png",
            lambda _: as_file("PNG", np.zeros((*SIZE, 3), np.uint8)),
            "its image has 40x48 pixels of mode RGB",
        ),
        ("png", lambda _: as_file("JPEG", GREY), "its image cannot be decoded, allowed is png of 40x48x1: "),
        ("jpeg", lambda _: as_file("PNG", GREY), "its image cannot be decoded, allowed is jpeg of 40x48x1: "),
        ("jpeg", lambda r: r.image[: len(r.image) // 2], "its image cannot be decoded, allowed is jpeg of "),
        (
            "jpeg",
            lambda _: as_file("JPEG", GREY.T),
            "its image has 48x40 pixels of mode L, allowed is jpeg of ",
        ),
    ],
)
def test_an_image_that_is_wrong(encoded, tmp_path, encoding, image, message):
    data = shutil.copytree(encoded[encoding, 1], tmp_path / "data")
    rebuild(data, put(0, 2, image=image))
    assert check(data, quick=True) == []
    path = data / shard_names(data)[0]
    (problem,) = check(data)
    assert problem.startswith(f"{path}: record 2: {message}")
    assert " at 0x" not in problem


def test_encode_image_is_what_the_records_hold(encoded):
    """The damages above start from images that are right."""
    data = encoded["png", 1]
    record = decode(next(read_records(data / shard_names(data)[0])))
    with Image.open(io.BytesIO(record.image)) as image:
        assert encode_image(np.asarray(image)[..., None], "png") == record.image


def test_many_problems_of_a_shard_are_counted(data):
    def change(it):
        name = next(iter(it.shards))
        it.shards[name] = [replace(record, label=9) for record in it.shards[name]]

    rebuild(data, change)
    path = data / shard_names(data)[0]
    problems = check(data)
    assert problems[:5] == [f"{path}: record {n}: label 9, but there are 2 classes" for n in range(5)]
    assert problems[5] == f"{path}: {len(frames(path)) - 5} more problems"
    assert len(problems) == 6


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
