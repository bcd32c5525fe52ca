import pytest
import tensorflow as tf
from tensorflow.python.data.ops import multi_device_iterator_ops

from data_pipeline.autotune import distribute_without_autotune


def test_what_a_strategy_puts_behind_a_dataset_is_not_tuned(monkeypatch):
    seen = []
    monkeypatch.setattr(
        multi_device_iterator_ops, "_create_device_dataset", lambda *_: tf.data.Dataset.range(3)
    )
    distribute_without_autotune()
    distribute_without_autotune()
    made = multi_device_iterator_ops._create_device_dataset()
    seen += list(made.as_numpy_iterator())
    assert seen == [0, 1, 2]
    assert made.options().autotune.enabled is False


@pytest.mark.slow
def test_tensorflow_still_makes_them_there():
    """With the pinned TensorFlow the function is the one that a strategy calls."""
    distribute_without_autotune()
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
