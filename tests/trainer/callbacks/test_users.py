"""Keras callbacks of the user's own: found, called, saved with the run, and heard when they stop it."""

import json
import os
import sys

import keras
import pytest

from tfrecords.errors import InputError
from trainer.callbacks.users import AgreedStop, users_callbacks
from trainer.config import TrainConfig

MODULE = """
import json
import os
from pathlib import Path
import keras

class Count(keras.callbacks.Callback):
    "Counts epochs over all starts; stops after `last`."

    def __init__(self, run_dir, last):
        super().__init__()
        self.run_dir, self.last, self.epochs = Path(run_dir), last, 0

    def on_epoch_end(self, epoch, logs=None):
        self.epochs += 1
        (self.run_dir / "counted.json").write_text(json.dumps([self.epochs, sorted(logs)]))
        if self.epochs == self.last:
            self.model.stop_training = True

    def state_dict(self):
        return {"epochs": self.epochs}

    def load_state_dict(self, state):
        self.epochs = state["epochs"]

def one(config):
    return Count(config.run_dir, 0)

def two(config):
    return [Count(config.run_dir, 2), keras.callbacks.TerminateOnNaN()]

def wrong(config):
    return 3

number = 4
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "mine"
    sys.modules.pop("mine", None)


def config(*names, **values):
    return TrainConfig(data="data", run_dir="run", callbacks=names, **values)


def test_a_function_gives_one_or_several_and_only_the_chief_calls_it(module):
    assert [type(each).__name__ for each in users_callbacks(config("mine:one", "mine:two"), chief=True)] == [
        "Count",
        "Count",
        "TerminateOnNaN",
    ]
    assert users_callbacks(config("mine:wrong"), chief=False) == []


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nowhere:one", ["nowhere", "PYTHONPATH"]),
        ("mine:three", ["mine", "three"]),
        ("mine:number", ["not a function"]),
        ("mine:wrong", ["returned int", "keras.callbacks.Callback"]),
    ],
)
def test_what_is_no_callback_is_refused(module, name, told):
    with pytest.raises(InputError) as error:
        users_callbacks(config(name), chief=True)
    assert all(words in str(error.value) for words in (f"--callbacks={name}", *told))


def test_a_name_that_is_no_function_of_a_module_is_refused():
    with pytest.raises(InputError, match=r"--callbacks=mine: must be package\.module:function"):
        config("mine")


def test_callbacks_may_differ_when_a_run_is_resumed_and_are_stored():
    kept = TrainConfig.from_json(json.loads(json.dumps(config("mine:one").to_stored())))
    assert kept.callbacks == ("mine:one",)
    assert "callbacks" in kept.free_to_change
    assert "callbacks" not in config().to_stored()


@pytest.mark.parametrize(("here", "elsewhere", "stops"), [(0, 0, False), (1, 0, True), (0, 1, True)])
def test_one_worker_stops_all(here, elsewhere, stops):
    agreed = AgreedStop(lambda numbers: [numbers[0] + elsewhere])
    agreed.set_model(keras.Sequential())
    agreed.model.stop_training = bool(here)
    agreed.on_epoch_end(0)
    assert agreed.model.stop_training is stops
    again = AgreedStop(list)
    again.set_model(keras.Sequential())
    again.model.stop_training = False
    again.load_state_dict(json.loads(json.dumps(agreed.state_dict())))
    assert again.model.stop_training is stops


@pytest.mark.storm
@pytest.mark.stops
@pytest.mark.slow
def test_a_run_that_is_resumed_goes_on_with_its_callbacks_and_one_that_they_stopped_is_done(
    module, converted, run_command, tmp_path
):
    def trained(*flags):
        done = run_command(
            "trainer.main",
            f"--data={converted}",
            f"--run_dir={tmp_path / 'run'}",
            "--model=mlp",
            *flags,
            PYTHONPATH=f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        )
        assert done.returncode == 0, done.stderr
        return done.stdout, json.loads((tmp_path / "run" / "counted.json").read_text())

    _, (epochs, logs) = trained("--callbacks=mine:one", "--epochs=1")
    assert epochs == 1
    assert {"loss", "val_loss"} <= set(logs)
    _, (epochs, _) = trained("--callbacks=mine:two", "--epochs=9")
    assert epochs == 2  # counted over both starts
    rows = json.loads((tmp_path / "run" / "history.json").read_text())
    assert len(rows) == 2
    assert json.loads((tmp_path / "run" / "result.json").read_text())["stopped"] is True
    printed, (epochs, _) = trained("--callbacks=mine:two", "--epochs=9")
    assert "finished after epoch 2 of at most 9" in printed
    assert epochs == 2
    trained("--epochs=3")  # without the callback it goes on
    assert len(json.loads((tmp_path / "run" / "history.json").read_text())) == 3
