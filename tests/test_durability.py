"""After a loss of power, what has its final name is whole: bytes reach the disk before their name does.

Nothing here loses power. The order of opening, syncing and renaming is seen as it really happens, and a
file's bytes at its renaming must be those that were synced.
"""

import hashlib
import os
import re
import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.fetch import fetched
from data_pipeline.settings import save_settings
from data_pipeline.tiers import decoded_file
from tfrecords.convert.conversion import ConvertOptions, convert_images, convert_task
from tfrecords.convert.engines import Engine
from tfrecords.files.atomic import file_sha256, write_atomically
from tfrecords.files.outputs import write_output
from tfrecords.manifest import MANIFEST_NAME, Manifest, is_shard
from trainer.checkpoint import Checkpoints, State
from trainer.config import TrainConfig
from trainer.evaluation.predictions import Predictions
from trainer.evaluation.report import summarise, write_report
from trainer.finish import _save
from trainer.result import Result
from trainer.run import DataFacts, Run
from trainer.tune.journal import Journal
from trainer.tune.trials import copy_run

_watchers = []


def _notice(event, arguments):
    """Python's own announcement of each file that it opens, renames or links, before it does."""
    for watcher in _watchers:
        watcher(event, arguments)


sys.addaudithook(_notice)  # for good: Python takes no hook away


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Order:
    """What this process did to the files below a folder, in order."""

    def __init__(self, folder):
        self.folder, self.busy = folder.resolve(), False
        self.synced = {}  # digest of the bytes by path, when they were synced last
        self.events = []  # (kind, path): "write" where a file is opened, "sync", "name" where it gets a name
        self.unsynced = []  # files that got a name while not all of their bytes were synced

    def path(self, name):
        path = Path(os.fsdecode(name)).absolute()
        return path if path.is_relative_to(self.folder) else None

    def __call__(self, event, arguments):
        if self.busy:
            return
        self.busy = True  # what follows opens files, too
        try:
            if event == "open" and isinstance(arguments[0], str | bytes):
                _, mode, flags = arguments
                writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_TRUNC) or set(mode or "") & set("wax+")
                if writes and (path := self.path(arguments[0])):
                    self.events.append(("write", path))
            elif event in ("os.rename", "os.link"):
                source, target = map(self.path, arguments[:2])
                if source and target:
                    self.named(source, target)
        finally:
            self.busy = False

    def named(self, source, target):
        for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
            if path.is_file() and self.synced.get(path) != digest(path):
                self.unsynced.append(path)
        self.events.append(("name", target))

    def after_sync(self, descriptor):
        self.busy = True
        try:
            path = self.path(Path(f"/proc/self/fd/{descriptor}").readlink())
            if path:
                self.synced[path] = digest(path) if path.is_file() else None
                self.events.append(("sync", path))
        finally:
            self.busy = False

    def places(self, kind, path):
        return [number for number, event in enumerate(self.events) if event == (kind, path)]


@pytest.fixture
def order(tmp_path, monkeypatch):
    order, fsync = Order(tmp_path), os.fsync

    def noticed(descriptor):
        fsync(descriptor)
        order.after_sync(descriptor if isinstance(descriptor, int) else descriptor.fileno())

    monkeypatch.setattr(os, "fsync", noticed)
    _watchers.append(order)
    yield order
    _watchers.remove(order)


def options(images, out, **changes):
    values = {"size": (24, 32), "shard_size": 1 << 16, "workers": 1, "copies": 1, "val_fraction": 0.2}
    return ConvertOptions(images, out, **(values | changes))


def model(units=4):
    inputs = keras.Input((24, 32, 1), dtype="uint8")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Dense(units)(x)))


def convert(images, folder):
    convert_images(options(images, folder / "data", copies=3, dali_index=True))
    return r"plan\.json|\.convert\.lock|.*\.lock"  # the journal and the lock go before the end


def convert_a_task(images, folder):
    convert_task(options(images, folder / "data", engine=Engine(task=(0, 2))))
    return r".*\.lock"


def write_a_file(_, folder):
    for text in (b"old", b"new"):
        write_atomically(folder / "file", text)


def write_an_output(_, folder):
    (folder / "link").symlink_to("named")
    for text in (b"old", b"new"):
        write_output("--csv", str(folder / "link"), text)
    (folder / "link").unlink()


def decode_to_disk(data, folder):
    decoded_file.load(data, Manifest.load(data), "val", ("image", "label"), str(folder))
    return r".*\.lock"


def fetch(data, folder):
    fetched(f"file://{data}", ["val"], cache_dir=folder)
    return r".*lock"


def save_checkpoints(_, folder):
    one = model()
    optimizer = keras.optimizers.Adam()
    optimizer.build(one.trainable_variables)
    checkpoints = Checkpoints(folder / "checkpoints", one, optimizer, keep=1)
    for step in (3, 7):
        checkpoints.save(State(step, step // 3, 1, 3, 0.5, (), {}))


def save_a_model(_, folder):
    run = Run(TrainConfig("data", str(folder)), DataFacts("n", ("A", "B"), (24, 32, 1), "p"), {})
    for units in (4, 5):
        temporary = folder / ".7.model.keras"
        _save(temporary, model(units), (24, 32, 1))
        sha256 = file_sha256(temporary)
        run.publish(temporary, Result(sha256, 1, 0.5, 1, 0, 0.5, 9, "p", "float32"))


def keep_options(data, folder):
    shutil.copytree(data, folder / "data")
    manifest = Manifest.load(folder / "data")
    save_settings(folder / "data", manifest, {"threads": 2}, {})
    return "(?!pipeline).*"  # the copy is the test's


def report(_, folder):
    predictions = Predictions(
        ("A", "B"),
        ("a", "b", "c", "d"),
        ("a", "b", "c", "d"),
        np.array([0, 1, 0, 1]),
        np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7]]),
    )
    report = summarise(
        split="test", predictions=predictions, threshold=0.5, threshold_source="given", facts={}
    )
    write_report(folder / "report" / "test", report, predictions=predictions, history=())


@pytest.fixture(scope="module")
def data(image_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("converted") / "data"
    convert_images(options(image_folder, out))
    return out


@pytest.mark.parametrize(
    "work",
    [
        write_a_file,
        write_an_output,
        convert,
        convert_a_task,
        decode_to_disk,
        fetch,
        keep_options,
        save_checkpoints,
        save_a_model,
        report,
    ],
)
def test_bytes_are_on_the_disk_before_their_name(work, order, image_folder, data, tmp_path):
    other = work(image_folder if work in (convert, convert_a_task) else data, tmp_path)
    assert order.unsynced == []
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    files = [path for path in files if not (other and re.fullmatch(other, path.name))]
    assert files
    named = [path for kind, path in order.events if kind == "name"]
    for path in files:
        whole = [name for name in named if path == name or path.is_relative_to(name)]
        assert whole, f"{path} was never given its name by a renaming"
        assert ("write", path) not in order.events, f"{path} was written in place"
        # And the name itself is on the disk, before anything else is said to be done.
        last = order.places("name", whole[-1])[-1]
        assert any(place > last for place in order.places("sync", whole[-1].parent)), f"{path}: its name"


def test_the_manifest_is_named_when_all_else_is_on_the_disk(order, image_folder, tmp_path):
    convert(image_folder, tmp_path)
    out = tmp_path / "data"
    (manifest,) = order.places("name", out / MANIFEST_NAME)
    shards = [path for path in out.iterdir() if is_shard(path.name)]
    assert len(shards) > 3
    for path in shards:
        (named,) = order.places("name", path)
        (told,) = order.places("name", path.with_name(f"{path.name}.result.json"))
        assert told < named  # a shard that has its name has its result too
        assert any(named < place < manifest for place in order.places("sync", out))


def test_a_checkpoint_is_synced_whole_before_it_is_named(order, tmp_path):
    save_checkpoints(None, tmp_path)
    folder = tmp_path / "checkpoints"
    for step in (3, 7):
        final = folder / f"step-{step:010d}"
        (named,) = order.places("name", final)
        for name in ("state.json", "variables.index", "variables.data-00000-of-00001"):
            assert any(place < named for place in order.places("sync", folder / f".{final.name}.tmp" / name))
        assert any(place < named for place in order.places("sync", folder / f".{final.name}.tmp"))
    assert tf.train.list_variables(str(final / "variables"))


def test_what_this_file_sees_is_there(order, tmp_path):
    """Else the tests above could not fail."""
    wrong = tmp_path / "wrong"
    wrong.write_text("in place")
    other = tmp_path / "other"
    with other.open("wb") as file:
        file.write(b"first")
        file.flush()
        os.fsync(file.fileno())
        file.write(b", then more")
    other.rename(tmp_path / "named")
    assert order.events == [
        ("write", wrong),
        ("write", other),
        ("sync", other),
        ("name", tmp_path / "named"),
    ]
    assert order.unsynced == [other]


def test_an_event_of_a_search_is_on_the_disk_when_it_is_appended(order, tmp_path):
    path = tmp_path / "journal" / "journal.jsonl"
    for number in range(2):
        with Journal(path.parent).lease() as lease:
            lease.append([{"event": "created", "number": number}])
            assert order.synced[path] == digest(path)
            if number == 0:  # the name of a new file, too
                assert order.places("sync", path.parent)[-1] > order.places("sync", path)[-1]


def test_a_run_that_is_copied_is_on_the_disk_before_it_has_its_name(order, tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    for name in ("config.json", "checkpoints/weights", "lock.json"):
        (tmp_path / "run" / name).write_text(name)
    copy_run(tmp_path / "run", tmp_path / "copy")
    assert order.unsynced == []
    (named,) = order.places("name", tmp_path / "copy")
    assert any(place > named for place in order.places("sync", tmp_path))
    copied = {path.relative_to(tmp_path / "copy").as_posix() for path in (tmp_path / "copy").rglob("*")}
    assert copied == {"config.json", "checkpoints", "checkpoints/weights"}
