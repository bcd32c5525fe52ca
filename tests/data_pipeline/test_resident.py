import numpy as np
import pytest
import tensorflow as tf

from data_pipeline import resident
from tfrecords.errors import InputError
from tfrecords.example import FIELDS
from tfrecords.records import read_records


@pytest.mark.parametrize(("encoding", "channels"), [("raw", 1), ("raw", 3), ("png", 1), ("png", 3)])
@pytest.mark.parametrize("split", ["train", "val"])
def test_the_tensors_are_the_decoded_shards(converted, encoding, channels, split):
    data, raw = converted(encoding, channels), converted("raw", channels)
    tensors = resident.load(data.directory, data.manifest, split)
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


def test_more_records_than_are_parsed_at_once(data, monkeypatch):
    whole = resident.load(data.directory, data.manifest, "train")
    size = whole["label"].shape[0]
    for batch in (1, 10, size - 1, size):
        monkeypatch.setattr(resident, "_BATCH", batch)
        parts = resident.load(data.directory, data.manifest, "train")
        for name, tensor in whole.items():
            np.testing.assert_array_equal(parts[name].numpy(), tensor.numpy())


def test_the_images_are_held_once(data, monkeypatch):
    """The tensor is the array that the images were decoded into, not a copy of it."""
    arrays, aligned = [], resident._aligned

    def noted(shape):
        arrays.append(aligned(shape))
        return arrays[-1]

    monkeypatch.setattr(resident, "_aligned", noted)
    image = resident.load(data.directory, data.manifest, "train")["image"]
    seen = np.asarray(memoryview(image))
    assert len(arrays) == 1
    assert seen.ctypes.data == arrays[0].ctypes.data
    assert seen.shape == arrays[0].shape


def test_the_tensor_outlives_the_array(data):
    """The array behind the tensor belongs to it: nothing else holds it."""
    image = resident.load(data.directory, data.manifest, "train")["image"]
    before = image.numpy().copy()
    for _ in range(20):  # would reuse the memory if it had been given back
        np.full(before.size + 64, 255, np.uint8)
    np.testing.assert_array_equal(image.numpy(), before)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 5, 7, 3), (100, 32, 40, 1)])
def test_the_buffer_starts_where_tensorflow_reads_in_place(shape):
    for _ in range(20):
        array = resident._aligned(shape)
        assert (array.shape, array.dtype) == (shape, np.uint8)
        assert array.ctypes.data % 64 == 0
        assert array.flags.c_contiguous
        assert array.flags.writeable


def test_a_split_that_is_not_there(data):
    with pytest.raises(InputError) as caught:
        resident.load(data.directory, data.manifest, "holdout")
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
        resident.load(harmed.directory, harmed.manifest, "train")
    assert f"{path}: record 5 at byte " in str(caught.value)
    assert "has damaged data (CRC mismatch); convert again" in str(caught.value)
