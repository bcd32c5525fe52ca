"""The end of a run: publishes model, threshold and report together; and says whether a run is finished."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np

from tfrecords.command import NOT_FINITE
from tfrecords.errors import EndedEarly, InputError
from tfrecords.files.atomic import file_sha256
from tfrecords.manifest import Manifest
from tfrecords.positive import positive_class
from trainer.checkpoint import Checkpoints
from trainer.config import TrainConfig
from trainer.devices.precision import POLICIES
from trainer.devices.strategy import use_threads
from trainer.evaluation.data import DataSet
from trainer.evaluation.evaluate_run import Evaluation, evaluate_run, finished_evaluation
from trainer.evaluation.metric_table import epoch_in_words
from trainer.inference import Predictor, load_predictor
from trainer.models.users import import_module_of
from trainer.result import Result
from trainer.run import Run
from trainer.served.averaging import views
from trainer.served.rules import ThresholdRule
from trainer.served.temperature import temperature
from trainer.served.validation import chosen_temperature, validation_threshold

_PROOF_IMAGES: Final = 8  # the saved model must give the trained model's logits for them


def finish(
    run: Run,
    manifest: Manifest,
    model: keras.Model,
    checkpoints: Checkpoints,
    *,
    check: Callable[[], None],
    tick: Callable[[], None],
    log: Callable[[str], None],
    evaluate: bool = True,
) -> Evaluation | None:
    """Publishes the best epoch's model with its views, temperature and threshold, then evaluates it.

    Args:
        run: the run.
        manifest: of its data.
        model: gets the best epoch's weights.
        checkpoints: of the run, with that model.
        check: called before anything is published; if it raises, nothing is.
        tick: called often; what it raises ends this.
        log: is given a line about the best epoch.
        evaluate: whether to evaluate; without, None is returned.

    Raises:
        InputError: the model cannot be written.
    """
    last = checkpoints.state(checkpoints.steps()[-1])
    checkpoints.restore(last.best_step)
    checkpoints.use_averages()
    kept = epoch_in_words(run.config.monitor, last.best_epoch)
    log(f"{kept}: validation loss {last.best_loss:.4f}")
    trained = {
        "epoch": last.best_epoch,
        "val_loss": last.best_loss,
        "epochs": last.epoch,
        "waited": last.callbacks.get("EarlyStopping", {}).get("wait", 0),
        "stopped": last.callbacks.get("AgreedStop", {}).get("stopped", False),
    }
    served = views(
        model, flip=run.config.tta_flip, shift=run.config.tta_shift, image_shape=manifest.image_shape
    )
    publish(run, manifest, served, trained, check=check, tick=tick)
    split = headline_split(manifest)
    return evaluate_run(run, split=split, manifest=manifest, tick=tick) if evaluate else None


def publish(
    run: Run,
    manifest: Manifest,
    model: keras.Model,
    trained: Mapping[str, Any],
    *,
    check: Callable[[], None] = lambda: None,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Publishes a model with its temperature and the threshold that validation chooses for it.

    Args:
        run: the run.
        manifest: of its data.
        model: with its views.
        trained: the values of `epoch`, `val_loss`, `epochs` and `waited` of the `Result`, and others of it.
        check: called before anything is published; if it raises, nothing is.
        tick: called often; what it raises ends this.

    Raises:
        InputError: the model cannot be written, or validation allows no threshold.
    """
    positive, home = positive_of(run.config, manifest), DataSet.of(run, manifest=manifest)
    temporary = run.model.with_name(f".{os.getpid()}.{run.model.name}")  # Keras wants the ending
    try:
        _save(temporary, model, manifest.image_shape)
        found = chosen_temperature(run.config.temperature, lambda: Predictor(temporary), lambda: home, tick)
        if (divided := temperature(model, found)) is not model:
            _save(temporary, divided, manifest.image_shape)
        # Of the file as it is now, so that no rounding lies between a probability and the threshold.
        threshold = validation_threshold(
            Predictor(temporary), home, positive, tick, rule=run.config.threshold_rule
        )
        result = Result(
            model_sha256=file_sha256(temporary),
            plan=run.data.plan,
            precision=run.precision,
            temperature=found,
            **trained,
            **asdict(threshold),
        )
        check()
        run.publish(temporary, result)
    except OSError as error:
        raise InputError(f"{run.model}: cannot be written: {error.strerror or error}; make room") from None
    finally:
        temporary.unlink(missing_ok=True)


def stored(config: TrainConfig, manifest: Manifest) -> Run | None:
    """Returns the run that is in a configuration's directory; see `Run.stored`."""
    return Run.stored(config, manifest, POLICIES.get(config.precision, ""))


def finished(config: TrainConfig, there: Run | None) -> Run | None:
    """Returns the run that is there if it has nothing left to train, else None.

    Args:
        config: of this start.
        there: see `stored`.

    Raises:
        InputError: the directory holds another run, or something else.
        EndedEarly: its loss was not finite, and would not be finite again.
    """
    if there is None:
        return None
    if there.diverged is not None:
        if config.learning_rate < there.config.learning_rate:
            return None
        raise EndedEarly(
            f"--run_dir={config.run_dir}: the loss was not finite after step {there.diverged:,}; "
            f"{lower(config)}",
            NOT_FINITE,
        )
    try:
        done = there.result().done(config)
    except InputError:  # not published, or only half: that is left to do
        return None
    return replace(there, config=config) if done else None


def finished_again(
    run: Run, manifest: Manifest, log: Callable[[str], None], *, evaluate: bool = True
) -> Evaluation | None:
    """Logs that a run has nothing left to train; makes its report again only if it is not there.

    With as many threads as the run has, so that the figures are the same to the bit, unless this process has
    used TensorFlow before.
    """
    with suppress(RuntimeError):
        use_threads(run.threads)
    split = headline_split(manifest)
    result = run.result()
    log(
        f"finished after epoch {result.epochs} of at most {run.config.epochs}; "
        f"{epoch_in_words(run.config.monitor, result.epoch)}: validation loss {result.val_loss:.4f}"
    )
    result = choose_anew(run, result, manifest, log)
    if not evaluate:
        return None
    return finished_evaluation(run, split, result) or evaluate_run(run, split=split, manifest=manifest)


def choose_anew(run: Run, result: Result, manifest: Manifest, log: Callable[[str], None]) -> Result:
    """Chooses the threshold of a finished run anew if --positive or --threshold_rule differs from before.

    Args:
        run: the run, with the flags of now.
        result: what it has published.
        manifest: of its data.
        log: is given a line if the threshold is chosen anew.

    Returns:
        The result that is there now.
    """
    chosen = positive_of(run.config, manifest)
    rule = str(ThresholdRule.parse(run.config.threshold_rule or result.threshold_rule))
    other_class = run.config.positive and chosen != (result.positive or manifest.class_names[1])
    other_rule = rule != result.threshold_rule
    if not (other_class or other_rule):
        return result
    if other_class:
        log(f"the positive class is {chosen} now: its threshold is chosen on validation, the model stays")
    if other_rule:
        log(f"the threshold is that of --threshold_rule={rule} now, not of {result.threshold_rule}")
    home = DataSet.of(run, manifest=manifest)
    import_module_of(run.config.model)
    threshold = validation_threshold(load_predictor(run.model), home, chosen, rule=rule)
    later = result.rule_came_later or other_rule
    result = replace(result, **asdict(threshold), rule_came_later=later)
    run.save_result(result)
    return result


def positive_of(config: TrainConfig, manifest: Manifest) -> str:
    """Returns the positive class of a run; "" with more than two classes.

    The flag says it, else the data, else the names of the classes.

    Raises:
        InputError: the flag names no class, or there are more than two classes.
    """
    return positive_class(manifest.class_names, config.positive or manifest.positive)


def headline_split(manifest: Manifest) -> str:
    """Returns the split that the final report is on: test, or val if there is no test split."""
    return "test" if "test" in manifest.splits else "val"


def lower(config: TrainConfig) -> str:
    """Returns a sentence on what to do about a loss that is not finite."""
    return (
        f"the same command with a --learning_rate lower than {config.learning_rate:g} goes on from the best "
        f"epoch (or try --precision=float32 in another --run_dir)"
    )


def _save(path: Path, model: keras.Model, image_shape: tuple[int, int, int]) -> None:
    """Saves the model, and checks that the file, loaded again, gives the same logits."""
    model.save(path)
    images = np.random.default_rng(0).integers(0, 256, (_PROOF_IMAGES, *image_shape), np.uint8)
    again = keras.models.load_model(path, safe_mode=True)
    if not np.array_equal(model(images, training=False), again(images, training=False)):
        raise RuntimeError(f"{path}: the saved model does not give the trained model's logits")
