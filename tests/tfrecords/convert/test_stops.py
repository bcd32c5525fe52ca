"""A conversion that is killed or stopped by a signal, and goes on."""

import os
import shutil
import signal

import pytest
from converted import LONG, SIZE, SMALL, content, members, records_of, stamps, whole_shards
from PIL import Image

from tfrecords.convert.conversion import convert_images
from tfrecords.convert.options import ConvertOptions
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest, is_shard


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
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, f"{out}: complete already, all shards kept")
    assert content(out) == content(data)


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


def test_killed_between_the_manifest_and_the_journals_removal(convert, image_folder, data, tmp_path):
    out = shutil.copytree(data, tmp_path / "data")
    for name in whole_shards(out)[2:]:
        (out / f"{name}.result.json").write_text("{}")
    (out / "plan.json").write_text('{"plan": "whatever"}')
    done = convert(image_folder, out, *SMALL, "--copies=2")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, f"{out}: complete already, all shards kept")
    assert content(out) == content(data)
