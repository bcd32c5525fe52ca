"""Training from an S3 server on this machine, by the real commands."""

import importlib.util
import json

import pytest

from tfrecords.manifest import Manifest

MISSING = [name for name in ("moto", "boto3", "flask") if importlib.util.find_spec(name) is None]
NO_FETCH = [*MISSING, *(name for name in ("fsspec", "s3fs") if importlib.util.find_spec(name) is None)]
NO_DIRECT = [*NO_FETCH, *(name for name in ("tensorflow_io",) if importlib.util.find_spec(name) is None)]
KEYS = {
    "AWS_ACCESS_KEY_ID": "the-key",
    "AWS_SECRET_ACCESS_KEY": "the-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "NO_PROXY": "127.0.0.1",
}
TRAIN = ("--model=mlp", "--epochs=1", "--precision=float32", "--deterministic", "--cache=stream")

needs_fetch = pytest.mark.skipif(bool(NO_FETCH), reason=f"not installed: {', '.join(NO_FETCH)}")
needs_direct = pytest.mark.skipif(bool(NO_DIRECT), reason=f"not installed: {', '.join(NO_DIRECT)}")


class Store:
    """A bucket on an S3 server of this machine, and what was asked of it."""

    def __init__(self, server):
        import boto3

        host, port = server.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"
        self.environment = KEYS | {"AWS_ENDPOINT_URL": self.endpoint, "S3_ENDPOINT": self.endpoint}
        self.client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id="the-key",
            aws_secret_access_key="the-secret",
            region_name="us-east-1",
        )
        self.client.create_bucket(Bucket="bucket")

    def put(self, folder, prefix):
        for path in folder.iterdir():
            if path.is_file():
                self.client.put_object(Bucket="bucket", Key=f"{prefix}/{path.name}", Body=path.read_bytes())
        return f"s3://bucket/{prefix}"

    def remove(self, prefix, *names):
        for name in names:
            self.client.delete_object(Bucket="bucket", Key=f"{prefix}/{name}")


@pytest.fixture(scope="module")
def store():
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield Store(server)
    server.stop()


def shards(folder, *splits):
    manifest = Manifest.load(folder)
    return [shard for name in splits or manifest.splits for shard in manifest.splits[name].shards]


def results(run):
    history = json.loads((run / "history.json").read_text())
    kept = [{k: v for k, v in row.items() if k not in ("images_per_second", "input_wait")} for row in history]
    return kept, (run / "report" / "test" / "predictions.csv").read_bytes()


@pytest.fixture(scope="module")
def local_run(converted, run_command, tmp_path_factory):
    run = tmp_path_factory.mktemp("local") / "run"
    done = run_command("trainer.main", f"--data={converted}", f"--run_dir={run}", *TRAIN)
    assert done.returncode == 0, done.stderr
    return run


@needs_fetch
def test_train_and_evaluate_from_s3(store, converted, local_run, run_command, tmp_path):
    url, cache = store.put(converted, "data"), tmp_path / "cache"
    place = {**store.environment, "XDG_CACHE_HOME": str(cache)}

    def train(number, data=url):
        return run_command(
            "trainer.main", f"--data={data}", f"--run_dir={tmp_path / f'run{number}'}", *TRAIN, **place
        )

    done = train(0)
    assert done.returncode == 0, done.stderr
    assert "fetching s3://bucket/data" in done.stderr
    assert results(tmp_path / "run0") == results(local_run)
    for text in (done.stdout, done.stderr, (tmp_path / "run0" / "config.json").read_text()):
        assert "the-secret" not in text
    assert json.loads((tmp_path / "run0" / "config.json").read_text())["config"]["data_url"] == url

    store.remove("data", *(shard.name for shard in shards(converted)))  # a second start needs none
    done = train(1)
    assert (done.returncode, done.stderr) == (0, "")
    assert results(tmp_path / "run1") == results(local_run)

    # Evaluation alone, with an empty cache: what it needs is fetched, and no more.
    store.put(converted, "data")
    store.remove("data", *(shard.name for shard in shards(converted, "train")))
    place["XDG_CACHE_HOME"] = str(tmp_path / "other")
    report = tmp_path / "run0" / "report" / "test" / "predictions.csv"
    report.unlink()
    done = run_command("trainer.evaluate", f"--run_dir={tmp_path / 'run0'}", **place)
    assert done.returncode == 0, done.stderr
    assert results(tmp_path / "run0") == results(local_run)


@needs_fetch
def test_a_flipped_byte_and_a_missing_shard_at_the_server_are_named(store, converted, run_command, tmp_path):
    url = store.put(converted, "harmed")
    shard = shards(converted, "train")[0]
    data = bytearray((converted / shard.name).read_bytes())
    data[len(data) // 2] ^= 1
    arguments = (
        f"--data={url}",
        f"--run_dir={tmp_path / 'run'}",
        f"--cache_dir={tmp_path / 'cache'}",
        *TRAIN,
    )
    store.client.put_object(Bucket="bucket", Key=f"harmed/{shard.name}", Body=bytes(data))
    done = run_command("trainer.main", *arguments, **store.environment)
    assert done.returncode == 2
    assert f"error: {url}/{shard.name}: is not what was converted: SHA-256 " in done.stderr
    store.remove("harmed", shard.name)
    done = run_command("trainer.main", *arguments, **store.environment)
    assert done.returncode == 2
    assert f"error: {url}/{shard.name}: is not there; restore it there" in done.stderr
    assert not (tmp_path / "run").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from data_pipeline import fetch
url, cache, blocks = sys.argv[1:]
real, read = fetch._Source.read, []
def dying(self, name, start=None, stop=None):
    read.append(name)
    if len(read) > int(blocks):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, name, start, stop)
fetch._Source.read, fetch._BLOCK, fetch._THREADS = dying, 5000, 1
print(fetch.fetched(url, ["train", "val", "test"], cache_dir=Path(cache)))
"""


@needs_fetch
@pytest.mark.parametrize("blocks", [1, 3, 8, 14])
def test_a_killed_fetch_goes_on(store, converted, tmp_path, blocks, run_python):
    """Killed before its n-th block of 5,000 bytes; what is on disk, whole or in part, is not read again."""
    url, cache = store.put(converted, f"killed{blocks}"), tmp_path / "cache"

    def fetch(blocks):
        return run_python("-c", KILLED, url, cache, blocks, **store.environment)

    assert fetch(blocks).returncode == -9
    kept = [path for path in (cache / "remote").glob("*/*") if path.is_file()]
    whole = {path.name: path for path in kept if not path.name.startswith(".")}
    got = sum(path.stat().st_size for path in kept)
    total = sum(shard.bytes for shard in shards(converted))
    assert got < total
    store.remove(f"killed{blocks}", *whole)
    stamps = {name: path.stat().st_mtime_ns for name, path in whole.items()}
    left = 1 + sum(-(-shard.bytes // 5000) for shard in shards(converted)) - (blocks - 2)
    done = fetch(left)  # one more block than is needed would kill it
    assert done.returncode == 0, done.stderr
    assert {name: path.stat().st_mtime_ns for name, path in whole.items()} == stamps
    folder = next(path for path in (cache / "remote").iterdir() if path.is_dir())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: (converted / name).read_bytes()
        for name in ("manifest.json", *(shard.name for shard in shards(converted)))
    }


@needs_direct
def test_tensorflow_reads_s3_itself(store, converted, local_run, run_command, tmp_path):
    url, cache = store.put(converted, "direct"), tmp_path / "cache"
    done = run_command(
        "trainer.main",
        f"--data={url}",
        "--remote=direct",
        f"--run_dir={tmp_path / 'run'}",
        f"--cache_dir={cache}",
        *TRAIN,
        **store.environment,
    )
    assert done.returncode == 0, done.stderr
    assert results(tmp_path / "run") == results(local_run)
    assert [path.name for path in (cache / "remote").glob("*/*")] == ["manifest.json"]


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_io") is not None, reason="tensorflow-io is installed"
)
@pytest.mark.skipif(importlib.util.find_spec("fsspec") is None, reason="fsspec is not installed")
def test_without_tensorflow_io_the_error_tells_what_to_install(converted, run_command, tmp_path):
    done = run_command(
        "trainer.main",
        f"--data=file://{converted}",
        "--remote=direct",
        f"--run_dir={tmp_path / 'run'}",
        f"--cache_dir={tmp_path / 'cache'}",
        *TRAIN,
    )
    assert done.returncode == 2
    assert "error: --remote=direct: needs the extra `tfio`" in done.stderr
