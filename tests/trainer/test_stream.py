"""A streamed training that is ended in the middle of a read: neither a crash nor a wait for ever."""

import hashlib
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from tfrecords.example import decode, encode
from tfrecords.manifest import Manifest, Shard
from tfrecords.records import frame, read_records

pytestmark = pytest.mark.slow

# Ends the same training again and again where it reads, in one process; then the process ends.
ENDED = """
import sys
from pathlib import Path
import keras
import tensorflow as tf
from data_pipeline.dataset import make_dataset
from data_pipeline.options import PipelineOptions
from tfrecords.manifest import Manifest
from trainer.loop import Data, Loop
from trainer.models.registry import build_model

directory, kind = Path(sys.argv[1]), sys.argv[2]
manifest = Manifest.load(directory)
options = PipelineOptions(global_batch_size=2, cache="stream", shuffle_window=4 << 20)
if kind == "mirrored":
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
else:
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
inside = strategy.num_replicas_in_sync

def spread(split, training):
    from data_pipeline.options import Worker
    def of_worker(context):
        return make_dataset(
            directory, manifest, split, options, training=training, worker=Worker(0, 1, inside)
        )
    return strategy.distribute_datasets_from_function(of_worker)

class Ended(Exception):
    pass

class End(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        raise Ended

def build():
    inputs = keras.Input(manifest.image_shape, dtype="uint8")
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, keras.layers.Dense(2)(pooled)), keras.optimizers.SGD()

loop, ended = Loop(strategy, build, 2), []
for number in range(15):
    data = Data(
        train=lambda start: spread("train", True),
        val=lambda: spread("train", False),
        steps_per_epoch=20,
        val_steps=1,
        global_batch_size=2,
    )
    try:
        loop.run(data, [End()], epochs=1)
    except Ended:
        ended.append(number)
print(len(ended), flush=True)
"""


@pytest.fixture(scope="module")
def large(converted, tmp_path_factory):
    """A data set of 80 records of 1 MB, so that a read takes its time: noise, the manifest is real."""
    directory, random = tmp_path_factory.mktemp("large"), np.random.default_rng(0)
    manifest = Manifest.load(converted)
    record = decode(next(read_records(converted / manifest.split("train").shards[0].name)))
    shards = []
    for number in range(4):
        name = f"large-train.tfrecord-{number:05d}-of-00004"
        images = (random.integers(0, 256, 1 << 20, np.uint8).tobytes() for _ in range(20))
        content = b"".join(frame(encode(replace(record, image=image))) for image in images)
        (directory / name).write_bytes(content)
        shards.append(Shard(name, 20, len(content), hashlib.sha256(content).hexdigest()))
    train = replace(manifest.split("train"), shards=tuple(shards), records=80)
    replace(manifest, image_shape=(1024, 1024, 1), splits={"train": train}).save(directory)
    return directory


@pytest.mark.stops
@pytest.mark.storm
@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_a_training_that_is_ended_while_it_reads_leaves_the_process_alive(large, start, strategy):
    process = start("-X", "faulthandler", "-c", ENDED, large, strategy, stderr=subprocess.PIPE)
    printed, errors = process.communicate()
    assert (process.returncode, printed) == (0, "15\n"), f"{errors[:6000]}\n...\n{errors[-3000:]}"
