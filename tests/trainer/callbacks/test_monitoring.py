"""Early stopping and the plateau, driven by values of epochs; their state goes over a resume."""

import keras
import pytest

from trainer.callbacks.monitoring import has_stopped, monitoring
from trainer.checkpoint import callback_state, set_callback_state
from trainer.config import TrainConfig


@pytest.fixture
def drive():
    """(values, cut, flags) -> rates after each epoch, and the epoch that ended the training.

    Before epoch `cut`, counted from 0, the callbacks are made anew with the state of a checkpoint.
    """

    def run(values, cut, **flags):
        config = TrainConfig.of(data="data", run_dir="run", **flags)
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(1.0))
        model.stop_training = False

        def begun():
            made = monitoring(config)
            for each in made:
                each.set_model(model)
                each.on_train_begin()
            return made

        calls, rates = begun(), []
        for epoch, value in enumerate(values):
            if epoch == cut:
                state = callback_state(calls)
                calls = begun()
                set_callback_state(calls, state)
            for each in calls:
                each.on_epoch_end(epoch, {config.monitor: value})
            rates.append(float(model.optimizer.learning_rate.numpy()))
            if model.stop_training:
                assert has_stopped(calls)
                return rates, epoch
            assert not has_stopped(calls)
        return rates, None

    return run


@pytest.mark.parametrize("cut", range(1, 7))
@pytest.mark.parametrize(("monitor", "sign"), [("val_loss", -1), ("val_auc", 1), ("val_mcc", 1)])
def test_the_rate_falls_when_the_metric_gets_no_better(drive, monitor, sign, cut):
    values = [
        sign * value for value in (0.1, 0.2, 0.2005, 0.15, 0.1, 0.1, 0.5)
    ]  # 0.2005: less than min_delta
    flags = {"schedule": "plateau", "plateau_factor": 0.25, "plateau_patience": 2}
    rates, ended = drive(values, cut, monitor=monitor, **flags)
    assert rates == [1, 1, 1, 0.25, 0.25, 0.0625, 0.0625]
    assert ended is None


@pytest.mark.parametrize("cut", [1, 2, 3])
@pytest.mark.parametrize(("monitor", "sign"), [("val_loss", -1), ("val_accuracy", 1)])
def test_training_stops_when_the_metric_gets_no_better(drive, monitor, sign, cut):
    values = [sign * value for value in (0.1, 0.2, 0.1, 0.1, 0.3)]
    assert drive(values, cut, monitor=monitor, patience=2)[1] == 3
    assert drive(values, cut, monitor=monitor, patience=3)[1] is None


def test_nothing_stops_a_run_that_keeps_its_last_epoch():
    assert monitoring(TrainConfig.of(data="data", run_dir="run", monitor="last")) == []
    assert not has_stopped([])
