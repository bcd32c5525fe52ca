import time

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.measuring import BatchReader, Cost, PeakMemory, copy_limit, median_cost, timed


def test_a_cost_in_the_units_that_are_shown():
    cost = Cost(images=200, seconds=0.5, cpu_seconds=0.01)
    assert cost.images_per_second == 400
    assert cost.cpu_us_per_image == pytest.approx(50)


def test_medians_are_of_each_figure_for_itself():
    costs = [Cost(10, 1, 3), Cost(20, 1, 1), Cost(40, 1, 40)]
    assert median_cost(costs) == (20, pytest.approx(300_000))


def test_the_images_of_the_work_are_counted():
    cost = timed(lambda: 7)
    assert cost.images == 7
    assert cost.seconds > 0
    assert cost.cpu_seconds >= 0


def test_memory_that_was_taken_and_freed_again_is_seen():
    with PeakMemory() as memory:
        block = np.ones(64 << 20, np.uint8)
        assert block[-1] == 1
        time.sleep(0.2)  # several looks
        del block
    assert 60 << 20 < memory.grown < 200 << 20


@pytest.mark.parametrize("device", [None, "/cpu:0"])
def test_each_batch_is_drawn_once_and_counted(device):
    counter = tf.data.Dataset.range(1 << 40).map(lambda n: {"image": tf.fill([4, 2], n)})
    seen = []

    def arrive(batch):
        tf.debugging.assert_equal(tf.shape(batch["image"]), [4, 2])
        seen.append(batch)
        return batch

    drawer = BatchReader(counter, 4, device, arrive)
    drawer.draw(5)
    cost = drawer.draw_for(0.01)
    assert cost.images % 4 == 0
    next_up = int(next(drawer._batches)["image"][0, 0])
    assert next_up == 5 + cost.images // 4
    assert bool(seen) == (device is not None)


@pytest.mark.parametrize(("records", "batch"), [(100, 8), (3, 8), (1, 1)])
def test_the_limit_is_measured_for_any_sizes(records, batch):
    cost = copy_limit(36, records, batch)(0.01)
    assert cost.images > 0
    assert cost.images % batch == 0
