"""`python -m trainer.main` with one harm done to it, at a place that a test names; run by the tests.

    python harmed.py HARM[,HARM] -- FLAGS OF trainer.main...

HARM is `none`; `SIGNAL@PLACE`, sent to the process itself when it comes there; `SIGNAL@PLACE#RANK` for one
worker alone; or `diverge@STEP`. A place is load, train, val, threshold, report, publish (between the two
files of a result), or a number: when so many steps of the run are done, and saved if they are to be. With
the environment variable HARM_ONCE, a file that does not exist yet, it is done once in several starts.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from data_pipeline.tiers import decoded_file, decoding
from tfrecords import signals
from tfrecords.command import run
from trainer import finish, main, stopping, training
from trainer import run as run_module
from trainer.evaluation import evaluate_run


def harm(text: str) -> None:
    """Prepares what is to happen."""
    what, _, where = text.partition("@")
    place, _, rank = where.partition("#")
    mine = json.loads(os.environ.get("TF_CONFIG", '{"task": {"index": 0}}'))["task"]["index"]
    if what == "none" or (rank and int(rank) != mine):
        return
    if what == "diverge":
        assert training.learning_rate  # what is replaced is what is used
        training.learning_rate = lambda config, _: _Cliff(config.learning_rate, int(place))
        return

    done = []

    def send() -> None:
        if not done:
            done.append(True)
            if once := os.environ.get("HARM_ONCE"):
                if Path(once).exists():
                    return
                Path(once).touch()
            print(f"{what} at {place}", flush=True)
            os.kill(os.getpid(), signal.Signals[what])
            time.sleep(0.3)  # so that the next look at signals, of which there is one in 0.2 s, is after this

    def before(module: Any, name: str) -> None:
        real = getattr(module, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            send()
            return real(*args, **kwargs)

        setattr(module, name, wrapped)

    if place in ("train", "val"):
        real = stopping.Pause.__call__

        def pause(self: stopping.Pause, block: Any) -> int:
            if block.phase == place and (block.epoch, block.end > 1) == (1, True):
                send()
            return real(self, block)

        stopping.Pause.__call__ = pause
    elif place.isdecimal():
        real = stopping.Pause.__call__

        def after(self: stopping.Pause, block: Any) -> int:
            length = real(self, block)
            if block.phase == "train" and block.epoch * self._steps_per_epoch + block.end >= int(place):
                send()
            return length

        stopping.Pause.__call__ = after
    elif place == "load":
        before(decoding, "load")
        before(decoded_file, "load")
    elif place == "threshold":
        before(finish, "validation_threshold")
    elif place == "report":
        before(evaluate_run, "write_report")
        before(evaluate_run, "predict_split")
        before(finish, "evaluate_run")
    elif place == "publish":
        before(run_module.Run, "save_result")


@keras.saving.register_keras_serializable()
class _Cliff(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that throws the weights away at a step, if it is as high as at first."""

    def __init__(self, rate: float, step: int) -> None:
        self.rate, self.step = rate, step

    def __call__(self, step: Any) -> Any:
        return tf.where((tf.cast(step, tf.int32) >= self.step) & (self.rate > 0.002), 1e30, self.rate)

    def get_config(self) -> dict[str, Any]:
        return {"rate": self.rate, "step": self.step}


if __name__ == "__main__":
    at = sys.argv.index("--")
    signals.listen()
    for each in sys.argv[1].split(","):
        harm(each)
    sys.argv = [sys.argv[0], *sys.argv[at + 1 :]]
    run(main.main)
