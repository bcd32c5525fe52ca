import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline import copies
from data_pipeline.damage import named_damage
from data_pipeline.dataset import epoch_steps, make_dataset
from data_pipeline.options import PipelineOptions
from tfrecords.errors import InputError
from tfrecords.records import read_records

EPOCHS = 40


def splitmix64(number):
    """The published function, in Python's own numbers."""
    number = (number + 0x9E3779B97F4A7C15) % 2**64
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    number = (number ^ number >> 27) * 0x94D049BB133111EB % 2**64
    return number ^ number >> 31


def copy_shown(seed, epoch, source, variants):
    bits = 0
    for word in (copies._SALT, seed, epoch, source):
        bits = splitmix64(bits ^ word)
    return bits % variants


def epochs(data, cache, used, count, *, seed=0, batch=8):
    """Returns the records of `count` epochs, as lists of (source, copy)."""
    options = PipelineOptions(
        global_batch_size=batch, cache=cache, copies=used, seed=seed, shuffle_window=16 << 10
    )
    steps = epoch_steps(data.manifest, "train", options, training=True)
    size = copies.records_per_epoch(data.manifest, "train", used)
    dataset = make_dataset(
        data.directory, data.manifest, "train", options, training=True, fields=("source", "copy")
    )
    found = list(dataset.take(count * steps).as_numpy_iterator())
    rows = [pair for one in found for pair in zip(one["source"].tolist(), one["copy"].tolist(), strict=True)]
    return [rows[at : at + size] for at in range(0, count * steps * batch, steps * batch)]


@pytest.fixture(params=["data", "levelled"])
def set_of_copies(request):
    return request.getfixturevalue(request.param)


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["memory", "stream"])
def test_one_variant_of_each_image_is_drawn_from_seed_epoch_and_image(set_of_copies, cache):
    data = set_of_copies
    images = {record.source: record.label for record in data.records("train")}
    assert len(images) == data.manifest.split("train").images
    for epoch, found in enumerate(epochs(data, cache, "one", 3, seed=7)):
        assert sorted(found) == [
            (source, copy_shown(7, epoch, source, 1 + data.manifest.copies_of("train", images[source])))
            for source in sorted(images)
        ]


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["memory", "stream"])
def test_none_shows_the_originals(set_of_copies, cache):
    originals = [(r.source, 0) for r in set_of_copies.records("train") if r.copy == 0]
    first, second = epochs(set_of_copies, cache, "none", 2)
    assert sorted(first) == sorted(second) == sorted(originals)
    assert first != second


def test_variants_are_drawn_uniformly_and_each_epoch_anew(levelled):
    """Chi-square of 40 epochs over each image's own number of variants, below its 0.999 quantile."""
    found = epochs(levelled, "memory", "one", EPOCHS, seed=3)
    images = {record.source: record.label for record in levelled.records("train")}
    assert sorted(set(levelled.manifest.copies_per_class)) == [1, 2]
    for label, copies_of in enumerate(levelled.manifest.copies_per_class):
        of_class = [copy for epoch in found for source, copy in epoch if images[source] == label]
        counts = np.bincount(of_class)
        assert len(counts) == 1 + copies_of
        expected = len(of_class) / len(counts)
        assert ((counts - expected) ** 2 / expected).sum() < (10.83, 13.82)[copies_of - 1]
    chosen = np.array([[copy for _, copy in sorted(epoch)] for epoch in found], float)
    assert np.abs(np.corrcoef(chosen)[np.triu_indices(EPOCHS, 1)]).max() < 5 / np.sqrt(chosen.shape[1])


def test_sizes_and_class_weights_follow_from_the_manifest(levelled):
    records = levelled.records("train")
    originals = Counter(record.label for record in records if record.copy == 0)
    manifest = levelled.manifest
    for used, size in (("all", len(records)), ("one", originals.total()), ("none", originals.total())):
        assert copies.records_per_epoch(manifest, "train", used) == size
        options = PipelineOptions(global_batch_size=7, copies=used)
        assert epoch_steps(manifest, "train", options, training=True) == -(-size // 7)
        assert epoch_steps(manifest, "train", options, training=False) == -(-len(records) // 7)
    assert copies.class_weights(manifest, "all") == manifest.class_weights()
    expected = tuple(originals.total() / (2 * originals[label]) for label in (0, 1))
    assert copies.class_weights(manifest, "one") == copies.class_weights(manifest, "none") == expected
    assert expected != manifest.class_weights()
    assert copies.weights_in_words(manifest, "one") == str(expected)


def test_many_class_weights_in_few_words(levelled):
    train = replace(levelled.manifest.splits["train"], records_per_class=(50, *[100] * 1999))
    names = tuple(map(str, range(2000)))
    many = replace(levelled.manifest, class_names=names, splits={"train": train})
    assert copies.weights_in_words(many, "all") == "from 0.99975 to 1.9995"  # 199,950 / 2,000 / 100 and 50


@pytest.mark.parametrize("cache", ["memory", "stream"])
def test_an_evaluation_shows_all_whatever_the_copies(levelled, cache):
    options = PipelineOptions(global_batch_size=8, cache=cache, copies="one", augment="standard")
    request = (levelled.directory, levelled.manifest, "train", options)
    found = list(
        make_dataset(*request, training=False, fields=("source", "copy", "weight")).as_numpy_iterator()
    )
    assert sum(one["weight"].sum() for one in found) == levelled.manifest.split("train").records
    assert sorted(found[0]) == ["copy", "source", "weight"]


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["memory", "stream"])
def test_without_copies_there_is_nothing_to_choose(data, cache):
    request = {"training": True, "fields": ("id",)}
    orders = [
        [
            one["id"].tolist()
            for one in make_dataset(
                data.directory, data.manifest, "val", PipelineOptions(8, cache, copies=used), **request
            )
            .take(3)
            .as_numpy_iterator()
        ]
        for used in ("all", "one", "none")
    ]
    assert orders[0] == orders[1] == orders[2]


@pytest.mark.slow
@pytest.mark.parametrize("used", ["one", "none"])
def test_a_lost_record_is_named_though_it_is_not_shown(harmed, used, facts):
    path = harmed.paths("train")[0]
    *whole, last = read_records(path)
    size = path.stat().st_size - len(last) - 16
    path.write_bytes(path.read_bytes()[:size])
    data, options = harmed.patched("train", 0, bytes=size), PipelineOptions(8, "stream", copies=used)
    stream = make_dataset(
        data.directory, data.manifest, "train", options, training=True, fields=("id", "weight")
    )
    with pytest.raises(InputError) as caught, named_damage(data.directory, data.manifest, "train"):
        list(stream.take(6))
    assert re.search(
        facts(
            f"{path}: has {len(whole)} records, the manifest says {len(whole) + 1}; restore it or convert "
            f"again with --overwrite"
        ),
        str(caught.value),
    )


@pytest.mark.parametrize("used", ["one", "none"])
@pytest.mark.parametrize("change", ["doubled copy", "images", "copies"])
def test_records_that_are_not_the_manifests_are_refused(data, used, change, facts):
    records = data.records("train")
    columns = {name: np.array([getattr(r, name) for r in records]) for name in copies.FIELDS}
    manifest = data.manifest
    assert copies.Choice.of(columns, manifest, "train", used).record.size == len(records)
    if change == "doubled copy":
        columns["copy"][0] = (columns["copy"][0] + 1) % 4
    elif change == "images":
        columns["source"][columns["source"] == columns["source"][0]] = 10_000
        columns["source"][-1] = 10_001
    else:
        manifest = replace(manifest, copies=2)
    with pytest.raises(InputError) as caught:
        copies.Choice.of(columns, manifest, "train", used)
    assert re.search(
        facts(
            f"--copies={used}: the records of split 'train' are not 40 images with {manifest.copies} "
            f"augmented copies of each train image; use --copies=all, or convert again"
        ),
        str(caught.value),
    )


def test_golden_copies():
    """Pinned: a run resumed with another version must go on with the same variants."""
    source = tf.range(12, dtype=tf.int64)
    found = copies.drawn_variants(
        source, tf.fill([12], tf.constant(4, tf.int64)), seed=7, epoch=tf.constant(3, tf.int64)
    )
    assert found.numpy().tolist() == [copy_shown(7, 3, number, 4) for number in range(12)]
    assert found.numpy().tolist() == [2, 2, 2, 3, 0, 2, 1, 0, 0, 2, 3, 2]
