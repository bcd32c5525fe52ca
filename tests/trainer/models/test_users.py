"""Models of the user's own: functions, files and Keras' applications."""

import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tfrecords.errors import InputError
from trainer.models.applications import APPLICATIONS, preprocessed
from trainer.models.registry import build_model, check_model
from trainer.models.users import require_saving

SHAPE = (8, 8, 1)
IMAGES = np.random.default_rng(1).integers(0, 256, (3, *SHAPE), np.uint8)


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    yield
    sys.modules.pop("own_model", None)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_a_function_gives_logits_in_float32(dtype):
    model = build_model("own_model:net", SHAPE, 2, dtype=dtype, args={"units": 4})
    assert model.outputs[0].dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"
    assert not np.allclose(np.asarray(model(IMAGES)).sum(axis=1), 1)
    require_saving(model, "own_model:net", SHAPE)


def test_a_file_keeps_its_weights(tmp_path):
    import own_model

    saved = own_model.net(SHAPE, 2)
    saved.save(tmp_path / "m.keras")
    model = build_model(str(tmp_path / "m.keras"), SHAPE, 2, dtype="float32")
    probabilities = np.asarray(keras.ops.softmax(model(IMAGES)))
    np.testing.assert_allclose(probabilities, saved(IMAGES), rtol=1e-5)
    with pytest.raises(InputError, match=r"one logit for each of 3 classes"):
        build_model(str(tmp_path / "m.keras"), SHAPE, 3, dtype="float32")


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("own_model:net", {"depth": 1}, r"--model_args: own_model:net: .*depth"),
        ("own_model:none", {}, r"has no function none"),
        ("no_module_here:net", {}, r"PYTHONPATH"),
        ("gone.keras", {}, r"cannot be loaded"),
        ("keras:Nothing", {}, r"keras: and one of ConvNeXtTiny"),
        ("keras:MobileNetV3Small", {}, r"cannot take images"),
        ("vgg", {}, r"package.module:function, or FILE.keras"),
    ],
)
def test_what_cannot_be_is_refused(name, args, message):
    with pytest.raises(InputError, match=message):
        build_model(name, SHAPE, 2, dtype="float32", args=args)


def test_the_table_has_every_application():
    functions = {name for name in dir(keras.applications) if name[0].isupper()}
    assert set(APPLICATIONS) == functions
    for name in functions:
        check_model(f"keras:{name}")


@pytest.mark.parametrize(("mode", "family"), [("tf", "xception"), ("caffe", "vgg16"), ("torch", "densenet")])
def test_pixels_are_preprocessed_as_keras_does(mode, family):
    inputs = keras.Input((8, 8, 3), dtype="uint8")
    model = keras.Model(inputs, preprocessed(inputs, mode, grey=False))
    images = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 3), np.uint8)
    theirs = getattr(keras.applications, family).preprocess_input(images.astype(np.float32))
    np.testing.assert_allclose(model(images), theirs, atol=1e-4)


@pytest.mark.slow
@pytest.mark.stops
def test_a_function_is_trained_evaluated_and_predicted(converted, image_folder, run_command, tmp_path):
    run = tmp_path / "run"
    flags = ("--model=own_model:net", "--model_args=units=4", "--epochs=1", "--global_batch_size=8")
    done = run_command(
        "trainer.main", f"--data={converted}", f"--run_dir={run}", *flags, cwd=Path(__file__).parents[1]
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    done = run_command("trainer.evaluate", f"--run_dir={run}", "--split=val", cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    done = run_command(
        "trainer.predict", f"--run_dir={run}", str(image_folder), cwd=Path(__file__).parents[1]
    )
    assert done.returncode == 0, done.stderr
