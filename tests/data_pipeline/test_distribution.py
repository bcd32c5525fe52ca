import pytest
import tensorflow as tf
from tensorflow.python.data.ops import multi_device_iterator_ops

from data_pipeline.distribution import mend_distribution


def test_what_a_strategy_puts_behind_a_dataset_is_not_tuned(monkeypatch):
    seen = []
    monkeypatch.setattr(
        multi_device_iterator_ops, "_create_device_dataset", lambda *_: tf.data.Dataset.range(3)
    )
    mend_distribution()
    mend_distribution()
    made = multi_device_iterator_ops._create_device_dataset()
    seen += list(made.as_numpy_iterator())
    assert seen == [0, 1, 2]
    assert made.options().autotune.enabled is False


@pytest.mark.slow
def test_tensorflow_still_makes_them_there():
    """With the pinned TensorFlow the function is the one that a strategy calls."""
    mend_distribution()
    strategy, calls = tf.distribute.OneDeviceStrategy("CPU:0"), []
    real = multi_device_iterator_ops._create_device_dataset
    assert real.tunes_nothing

    def counted(*args, **kwargs):
        calls.append(real(*args, **kwargs))
        return calls[-1]

    multi_device_iterator_ops._create_device_dataset = counted
    try:
        batches = strategy.distribute_datasets_from_function(lambda _: tf.data.Dataset.range(8).batch(4))
        assert len(list(batches)) == 2
    finally:
        multi_device_iterator_ops._create_device_dataset = real
    assert calls
    assert calls[0].options().autotune.enabled is False


# An element takes about a tenth of a second, so the iterator is dropped while it makes one.
DROPPED = """
import gc
import sys
import tensorflow as tf
from data_pipeline.distribution import mend_distribution

mend_distribution()
if sys.argv[1] == "mirrored":
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
else:
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")

def dataset(_):
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = False
    return tf.data.Dataset.range(10**12).batch(500_000).with_options(options)

for _ in range(5):
    batches = iter(strategy.distribute_datasets_from_function(dataset))
    next(batches)
    del batches
    gc.collect()
print("alive")
"""


@pytest.mark.stops
@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_an_iterator_can_be_dropped_while_it_makes_a_batch(run_python, strategy):
    done = run_python("-c", DROPPED, strategy)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr[-3000:]
