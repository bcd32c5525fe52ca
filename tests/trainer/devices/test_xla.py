import keras
import pytest

from tfrecords.errors import InputError
from trainer.devices.xla import compiled


def model(*layers):
    return keras.Sequential([keras.Input((4, 4, 1)), *layers])


PLAIN = {"replicas": 1, "deterministic": False}


@pytest.mark.parametrize(
    ("choice", "options", "gpu", "expected"),
    [
        ("off", {}, True, False),
        ("on", {}, False, True),
        ("on", {"replicas": 2, "deterministic": True}, False, True),
        ("auto", {}, False, False),
        ("auto", {}, True, True),
        ("auto", {"replicas": 2}, True, False),
        ("auto", {"deterministic": True}, True, False),
    ],
)
def test_auto_decides_as_keras_does(monkeypatch, choice, options, gpu, expected):
    monkeypatch.setattr("tensorflow.config.list_logical_devices", lambda kind: [kind] * gpu)
    assert compiled(choice, model(keras.layers.Dense(2)), **PLAIN | options) is expected


def test_a_layer_that_xla_cannot_compile_is_named(monkeypatch):
    monkeypatch.setattr("tensorflow.config.list_logical_devices", lambda kind: [kind])
    layer = keras.layers.Dense(2, name="odd")
    layer.supports_jit = False
    nested = model(keras.Sequential([layer]))
    assert not compiled("auto", nested, **PLAIN)
    with pytest.raises(InputError, match=r"--jit_compile=on: .*'odd'.*--jit_compile=off"):
        compiled("on", nested, **PLAIN)


def test_max_pooling_is_not_compiled_with_deterministic_results():
    pooled = model(keras.layers.MaxPooling2D(name="pool"))
    assert compiled("on", pooled, **PLAIN)
    with pytest.raises(InputError, match=r"--jit_compile=on: .*'pool'.*--jit_compile=off.*--deterministic"):
        compiled("on", pooled, replicas=1, deterministic=True)
