import shutil
import tracemalloc

import numpy as np
import pytest

from tfrecords.errors import InputError
from tfrecords.example import decode
from tfrecords.manifest import Manifest
from tfrecords.records import read_records
from trainer.baseline import reading
from trainer.baseline.grids import GRIDS
from trainer.baseline.options import BaselineOptions
from trainer.baseline.reading import TrainSplit, allowed_jobs, memory_needed, read_train
from trainer.baseline.search import fit, group_folds, search
from trainer.classical.features import area_means
from trainer.config import BASELINES


@pytest.fixture(scope="module")
def manifest(converted):
    return Manifest.load(converted)


def options(converted, **values):
    return BaselineOptions(data=str(converted), run_dir="r", **values)


def test_the_originals_of_train_are_read_and_nothing_else(converted, manifest, tmp_path):
    shards = manifest.split("train").shards
    records = [decode(data) for shard in shards for data in read_records(converted / shard.name)]
    originals = [record for record in records if record.copy == 0]
    assert len(originals) < len(records)  # else this could not fail
    alone = shutil.copytree(converted, tmp_path / "data")
    for split in ("val", "test"):
        for shard in manifest.split(split).shards:
            (alone / shard.name).unlink()
    train = read_train(alone, manifest, 16)
    images = np.stack([np.frombuffer(r.image, np.uint8).reshape(manifest.image_shape) for r in originals])
    assert np.array_equal(train.features, area_means(images, 16))
    assert train.features.dtype == np.float32
    assert train.labels.tolist() == [record.label for record in originals]
    names = [record.group for record in originals]
    assert (
        len(set(zip(names, train.groups.tolist(), strict=True))) == len(set(names)) == train.groups.max() + 1
    )


def test_the_search_reads_no_val_and_no_test(converted, manifest, tmp_path):
    """It works where their shards are not there."""
    alone = shutil.copytree(converted, tmp_path / "data")
    for split in ("val", "test"):
        for shard in manifest.split(split).shards:
            (alone / shard.name).unlink()
    train = read_train(alone, manifest, 16)
    assert len(train.labels) == manifest.split("train").images
    folds = group_folds(train.labels, train.groups, most=3, seed=0, class_names=manifest.class_names)
    out = np.sort(np.concatenate([held for _, held in folds]))
    assert out.tolist() == list(range(len(train.labels)))  # each train record is held out once
    best = search(
        train, folds, "logistic", seed=0, jobs=1, known={}, keep=lambda *_: None, log=lambda _: None
    )
    assert 0 <= best.auroc <= 1


def test_a_damaged_shard_is_named(converted, manifest, tmp_path):
    harmed = shutil.copytree(converted, tmp_path / "data")
    path = harmed / manifest.split("train").shards[0].name
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(InputError, match=path.name):
        read_train(harmed, manifest, 16)


@pytest.mark.parametrize("model", BASELINES)
def test_memory_is_refused_before_anything_is_read(converted, manifest, model):
    one, two = (memory_needed(options(converted, model=model), manifest, jobs) for jobs in (1, 2))
    assert one < two

    def allowed(free, jobs):
        return allowed_jobs(options(converted, model=model, jobs=jobs), manifest, cores=8, free=free)

    assert allowed(two, 2) == 2
    assert allowed(two, 0) == 2  # as many as fit
    assert allowed(1 << 40, 0) == 8  # as there are cores
    with pytest.raises(InputError, match="lower --jobs=2"):
        allowed(two - 1, 2)
    for jobs in (0, 1):
        with pytest.raises(InputError, match=r"--pixels=64 .* lower --pixels=64"):
            allowed(one - 1, jobs)


def test_fewer_pixels_need_less(converted, manifest):
    needed = [memory_needed(options(converted, pixels=pixels), manifest, 1) for pixels in (8, 16, 32)]
    assert needed == sorted(set(needed))


@pytest.mark.slow
@pytest.mark.parametrize("model", BASELINES)
def test_a_search_takes_no_more_memory_than_was_said(model):
    """The part that grows with the data, of arrays that NumPy has: what libraries take for themselves is in
    the sum that is added for all."""
    records, shape = 300, (48, 48, 1)
    random = np.random.default_rng(0)
    train = TrainSplit(
        random.random((records, shape[0] * shape[1]), np.float32),
        random.integers(0, 2, records),
        np.arange(records) // 2,
    )
    folds = group_folds(train.labels, train.groups, most=2, seed=0, class_names=("a", "b"))
    bytes_of = 4 * train.features.size
    allowed = bytes_of * reading._COPIES[model] + records * reading._BYTES_A_RECORD[model]
    tracemalloc.start()
    try:
        fit(train, folds, model, GRIDS[model][0], seed=0, jobs=1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= allowed, peak / bytes_of
