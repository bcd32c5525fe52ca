import re
import shutil
from dataclasses import replace

import keras
import pytest

from data_pipeline.benchmark.step import StepTimes, TimedStep, open_model
from data_pipeline.options import PipelineOptions
from tfrecords.errors import InputError


@pytest.fixture
def saved(tmp_path):
    """A run's folder with a tiny model for 32x40x1 and two classes."""
    inputs = keras.Input((32, 40, 1), dtype="uint8")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    keras.Model(inputs, keras.layers.Dense(2)(x)).save(tmp_path / "model.keras")
    return tmp_path


def test_shares_are_of_the_real_step():
    times = StepTimes(constant=(1.0, 1.0, 2.0), real=(2.0, 1.0, 2.5), waited=(0.5, 0.0, 0.5))
    assert times.ratios == (2.0, 1.0, 1.25)
    assert (times.ratio, times.share, times.waited_share) == (1.25, pytest.approx(0.2), pytest.approx(0.2))
    assert times.to_json().keys() == {
        "constant_seconds", "real_seconds", "waited_seconds", "ratio", "input_share", "waited_share"
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["stream", "memory", "device"])
def test_a_step_is_timed_and_really_trains(data, saved, cache):
    options = PipelineOptions(global_batch_size=16, cache=cache)
    step = TimedStep(data.directory, data.manifest, "train", options, model=str(saved), place="/cpu:0")
    before = [value.numpy() for value in step.model.trainable_variables]
    times = step.measure(0.05, repeats=3)
    assert len(times.constant) == len(times.real) == len(times.waited) == 3
    assert min(times.constant) > 0
    for real, waited in zip(times.real, times.waited, strict=True):
        assert 0 <= waited < real
    assert any(
        (old != value).any() for old, value in zip(before, step.model.trainable_variables, strict=True)
    )


def test_the_built_in_model_is_the_trainers(data):
    from trainer.models.registry import build_model

    mine = open_model("cnn", data.manifest)
    theirs = build_model("cnn", data.manifest.image_shape, 2, dtype="float32")
    assert [type(layer) for layer in mine.layers] == [type(layer) for layer in theirs.layers]
    assert [w.shape for w in mine.weights] == [w.shape for w in theirs.weights]


def test_images_that_are_too_small_for_the_built_in_model(converted):
    with pytest.raises(InputError, match=r"--model=cnn: cannot take images of .* use --model=none"):
        open_model("cnn", replace(converted().manifest, image_shape=(8, 8, 1)))


def test_a_file_and_the_folder_with_it_are_the_same_model(data, saved):
    one, other = (open_model(str(path), data.manifest) for path in (saved, saved / "model.keras"))
    assert one.count_params() == other.count_params() == 4


def test_models_that_cannot_be_used(data, converted, saved, tmp_path):
    def refused(name, message, manifest=data.manifest):
        with pytest.raises(InputError, match=f"^{re.escape(message)}"):
            open_model(str(name), manifest)

    must = "must be cnn, none, a .keras file or the folder of a finished run"
    refused("vgg", f"--model=vgg: {must}")
    other = shutil.copy(saved / "model.keras", tmp_path / "model.h5")
    refused(other, f"--model={other}: {must}")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", f"--model={tmp_path / 'empty'}: {must}")
    broken = tmp_path / "broken.keras"
    broken.write_bytes(b"no model")
    refused(broken, f"--model={broken}: cannot be loaded: ")
    path = saved / "model.keras"
    refused(
        path,
        f"--model={path}: takes (None, 32, 40, 1) and gives (None, 2), this data set needs "
        f"(None, 32, 40, 3) and (None, 2)",
        converted(channels=3).manifest,
    )
