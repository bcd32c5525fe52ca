"""The batches of a data set, and what is stored of it."""

import numpy as np

from data_pipeline.dataset import make_dataset
from data_pipeline.options import PipelineOptions, Worker

KEYS = ("id", "copy", "weight")
# A stream's window of some 40 records: neither no shuffle nor one of all records.
WINDOW = 64 << 10


def options_of(cache, batch, **others):
    return PipelineOptions(global_batch_size=batch, cache=cache, **{"shuffle_window": WINDOW} | others)


def batches(data, options, steps=None, *, split="train", **request):
    """Returns a worker's batches as dicts of arrays: `steps` of them, or all of an evaluation."""
    request = {"training": steps is not None, "fields": KEYS} | request
    dataset = make_dataset(data.directory, data.manifest, split, options, **request)
    return list((dataset if steps is None else dataset.take(steps)).as_numpy_iterator())


def keys(found):
    """Returns what says which records these are: (id, copy) for each row."""
    return [key for batch in found for key in zip(batch["id"].tolist(), batch["copy"].tolist(), strict=True)]


def stored(data, split):
    return [(record.id, record.copy) for record in data.records(split)]


def joined(parts):
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def global_batches(data, options, workers, replicas, steps=None, **request):
    """Returns each global batch: the parts of all replicas of all workers, in the order of their ranks."""
    streams = [
        batches(
            data,
            options,
            steps and steps * replicas,
            worker=Worker(index, workers, replicas),
            **request,
        )
        for index in range(workers)
    ]
    assert len({len(stream) for stream in streams}) == 1
    assert len(streams[0]) % replicas == 0
    return [
        joined([part for stream in streams for part in stream[at : at + replicas]])
        for at in range(0, len(streams[0]), replicas)
    ]


def assert_same(found, expected):
    """Checks that two lists of batches have the same fields with the same values."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
