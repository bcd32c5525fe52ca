import numpy as np
import pytest

from data_pipeline.benchmark.chart import chart
from data_pipeline.benchmark.stages import (
    LIMIT,
    STAGES,
    StageCost,
    StagePlan,
    _dataset,
    measure_stages,
    spread,
    stage_count,
)
from data_pipeline.dataset import make_dataset
from data_pipeline.options import PipelineOptions
from tfrecords.errors import InputError

pytestmark = pytest.mark.slow


def plan(data, cache, encoding="raw"):
    options = PipelineOptions(global_batch_size=16, cache=cache, shuffle_window=32 << 10)
    return StagePlan(data.directory, data.manifest, "train", options, "/cpu:0", seconds=0.02, repeats=2)


@pytest.mark.stops
@pytest.mark.parametrize("cache", ["stream", "memory", "device"])
def test_every_stage_is_measured_and_the_limit_beside(data, cache):
    measured = plan(data, cache)
    rows = list(measure_stages(measured))
    gathered = [] if cache == "stream" else [(cache, "batch"), (cache, "copy to device")]
    assert [(row.tier, row.stage) for row in rows] == [
        *(("stream", stage) for stage in STAGES), *gathered, ("", LIMIT)
    ]  # fmt: skip
    assert len(rows) == stage_count(measured)
    for row in rows:
        assert row.images_per_second > 0
        assert row.cpu_us_per_image > 0
        assert row.memory_bytes >= 0
        assert (row.start_seconds > 0) == (row.stage != LIMIT)
        assert len(row.repeats) == 2
        assert min(row.repeats) <= row.images_per_second <= max(row.repeats)
    own = [row.own_cpu_us_per_image for row in rows if row.tier == "stream"]
    assert sum(own) == pytest.approx(rows[len(STAGES) - 1].cpu_us_per_image)


@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_each_stage_does_what_its_name_says(converted, encoding):
    data = converted(encoding)
    first = {stage: next(iter(_dataset(plan(data, "stream"), "stream", stage))) for stage in STAGES}
    assert first["read"].shape == first["shuffle"].shape == (16,)
    assert set(first["read"].numpy()) != set(first["shuffle"].numpy())
    assert first["parse"]["image"].dtype.name == "string"
    assert first["decode"]["image"].shape == first["batch"]["image"].shape == (16, 32, 40, 1)
    # What is measured is what training gets.
    (trained,) = make_dataset(
        data.directory, data.manifest, "train", plan(data, "stream").options, training=True
    ).take(1)
    for name in ("image", "label"):
        np.testing.assert_array_equal(first["batch"][name], trained[name])
        np.testing.assert_array_equal(first["decode"][name], trained[name])


def test_a_damaged_shard_is_named(harmed):
    path = harmed.paths("train")[0]
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=path.name):
        list(measure_stages(plan(harmed, "stream")))


def test_the_spread_of_repeats():
    row = StageCost("stream", "read", 100.0, 1.0, 1.0, 0, 0.1, (80.0, 100.0, 120.0))
    assert spread(row) == pytest.approx(0.4)
    assert row.to_json()["repeats"] == [80.0, 100.0, 120.0]


def test_the_chart_is_a_picture_of_every_row():
    rows = [StageCost("stream", stage, 10.0**n, n, n, 0, 0.1, (1.0,)) for n, stage in enumerate(STAGES, 1)]
    small, large = chart(rows[:2], "a $_title"), chart([*rows, *rows], "a title")
    assert small.startswith(b"\x89PNG")
    heights = [int.from_bytes(png[20:24], "big") for png in (small, large)]
    assert heights[1] > heights[0]
    assert chart(rows, "one") == chart(rows, "one")
