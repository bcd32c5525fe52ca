import shutil

import pytest

from tfrecords.convert.conversion import convert_images
from tfrecords.convert.options import ConvertOptions
from tfrecords.errors import InputError
from tfrecords.example import decode
from tfrecords.folds.folded import folded, made_copy
from tfrecords.folds.held_out import Fold
from tfrecords.manifest import Manifest
from tfrecords.records import read_records
from tfrecords.verification.data_set import verify

FOLDS = [Fold(number, 3) for number in (1, 2, 3)]


@pytest.fixture(scope="module")
def conversion(image_folder, tmp_path_factory):
    """The drawn images, with more copies of NORMAL than of PNEUMONIA."""
    out = tmp_path_factory.mktemp("conversion") / "data"
    options = ConvertOptions(
        image_folder,
        out,
        size=(24, 32),
        val_fraction=0.2,
        test_fraction=0.25,
        copies=1,
        balance=True,
        workers=1,
    )
    convert_images(options)
    return out, Manifest.load(out)


@pytest.fixture(scope="module")
def data_sets(conversion, tmp_path_factory):
    cache = str(tmp_path_factory.mktemp("cache"))
    return [folded(*conversion, fold, cache_dir=cache) for fold in FOLDS]


def records(folder, manifest, split):
    return [decode(data) for s in manifest.split(split).shards for data in read_records(folder / s.name)]


def test_each_original_is_held_out_once_and_no_group_twice(conversion, data_sets):
    parents = [record for split in ("train", "val") for record in records(*conversion, split)]
    held = [records(*data, "val") for data in data_sets]
    assert all(record.copy == 0 for fold in held for record in fold)  # no copy is ever held out
    originals = {record.id: record for record in parents if record.copy == 0}
    assert sorted(record.id for fold in held for record in fold) == sorted(originals)
    for fold in held:
        assert all(record == originals[record.id] for record in fold)
    groups = [{record.group for record in fold} for fold in held]
    assert sum(map(len, groups)) == len(set().union(*groups))
    for data, fold in zip(data_sets, held, strict=True):
        train = records(*data, "train")
        assert not {record.group for record in train} & {record.group for record in fold}
        assert {record.id for record in train} | {record.id for record in fold} == set(originals)
        there = {(record.id, record.copy): record for record in parents}
        assert all(record == there.get((record.id, record.copy), record) for record in train)


def test_each_is_a_sound_data_set(conversion, data_sets):
    """With all copies that its manifest announces, also of images that the conversion has in val."""
    for folder, manifest in data_sets:
        assert verify(folder, workers=1) == []
        assert manifest.splits["test"] == conversion[1].splits["test"]
        assert manifest.copies_per_class == conversion[1].copies_per_class != ()
    assert len({manifest.plan for _, manifest in data_sets} | {conversion[1].plan}) == 4


def test_a_copy_is_made_as_the_conversion_makes_it(conversion):
    train = {(record.id, record.copy): record for record in records(*conversion, "train")}
    made = {
        key: made_copy(train[key[0], 0], key[1], conversion[1])
        for key, record in train.items()
        if record.copy
    }
    assert made == {key: record for key, record in train.items() if record.copy}
    assert len(made) > 30


def test_it_is_written_once(conversion, data_sets):
    folder, manifest = data_sets[0]
    said = []
    cache = str(folder.parent.parent)
    assert folded(*conversion, FOLDS[0], cache_dir=cache, log=said.append) == (folder, manifest)
    assert said == []
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    (folder / manifest.split("val").shards[0].name).unlink()  # somebody has removed a part of it
    folded(*conversion, FOLDS[0], cache_dir=cache, log=said.append)
    assert len(said) == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_damaged_conversion_is_named(conversion, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(conversion[0], folder)
    shard = folder / conversion[1].split("val").shards[0].name
    data = bytearray(shard.read_bytes())
    data[-20] ^= 1
    shard.write_bytes(data)
    with pytest.raises(InputError, match="record"):
        folded(folder, conversion[1], FOLDS[0], cache_dir=str(tmp_path / "cache"))
    assert not list((tmp_path / "cache" / "folds").glob("*fold*/"))
