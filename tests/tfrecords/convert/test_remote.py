import importlib.util
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tfrecords.convert.options import ConvertOptions
from tfrecords.convert.remote import convert_remote
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest
from tfrecords.verification.data_set import verify

MISSING = [name for name in ("fsspec", "s3fs", "moto", "boto3") if importlib.util.find_spec(name) is None]
FLAGS = ("--size=96x90", "--shard_size=64KB")
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}

needs_s3 = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")


def content(folder):
    """Returns {name: bytes}, without what the system tells of the sources: that differs from copy to copy."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "sources.stat"
    }


class Store:
    """A bucket on an S3 server of this machine."""

    def __init__(self, endpoint):
        import boto3

        self.environment = KEYS | {"AWS_ENDPOINT_URL": endpoint, "NO_PROXY": "127.0.0.1"}
        self.client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            region_name="us-east-1",
        )

    def put(self, bucket, files):
        for name, data in files.items():
            self.client.put_object(Bucket=bucket, Key=name, Body=data)

    def objects(self, bucket, prefix):
        found = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return {o["Key"]: o for page in found for o in page.get("Contents", [])}

    def content(self, bucket, prefix):
        return {
            key.removeprefix(prefix): self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
            for key in self.objects(bucket, prefix)
            if not key.endswith("/sources.stat")
        }


@pytest.fixture(scope="module")
def store(image_folder):
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    store = Store(f"http://{host}:{port}")
    store.client.create_bucket(Bucket="bucket")
    store.put("bucket", {f"chest_xray/{name}": data for name, data in content(image_folder).items()})
    yield store
    server.stop()


@pytest.fixture(scope="module")
def local(run_command, image_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("local") / "data"
    done = run_command("tfrecords.convert", f"--images={image_folder}", f"--out={out}", *FLAGS)
    assert done.returncode == 0, done.stderr
    return content(out)


@needs_s3
def test_from_s3_to_s3_the_local_bytes(store, local, run_command, tmp_path):
    def convert(*arguments):
        return run_command(
            "tfrecords.convert",
            "--images=s3://bucket/chest_xray",
            "--out=s3://bucket/data",
            f"--work={tmp_path / 'work'}",
            *FLAGS,
            *arguments,
            **store.environment,
        )

    done = convert()
    assert done.returncode == 0, done.stderr
    assert store.content("bucket", "data/") == local
    times = {key: found["LastModified"] for key, found in store.objects("bucket", "data/").items()}
    manifest = times.pop("data/manifest.json")
    assert max(times.values()) <= manifest

    again = convert()
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("s3://bucket/data: complete already, all shards kept\n")
    other = convert("--seed=1")
    assert other.returncode == 2
    assert "holds a conversion of other images or with other options" in other.stderr
    assert store.content("bucket", "data/") == local

    # An upload that was killed: no manifest yet, one shard missing.
    lost = next(name for name in sorted(local) if ".tfrecord-" in name)
    plan = re.search(rb'"plan": "(\w+)"', local["manifest.json"])[1].decode()
    for name in ("manifest.json", lost):
        store.client.delete_object(Bucket="bucket", Key=f"data/{name}")
    store.put("bucket", {"data/plan.json": f'{{"plan": "{plan}"}}'.encode()})
    before = store.objects("bucket", "data/")
    resumed = convert()
    assert resumed.returncode == 0, resumed.stderr
    assert store.content("bucket", "data/") == local
    after = store.objects("bucket", "data/")
    kept = [key for key in before if ".tfrecord-" in key]
    assert kept
    assert {key: before[key]["LastModified"] for key in kept} == {
        key: after[key]["LastModified"] for key in kept
    }

    replaced = convert("--seed=1", "--overwrite")
    assert replaced.returncode == 0, replaced.stderr
    there = store.content("bucket", "data/")
    assert "plan.json" not in there
    fresh = convert("--seed=1", "--out=s3://bucket/fresh")
    assert fresh.returncode == 0, fresh.stderr
    assert there == store.content("bucket", "fresh/")
    assert there["manifest.json"] != local["manifest.json"]


@needs_s3
def test_a_foreign_place_is_refused_untouched(store, image_folder, run_command, tmp_path):
    store.put("bucket", {"theirs/notes.txt": b"mine"})
    done = run_command(
        "tfrecords.convert",
        f"--images={image_folder}",
        "--out=s3://bucket/theirs",
        f"--work={tmp_path / 'work'}",
        "--overwrite",
        *FLAGS,
        **store.environment,
    )
    assert done.returncode == 2
    assert "--out=s3://bucket/theirs: is not empty (notes.txt) and holds no conversion" in done.stderr
    assert store.content("bucket", "theirs/") == {"notes.txt": b"mine"}


@needs_s3
def test_killed_while_it_replaced_another(store, image_folder, local, run_command, tmp_path):
    """The old manifest is gone, some old shards are not: only --overwrite goes on, and it leaves none."""
    old = {f"half/{name}": b"old" for name in local if ".tfrecord-" in name}
    store.put("bucket", old | {"half/plan.json": b'{"plan": "being replaced"}'})

    def convert(*arguments):
        return run_command(
            "tfrecords.convert",
            f"--images={image_folder}",
            "--out=s3://bucket/half",
            f"--work={tmp_path / 'work'}",
            *FLAGS,
            *arguments,
            **store.environment,
        )

    assert convert().returncode == 2
    done = convert("--overwrite")
    assert done.returncode == 0, done.stderr
    assert store.content("bucket", "half/") == local


@needs_s3
def test_a_changed_image_is_copied_again(store, image_folder, tmp_path, monkeypatch):
    from tfrecords.convert.remote import fetch

    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    files = content(image_folder)
    store.put("bucket", {f"copy/{name}": data for name, data in files.items()})
    copy, journal = tmp_path / "copy", tmp_path / "fetched.json"
    fetch("s3://bucket/copy", copy, journal=journal)
    assert content(copy) == files
    first, second, *_ = sorted(files)
    store.put("bucket", {f"copy/{first}": files[second]})
    store.client.delete_object(Bucket="bucket", Key=f"copy/{second}")
    untouched = sorted(files)[2]
    before = (copy / untouched).stat().st_mtime_ns
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    fetch("s3://bucket/copy", copy, journal=journal)
    assert content(copy) == {name: data for name, data in files.items() if name != second} | {
        first: files[second]
    }
    assert (copy / untouched).stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--images=s3://bucket/a", "--out=s3://bucket/a"])
def test_a_remote_place_needs_a_work_folder(image_folder, run_command, tmp_path, flag):
    flags = {"--images": str(image_folder), "--out": str(tmp_path / "data")} | dict([flag.split("=")])
    done = run_command("tfrecords.convert", *(f"{name}={value}" for name, value in flags.items()))
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: --work: is missing; if --images or --out is a URL, name a local folder"
    )


def test_a_positive_class_that_is_given_later_changes_the_remote_manifest_alone(image_folder, tmp_path):
    fsspec = pytest.importorskip("fsspec", reason="the remote extra is not installed")
    options = ConvertOptions(image_folder, tmp_path / "out", size=(24, 24), workers=1)
    places = {"images": str(image_folder), "out": "memory://positive/data", "work": tmp_path / "work"}
    assert not convert_remote(options, **places).was_complete
    files = fsspec.filesystem("memory")

    def stored():
        return {path: files.cat_file(path) for path in files.find("/positive/data")}

    before = stored()
    again = convert_remote(replace(options, positive="NORMAL"), **places)
    assert (again.was_complete, again.manifest.positive) == (True, "NORMAL")
    after = stored()
    changed = sorted(path for path in after if after[path] != before.get(path))
    assert changed == ["/positive/data/manifest.json", "/positive/data/sources.stat"]
    assert again.notes == ()
    assert Manifest.from_bytes(after["/positive/data/manifest.json"], "there") == again.manifest
    assert convert_remote(options, **places).manifest == again.manifest


@pytest.fixture
def by_url(image_folder, tmp_path):
    """Converts a copy of the images to file://, and gives the copy, the place and what is called again."""
    pytest.importorskip("fsspec")
    images = shutil.copytree(image_folder, tmp_path / "chest_xray")
    place = tmp_path / "place"
    place.mkdir()

    def convert(**changes):
        options = ConvertOptions(images, Path(), size=(24, 24), workers=1, **changes)
        where = {"images": str(images), "out": f"file://{place}", "work": tmp_path / "work"}
        return convert_remote(options, **where)

    assert not convert().was_complete
    return images, place, convert


def changed_in_place(path):
    """Gives a BMP file other pixels, and the same size and modification time."""
    before = path.stat()
    data = path.read_bytes()
    path.write_bytes(data[:60] + bytes(255 - value for value in data[60:]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.slow
def test_an_image_that_changed_behind_a_remote_result_is_named(by_url, facts):
    images, place, convert = by_url
    assert convert().was_complete
    os.utime(images / "NORMAL/IM-0001-0000.bmp", ns=(1, 1))
    record = (place / "sources.stat").read_bytes()
    assert convert().was_complete
    assert (place / "sources.stat").read_bytes() != record
    before = content(place)
    changed_in_place(images / "NORMAL/IM-0001-0000.bmp")
    with pytest.raises(
        InputError, match=facts(f"file://{place}: 1 of 60: NORMAL/IM-0001-0000.bmp; --overwrite")
    ):
        convert()
    assert content(place) == before
    assert not convert(overwrite=True).was_complete
    assert content(place) != before
    assert verify(place) == []
    (place / "sources.stat").unlink()
    assert "--overwrite" in convert().notes[-1]
    with pytest.raises(InputError, match="--check_sources"):
        convert(check_sources=True)


@pytest.mark.slow
def test_what_an_upload_left_of_images_that_changed_since_goes_again(by_url, monkeypatch):
    images, place, convert = by_url
    old = content(place)
    changed_in_place(images / "NORMAL/IM-0001-0000.bmp")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # all shards are there, of the old images, and no manifest
        patch.setattr(shutil, "rmtree", killed)
        plan = {"plan": json.loads(old["manifest.json"])["plan"], "manifest": "of the images before"}
        (place / "manifest.json").unlink()
        (place / "plan.json").write_text(json.dumps(plan))
        with pytest.raises(KeyboardInterrupt):
            convert()
    assert verify(place) == []
    assert {name for name, data in content(place).items() if data != old[name]} > {"manifest.json"}
