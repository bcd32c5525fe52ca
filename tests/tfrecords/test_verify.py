import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tfrecords.convert.conversion import convert_images
from tfrecords.convert.options import ConvertOptions
from tfrecords.manifest import Manifest


@pytest.fixture(scope="module")
def sound(image_folder, tmp_path_factory):
    """A data set of several shards; read only."""
    out = tmp_path_factory.mktemp("sound") / "data"
    convert_images(ConvertOptions(image_folder, out, size=(48, 40), shard_size=1 << 16, copies=2, workers=1))
    return out


@pytest.fixture
def data(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "data")


@pytest.fixture(scope="module")
def verify(run_command):
    def run(*arguments, **options):
        return run_command("tfrecords.verify", *arguments, **options)

    return run


def described(data):
    shards = [shard for split in Manifest.load(data).splits.values() for shard in split.shards]
    records, size = sum(shard.records for shard in shards), sum(shard.bytes for shard in shards)
    return f"{data}: no problems: {len(shards)} shards, {records:,} records, {size / 1e6:,.1f} MB; "


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "depth"),
    [
        ([], "sizes, hashes and every record checked"),
        (["--workers=1"], "sizes, hashes and every record checked"),
        (["--quick"], "sizes and hashes checked"),
    ],
)
def test_all_is_well(verify, sound, arguments, depth):
    before = {path.name: path.read_bytes() for path in sound.iterdir()}
    done = verify(f"--data={sound}", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, described(sound) + depth + "\n", "")
    assert {path.name: path.read_bytes() for path in sound.iterdir()} == before


@pytest.mark.slow
def test_what_show_leaves_is_no_damage(verify, run_command, data):
    assert run_command("tfrecords.show", f"--data={data}").returncode == 0
    assert (data / "contact_sheet_train.png").exists()
    assert verify(f"--data={data}").returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[], ["--quick"], ["--workers=1"], ["--workers=2", "--quick"]])
def test_damage_is_listed(verify, data, arguments, facts):
    name = Manifest.load(data).split("val").shards[0].name
    (data / name).unlink()
    (data / "sources.csv").unlink()
    done = verify(f"--data={data}", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(
        facts(
            f"error: {data}: 2 problems:\n"
            f"  {data}/sources.csv: No such file or directory; convert again with --overwrite\n"
            f"  {data}/{name}: No such file or directory; restore it or convert again\n"
            f"Restore these files, or convert again with --overwrite.\n"
        ),
        done.stderr,
    )


@pytest.mark.slow
def test_much_damage_is_cut_short(verify, data):
    for number in range(25):
        (data / f"other-train.tfrecord-{number:05d}-of-00025").touch()
    done = verify(f"--data={data}", "--quick")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[0] == f"error: {data}: 25 problems:"
    assert lines[-2:] == ["  ... and 5 more", "Restore these files, or convert again with --overwrite."]
    assert len(lines) == 23


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[], ["--quick"]])
def test_an_edited_manifest_and_none(verify, data, arguments):
    path = data / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"copies": 2', b'"copies": 1'))
    done = verify(f"--data={data}", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {path}: is not as it was written (")
    path.unlink()
    done = verify(f"--data={data}", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {data}: no manifest.json in it, ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Flag --data must have a value other than None."),
        (["--data=nowhere"], "error: nowhere: no such folder; make the data set with"),
        (["--data=nowhere", "--workers=-1"], "flag --workers=-1"),
    ],
)
def test_what_cannot_be_asked(verify, arguments, message):
    done = verify(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_help_explains(verify):
    done = verify("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "python -m tfrecords.verify --data=data/chest_xray" in done.stdout
    for flag in ("--data", "--[no]quick", "--workers"):
        assert re.search(rf"^  {re.escape(flag)}: ", done.stdout, re.MULTILINE)


def opened_by_group(group, path):
    """Returns the processes of a group that have a file open."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == group:
                found += [folder.name for link in (folder / "fd").iterdir() if link.resolve() == path]
        except OSError:  # it ended meanwhile
            continue
    return found


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_it_and_its_workers_quietly(data, start, wait_until, workers):
    manifest = Manifest.load(data)
    train = manifest.split("train")
    first = replace(train.shards[0], bytes=64 << 30)  # holes: no room on the disk, and long to hash
    path = (data / first.name).resolve()
    os.truncate(path, first.bytes)
    split = replace(train, shards=(first, *train.shards[1:]))
    replace(manifest, splits={**manifest.splits, "train": split}).save(data)
    process = start(
        *("-m", "tfrecords.verify", f"--data={data}", "--quick", f"--workers={workers}"),
        start_new_session=True,
    )
    wait_until(
        lambda: opened_by_group(process.pid, path) or process.poll() is not None, "somebody opens the shard"
    )
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers as well
    assert process.communicate() == ("", "interrupted: the same command again goes on from here\n")
    assert process.returncode == 130
    assert opened_by_group(process.pid, path) == []
