import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.tiers import decoding
from tfrecords.errors import InputError
from tfrecords.example import FIELDS
from tfrecords.records import read_records


@pytest.mark.parametrize(("encoding", "channels"), [("raw", 1), ("raw", 3), ("png", 1), ("png", 3)])
@pytest.mark.parametrize("split", ["train", "val"])
def test_the_tensors_are_the_decoded_shards(converted, encoding, channels, split):
    data, raw = converted(encoding, channels), converted("raw", channels)
    tensors = decoding.load(data.directory, data.manifest, split, tuple(FIELDS))
    # Encoded data sets have fewer, larger shards and so another order.
    pixels = {(r.id, r.copy): raw.pixels(r) for r in raw.records(split)}
    records = data.records(split)
    assert sorted(tensors) == sorted(FIELDS)
    for name in ("label", "copy", "source", "id", "group"):
        assert tensors[name].numpy().tolist() == [getattr(record, name) for record in records]
    assert tensors["image"].dtype == tf.uint8
    assert tensors["image"].shape == (len(records), 32, 40, channels)
    expected = np.stack([pixels[record.id, record.copy] for record in records])
    np.testing.assert_array_equal(tensors["image"].numpy(), expected)
    assert tensors["label"].dtype == tf.int32


@pytest.mark.parametrize("fields", [("label",), ("image",), ("id", "image"), ("copy", "group")])
def test_only_what_is_asked_for_is_held(data, fields):
    whole = decoding.load(data.directory, data.manifest, "train", tuple(FIELDS))
    found = decoding.load(data.directory, data.manifest, "train", fields)
    assert sorted(found) == sorted(fields)
    for name in fields:
        np.testing.assert_array_equal(found[name].numpy(), whole[name].numpy())


@pytest.mark.slow
@pytest.mark.parametrize("readers", [1, 2, 16])
@pytest.mark.parametrize("records", [1, 7, 1000])
def test_any_number_of_readers_and_any_batch_give_the_same(converted, monkeypatch, readers, records):
    data = converted("png", 3)
    whole = decoding.load(data.directory, data.manifest, "train", tuple(FIELDS))
    monkeypatch.setattr(decoding, "_batch_and_readers", lambda *_: (records, readers))
    parts = decoding.load(data.directory, data.manifest, "train", tuple(FIELDS))
    for name, tensor in whole.items():
        np.testing.assert_array_equal(parts[name].numpy(), tensor.numpy())


@pytest.mark.parametrize("size", [1, 10_000, 100_000])
def test_raw_shards_read_in_any_parts_give_the_same(converted, monkeypatch, size):
    data = converted("raw", 3)  # 10 shards
    whole = decoding.load(data.directory, data.manifest, "train", tuple(FIELDS))
    monkeypatch.setattr(decoding, "_AT_ONCE", size)
    parts = decoding.load(data.directory, data.manifest, "train", tuple(FIELDS))
    for name, tensor in whole.items():
        np.testing.assert_array_equal(parts[name].numpy(), tensor.numpy())


def test_the_images_are_held_once(data, monkeypatch):
    """The tensor is the array that the images were decoded into, not a copy of it."""
    arrays, aligned = [], decoding.aligned

    def noted(shape):
        arrays.append(aligned(shape))
        return arrays[-1]

    monkeypatch.setattr(decoding, "aligned", noted)
    image = decoding.load(data.directory, data.manifest, "train", ("image",))["image"]
    seen = np.asarray(memoryview(image))
    assert len(arrays) == 1
    assert seen.ctypes.data == arrays[0].ctypes.data
    assert seen.shape == arrays[0].shape


def test_the_tensor_outlives_the_array(data):
    """The array behind the tensor belongs to it: nothing else holds it."""
    image = decoding.load(data.directory, data.manifest, "train", ("image",))["image"]
    before = image.numpy().copy()
    for _ in range(20):  # would reuse the memory if it had been given back
        np.full(before.size + 64, 255, np.uint8)
    np.testing.assert_array_equal(image.numpy(), before)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 5, 7, 3), (100, 32, 40, 1)])
def test_the_buffer_starts_where_tensorflow_reads_in_place(shape):
    for _ in range(20):
        array = decoding.aligned(shape)
        assert (array.shape, array.dtype) == (shape, np.uint8)
        assert array.ctypes.data % 64 == 0
        assert array.flags.c_contiguous
        assert array.flags.writeable


def test_a_split_that_is_not_there(data):
    with pytest.raises(InputError) as caught:
        decoding.load(data.directory, data.manifest, "holdout", ("label",))
    assert str(caught.value).startswith(
        "split 'holdout' is not in data set 'chest_xray'; it has train, val, test: "
    )


def test_a_damaged_record_is_named(harmed):
    path = harmed.paths("train")[1]
    content = bytearray(path.read_bytes())
    size = len(content) // sum(1 for _ in read_records(path))
    content[5 * size + size // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        decoding.load(harmed.directory, harmed.manifest, "train", ("label",))
    assert f"{path}: record 5 at byte " in str(caught.value)
    assert "has damaged data (CRC mismatch); convert again" in str(caught.value)


MEASURED = """
import sys
from pathlib import Path
from data_pipeline.tiers import decoding
from data_pipeline.dataset import make_dataset
from data_pipeline.options import PipelineOptions
from tfrecords.manifest import Manifest

def resident_bytes(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) << 10

directory = Path(sys.argv[1])
manifest = Manifest.load(directory)
small = Manifest.load(Path(sys.argv[2]))
decoding.load(Path(sys.argv[2]), small, "train", ("image", "label"))  # what TensorFlow takes once
Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
before = resident_bytes("VmRSS")
image = decoding.load(directory, manifest, "train", ("image", "label"))["image"]
size, peak = image.shape.num_elements(), resident_bytes("VmHWM") - before
del image
options = PipelineOptions(global_batch_size=2, cache="memory")
batches = iter(make_dataset(directory, manifest, "train", options, training=True))
for _ in range(100):
    next(batches)
print(size, peak, resident_bytes("VmHWM") - before)
"""


@pytest.mark.slow
def test_loading_and_training_take_little_more_than_the_images(large, data, tmp_path, run_python):
    done = run_python("-c", MEASURED, large.directory, data.directory, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    size, loading, training = map(int, done.stdout.split())
    assert size == 200 << 20
    assert size <= loading <= 1.15 * size
    assert training <= 1.5 * size  # a few batches made ahead; a copy would be all of it
