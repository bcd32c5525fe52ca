"""Reads the best epoch so far of a run that has not ended from its checkpoints, while it may be training."""

from collections.abc import Callable, Sequence
from typing import Final

from tfrecords.errors import InputError
from trainer.checkpoint import read_best
from trainer.config import BASELINES
from trainer.evaluation.data import DataSet
from trainer.inference import Predictor, Probabilities
from trainer.models.normalize import normalized
from trainer.models.registry import build_model
from trainer.result import Result
from trainer.run import Run
from trainer.served.averaging import views
from trainer.served.temperature import temperature
from trainer.served.validation import chosen_temperature

NO_MODEL_FILE: Final = ""  # in place of the model's hash, because there is no file yet


def best_so_far(
    run: Run, home: Callable[[], DataSet], tick: Callable[[], None] = lambda: None
) -> tuple[Probabilities, Result, Sequence[dict[str, float]]]:
    """Returns a model with the weights of the best epoch so far, its result, and the rows of the history.

    It has the views and the temperature that the run's flags ask for, as the published model will have. The
    result has no model file and no threshold; the caller chooses one for this epoch. Nothing is written, and
    the run goes on undisturbed.

    Args:
        run: The run.
        home: Gives the run's own data, if the temperature needs them.
        tick: Called after each batch.

    Raises:
        InputError: no epoch is done yet, or the run keeps no checkpoints.
    """
    if run.config.model in BASELINES:
        raise InputError(
            f"{run.model}: not there yet; the run has not ended; the command that started it goes on with it"
        )
    model = build_model(
        run.config.model,
        run.data.image_shape,
        len(run.data.class_names),
        dtype=run.precision or "float32",  # older versions did not store it; all weights are float32
        args=dict(run.config.model_args),
    )
    model = normalized(model, run.config.normalize)
    state = read_best(run.checkpoints, model)
    if state is None:
        raise InputError(
            f"{run.model}: not there yet; the run has not ended, and no epoch of it is done: this command "
            f"works after the first one, or the command that started the run goes on with it"
        )
    flip, shift = run.config.tta_flip, run.config.tta_shift
    served = views(model, flip=flip, shift=shift, image_shape=run.data.image_shape)
    found = chosen_temperature(run.config.temperature, lambda: Predictor.of(served), home, tick)
    result = Result(
        model_sha256=NO_MODEL_FILE,
        epoch=state.best_epoch,
        val_loss=state.best_loss,
        epochs=state.epoch,
        waited=0,
        threshold=None,
        chosen_on=0,
        plan=run.data.plan,
        precision=run.precision,
        temperature=found,
    )
    return Predictor.of(temperature(served, found)), result, state.history
