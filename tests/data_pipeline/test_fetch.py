import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from data_pipeline.fetch import fetched
from tfrecords.errors import InputError
from tfrecords.manifest import MANIFEST_NAME, Manifest

pytest.importorskip("fsspec")

FETCH = """
import sys
from pathlib import Path
from data_pipeline.fetch import fetched
url, cache, *splits = sys.argv[1:]
print(fetched(url, splits, cache_dir=Path(cache)))
"""


def url_of(data):
    return f"file://{data.directory}"


def names(data, *splits):
    return {shard.name for split in splits for shard in data.manifest.split(split).shards}


def size(data, *splits):
    return sum(shard.bytes for split in splits for shard in data.manifest.split(split).shards)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_splits_that_are_needed_are_fetched_once(data, tmp_path):
    folder = fetched(url_of(data), ["val", "none"], cache_dir=tmp_path)
    assert set(content(folder)) == names(data, "val") | {MANIFEST_NAME}
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert fetched(url_of(data), ["train", "val"], cache_dir=tmp_path) == folder
    expected = content(data.directory)
    assert content(folder) == {name: expected[name] for name in names(data, "train", "val") | {MANIFEST_NAME}}
    assert {path: path.stat().st_mtime_ns for path in before if path.name != MANIFEST_NAME} == {
        path: stamp for path, stamp in before.items() if path.name != MANIFEST_NAME
    }
    Manifest.load(folder, check_shards=False).check_shards(folder, "train", "val")


def test_a_second_start_reads_only_the_manifest(harmed, tmp_path):
    folder = fetched(url_of(harmed), ["train", "val"], cache_dir=tmp_path)
    for path in harmed.paths("train") + harmed.paths("val"):
        path.unlink()
    assert fetched(url_of(harmed), ["train", "val"], cache_dir=tmp_path) == folder


def test_the_same_data_under_two_urls_is_kept_once(data, tmp_path):
    copy = shutil.copytree(data.directory, tmp_path / "copy")
    first = fetched(url_of(data), ["val"], cache_dir=tmp_path / "cache")
    assert fetched(f"file://{copy}", ["val"], cache_dir=tmp_path / "cache") == first


def test_a_flipped_byte_is_refused_and_named(harmed, tmp_path, facts):
    path = harmed.paths("train")[1]
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    path.write_bytes(damaged)
    shard = harmed.manifest.split("train").shards[1]
    with pytest.raises(InputError) as raised:
        fetched(url_of(harmed), ["train"], cache_dir=tmp_path / "cache")
    assert re.search(
        facts(
            f"{url_of(harmed)}/{shard.name}: is not what was converted: SHA-256 "
            f"{hashlib.sha256(damaged).hexdigest()}, the manifest says {shard.sha256}; restore it there"
        ),
        str(raised.value),
    )
    found = {path.name for path in (tmp_path / "cache").rglob("*")}
    assert shard.name not in found
    assert f".{shard.name}.part" not in found


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: path.unlink(), "is not there; restore it there"),
        (lambda path: os.truncate(path, 1000), "has 1000 bytes, the manifest says"),
    ],
)
def test_a_missing_or_cut_shard_is_named(harmed, tmp_path, harm, message):
    path = harmed.paths("val")[0]
    harm(path)
    with pytest.raises(InputError) as raised:
        fetched(url_of(harmed), ["train", "val"], cache_dir=tmp_path)
    assert str(raised.value).startswith(f"{url_of(harmed)}/{path.name}: {message}")


def test_no_data_set_there(tmp_path, facts):
    with pytest.raises(InputError) as raised:
        fetched(f"file://{tmp_path}", ["train"], cache_dir=tmp_path)
    assert re.search(
        facts(f"file://{tmp_path}/manifest.json: is not there; give --data the URL of a converted data set"),
        str(raised.value),
    )


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nowhere://user:secret@a/b?sig=secret", "nowhere://a/b: Protocol not known: nowhere"),
        ("https://user:secret@127.0.0.1:1/b?sig=secret", "https://127.0.0.1:1/b"),
    ],
)
def test_no_secret_is_in_an_error(tmp_path, url, message):
    with pytest.raises(InputError) as raised:
        fetched(url, ["train"], cache_dir=tmp_path)
    assert str(raised.value).startswith(message)
    assert "secret" not in str(raised.value)


class Guarded(SimpleHTTPRequestHandler):
    """Serves files, but not by ranges, to who knows password and token."""

    def do_GET(self):
        password = self.headers.get("Authorization", "")
        if password != "Basic dXNlcjpoaWRkZW4=" or not self.path.endswith("?token=concealed"):
            self.send_error(401)
        else:
            super().do_GET()

    def log_message(self, *_):
        pass


@pytest.mark.skipif(importlib.util.find_spec("aiohttp") is None, reason="aiohttp is not installed")
def test_what_is_secret_in_a_url_is_used_and_not_shown(data, tmp_path, capfd):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Guarded, directory=data.directory))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    place = f"127.0.0.1:{server.server_port}"
    with pytest.raises(InputError) as raised:
        fetched(f"http://user:wrong@{place}?token=concealed", ["val"], cache_dir=tmp_path)
    assert str(raised.value).startswith(
        f"http://{place}/manifest.json: cannot be read (ClientResponseError);"
    )
    folder = fetched(f"http://user:hidden@{place}?token=concealed", ["train", "val"], cache_dir=tmp_path)
    Manifest.load(folder, check_shards=False).check_shards(folder, "train", "val")
    server.shutdown()
    server.server_close()
    shown = capfd.readouterr().err
    assert f"fetching http://{place}:" in shown
    assert "hidden" not in shown
    assert "concealed" not in shown


def test_a_partial_shard_goes_on(data, tmp_path):
    """The first half is taken from disk: were it fetched again, the changed byte there would not matter."""
    shard = data.manifest.split("val").shards[0]
    folder = fetched(url_of(data), ["val"], cache_dir=tmp_path)
    whole = (folder / shard.name).read_bytes()
    (folder / shard.name).unlink()
    part = folder / f".{shard.name}.part"
    part.write_bytes(whole[: shard.bytes // 2])
    inode = part.stat().st_ino
    fetched(url_of(data), ["val"], cache_dir=tmp_path)
    assert (folder / shard.name).read_bytes() == whole
    assert (folder / shard.name).stat().st_ino == inode
    assert not part.exists()


@pytest.mark.parametrize("much", [0.5, 1.0, 1.5])
def test_a_partial_shard_that_was_harmed_is_fetched_anew(data, tmp_path, much):
    shard = data.manifest.split("val").shards[0]
    folder = fetched(url_of(data), ["val"], cache_dir=tmp_path)
    whole = (folder / shard.name).read_bytes()
    (folder / shard.name).unlink()
    (folder / f".{shard.name}.part").write_bytes(bytes(int(shard.bytes * much)))
    fetched(url_of(data), ["val"], cache_dir=tmp_path)
    assert (folder / shard.name).read_bytes() == whole


def test_what_was_fetched_can_be_checked_again(data, tmp_path):
    folder = fetched(url_of(data), ["val"], cache_dir=tmp_path)
    path = folder / data.manifest.split("val").shards[0].name
    whole = path.read_bytes()
    path.write_bytes(bytes(len(whole)))
    fetched(url_of(data), ["val"], cache_dir=tmp_path)
    assert path.read_bytes() != whole
    fetched(url_of(data), ["val"], cache_dir=tmp_path, check=True)
    assert path.read_bytes() == whole


@pytest.fixture
def fetch(start):
    """Starts a process that fetches splits into a cache."""

    def begin(data, cache, *splits, **options):
        return start("-c", FETCH, url_of(data), cache, *splits, **options)

    return begin


@pytest.mark.slow
def test_processes_that_start_together_fetch_once(data, fetch, tmp_path):
    started = [fetch(data, tmp_path, "train", "val") for _ in range(4)]
    outputs = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0] * 4, outputs
    assert len({out for out, _ in outputs}) == 1
    assert sum("fetching" in error for _, error in outputs) == 1
    assert content(Path(outputs[0][0].strip())).keys() == names(data, "train", "val") | {MANIFEST_NAME}


def test_one_process_at_a_time_fetches(data, fetch, tmp_path, wait_until, waits_for_lock):
    home = tmp_path / "remote"
    home.mkdir()
    with (home / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        process = fetch(data, tmp_path, "val")
        wait_until(lambda: waits_for_lock(process), "the process waits for its turn")
        assert [path.name for path in home.rglob("*.tfrecord-*")] == []
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    assert errors.startswith(f"{home}: waiting for a process that fetches\n")
    assert content(Path(printed.strip())).keys() == names(data, "val") | {MANIFEST_NAME}


@pytest.mark.slow
def test_least_recently_used_goes_and_what_is_in_use_stays(data, converted, fetch, tmp_path):
    rgb, png = converted(channels=3), converted("png")
    older, newer = (  # by processes that have ended: nothing is in use
        Path(fetch(one, tmp_path, "val").communicate()[0].strip()) for one in (rgb, data)
    )
    files = [path for path in (tmp_path / "remote").rglob("*") if path.is_file()]
    used = sum(path.stat().st_size for path in files)
    limit = used + size(png, "val") // 2
    fetched(url_of(png), ["val"], cache_dir=tmp_path, limit=limit)
    assert not older.exists()  # the older, and that was enough
    assert newer.exists()

    fetched(url_of(data), ["val"], cache_dir=tmp_path)  # from now on this process uses it, and png
    with pytest.raises(InputError) as raised:
        fetched(url_of(rgb), ["val"], cache_dir=tmp_path, limit=size(rgb, "val") + 4096)
    assert f"{url_of(rgb)}: {size(rgb, 'val') / 1e6:,.1f} MB are to be fetched" in str(raised.value)
    assert "give a larger --cache_limit_mb or another --cache_dir" in str(raised.value)
    assert newer.exists()
    fetched(url_of(rgb), ["val"], cache_dir=tmp_path)


def test_nothing_is_removed_in_vain(data, converted, fetch, tmp_path):
    rgb = converted(channels=3)
    kept = fetch(data, tmp_path, "val").communicate()[0].strip()
    with pytest.raises(InputError, match=r"are to be fetched, and --cache_limit_mb=0 leaves 0\.0 MB"):
        fetched(url_of(rgb), ["train"], cache_dir=tmp_path, limit=1000)
    assert Path(kept).exists()


def test_a_cache_that_cannot_be_written(data, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(InputError) as raised:
        fetched(url_of(data), ["val"], cache_dir=tmp_path / "cache")
    assert str(raised.value).startswith(f"{tmp_path}/cache/remote: cannot be written: ")
    assert "name another --cache_dir" in str(raised.value)


def assert_nothing_is_half_there(folder, data):
    """What has its name is whole, and what is being fetched is the beginning of it."""
    expected = content(data.directory)
    found = content(folder)
    assert MANIFEST_NAME not in found
    for name, kept in found.items():
        if name in expected:
            assert kept == expected[name]
        else:
            assert expected[name.removeprefix(".").removesuffix(".part")].startswith(kept)


@pytest.mark.slow
def test_a_disk_without_room_for_more_files(data, disk, fetch):
    """The same error of the kernel as when its bytes are used up, at a place that is known before."""
    folder, remount = disk
    remount("size=64m,nr_inodes=9")  # five of the cache's folders and locks, so three of the shards
    assert len(names(data, "train", "val", "test")) > 3
    cache = folder / "cache"
    splits = ("train", "val", "test")
    for _ in range(2):
        error = fetch(data, cache, *splits).communicate()[1]
        assert error.splitlines()[-1] == (
            f"tfrecords.errors.InputError: {cache}/remote: cannot be written: No space left on device; make "
            f"room, or name another --cache_dir. The same command again goes on from here"
        )
        (there,) = (path for path in (cache / "remote").iterdir() if path.is_dir())
        assert_nothing_is_half_there(there, data)
    kept = {path.stat().st_ino for path in there.iterdir()}
    assert len(kept) == 3
    remount("nr_inodes=99")
    printed = fetch(data, cache, *splits).communicate()[0]
    assert printed == f"{there}\n"
    expected = content(data.directory)
    assert content(there) == {name: expected[name] for name in names(data, *splits) | {MANIFEST_NAME}}
    assert kept <= {path.stat().st_ino for path in there.iterdir()}


class Neighbour(SimpleHTTPRequestHandler):
    """Serves files; at the first shard that is asked for, all but a little of a disk is taken by another."""

    filler, room, lock = None, 100_000, threading.Lock()

    def do_GET(self):
        with self.lock:
            if self.filler and ".tfrecord-" in self.path and not self.filler.exists():
                free = shutil.disk_usage(self.filler.parent).free
                self.filler.write_bytes(bytes(free - self.room))
        super().do_GET()

    def log_message(self, *_):
        pass


@pytest.mark.skipif(importlib.util.find_spec("aiohttp") is None, reason="aiohttp is not installed")
def test_a_disk_that_gets_full_while_shards_are_fetched(data, disk, run_command, tmp_path):
    folder, remount = disk
    remount("size=64m")
    filler, cache = folder / "filler", folder / "cache"
    handler = type("Handler", (Neighbour,), {"filler": filler})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=data.directory))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    command = (
        "trainer.main",
        f"--data=http://127.0.0.1:{server.server_port}",
        f"--cache_dir={cache}",
        f"--run_dir={tmp_path / 'run'}",
        "--model=mlp",
        "--epochs=1",
    )
    assert size(data, "train", "val", "test") > 2 * Neighbour.room
    done = run_command(*command)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == (
        f"error: {cache}/remote: cannot be written: No space left on device; make room, or name another "
        f"--cache_dir. The same command again goes on from here"
    )
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
    expected = content(data.directory)
    (there,) = (path for path in (cache / "remote").iterdir() if path.is_dir())
    assert_nothing_is_half_there(there, data)
    found = content(there)
    assert sum(map(len, found.values())) > 0
    inodes = {(there / name).stat().st_ino for name in found}

    # The disk is as full as it was, and it is seen before anything is fetched.
    again = run_command(*command)
    assert (again.returncode, again.stdout) == (2, "")
    assert re.match(
        rf"error: http://127\.0\.0\.1:{server.server_port}: \d\.\d MB are to be fetched, and the disk leaves "
        rf"0\.0 MB in {re.escape(str(cache))}/remote .*; make room, ",
        again.stderr,
    )
    filler.write_bytes(b"")  # room is made
    done = run_command(*command)
    server.shutdown()
    server.server_close()
    assert done.returncode == 0, done.stderr
    fetched_names = names(data, "train", "val", "test") | {MANIFEST_NAME}
    assert content(there) == {name: expected[name] for name in fetched_names}
    assert inodes <= {path.stat().st_ino for path in there.iterdir()}  # each part was gone on with


def test_a_manifest_cannot_name_files_elsewhere(data, tmp_path):
    shard = data.manifest.split("val").shards[0]
    evil = data.patched("val", 0, name=f"../{shard.name}")
    (tmp_path / "evil").mkdir()
    evil.manifest.save(tmp_path / "evil")
    with pytest.raises(InputError, match="is not a shard's name"):
        fetched(f"file://{tmp_path}/evil", ["val"], cache_dir=tmp_path / "cache")


def test_without_fsspec_the_error_tells_what_to_install(data, fetch, command_environment, tmp_path):
    (tmp_path / "fsspec.py").write_text("raise ImportError('not here')\n")
    paths = os.pathsep.join(filter(None, [str(tmp_path), command_environment.get("PYTHONPATH")]))
    done = fetch(data, tmp_path / "cache", "val", env={"PYTHONPATH": paths})
    error = done.communicate()[1]
    assert done.returncode != 0
    assert "install the extra `remote`: pip install 'shardlight[remote]'" in error
