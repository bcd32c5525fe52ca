import io
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data_pipeline.damage import named_damage
from data_pipeline.parse import parse_batch
from tfrecords.errors import InputError
from tfrecords.example import FIELDS
from tfrecords.records import frame, read_records


def serialized(data, split="val"):
    return tf.constant([record for path in data.paths(split) for record in read_records(path)])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("encoding", ["raw", "png", "jpeg"])
def test_a_batch_of_every_kind(converted, encoding, channels):
    data = converted(encoding, channels)
    records = data.records("val")
    parsed = parse_batch(serialized(data), data.manifest, tuple(FIELDS))
    assert {name: (tensor.dtype, tensor.shape[1:]) for name, tensor in parsed.items()} == {
        "image": (tf.uint8, (32, 40, channels)),
        "label": (tf.int32, ()),
        "copy": (tf.int64, ()),
        "source": (tf.int64, ()),
        "id": (tf.string, ()),
        "group": (tf.string, ()),
    }
    for name in ("label", "copy", "source", "id", "group"):
        assert parsed[name].numpy().tolist() == [getattr(record, name) for record in records]
    raw = converted("raw", channels)
    expected = np.stack([raw.pixels(record) for record in raw.records("val")])
    if encoding == "jpeg":  # lossy: what the file holds, as the decoder of conversion and prediction sees it
        files = [Image.open(io.BytesIO(record.image)) for record in records]
        expected = np.stack([np.asarray(file).reshape(32, 40, channels) for file in files])
    np.testing.assert_array_equal(parsed["image"].numpy(), expected)


def test_only_the_fields_asked_for(data):
    parsed = parse_batch(serialized(data), data.manifest, ("label", "id"))
    assert sorted(parsed) == ["id", "label"]


def test_one_op_parses_the_batch(data):
    """Per record, parsing would cost more than all the rest."""
    graph = (
        tf.function(lambda batch: parse_batch(batch, data.manifest, tuple(FIELDS)))
        .get_concrete_function(tf.TensorSpec([None], tf.string))
        .graph
    )
    kinds = [op.type for op in graph.get_operations()]
    assert kinds.count("ParseExampleV2") == 1
    assert kinds.count("DecodeRaw") == 1
    assert not [kind for kind in kinds if "While" in kind or "PyFunc" in kind or "Map" in kind]


@pytest.mark.parametrize("encoding", ["raw", "png", "jpeg"])
def test_an_image_of_another_shape_is_no_batch(converted, encoding):
    data = converted(encoding, 1)
    other = Image.fromarray(np.zeros((32, 41), np.uint8))
    buffer = io.BytesIO()
    other.save(buffer, "PNG" if encoding == "png" else "JPEG")
    image = other.tobytes() if encoding == "raw" else buffer.getvalue()
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))
    example = tf.train.Example(features=tf.train.Features(feature={"image": feature}))
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
        parse_batch(tf.constant([example.SerializeToString()]), data.manifest, ("image",))


@pytest.mark.parametrize("encoding", ["raw", "png", "jpeg"])
@pytest.mark.parametrize("harm", ["image", "field"])
def test_a_whole_record_of_wrong_content_is_named(converted, tmp_path, encoding, harm):
    """Its CRCs are right, and the shard's size is the manifest's: only the parsed record shows it."""
    data = converted(encoding, 1)
    folder = shutil.copytree(data.directory, tmp_path / "data")
    shard = data.manifest.split("train").shards[0]
    records = list(read_records(folder / shard.name))
    example = tf.train.Example.FromString(records[3])
    if harm == "image":
        example.features.feature["image"].bytes_list.value[0] = b"no such image"
    else:
        del example.features.feature["label"]
    records[3] = example.SerializeToString()
    content = b"".join(map(frame, records))
    (folder / shard.name).write_bytes(content)
    manifest = replace_bytes(data.manifest, len(content))
    with pytest.raises(InputError) as error, named_damage(folder, manifest, "train"):
        parse_batch(tf.constant(records), manifest, ("image", "label"))
    message = str(error.value)
    assert message.startswith(f"{folder / shard.name}: record 3: cannot be used (")
    assert message.endswith(f", {encoding}; restore it or convert again with --overwrite")


def replace_bytes(manifest, size):
    """The manifest with another size of the first train shard."""
    split = manifest.split("train")
    first = replace(split.shards[0], bytes=size)
    changed = replace(split, shards=(first, *split.shards[1:]))
    return replace(manifest, splits={**manifest.splits, "train": changed})


def test_whole_shards_leave_an_error_as_it_is(data):
    with (
        pytest.raises(tf.errors.InvalidArgumentError, match=r"^mine$"),
        named_damage(data.directory, data.manifest, "train"),
    ):
        raise tf.errors.InvalidArgumentError(None, None, "mine")


def test_other_errors_pass_without_reading_the_shards(harmed):
    harmed.paths("train")[0].unlink()
    with pytest.raises(KeyError), named_damage(harmed.directory, harmed.manifest, "train"):
        raise KeyError


def test_without_an_error_nothing_is_read(harmed):
    harmed.paths("train")[0].unlink()
    with named_damage(harmed.directory, harmed.manifest, "train"):
        pass
    with pytest.raises(InputError), named_damage(harmed.directory, harmed.manifest, "train"):
        raise tf.errors.DataLossError(None, None, "theirs")
