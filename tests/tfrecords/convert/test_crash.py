"""Conversions that are killed, lack room or go on with other images; in short, the proofs in benchmarks/."""

import os
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tfrecords.convert.conversion import convert_images
from tfrecords.convert.options import ConvertOptions
from tfrecords.errors import InputError
from tfrecords.example import decode
from tfrecords.manifest import Manifest
from tfrecords.records import read_records

pytestmark = [pytest.mark.slow, pytest.mark.stops]

ROOT = Path(__file__).resolve().parents[3]


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def run_script(tmp_path_factory, run_python):
    def run(name, *arguments):
        return run_python(ROOT / "benchmarks" / name, *arguments)

    return run


# ---- the proofs


def test_killed_again_and_again(run_script, image_folder):
    done = run_script("crash.py", f"--images={image_folder}", "--kills=4", "--size=90", "--shard_size=64KB")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[1] for line in lines[2:6]] == list("1234")
    assert re.match(
        r"4 kills in \d+ trials \(seed 0\), from \d+\.\d\d to \d+\.\d\d s after the start: ", lines[6]
    )
    assert re.fullmatch(r"all \d+ outputs are byte-identical to the uninterrupted one", lines[-1])


def test_every_damage_is_found(run_script, image_folder, tmp_path):
    data = tmp_path / "data"
    convert_images(ConvertOptions(image_folder, data, size=(40, 40), shard_size=1 << 16, workers=1))
    before = content(data)
    done = run_script("damage.py", f"--data={data}", "--flips=30")
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"^30 flips in \d+ s, found and named by the quick verification: 30, by the full one: 30$",
        done.stdout,
        re.MULTILINE,
    )
    assert done.stdout.count("| found | found |") == 13
    assert "MISSED" not in done.stdout
    assert content(data) == before


def test_the_proof_of_damage_starts_from_what_is_sound(run_script, image_folder, tmp_path):
    data = tmp_path / "data"
    convert_images(ConvertOptions(image_folder, data, size=(40, 40), shard_size=1 << 16, workers=1))
    (data / "sources.csv").unlink()
    done = run_script("damage.py", f"--data={data}", "--flips=3")
    assert done.returncode == 2
    assert "not sound before: " in done.stderr


# ---- images that change between two runs


@pytest.fixture
def images(image_folder, tmp_path):
    """A copy of the image folder to harm."""
    return shutil.copytree(image_folder, tmp_path / "chest_xray")


def of_split(data, split, shard=0):
    """Returns the ids in a shard, in its order."""
    path = data / Manifest.load(data).split(split).shards[shard].name
    return [record.id.decode() for record in map(decode, read_records(path)) if record.copy == 0]


@pytest.fixture
def stopped(images, image_folder, tmp_path):
    """A conversion that stopped at its last shard: its options, ids of shards, and what it has."""
    options = ConvertOptions(images, tmp_path / "data", size=(72, 60), shard_size=1 << 16, workers=1)
    convert_images(options)
    last, first, second = (
        of_split(options.out, *which)[0] for which in (("test",), ("train",), ("train", 1))
    )
    shutil.rmtree(options.out)
    sound = (images / last).read_bytes()
    (images / last).write_bytes(sound[: len(sound) // 2])
    with pytest.raises(InputError, match="cannot be decoded"):
        convert_images(options)
    shutil.copy2(image_folder / last, images / last)
    return options, last, first, second


def stamps(out):
    return {
        path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in out.glob("*.tfrecord-*-of-?????")
    }


def changed_shards(out, before):
    return [name for name, stamp in stamps(out).items() if name in before and before[name] != stamp]


def fresh(options, tmp_path):
    convert_images(
        ConvertOptions(options.images, tmp_path / "fresh", size=(72, 60), shard_size=1 << 16, workers=1)
    )
    return content(tmp_path / "fresh")


def test_an_image_of_the_same_size_and_other_content_is_noticed(stopped, images, tmp_path, capsys):
    options, last, first, _ = stopped
    capsys.readouterr()
    before, size = stamps(options.out), (images / first).stat().st_size
    whole = (images / first).read_bytes()
    Image.new("L", (100, 90), 77).save(images / first, "PNG")
    drawn = (images / first).read_bytes()
    assert len(drawn) <= size
    (images / first).write_bytes(drawn + bytes(size - len(drawn)))
    assert ((images / first).stat().st_size, (images / first).read_bytes() == whole) == (size, False)
    convert_images(options)
    assert capsys.readouterr().err.startswith(
        f"2 images changed since the conversion began: {first}, {last}; 2 shards with them are written anew\n"
    )
    assert changed_shards(options.out, before) == [Manifest.load(options.out).split("train").shards[0].name]
    assert content(options.out) == fresh(options, tmp_path)


def test_an_image_with_another_time_is_noticed(stopped, images, tmp_path, capsys):
    """It may be the same: its shard is written anew, as it was."""
    options, last, first, second = stopped
    capsys.readouterr()
    before = stamps(options.out)
    for name in (first, second):
        os.utime(images / name, ns=(1, 1))
    convert_images(options)
    assert capsys.readouterr().err.startswith(
        f"3 images changed since the conversion began: {', '.join(sorted([first, second, last]))}; "
        f"3 shards with them are written anew\n"
    )
    assert len(changed_shards(options.out, before)) == 2
    assert content(options.out) == fresh(options, tmp_path)


def test_nothing_is_said_of_images_that_are_as_they_were(images, tmp_path, capsys):
    options = ConvertOptions(images, tmp_path / "data", size=(72, 60), shard_size=1 << 16, workers=1)
    convert_images(options)
    last = of_split(options.out, "test")[0]
    shutil.rmtree(options.out)
    (images / last).rename(tmp_path / "away")
    (images / last).write_bytes((tmp_path / "away").read_bytes()[:100])
    for turn in range(2):  # the second time it is the damaged one that is as it was
        capsys.readouterr()
        with pytest.raises(InputError, match="cannot be decoded"):
            convert_images(options)
        assert "changed since" not in capsys.readouterr().err, turn
    os.replace(tmp_path / "away", images / last)  # noqa: PTH105 - keeps the time
    convert_images(options)
    assert capsys.readouterr().err.startswith(
        f"1 image changed since the conversion began: {last}; 1 shard with it is written anew\n"
    )


def test_many_changed_images_are_counted(stopped, images, capsys):
    options, *_ = stopped
    capsys.readouterr()
    for path in images.rglob("*.*"):
        os.utime(path, ns=(1, 1))
    convert_images(options)
    said = capsys.readouterr().err.splitlines()[0]
    assert re.fullmatch(
        r"60 images changed since the conversion began: (?:[^,;]+, ){10}\.\.\.; \d+ shards with them are "
        r"written anew",
        said,
    )


def test_other_times_make_no_other_conversion(images, tmp_path):
    options = ConvertOptions(images, tmp_path / "data", size=(72, 60), shard_size=1 << 16, workers=1)
    convert_images(options)
    before = content(options.out)
    assert "plan.json" not in before
    del before["sources.stat"]  # it keeps them, and is brought up to date
    for path in images.rglob("*.*"):
        os.utime(path, ns=(1, 1))
    assert convert_images(options).was_complete
    for after in (content(options.out), fresh(options, tmp_path)):
        assert {name: data for name, data in after.items() if name != "sources.stat"} == before


# ---- no room, and no right to write


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.storm), 2])
def test_a_full_disk_and_room_made(disk, run_command, image_folder, tmp_path, workers):
    folder, remount = disk
    # An encoding whose size is not known before: raw is refused before anything is written.
    arguments = (
        f"--images={image_folder}",
        "--size=120",
        "--encoding=png",
        "--shard_size=64KB",
        "--copies=2",
    )
    out = f"--out={folder / 'data'}"
    done = run_command("tfrecords.convert", *arguments, out, f"--workers={workers}")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(
        rf"^error: {re.escape(str(folder / 'data'))}/\S+: cannot be written: No space left on device; make "
        rf"room or choose another --out",
        done.stderr,
        re.MULTILINE,
    )
    assert "Traceback" not in done.stderr
    assert not (folder / "data" / "manifest.json").exists()
    kept = stamps(folder / "data")
    assert kept
    assert not list((folder / "data").glob(".*"))
    refused = run_command("trainer.main", f"--data={folder / 'data'}")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert (
        f"{folder / 'data'}: no manifest.json in it, {len(kept)} shards: not a finished conv"
        in refused.stderr
    )

    remount("size=64m")
    done = run_command("tfrecords.convert", *arguments, out, f"--workers={workers}")
    assert done.returncode == 0, done.stderr
    assert {name: stamps(folder / "data")[name] for name in kept} == kept
    other = run_command("tfrecords.convert", *arguments, f"--out={tmp_path / 'other'}")
    assert other.returncode == 0
    assert content(folder / "data") == content(tmp_path / "other")


def test_a_disk_that_is_full_before_the_plan(disk, run_command, image_folder, facts):
    folder, _ = disk
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    done = run_command(
        "tfrecords.convert", f"--images={image_folder}", f"--out={folder / 'data'}", "--encoding=png"
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(
        facts(
            f"error: {folder / 'data'}/convert.lock: cannot be written: No space left on device; make room "
            f"or choose another --out\n"
        ),
        done.stderr,
    )
    assert list((folder / "data").iterdir()) == []


def test_a_file_system_that_is_read_only(disk, run_command, image_folder, facts):
    folder, remount = disk
    (folder / "data").mkdir()
    remount("ro")
    for out in (folder / "data", folder / "new"):
        done = run_command("tfrecords.convert", f"--images={image_folder}", f"--out={out}")
        assert (done.returncode, done.stdout) == (2, "")
        assert re.search(
            facts(f"error: --out={out}: cannot be made or written: Read-only file system\n"), done.stderr
        )


def test_a_finished_data_set_is_verified_where_nothing_can_be_written(disk, run_command, image_folder):
    folder, remount = disk
    remount("size=64m")
    convert_images(ConvertOptions(image_folder, folder / "data", size=(40, 40), workers=1))
    remount("ro")
    assert run_command("tfrecords.verify", f"--data={folder / 'data'}").returncode == 0


@pytest.mark.not_root
def test_a_folder_that_may_not_be_written(run_command, image_folder, tmp_path, facts):
    (tmp_path / "data").mkdir(mode=0o555)
    done = run_command("tfrecords.convert", f"--images={image_folder}", f"--out={tmp_path / 'data'}")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(
        facts(f"error: --out={tmp_path / 'data'}: cannot be made or written: Permission denied\n"),
        done.stderr,
    )
