import csv
import hashlib
import itertools
import os
import re
import shutil
import signal
import struct
import sys
import zlib
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfrecords.augment import Augmentation
from tfrecords.convert.changed import STAT_NAME
from tfrecords.convert.conversion import convert_images
from tfrecords.convert.options import ConvertOptions, parse_bytes, parse_size
from tfrecords.errors import InputError
from tfrecords.example import decode
from tfrecords.images.decode import decode as decode_image
from tfrecords.interop.tfds import TFDS_NAMES
from tfrecords.manifest import Manifest, is_shard
from tfrecords.records import read_records
from tfrecords.sources.rejection import MaxRejects

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


@pytest.fixture(scope="module")
def convert(run_command):
    def run(images, out, *arguments, **options):
        return run_command("tfrecords.convert", f"--images={images}", f"--out={out}", *arguments, **options)

    return run


@pytest.fixture(scope="module")
def data(convert, image_folder, tmp_path_factory):
    """One conversion by one worker, looked at by many tests; copy it to harm it."""
    out = tmp_path_factory.mktemp("converted") / "data"
    done = convert(image_folder, out, *SMALL, "--workers=1", "--copies=2")
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def images(image_folder, tmp_path):
    """A copy of the image folder to harm."""
    return shutil.copytree(image_folder, tmp_path / "chest_xray")


# ---- what is in the shards


def test_only_whole_files_with_final_names(data):
    manifest = Manifest.load(data)
    names = {shard.name for split in manifest.splits.values() for shard in split.shards}
    assert content(data).keys() == names | {"manifest.json", "sources.csv", STAT_NAME, *TFDS_NAMES}
    assert list(manifest.splits) == ["train", "val", "test"]
    for name, split in manifest.splits.items():
        count = len(split.shards)
        assert [shard.name for shard in split.shards] == [
            f"chest_xray-{name}.tfrecord-{i:05d}-of-{count:05d}" for i in range(count)
        ]
    assert len(manifest.split("train").shards) > 3


def test_the_manifest_counts_what_is_there(data, image_folder):
    manifest = Manifest.load(data)
    assert (manifest.name, manifest.class_names) == ("chest_xray", ("NORMAL", "PNEUMONIA"))
    assert (manifest.image_shape, manifest.encoding, manifest.copies) == ((*SIZE, 1), "raw", 2)
    assert (manifest.seed, manifest.rejected, manifest.schema) == (0, (), 1)
    assert manifest.augmentation == {
        "flip": 0.5, "rotation": 10.0, "zoom": 0.1, "crop": 0.1, "translation": 0.05, "brightness": 0.1,
        "contrast": 0.15, "fill": "reflect",
    }  # fmt: skip
    assert manifest.versions.keys() == {"numpy", "pillow"}
    assert manifest.sources_sha256 == hashlib.sha256((data / "sources.csv").read_bytes()).hexdigest()
    for name, split in manifest.splits.items():
        shards = records_of(data, name)
        records = list(itertools.chain.from_iterable(shards))
        assert [shard.records for shard in split.shards] == [len(shard) for shard in shards]
        assert split.records == len(records)
        assert split.images == len({record.source for record in records})
        assert split.groups == len({record.group for record in records})
        assert split.records_per_class == tuple(
            sum(record.label == label for record in records) for label in (0, 1)
        )
        for shard in split.shards:
            found = (data / shard.name).read_bytes()
            assert (shard.bytes, shard.sha256) == (len(found), hashlib.sha256(found).hexdigest())
    assert sum(split.images for split in manifest.splits.values()) == 60
    assert str(image_folder) not in (data / "manifest.json").read_text()


def test_every_image_is_there_with_its_copies_in_train_only(data):
    splits = {int(row["source"]): row["split"] for row in sources_of(data)}
    expected = Counter(
        (split, source, copy)
        for source, split in splits.items()
        for copy in range(3 if split == "train" else 1)
    )
    assert Counter((split, r.source, r.copy) for split, r in all_records(data)) == expected
    assert len(splits) == 60


def test_sources_csv_agrees_with_the_records(data, image_folder):
    rows = sources_of(data)
    assert list(rows[0]) == ["source", "id", "class", "split", "group"]
    files = sorted(path.relative_to(image_folder).as_posix() for path in image_folder.rglob("*.*"))
    assert [row["id"] for row in rows] == files
    assert [int(row["source"]) for row in rows] == list(range(60))
    assert {row["class"] == row["id"].split("/")[0] for row in rows} == {True}
    for split, record in all_records(data):
        row = rows[record.source]
        assert (row["id"], row["split"], row["group"]) == (record.id.decode(), split, record.group.decode())
        assert row["class"] == ("NORMAL", "PNEUMONIA")[record.label]


def test_no_group_is_in_two_splits_and_none_is_named(data):
    splits = defaultdict(set)
    raw_names = defaultdict(set)
    for split, record in all_records(data):
        assert re.fullmatch(rb"[0-9a-f]{16}", record.group)
        splits[record.group].add(split)
        name = record.id.decode().split("/")[1]
        raw_names[record.group].add(re.match(r"person\d+_[a-z]+|(NORMAL2-)?IM-\d+", name)[0])
    assert len(splits) == 24
    assert {len(found) for found in splits.values()} == {1}
    assert {len(found) for found in raw_names.values()} == {1}
    assert len({next(iter(found)) for found in raw_names.values()}) == 24


def test_the_group_hash_is_keyed(convert, image_folder, data, tmp_path):
    assert convert(image_folder, tmp_path / "data", *SMALL, "--seed=1", "--copies=0").returncode == 0
    groups = [{row["id"]: row["group"] for row in sources_of(folder)} for folder in (data, tmp_path / "data")]
    assert groups[0].keys() == groups[1].keys()
    assert not set(groups[0].values()) & set(groups[1].values())
    plain = {
        hashlib.blake2b(b"IM-0000", digest_size=8).hexdigest(),
        hashlib.sha256(b"IM-0000").hexdigest()[:16],
    }
    assert not plain & set(groups[0].values())


def test_originals_are_what_decode_gives(data, image_folder):
    for _, record in all_records(data):
        if record.copy == 0:
            source = (image_folder / record.id.decode()).read_bytes()
            expected = decode_image(source, height=SIZE[0], width=SIZE[1], channels=1)
            assert record.image == expected.tobytes()


def test_copies_are_alike_but_changed(data):
    originals = {r.source: np.frombuffer(r.image, np.uint8) for _, r in all_records(data) if r.copy == 0}
    copies = defaultdict(list)
    for _, record in all_records(data):
        if record.copy:
            copies[record.source].append(record.image)
            assert len(record.image) == SIZE[0] * SIZE[1]
            assert np.frombuffer(record.image, np.uint8).min() > 0 or originals[record.source].min() < 30
    for source, found in copies.items():
        assert len({originals[source].tobytes(), *found}) == 3


def test_shards_mix_classes_and_part_copies(data):
    for shard in records_of(data, "train"):
        images = len(shard) // 3
        sources = [record.source for record in shard]
        assert sources == sources[:images] * 3  # so the variants of an image are exactly `images` apart
        for turn in range(3):
            part = shard[turn * images : (turn + 1) * images]
            assert {record.label for record in part} == {0, 1}
            assert len({record.copy for record in part}) > 1


# ---- the same bytes


def test_workers_do_not_change_a_byte(convert, image_folder, data, tmp_path):
    done = convert(image_folder, tmp_path / "data", *SMALL, "--workers=3", "--copies=2")
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "data") == content(data)


def test_place_and_time_do_not_change_a_byte(convert, images, data, tmp_path):
    for path in images.rglob("*"):
        os.utime(path, (1, 1))
    done = convert("chest_xray", "data", *SMALL, "--copies=2", cwd=tmp_path, PYTHONHASHSEED="7")
    assert done.returncode == 0, done.stderr
    assert data_in(tmp_path / "data") == data_in(data)


@pytest.mark.parametrize("group_regex", [None, "(.*)"], ids=["patients", "each image a group"])
def test_another_seed_draws_other_splits_copies_and_places(image_folder, tmp_path, group_regex):
    found = []
    for seed in (1, 2):
        out = tmp_path / str(seed)
        options = {"size": SIZE, "seed": seed, "workers": 1, "group_regex": group_regex}
        convert_images(ConvertOptions(image_folder, out, **options))
        rows = csv.DictReader((out / "sources.csv").read_text().splitlines())
        splits = {row["id"]: row["split"] for row in rows}
        records = [record for _, record in all_records(out)]
        copies = {record.id: record.image for record in records if record.copy == 1}
        found.append((splits, copies, [(record.id, record.copy) for record in records]))
    (splits, copies, places), (other_splits, other_copies, other_places) = found
    assert splits.keys() == other_splits.keys()
    assert splits != other_splits
    both = copies.keys() & other_copies.keys()
    assert len(both) > 10
    assert not [name for name in both if copies[name] == other_copies[name]]
    assert places != other_places


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
@pytest.mark.parametrize("channels", [1, 3])
def test_encodings(image_folder, tmp_path, encoding, channels):
    out = {}
    for kind in ("raw", encoding):
        options = ConvertOptions(
            image_folder, tmp_path / kind, size=(24, 20), channels=channels, encoding=kind
        )
        convert_images(options)
        assert Manifest.load(tmp_path / kind).encoding == kind
        out[kind] = {(r.source, r.copy): r.image for _, r in all_records(tmp_path / kind)}
    assert out["raw"].keys() == out[encoding].keys()
    for key, image in out[encoding].items():
        assert image.startswith({"png": b"\x89PNG", "jpeg": b"\xff\xd8\xff"}[encoding])
        found = decode_image(image, height=24, width=20, channels=channels)
        raw = np.frombuffer(out["raw"][key], np.uint8).reshape(24, 20, channels)
        difference = np.abs(found.astype(int) - raw)
        assert difference.max() == 0 if encoding == "png" else difference.mean() < 6


def test_given_splits_and_names(convert, image_folder, tmp_path):
    images = tmp_path / "My Scans (2)"
    for split, part in (("train", "0[0-3]*"), ("test", "0[45]*")):
        for path in [
            *image_folder.glob(f"NORMAL/*IM-00{part}"),
            *image_folder.glob(f"PNEUMONIA/person{part[1:]}"),
        ]:
            target = images / split / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    done = convert(images, tmp_path / "data", "--size=24", "--copies=0", "--name=")
    assert done.returncode == 0, done.stderr
    manifest = Manifest.load(tmp_path / "data")
    assert (manifest.name, list(manifest.splits)) == ("my_scans_2", ["train", "val", "test"])
    assert manifest.split("train").shards[0].name == "my_scans_2-train.tfrecord-00000-of-00001"
    assert manifest.split("train").records == manifest.split("train").images
    for row in sources_of(tmp_path / "data"):
        assert (row["split"] == "test") == row["id"].startswith("test/")


def test_odd_file_names_arrive(tmp_path):
    for label in "AB":
        for number, name in enumerate(
            [b"a b.png", b"new\nline.png", "Röntgen.png".encode(), b"latin\xe9.png"]
        ):
            path = Path(os.fsdecode(bytes(tmp_path / "images" / label) + b"/" + name))
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (9, 9), 10 * number + ord(label)).save(path)
    options = ConvertOptions(
        tmp_path / "images", tmp_path / "data", size=(4, 4), test_fraction=0.0, workers=1
    )
    convert_images(options)
    assert sorted(r.id for _, r in all_records(tmp_path / "data") if r.copy == 0) == sorted(
        f"{label}/{name}".encode()
        for label in "AB"
        for name in ("a b.png", "new%0Aline.png", "R%C3%B6ntgen.png", "latin%E9.png")
    )


# ---- stopped, and started again


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


@pytest.fixture(scope="module")
def long_one(convert, image_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("uninterrupted") / "data"
    done = convert(image_folder, out, *LONG)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def begin(image_folder, start, tmp_path):
    """Starts the long conversion in a session of its own."""

    def begin(images=image_folder, out="data", arguments=LONG):
        with (tmp_path / "stderr").open("w") as stderr:
            return start(
                *("-m", "tfrecords.convert", f"--images={images}", f"--out={out}", *arguments),
                stdout=None,
                stderr=stderr,
                start_new_session=True,
            )

    return begin


def whole_shards(out):
    return sorted(path.name for path in out.glob("*") if is_shard(path.name))


@pytest.mark.slow
@pytest.mark.stops
def test_killed_at_any_moment_and_started_again(begin, wait_until, convert, image_folder, long_one, tmp_path):
    out = tmp_path / "data"
    whole = content(long_one)
    shards = len(whole_shards(long_one))
    assert shards > 20
    for least in (0, 1, shards // 3, shards // 2):
        process = begin()
        if least == 0:
            wait_until((out / "plan.json").exists, "the plan")
        else:
            wait_until(lambda n=least: len(whole_shards(out)) >= n, f"{least} shards")
        process.kill()
        assert process.wait() == -signal.SIGKILL
        wait_until(lambda s=process.pid: members(s) == [], "the workers end with their parent")
        assert not (out / "manifest.json").exists()
        for name in whole_shards(out):
            assert (out / name).read_bytes() == whole[name]
    kept = {name: stamp for name, stamp in stamps(out).items() if is_shard(name)}
    (out / ".chest_xray-train.tfrecord-00000-of-00001.4000000.tmp").write_bytes(b"left by a kill")
    (out / ".manifest.json.4000000.tmp").write_bytes(b"left by a kill")
    done = convert(image_folder, out, *LONG)
    assert done.returncode == 0, done.stderr
    assert content(out) == whole
    assert {name: stamps(out)[name] for name in kept} == kept


@pytest.mark.slow
@pytest.mark.stops
@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_stopped_by_a_signal(begin, wait_until, convert, image_folder, long_one, tmp_path, stop, code):
    out = tmp_path / "data"
    process = begin()
    wait_until(lambda: any(out.glob("*.tfrecord-*")), "the first shard is begun")  # others still start
    os.killpg(process.pid, stop)  # as a terminal does: to the workers as well
    assert process.wait() == code
    wait_until(lambda: members(process.pid) == [], "the workers end with their parent")
    assert not (out / "manifest.json").exists()
    stderr = (tmp_path / "stderr").read_text()
    assert stderr.endswith("the same command again goes on from here\n")
    assert ("SIGTERM" in stderr) == (stop == signal.SIGTERM)
    assert "Traceback" not in stderr
    assert list(out.glob(".*")) == []
    assert convert(image_folder, out, *LONG).returncode == 0
    assert content(out) == content(long_one)


def test_killed_between_manifest_and_the_plans_removal(convert, image_folder, data, tmp_path):
    out = shutil.copytree(data, tmp_path / "data")
    (out / "plan.json").write_text('{"plan": "whatever"}')
    done = convert(image_folder, out, *SMALL, "--copies=2")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, f"{out}: complete already, left alone")
    assert content(out) == content(data)


# ---- what is there already


def test_a_complete_output_is_left_alone(convert, image_folder, data):
    before = stamps(data)
    for arguments in ([], ["--overwrite", "--workers=2"]):
        done = convert(image_folder, data, *SMALL, "--copies=2", *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"{data}: complete already, left alone\n")
        assert stamps(data) == before


@pytest.mark.parametrize(
    "change",
    [
        {"size": (60, 72)},
        {"channels": 3},
        {"copies": 1},
        {"encoding": "png"},
        {"seed": 1},
        {"augmentation": Augmentation(flip=0.4)},
        {"augmentation": Augmentation(fill="edge")},
        {"augmentation": Augmentation(gamma=0.3)},
        {"val_fraction": 0.3},
        {"shard_size": 1 << 20},
        {"name": "other"},
        {"group_regex": r"^(.*)\."},
    ],
)
def test_another_plan_is_refused_untouched(image_folder, data, change, facts):
    before = stamps(data)
    options = {"size": SIZE, "shard_size": 1 << 16, "copies": 2} | change
    with pytest.raises(InputError) as caught:
        convert_images(ConvertOptions(image_folder, data, **options))
    assert re.search(
        facts(
            f"--out={data}: holds a conversion of other images or with other options; choose another --out, "
            f"or replace it with --overwrite"
        ),
        str(caught.value),
    )
    assert stamps(data) == before


@pytest.mark.parametrize("change", ["added", "removed", "changed"])
def test_other_images_are_another_plan(data, images, change):
    first = sorted((images / "NORMAL").iterdir())[0]
    if change == "added":
        shutil.copy(first, images / "NORMAL" / "one more.jpeg")
    elif change == "removed":
        first.unlink()
    else:
        Image.new("L", (50, 50)).save(first)
    before = stamps(data)
    message = "1 of 60 " if change == "changed" else "other images or with other options"
    with pytest.raises(InputError, match=f"holds a conversion of .*{message}.*--overwrite"):
        convert_images(ConvertOptions(images, data, size=SIZE, shard_size=1 << 16, copies=2))
    assert stamps(data) == before


@pytest.mark.slow
def test_overwrite_replaces_and_leaves_nothing_stale(convert, image_folder, data, tmp_path):
    out = shutil.copytree(data, tmp_path / "data")
    (out / "notes.txt").write_text("mine")
    options = ("--size=20", "--copies=0", "--name=other")
    assert convert(image_folder, out, *options, "--overwrite").returncode == 0
    assert convert(image_folder, tmp_path / "fresh", *options).returncode == 0
    assert content(out) == content(tmp_path / "fresh") | {"notes.txt": b"mine"}


def test_overwrite_replaces_an_unfinished_one(image_folder, long_one, tmp_path):
    out = shutil.copytree(long_one, tmp_path / "data")
    (out / "manifest.json").unlink()
    (out / "plan.json").write_text('{"plan": "other"}')
    before = stamps(out)
    options = {"size": (20, 20), "workers": 1}
    with pytest.raises(InputError, match="replace it with --overwrite"):
        convert_images(ConvertOptions(image_folder, out, **options))
    assert stamps(out) == before
    convert_images(ConvertOptions(image_folder, out, **options, overwrite=True))
    convert_images(ConvertOptions(image_folder, tmp_path / "fresh", **options))
    assert content(out) == content(tmp_path / "fresh")


def test_a_plan_without_shards_stands_in_nobodys_way(image_folder, data, tmp_path):
    out = tmp_path / "data"
    out.mkdir()
    (out / "plan.json").write_text('{"plan": "other"}')
    convert_images(ConvertOptions(image_folder, out, size=SIZE, shard_size=1 << 16, copies=2))
    assert content(out) == content(data)


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["cut", "missing"])
def test_a_harmed_output_is_named_and_overwrite_mends_it(convert, image_folder, data, tmp_path, harm):
    out = shutil.copytree(data, tmp_path / "data")
    path = out / whole_shards(out)[1]
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-5])
    else:
        path.unlink()
    done = convert(image_folder, out, *SMALL, "--copies=2")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {path}: the shard ")
    assert done.stderr.endswith("restore it or convert again with --overwrite\n")
    assert convert(image_folder, out, *SMALL, "--copies=2", "--overwrite").returncode == 0
    assert content(out) == content(data)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "foreign",
    [
        {"thesis.tex": b"years of work"},
        {"images-train.tfrecord-00000-of-00001": b"shards of another tool"},
        {"manifest.json": b'{"name": "a web page"}'},
        {"manifest.json": b"no JSON", "sources.csv": b"a,b"},
        {"plan.json": b"[]"},
        {"sources.csv": b"a,b"},
        {"a": b"", "b": b"", "c": b"", "d": b""},
    ],
)
def test_a_foreign_folder_is_refused_untouched(image_folder, tmp_path, foreign, overwrite, facts):
    for name, text in foreign.items():
        (tmp_path / name).write_bytes(text)
    before = stamps(tmp_path)
    with pytest.raises(InputError) as caught:
        convert_images(ConvertOptions(image_folder, tmp_path, overwrite=overwrite))
    shown = ", ".join(sorted(foreign)[:3]) + ", ..." * (len(foreign) > 3)
    assert re.search(
        facts(
            f"--out={tmp_path}: is not empty ({shown}) and holds no conversion; choose a new or empty folder"
        ),
        str(caught.value),
    )
    assert stamps(tmp_path) == before


# ---- what cannot be


@pytest.mark.parametrize(
    ("out", "reason"),
    [("file", "File exists"), ("file/below", "Not a directory"), ("/proc/none", "No such file or directory")],
)
def test_an_output_that_cannot_be_made(convert, image_folder, tmp_path, out, reason, facts):
    (tmp_path / "file").write_text("mine")
    done = convert(image_folder, out, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(facts(f"error: --out={out}: cannot be made or written: {reason}\n"), done.stderr)
    assert (tmp_path / "file").read_text() == "mine"


LIMITED = (
    "import os, resource, sys; size = int(sys.argv[1]); "
    "resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)); os.execv(sys.argv[2], sys.argv[2:])"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "workers", "named"),
    [
        (40_000, 1, r"chest_xray-train\.tfrecord-00000-of-\d+"),
        (40_000, 2, r"chest_xray-\w+\.tfrecord-\d+-of-\d+"),
        (100, 1, r"plan\.json"),
    ],
)
def test_an_output_that_cannot_be_written(convert, image_folder, data, tmp_path, limit, workers, named):
    out = tmp_path / "data"
    arguments = (*SMALL, "--copies=2", f"--workers={workers}")
    prefix = (sys.executable, "-c", LIMITED, str(limit))
    done = convert(image_folder, out, *arguments, prefix=prefix, PYTHONDONTWRITEBYTECODE="1")
    assert done.returncode == 2
    message = (
        rf"^error: {re.escape(str(out))}/{named}: cannot be written: File too large; make room or choose "
    )
    assert re.search(message, done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr
    assert not (out / "manifest.json").exists()
    assert list(out.glob(".*")) == []
    assert convert(image_folder, out, *arguments).returncode == 0
    assert content(out) == content(data)


@pytest.mark.parametrize("missing", ["sources.csv", "manifest.json"])
def test_the_last_files_that_cannot_be_written(convert, image_folder, data, tmp_path, missing):
    out = tmp_path / "data"
    out.mkdir()
    (out / "plan.json").write_text('{"plan": "none"}')
    (out / missing / "taken").mkdir(parents=True)
    done = convert(image_folder, out, *SMALL, "--copies=2")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert (out / missing).is_dir()


@pytest.mark.slow
def test_too_little_room_is_seen_before_work(convert, image_folder, tmp_path):
    arguments = ("--size=8000", "--copies=100000", "--shard_size=1GB")
    done = convert(image_folder, tmp_path / "data", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(
        rf"error: --out={re.escape(str(tmp_path))}/data: \d+ MB are needed and \d+ MB are free; make room, "
        rf"choose another --out, or a smaller --encoding=png\n",
        done.stderr,
    )
    done = convert(image_folder, tmp_path / "data", "--size=20", "--encoding=png")  # the advice is followed
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_corrupt_image_stops_and_once_repaired_the_same_command_goes_on(
    convert, images, data, tmp_path, workers
):
    out = tmp_path / "data"
    last = records_of(data, "test")[-1][-1].id.decode()  # test is written last: whole shards are there before
    sound = (images / last).read_bytes()
    (images / last).write_bytes(sound[: len(sound) // 2])
    arguments = (*SMALL, "--copies=2", f"--workers={workers}")
    done = convert(images, out, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(
        rf"^error: {re.escape(str(images / last))}: cannot be decoded: .*; repair it, then the same command "
        rf"again keeps the shards that are whole, leave it out with a larger --max_rejects, or remove it and "
        rf"convert with --overwrite\n\Z",
        done.stderr,
        re.MULTILINE,
    )
    assert "Traceback" not in done.stderr
    assert not (out / "manifest.json").exists()
    kept = {name: stamp for name, stamp in stamps(out).items() if is_shard(name)}
    assert len(kept) > 3
    (images / last).write_bytes(sound)
    done = convert(images, out, *arguments)
    assert done.returncode == 0, done.stderr
    assert data_in(out) == data_in(data)
    assert {name: stamps(out)[name] for name in kept} == kept


def test_an_image_that_changed_meanwhile_costs_its_own_shard(images, image_folder, tmp_path):
    """A shard is never kept that holds an image as it was before a repair."""
    options = ConvertOptions(images, tmp_path / "data", size=SIZE, shard_size=1 << 16, workers=1)
    convert_images(options)
    last = records_of(tmp_path / "data", "test")[-1][-1].id.decode()
    first = records_of(tmp_path / "data", "train")[0][0].id.decode()
    shutil.rmtree(tmp_path / "data")
    (images / last).write_bytes((images / last).read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be decoded"):
        convert_images(options)
    kept = stamps(tmp_path / "data")
    shutil.copy(image_folder / last, images / last)
    Image.new("L", (100, 90), 77).save(images / first, "PNG")
    convert_images(options)
    changed = [n for n, s in stamps(tmp_path / "data").items() if n in kept and kept[n] != s]
    assert changed == [Manifest.load(tmp_path / "data").split("train").shards[0].name]
    convert_images(ConvertOptions(images, tmp_path / "fresh", size=SIZE, shard_size=1 << 16, workers=1))
    assert content(tmp_path / "data") == content(tmp_path / "fresh")


# ---- images that are left out

EMPTY, BOMB = "NORMAL/IM-0001-0001.jpeg", "PNEUMONIA/person2_bacteria_0.bmp"  # by their headers
CUT = (
    "NORMAL/NORMAL2-IM-0003-0001.jpeg",
    "PNEUMONIA/person4_virus_0.bmp",
    "PNEUMONIA/person5_bacteria_0.jpeg",
)
BAD = sorted([EMPTY, BOMB, *CUT])


def bomb():
    """Returns a PNG of a few bytes that announces 400 megapixels."""
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


@pytest.fixture
def spoiled(images):
    """A copy of the image folder with five images that cannot be used."""
    assert all((images / name).exists() for name in BAD)
    (images / EMPTY).write_bytes(b"")
    (images / BOMB).write_bytes(bomb())
    for name in CUT:
        (images / name).write_bytes((images / name).read_bytes()[:-100])
    return images


def rejected_in(out):
    with (out / "rejected.csv").open(newline="") as file:
        return [(row["id"], row["reason"]) for row in csv.DictReader(file)]


REJECTING = (*SMALL, "--copies=2")


@pytest.mark.slow
def test_rejected_images_are_listed_and_nowhere_else(convert, run_command, spoiled, data, tmp_path):
    out = tmp_path / "data"
    done = convert(spoiled, out, *REJECTING, "--max_rejects=5", "--workers=1")
    assert done.returncode == 0, done.stderr
    manifest = Manifest.load(out)
    assert [name for name, _ in manifest.rejected] == BAD
    reasons = dict(manifest.rejected)
    assert reasons[EMPTY] == "the file is empty (0 bytes)"
    assert "400000000 pixels" in reasons[BOMB] or "20000x20000 pixels" in reasons[BOMB]
    assert all(reasons[name].startswith("cannot be decoded: ") for name in CUT)
    assert rejected_in(out) == list(manifest.rejected)
    assert "5 images rejected" in done.stdout
    lines = "".join(f"  {name}: {reasons[name]}\n" for name in BAD)
    assert f"\nLeft out, all in rejected.csv:\n{lines}" in done.stdout

    rows = sources_of(out)
    assert [row["id"] for row in rows] == [row["id"] for row in sources_of(data)]  # numbers stay
    assert [row["id"] for row in rows if row["split"] == "rejected"] == BAD
    live = {int(row["source"]): row["split"] for row in rows if row["split"] != "rejected"}
    assert Counter((split, r.source, r.copy) for split, r in all_records(out)) == Counter(
        (split, source, copy)
        for source, split in live.items()
        for copy in range(3 if split == "train" else 1)
    )
    originals = {r.id: r.image for _, r in all_records(data) if r.copy == 0}
    assert all(r.image == originals[r.id] for _, r in all_records(out) if r.copy == 0)
    for name, split in manifest.splits.items():
        records = list(itertools.chain.from_iterable(records_of(out, name)))
        assert (split.records, split.images) == (len(records), len({r.source for r in records}))
        assert split.groups == len({r.group for r in records})
        assert split.records_per_class == tuple(sum(r.label == label for r in records) for label in (0, 1))
    done = run_command("tfrecords.verify", f"--data={out}")
    assert done.returncode == 0, done.stderr

    done = convert(spoiled, tmp_path / "percent", *REJECTING, "--max_rejects=8.4%", "--workers=3")  # 5 of 60
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "percent") == content(out)


def test_all_that_the_headers_tell_is_told_before_any_work(convert, spoiled, tmp_path):
    done = convert(spoiled, tmp_path / "data", *REJECTING, "--max_rejects=1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        f"error: {spoiled}: 2 of 60 files in class folders cannot be used (--max_rejects=1 allows 1):\n"
        f"  {EMPTY}: the file is empty (0 bytes)\n  {BOMB}: "
    )
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_too_many_rejected_in_decoding_keep_the_shards_that_are_whole(convert, spoiled, tmp_path, workers):
    out = tmp_path / "data"
    done = convert(spoiled, out, *REJECTING, "--max_rejects=4", f"--workers={workers}")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error: {spoiled}: 5 images cannot be used, --max_rejects allows 4:\n" in done.stderr
    assert all(f"\n  {name}: " in done.stderr for name in BAD)
    assert "Traceback" not in done.stderr
    assert not (out / "manifest.json").exists()
    kept = {name: stamp for name, stamp in stamps(out).items() if is_shard(name)}
    assert kept
    assert convert(spoiled, out, *REJECTING, "--max_rejects=5").returncode == 0
    assert {name: stamps(out)[name] for name in kept} == kept
    done = convert(spoiled, tmp_path / "fresh", *REJECTING, "--max_rejects=60")
    assert done.returncode == 0, done.stderr
    assert content(out) == content(tmp_path / "fresh")
    before = stamps(out)
    done = convert(spoiled, out, *REJECTING, "--max_rejects=4")  # complete, but not under this limit
    assert done.returncode == 2
    assert "5 images cannot be used, --max_rejects allows 4" in done.stderr
    assert stamps(out) == before


@pytest.mark.slow
@pytest.mark.stops
def test_killed_with_rejected_images_and_started_again(begin, wait_until, convert, spoiled, tmp_path):
    arguments = (*LONG, "--max_rejects=5")
    done = convert(spoiled, tmp_path / "whole", *arguments)
    assert done.returncode == 0, done.stderr
    whole, out = content(tmp_path / "whole"), tmp_path / "data"
    shards = len(whole_shards(tmp_path / "whole"))
    for least in (1, shards // 2, shards - 1):
        process = begin(spoiled, out, arguments)
        wait_until(lambda n=least: len(whole_shards(out)) >= n, f"{least} shards")
        process.kill()
        process.wait()
        wait_until(lambda s=process.pid: members(s) == [], "the workers end with their parent")
    kept = {name: stamp for name, stamp in stamps(out).items() if is_shard(name)}
    done = convert(spoiled, out, *arguments)
    assert done.returncode == 0, done.stderr
    assert content(out) == whole
    assert {name: stamps(out)[name] for name in kept} == kept


def test_a_repaired_image_is_rejected_no_more(images, image_folder, tmp_path):
    options = {"size": SIZE, "shard_size": 1 << 16, "workers": 1, "max_rejects": MaxRejects(1)}
    for name in CUT[:2]:
        (images / name).write_bytes((images / name).read_bytes()[:-100])
    out = tmp_path / "data"
    with pytest.raises(InputError, match="2 images cannot be used, --max_rejects allows 1"):
        convert_images(ConvertOptions(images, out, **options))
    (out / "rejected.csv").write_text("id,reason\n")  # as if it was killed just before the manifest
    for name in CUT[:2]:
        shutil.copy(image_folder / name, images / name)
    manifest = convert_images(ConvertOptions(images, out, **options)).manifest
    assert manifest.rejected == ()
    convert_images(ConvertOptions(image_folder, tmp_path / "fresh", **options))
    assert data_in(out) == data_in(tmp_path / "fresh")


def test_a_split_that_loses_a_class_is_refused(image_folder, tmp_path, facts):
    images = tmp_path / "chest_xray"
    for split, patients in (("train", "[0-3]"), ("test", "4")):
        for pattern in (f"NORMAL/IM-000{patients}-*", f"PNEUMONIA/person{patients}_*"):
            for path in image_folder.glob(pattern):
                target = images / split / path.parent.name / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
    for path in (images / "test" / "NORMAL").iterdir():
        path.write_bytes(path.read_bytes()[:-100])
    options = ConvertOptions(
        images, tmp_path / "data", size=(8, 8), val_fraction=0.0, max_rejects=MaxRejects(9), workers=1
    )
    with pytest.raises(InputError) as caught:
        convert_images(options)
    assert re.search(
        facts(
            "--max_rejects=9: 2 images were left out, and split 'test' has none of class 'NORMAL' any more; "
            "repair some of them or add others"
        ),
        str(caught.value),
    )
    assert not (tmp_path / "data" / "manifest.json").exists()


def test_killed_between_the_manifest_and_the_journals_removal(convert, image_folder, data, tmp_path):
    out = shutil.copytree(data, tmp_path / "data")
    for name in whole_shards(out)[2:]:
        (out / f"{name}.result.json").write_text("{}")
    (out / "plan.json").write_text('{"plan": "whatever"}')
    done = convert(image_folder, out, *SMALL, "--copies=2")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, f"{out}: complete already, left alone")
    assert content(out) == content(data)


@pytest.mark.slow
def test_a_shard_that_was_cut_from_outside_is_written_again(
    begin, convert, image_folder, long_one, tmp_path, wait_until
):
    out = tmp_path / "data"
    process = begin()
    wait_until(lambda: len(whole_shards(out)) >= 5, "5 shards")
    process.kill()
    process.wait()
    wait_until(lambda: members(process.pid) == [], "the workers end with their parent")
    cut, *others = whole_shards(out)
    (out / cut).write_bytes((out / cut).read_bytes()[:-1000])
    kept = stamps(out)
    done = convert(image_folder, out, *LONG)
    assert done.returncode == 0, done.stderr
    assert content(out) == content(long_one)
    assert {name: stamps(out)[name] for name in others} == {name: kept[name] for name in others}


def test_a_bad_listing_makes_no_output(convert, images, tmp_path, facts):
    (images / "NORMAL" / "empty.jpeg").touch()
    done = convert(images, tmp_path / "data")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(
        facts(
            f"error: {images}: 1 of 61 files in class folders cannot be used:\n"
            f"  NORMAL/empty.jpeg: the file is empty (0 bytes)\n"
            f"Repair, convert or remove them, or leave them out with --max_rejects, then run the same "
            f"command again.\n"
        ),
        done.stderr,
    )
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": (0, 5)}, "--size=(0, 5): each side must be from 1 to 8192 pixels"),
        ({"channels": 2}, "--channels=2: must be 1 (grayscale) or 3 (RGB)"),
        ({"encoding": "gif"}, "--encoding=gif: must be one of raw, png, jpeg"),
        ({"copies": -1}, "--copies=-1: must be 0 or more"),
        ({"shard_size": 65535}, "--shard_size=65535 bytes: must be 64KB or more"),
        ({"workers": -1}, "--workers=-1: must be 0 (one for each core) or more"),
        ({"seed": -1}, "--seed=-1: must be from 0 to 4294967295"),
        ({"seed": 2**32}, "--seed=4294967296: must be from 0 to 4294967295"),
    ],
)
def test_options_that_cannot_be(change, message, facts):
    with pytest.raises(InputError) as caught:
        ConvertOptions(Path("images"), Path("data"), **change)
    assert re.search(facts(message), str(caught.value))


@pytest.mark.parametrize(
    ("text", "size"), [("180", (180, 180)), ("180x240", (180, 240)), ("1", (1, 1)), ("0", (0, 0))]
)
def test_parse_size(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "180x", "x180", "-5", "1.5", "180 x 240", "1x2x3"])
def test_what_is_no_size(text, facts):
    with pytest.raises(InputError) as caught:
        parse_size(text)
    assert re.search(
        facts(f"--size={text}: must be pixels, as 180 or as HEIGHTxWIDTH, 180x240"), str(caught.value)
    )


@pytest.mark.parametrize(
    ("text", "size"),
    [("65536", 65536), ("64KB", 65536), ("64MB", 64 << 20), ("64mb", 64 << 20), ("1 GB", 1 << 30)],
)
def test_parse_bytes(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MB", "1.5MB", "64M", "-1MB"])
def test_what_is_no_number_of_bytes(text, facts):
    with pytest.raises(InputError) as caught:
        parse_bytes(text)
    assert re.search(
        facts(f"--shard_size={text}: must be a number with KB, MB or GB, as 64MB"), str(caught.value)
    )


def test_the_positive_class_changes_no_shard_and_may_be_given_later(image_folder, tmp_path):
    options = ConvertOptions(image_folder, tmp_path / "out", size=(24, 24), workers=1)
    plain = convert_images(options).manifest
    before = content(options.out)
    assert plain.positive == ""
    assert b"positive" not in before["manifest.json"]  # a manifest of before stays as it was
    chosen = convert_images(replace(options, positive="NORMAL"))
    assert chosen.was_complete
    assert chosen.manifest == Manifest.load(options.out) == replace(plain, positive="NORMAL")
    after = content(options.out)
    assert [name for name in before if after[name] != before[name]] == ["manifest.json"]
    assert convert_images(options).manifest.positive == "NORMAL"  # not asked, not changed
    assert content(options.out) == after
    with pytest.raises(InputError, match=r"--positive=COVID: .*NORMAL, PNEUMONIA"):
        convert_images(replace(options, positive="COVID"))
    assert content(options.out) == after
    other = convert_images(replace(options, out=tmp_path / "other", positive="PNEUMONIA")).manifest
    assert other == replace(plain, positive="PNEUMONIA")


def test_more_than_two_classes_have_no_positive_one(image_folder, tmp_path):
    images = shutil.copytree(image_folder, tmp_path / "images")
    shutil.copytree(images / "NORMAL", images / "OTHER")
    options = ConvertOptions(images, tmp_path / "out", size=(24, 24), workers=1, positive="NORMAL")
    with pytest.raises(InputError, match="--positive=NORMAL: is for two classes, but there are 3"):
        convert_images(options)
    assert not options.out.exists()
