"""--sampling in the tiers that hold a split; the natural order is in tests/data_pipeline/test_order.py."""

from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.dataset import epoch_steps, make_dataset
from data_pipeline.options import PipelineOptions, Worker
from data_pipeline.tiers.device import DeviceTier
from tfrecords.errors import InputError

FIELDS = ("source", "copy", "label", "group")
EPOCHS = 2


@pytest.fixture
def weights(data, tmp_path):
    """A file with weights from 0 to 6 for the train images."""
    path = tmp_path / "weights.csv"
    names = sorted({record.id.decode() for record in data.records("train")})
    path.write_text("id,weight\n" + "".join(f"{name},{number % 7}\n" for number, name in enumerate(names)))
    return str(path)


@pytest.fixture(params=["class", "group", "file"])
def sampling(request, weights):
    return weights if request.param == "file" else request.param


def options_of(sampling, cache="memory", **values):
    return PipelineOptions(
        **{"global_batch_size": 24, "augment": "standard", "seed": 3} | values, cache=cache, sampling=sampling
    )


def batches(data, options, count, *, start_step=0, workers=1, fields=FIELDS):
    """Returns global batches as lists of rows, put together from all workers; the last column is the key."""
    parts = [
        make_dataset(
            data.directory,
            data.manifest,
            "train",
            options,
            training=True,
            start_step=start_step,
            worker=Worker(index, workers),
            fields=fields,
        )
        .take(count)
        .as_numpy_iterator()
        for index in range(workers)
    ]
    return [
        [
            row
            for part in step
            for row in zip(*(part[name].tolist() for name in (*fields, "key")), strict=True)
        ]
        for step in zip(*parts, strict=True)
    ]


def steps_of(data, options):
    return epoch_steps(data.manifest, "train", options, training=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampling", "copies", "last_batch"),
    [("class", "all", "wrap"), ("group", "one", "drop"), ("file", "none", "wrap")],
    indirect=["sampling"],
)
def test_the_order_is_that_of_any_tier_number_of_workers_and_start(data, sampling, copies, last_batch):
    chosen = {"copies": copies, "last_batch": last_batch}
    options = options_of(sampling, **chosen)
    steps = steps_of(data, options)
    assert steps == steps_of(data, options_of("natural", **chosen))
    whole = batches(data, options, EPOCHS * steps + 1)
    assert whole[:steps] != whole[steps : 2 * steps]
    assert batches(data, options_of(sampling, "disk", **chosen), EPOCHS * steps + 1) == whole
    for workers in (2, 3):
        assert batches(data, options, EPOCHS * steps + 1, workers=workers) == whole
    for start in (1, steps - 1, steps):
        assert batches(data, options, 2, start_step=start, workers=2) == whole[start : start + 2]


@pytest.mark.slow
def test_the_device_looks_the_same_records_up(data, sampling):
    held = batches(data, options_of(sampling), 3)
    source = DeviceTier().load(data.directory, data.manifest, "train", ("source", "copy"), "")
    device = make_dataset(
        data.directory, data.manifest, "train", options_of(sampling, "device"), training=True
    )
    for rows, batch in zip(held, device.take(3), strict=True):
        found = [tf.gather(source[name], batch["index"]).numpy().tolist() for name in ("source", "copy")]
        assert [(row[0], row[1], row[-1]) for row in rows] == list(
            zip(*found, batch["key"].numpy().tolist(), strict=True)
        )


@pytest.mark.slow
@pytest.mark.parametrize("copies", ["all", "one", "none"])
def test_an_epoch_has_the_shares_that_are_asked_for(levelled, copies):
    records = levelled.records("train")
    for sampling, column in (("class", 2), ("group", 3)):
        options = options_of(sampling, copies=copies, global_batch_size=1)
        size = steps_of(levelled, options)
        rows = [row for [row] in batches(levelled, options, size)]
        kinds = {(record.label, record.group)[column - 2] for record in records}
        counts = Counter(row[column] for row in rows)
        assert max(abs(counts[kind] - size / len(kinds)) for kind in kinds) < 1
        assert copies != "none" or not any(row[1] for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("copies", ["all", "one", "none"])
def test_what_comes_again_is_changed_anew(data, copies):
    """Each repetition has another key, and with --copies=one the next variant."""
    options = options_of("class", copies=copies, global_batch_size=1)
    rows = [row for [row] in batches(data, options, steps_of(data, options))]
    again = Counter(row[:2] for row in rows)
    assert max(again.values()) > 1 or copies == "one"
    assert len({row[-1] for row in rows}) == len(rows)
    if copies == "one":
        shown = Counter(row[0] for row in rows)
        for source, times in shown.items():
            variants = {row[1] for row in rows if row[0] == source}
            assert len(variants) == min(times, 1 + data.manifest.copies)


@pytest.mark.slow
def test_weights_are_those_of_images(data, weights):
    options = options_of(weights, global_batch_size=1)
    size = steps_of(data, options)
    names = sorted({record.id.decode() for record in data.records("train")})
    of_image = {record.source: names.index(record.id.decode()) % 7 for record in data.records("train")}
    counts = Counter(row[0] for [row] in batches(data, options, size))
    for source, weight in of_image.items():
        expected = size * weight / sum(of_image.values())
        assert np.floor(expected) <= counts[source] <= np.ceil(expected)


def test_an_evaluation_shows_each_record_once(data, sampling):
    found = make_dataset(
        data.directory, data.manifest, "train", options_of(sampling), training=False, fields=("id", "weight")
    )
    rows = sum(int(batch["weight"].sum()) for batch in found.as_numpy_iterator())
    assert rows == data.manifest.split("train").records


def test_a_file_of_other_images_is_refused(data, tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("id,weight\nelsewhere.png,1\n")
    with pytest.raises(InputError, match=f"--sampling={path}: 1 of its 1 ids .* elsewhere.png"):
        make_dataset(data.directory, data.manifest, "train", options_of(str(path)), training=True)
