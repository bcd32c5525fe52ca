"""The files for other tools, read by TensorFlow Datasets itself where it is installed."""

import json
import re
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tfrecords.convert.conversion import convert_images
from tfrecords.convert.options import ConvertOptions
from tfrecords.errors import InputError
from tfrecords.example import decode
from tfrecords.interop.companions import check_companions, write_companions
from tfrecords.interop.tfds import TFDS_NAMES, tfds_files
from tfrecords.manifest import Manifest
from tfrecords.records import read_records
from tfrecords.show.contact_sheet import pixels
from tfrecords.verification.data_set import verify

KINDS = [(encoding, channels) for encoding in ("raw", "png", "jpeg") for channels in (1, 3)]


@pytest.fixture(scope="module")
def tfds():
    return pytest.importorskip(
        "tensorflow_datasets", reason="tensorflow-datasets is not installed: the extra `interop` has it"
    )


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: f"{kind[0]}-{kind[1]}")
def data(request, image_folder, tmp_path_factory):
    """One conversion of each kind, of several shards; copy it to harm it."""
    encoding, channels = request.param
    out = tmp_path_factory.mktemp("converted") / "data"
    options = ConvertOptions(
        image_folder, out, size=(64, 56), channels=channels, encoding=encoding, shard_size=1 << 16, workers=1
    )
    convert_images(options)
    return out


@pytest.fixture(scope="module")
def raw(image_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("raw") / "data"
    options = ConvertOptions(image_folder, out, size=(32, 28), shard_size=1 << 16, workers=1, dali_index=True)
    convert_images(options)
    return out


def records_of(data, split):
    shards = Manifest.load(data).split(split).shards
    return [decode(record) for shard in shards for record in read_records(data / shard.name)]


def stamps(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.rglob("*")}


# ---- read by TensorFlow Datasets


def test_tensorflow_datasets_reads_every_record(tfds, data):
    import tensorflow as tf

    manifest = Manifest.load(data)
    builder = tfds.builder_from_directory(str(data))
    assert set(builder.info.splits) == {"train", "val", "test"}
    for split in manifest.splits:
        ours = {(record.id, record.copy): record for record in records_of(data, split)}
        theirs = list(builder.as_dataset(split=split).as_numpy_iterator())
        assert len(theirs) == len(ours) == builder.info.splits[split].num_examples
        assert {(one["id"], one["copy"]) for one in theirs} == ours.keys()
        for one in theirs:
            record = ours[one["id"], one["copy"]]
            assert one.keys() == {"image", "label", "id", "source", "copy", "group"}
            assert (one["label"], one["source"], one["group"]) == (record.label, record.source, record.group)
            expected = pixels(record, manifest)
            if manifest.encoding == "jpeg":  # of which Pillow's decoder and TensorFlow's differ a little
                assert np.abs(expected.astype(int) - one["image"]).mean() < 2
                expected = tf.io.decode_image(record.image, manifest.image_shape[-1]).numpy()
            assert (one["image"].dtype, one["image"].shape) == (np.uint8, manifest.image_shape)
            np.testing.assert_array_equal(one["image"], expected)


def test_tensorflow_datasets_knows_what_the_manifest_knows(tfds, data):
    manifest = Manifest.load(data)
    info = tfds.builder_from_directory(str(data)).info
    assert (info.name, str(info.version), info.supervised_keys) == ("chest_xray", "1.0.0", ("image", "label"))
    assert info.features["label"].names == list(manifest.class_names)
    assert info.features["image"].shape == manifest.image_shape
    for name, split in manifest.splits.items():
        theirs = info.splits[name]
        assert theirs.shard_lengths == [shard.records for shard in split.shards]
        assert theirs.num_bytes == sum((data / shard.name).stat().st_size for shard in split.shards)
        assert sorted(theirs.filenames) == [shard.name for shard in split.shards]
    assert len(manifest.split("train").shards) > 1 or manifest.encoding != "raw"


def test_the_description_is_the_one_that_tensorflow_datasets_writes(tfds, data, tmp_path):
    manifest = Manifest.load(data)
    of = tfds.features
    if manifest.encoding == "raw":
        image = of.Tensor(shape=manifest.image_shape, dtype=np.uint8, encoding="bytes")
    else:
        image = of.Image(shape=manifest.image_shape, encoding_format=manifest.encoding)
    features = of.FeaturesDict({
        "image": image, "label": of.ClassLabel(names=list(manifest.class_names)), "id": of.Text(),
        "group": of.Text(), "source": of.Scalar(np.int64), "copy": of.Scalar(np.int64),
    })  # fmt: skip
    features.save_config(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"features.json", "label.labels.txt"}
    theirs = json.loads((tmp_path / "features.json").read_text())
    assert json.loads((data / "features.json").read_text()) == theirs
    assert (data / "label.labels.txt").read_bytes() == (tmp_path / "label.labels.txt").read_bytes()


def test_a_part_of_a_split_and_pairs(tfds, raw):
    builder = tfds.builder_from_directory(str(raw))
    records = records_of(raw, "train")
    part = builder.as_dataset(split="train[10:30]").as_numpy_iterator()
    assert [one["id"] for one in part] == [record.id for record in records[10:30]]
    pairs = builder.as_dataset(split="train", as_supervised=True).as_numpy_iterator()
    assert Counter((image.tobytes(), int(label)) for image, label in pairs) == Counter(
        (record.image, record.label) for record in records
    )


@pytest.mark.parametrize(
    ("names", "lines"),
    [
        (("NORMAL", "PNEUMONIA"), ("NORMAL", "PNEUMONIA")),
        (("a b", "a%20b", "ü"), ("a b", "a%20b", "ü")),
        ((" a", "a"), ("%20a", "a")),
        ((" a", "%20a"), ("%20a", "%2520a")),
        (("a\nb", "c"), ("a%0Ab", "c")),
        ((" ", "x/y"), ("%20", "x%2Fy")),
        (("caf\udce9", "café"), ("caf%E9", "caf%C3%A9")),
    ],
)
def test_every_class_name_is_a_line_of_its_own(tfds, raw, tmp_path, names, lines):
    manifest = replace(Manifest.load(raw), class_names=names)
    write_companions(tmp_path, manifest, index=False)
    assert (tmp_path / "label.labels.txt").read_text(encoding="utf-8") == "".join(f"{n}\n" for n in lines)
    label = tfds.builder_from_directory(str(tmp_path)).info.features["label"]
    assert (label.num_classes, label.names) == (len(names), list(lines))


@pytest.mark.parametrize("name", ["5_scans", "a_train_2", "x"])
def test_any_name_of_a_data_set(tfds, image_folder, tmp_path, name):
    options = ConvertOptions(image_folder, tmp_path, name=name, size=(8, 8), copies=0, workers=1)
    convert_images(options)
    dataset = tfds.builder_from_directory(str(tmp_path)).as_dataset(split="val")
    ids = {one["id"] for one in dataset.as_numpy_iterator()}
    assert ids == {record.id for record in records_of(tmp_path, "val")}


# ---- as files


def test_they_follow_from_the_manifest_alone(raw, tmp_path):
    write_companions(tmp_path, Manifest.load(raw), index=False)
    assert {path.name for path in tmp_path.iterdir()} == set(TFDS_NAMES)
    for name in TFDS_NAMES:
        assert (tmp_path / name).read_bytes() == (raw / name).read_bytes()


def test_what_is_right_is_left_alone(raw):
    before = stamps(raw)
    write_companions(raw, Manifest.load(raw), index=True)
    assert stamps(raw) == before


def test_the_same_conversion_again_mends_them(image_folder, raw, tmp_path):
    out = shutil.copytree(raw, tmp_path / "data")
    whole = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (out / "features.json").unlink()
    (out / "dataset_info.json").write_text("{}")
    next((out / "index").iterdir()).unlink()
    options = ConvertOptions(image_folder, out, size=(32, 28), shard_size=1 << 16, workers=1)
    assert convert_images(options).was_complete
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == whole


@pytest.mark.parametrize("name", TFDS_NAMES)
@pytest.mark.parametrize("harm", ["missing", "changed", "folder"])
def test_verify_names_what_is_harmed(raw, tmp_path, name, harm):
    out = shutil.copytree(raw, tmp_path / "data")
    path = out / name
    content = path.read_bytes()
    path.unlink()
    if harm == "folder":
        path.mkdir()
    elif harm == "changed":
        path.write_bytes(content[:-2] + b"\n")
    what = "is not as it was written" if harm == "changed" else "is not there or cannot be read"
    expected = [f"{path}: {what}; run the same conversion again to write it"]
    assert check_companions(out, Manifest.load(out)) == expected
    assert verify(out, workers=1) == verify(out, quick=True, workers=1) == expected


def test_a_file_that_cannot_be_written(raw, tmp_path, facts):
    (tmp_path / "features.json").mkdir()
    with pytest.raises(InputError) as caught:
        write_companions(tmp_path, Manifest.load(raw), index=False)
    assert re.search(
        facts(
            f"{tmp_path}/features.json: cannot be written: Is a directory; make room or choose another folder"
        ),
        str(caught.value),
    )


def test_the_numbers_are_strings_as_in_json_of_protocol_buffers(raw):
    """Which holds 64-bit numbers that JSON readers would round otherwise."""
    info = json.loads(tfds_files(Manifest.load(raw))["dataset_info.json"])
    assert {type(split["numBytes"]) for split in info["splits"]} == {str}
    assert {type(length) for split in info["splits"] for length in split["shardLengths"]} == {str}
