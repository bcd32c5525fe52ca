"""The weights that a run starts from: --weights, and the files that a run knows again by their content."""

import json
import re
import shutil
import signal
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from tfrecords.convert.conversion import convert_images
from tfrecords.convert.options import ConvertOptions
from tfrecords.errors import InputError
from trainer.config import TrainConfig
from trainer.models.registry import build_model
from trainer.models.sources import check_weights
from trainer.models.starting import started_model, with_model_files

ROOT = Path(__file__).parents[3]
SHAPE = (6, 5, 1)


def net(units, classes, *more):
    """Layers with names of their own and one without."""
    return keras.Sequential(
        [
            keras.Input(SHAPE, dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(3, 3, name="first"),
            layers.BatchNormalization(name="norm"),
            layers.Flatten(),
            layers.Dense(units),
            *more,
            layers.Dense(classes, name="logits"),
        ]
    )


def started(weights, model, *, classes=2, log=lambda _: None, begun=None):
    config = TrainConfig("data", "run", model="python:net", weights=str(weights))
    build = lambda shape, classes: model  # noqa: E731
    return started_model(with_model_files(config), SHAPE, classes, "float32", begun, build, log)


def values(model):
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", ["w.keras", "w.weights.h5"])
def test_layers_start_from_those_of_equal_name_and_shape(tmp_path, name):
    source = net(4, 3)
    source.layers[2].set_weights([np.full_like(w, 0.25) for w in source.layers[2].get_weights()])
    (source.save if name == "w.keras" else source.save_weights)(tmp_path / name)
    net(4, 2)  # Keras counts on: the layer without a name is another dense_N below
    target = net(4, 2)
    random, lines = values(target), []
    model, facts = started(tmp_path / name, target, log=lines.append)
    assert model is target
    found, (first, norm, dense, logits) = values(model), random
    theirs = list(values(source).values())
    for place, layer in enumerate((first, norm, dense)):
        assert same(found[layer], theirs[place])
    assert not same(found[first], random[first])
    assert same(found[logits], random[logits])  # of three classes there, of two here
    assert "3 of 4 layers, 1 start anew" in facts["weights"]
    assert lines[0].endswith(": logits")


@pytest.mark.parametrize("name", ["w.keras", "w.weights.h5"])
def test_of_a_file_of_other_shapes_only_what_fits_is_read(tmp_path, name):
    source = net(7, 2)
    (source.save if name == "w.keras" else source.save_weights)(tmp_path / name)
    target = net(4, 2)
    random = values(target)
    model, facts = started(tmp_path / name, target)
    first, _, dense, logits = random
    assert same(values(model)[first], source.layers[1].get_weights())
    assert same(values(model)[dense], random[dense])  # not a bias without its kernel
    assert same(values(model)[logits], random[logits])
    assert "2 of 4 layers" in facts["weights"]


@pytest.mark.parametrize("name", ["w.keras", "w.weights.h5"])
def test_a_file_that_matches_nothing_is_refused(tmp_path, name):
    source = keras.Sequential([keras.Input((9,)), layers.Dense(9, name="other")])
    (source.save if name == "w.keras" else source.save_weights)(tmp_path / name)
    with pytest.raises(InputError, match=r"--weights=.*none of its layers .* first, norm, dense\w*, logits"):
        started(tmp_path / name, net(4, 2))


def test_a_backbone_inside_starts_from_a_file_of_the_backbone_alone(tmp_path):
    def backbone():
        return keras.Sequential(
            [keras.Input(SHAPE), layers.Conv2D(2, 3, name="c"), layers.Flatten()], name="b"
        )

    for name in ("w.keras", "w.weights.h5"):
        source = backbone()
        (source.save if name == "w.keras" else source.save_weights)(tmp_path / name)
        target = keras.Sequential([keras.Input(SHAPE), backbone(), layers.Dense(2, name="logits")])
        model, facts = started(tmp_path / name, target)
        assert same(model.layers[0].layers[0].get_weights(), source.layers[0].get_weights())
        assert "1 of 2 layers" in facts["weights"]


@pytest.mark.parametrize(
    ("weights", "model", "message"),
    [
        ("imagenet", "cnn", r"--weights=imagenet: is for --model=keras:NAME"),
        ("whole.h5", "cnn", r"--weights=whole.h5: .*FILE.weights.h5"),
        ("", "cnn", r"--weights=: must be none, imagenet"),
    ],
)
def test_what_weights_cannot_be(weights, model, message):
    with pytest.raises(InputError, match=message):
        check_weights(weights, model)
    with pytest.raises(InputError, match=message):
        TrainConfig("data", "run", model=model, weights=weights)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gone.keras", None, r"does not exist; give a file or a run"),
        ("bad.keras", "x", r"cannot be loaded"),
        ("bad.weights.h5", "x", r"cannot be loaded"),
        ("text", "x", r"must be none, imagenet, FILE.keras"),
        ("folder", "", r"holds no run"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path, name, text, message):
    path = tmp_path / name
    if text:
        path.write_text(text)
    elif text == "":
        path.mkdir()
    with pytest.raises(InputError, match=message):
        started(path, net(4, 2))


def test_a_file_and_a_module_are_known_by_their_content(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    of_module = with_model_files(TrainConfig("data", "run", model="own_model:net"))
    sys.modules.pop("own_model", None)
    assert len(of_module.model_sha256) == 64
    path = tmp_path / "m.keras"
    hashes = set()
    for units in (3, 4):
        net(units, 2).save(path)
        config = with_model_files(TrainConfig("data", "run", model=str(path), weights=str(path)))
        assert config.model_sha256 == config.weights_sha256
        hashes.add(config.model_sha256)
    assert len(hashes) == 2
    path.unlink()
    assert with_model_files(TrainConfig("data", "run", weights=str(path))).weights_sha256 == ""
    with pytest.raises(InputError, match=r"--model=.*m.keras: cannot be loaded"):
        with_model_files(config)


def test_defaults_leave_the_configuration_file_as_it_was():
    assert not {"weights", "weights_sha256", "model_sha256"} & TrainConfig("data", "run").to_stored().keys()


_FLAGS = ("--epochs=2", "--global_batch_size=8", "--precision=float32", "--deterministic", "--cache=memory")
_FLAGS += ("--threads_per_process=2", "--checkpoint_steps=2", "--checkpoint_minutes=0", "--keep=99")
_HERE = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def larger(image_folder, tmp_path_factory):
    """The drawn images at 32x32, the least that the applications take."""
    out = tmp_path_factory.mktemp("larger") / "data"
    size = {"size": (32, 32), "val_fraction": 0.2, "test_fraction": 0.25, "workers": 1}
    convert_images(ConvertOptions(image_folder, out, **size))
    return out


def _function(folder, trained):
    return ("--model=own_model:net", "--model_args=units=4"), None


def _file(folder, trained):
    build_model("cnn", (32, 32, 1), 2, dtype="float32", args={"units": 8}).save(folder / "m.keras")
    return (f"--model={folder / 'm.keras'}",), None


def _application(folder, trained):
    path = folder / "w.weights.h5"
    build_model("keras:MobileNetV3Small", (32, 32, 1), 3, dtype="float32").save_weights(path)
    return ("--model=keras:MobileNetV3Small", f"--weights={path}"), path


def _of_a_run(folder, trained):
    shutil.copytree(trained.folder, folder / "before")
    return ("--model=cnn", f"--weights={folder / 'before'}"), folder / "before"


@pytest.mark.slow
@pytest.mark.stops
@pytest.mark.storm
@pytest.mark.parametrize(
    "case",
    [_function, _file, _application, _of_a_run],
)
def test_a_run_that_is_killed_goes_on_to_the_same_bits(
    case, larger, trained, image_folder, run_python, run_command, tmp_path
):
    """Killed within an epoch, its weights' file removed, resumed, evaluated, and used on files."""
    flags, needed = case(tmp_path, trained)
    flags = (f"--data={trained.data if case is _of_a_run else larger}", *flags, *_FLAGS)
    environment = {"TF_ENABLE_ONEDNN_OPTS": "0", "PYTHONPATH": f"{ROOT}:{_HERE}"}

    def train(name, harm):
        command = (_HERE / "harmed.py", harm, "--", f"--run_dir={tmp_path / name}", *flags)
        return run_python(*command, **environment)

    done = train("whole", "none")
    assert done.returncode == 0, done.stdout + done.stderr
    # One logits layer of three classes has no place in the application of two; else all layers match.
    starts = {_application: ", 1 start anew", _of_a_run: ", 0 start anew"}.get(case, "")
    assert starts in done.stdout
    last = [json.loads(path.read_text()) for path in (tmp_path / "whole/checkpoints").glob("*/state.json")]
    epoch = max(state["step"] for state in last) // 2
    killed = train("run", f"SIGKILL@{epoch + 3}")
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    if needed:
        shutil.rmtree(needed) if needed.is_dir() else needed.unlink()
    done = train("run", "none")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resuming after epoch 1 and " in done.stdout
    assert starts in done.stdout
    whole, mine = (
        keras.models.load_model(tmp_path / name / "model.keras", compile=False) for name in ("whole", "run")
    )
    assert same(mine.get_weights(), whole.get_weights())
    for command in (("evaluate", "--split=val"), ("predict", str(image_folder))):
        module, *more = command
        done = run_command(f"trainer.{module}", f"--run_dir={tmp_path / 'run'}", *more, **environment)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.stops
@pytest.mark.storm
def test_changed_files_are_refused_by_name(larger, run_command, tmp_path):
    """The module of a function, and the file of a model."""
    (tmp_path / "my_net.py").write_text((_HERE / "own_model.py").read_text())
    build_model("mlp", (32, 32, 1), 2, dtype="float32", args={"units": 3}).save(tmp_path / "m.keras")
    for model in ("my_net:net", "m.keras"):
        flags = (f"--data={larger}", f"--run_dir={model[:2]}", f"--model={model}", *_FLAGS, "--epochs=1")
        done = run_command("trainer.main", *flags, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    (tmp_path / "my_net.py").write_text((_HERE / "own_model.py").read_text() + "# changed\n")
    build_model("mlp", (32, 32, 1), 2, dtype="float32", args={"units": 3}).save(tmp_path / "m.keras")
    for model in ("my_net:net", "m.keras"):
        flags = (f"--data={larger}", f"--run_dir={model[:2]}", f"--model={model}", *_FLAGS, "--epochs=1")
        done = run_command("trainer.main", *flags, cwd=tmp_path)
        assert done.returncode == 2
        assert f"--model={model}: has other content now" in done.stderr


@pytest.mark.slow
def test_imagenet_without_a_network_is_refused(larger, run_command, tmp_path):
    flags = (f"--data={larger}", f"--run_dir={tmp_path / 'run'}", "--model=keras:MobileNetV3Small")
    nowhere = {"https_proxy": "http://127.0.0.1:9", "KERAS_HOME": str(tmp_path / "keras")}
    done = run_command("trainer.main", *flags, "--weights=imagenet", **nowhere)
    assert done.returncode == 2, done.stdout + done.stderr
    assert re.search(r"--weights=imagenet: cannot be downloaded: .*--weights=FILE.keras", done.stderr)
    assert not (tmp_path / "run" / "config.json").exists()
    assert not list((tmp_path / "keras").rglob("*.h5"))


@pytest.mark.slow
@pytest.mark.stops
@pytest.mark.storm
def test_a_model_from_python(larger, run_python, run_command, tmp_path):
    """Resumed by the same call; evaluated by a command that does not know the function."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "import own_model\n"
        "from trainer.config import TrainConfig\n"
        "from trainer.training import train\n"
        "args = (('units', 3),)\n"
        f"config = TrainConfig({str(larger)!r}, 'run', model='python:mine', model_args=args, "
        "epochs=int(sys.argv[1]), deterministic=True)\n"
        "train(config, build=own_model.net)\n"
    )
    for epochs, words in ((1, "epoch   1/1"), (2, "resuming after epoch 1 of at most 2")):
        done = run_python(script, str(epochs), cwd=tmp_path, PYTHONPATH=f"{ROOT}:{_HERE}")
        assert done.returncode == 0, done.stderr
        assert words in done.stdout
    done = run_command("trainer.evaluate", f"--run_dir={tmp_path / 'run'}", "--split=val")
    assert done.returncode == 0, done.stderr
    done = run_command(
        "trainer.main", f"--data={larger}", f"--run_dir={tmp_path / 'new'}", "--model=python:mine"
    )
    assert done.returncode == 2
    assert re.search(r"--model=python:mine: .*train\(config, build=function\)", done.stderr)
