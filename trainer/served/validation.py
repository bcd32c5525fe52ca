"""What validation chooses for the published model: its temperature, and its threshold."""

from collections.abc import Callable

from tfrecords.errors import InputError
from tfrecords.manifest import Manifest
from trainer.config import TrainConfig
from trainer.evaluation.data import DataSet, predict_split
from trainer.evaluation.predictions import Threshold
from trainer.inference import Probabilities
from trainer.served.rules import ThresholdRule, fixed_temperature
from trainer.served.temperature import fit_temperature, logits_of


def check_served(config: TrainConfig, manifest: Manifest) -> None:
    """Refuses what the data do not allow, before anything is trained.

    Raises:
        InputError: there is a rule for the threshold of more than two classes, or a view shows no image.
    """
    classes = len(manifest.class_names)
    if config.threshold_rule and classes != 2:
        raise InputError(
            f"--threshold_rule={config.threshold_rule}: a threshold needs exactly two classes, but the data "
            f"have {classes}, of which the most probable one is predicted; leave it out"
        )
    least = min(manifest.image_shape[:2])
    if config.tta_shift >= least:
        raise InputError(
            f"--tta_shift={config.tta_shift}: must be less than {least}, the shorter side of the images"
        )


def chosen_temperature(
    asked: str,
    predictor: Callable[[], Probabilities],
    home: Callable[[], DataSet],
    tick: Callable[[], None] = lambda: None,
) -> float:
    """Returns the temperature that --temperature asks for; see `fit_temperature` for that of validation.

    Args:
        asked: As --temperature has it. If it is a number or none, nothing below is looked at.
        predictor: Gives the model, without a temperature.
        home: Gives the run's own data.
        tick: Called after each batch.
    """
    fixed = fixed_temperature(asked)
    if fixed is not None:
        return fixed
    data = home()
    data.require("val")
    validation = predict_split(predictor(), data.folder, data.manifest, "val", data.options, tick)
    return fit_temperature(logits_of(validation), validation.labels)


def validation_threshold(
    predictor: Probabilities,
    home: DataSet,
    positive: str,
    tick: Callable[[], None] = lambda: None,
    *,
    rule: str = "",
) -> Threshold:
    """Returns the threshold that validation chooses for a positive class; none with more than two classes.

    Args:
        predictor: The model.
        home: The run's own data.
        positive: The class; "" with more than two classes.
        tick: Called after each batch.
        rule: As --threshold_rule names it. A fixed threshold is returned without a look at the data.
    """
    if len(home.manifest.class_names) > 2:
        return Threshold()
    parsed = ThresholdRule.parse(rule)
    if parsed.fixed is not None:
        return Threshold(parsed.fixed, positive=positive, threshold_rule=str(parsed))
    home.require("val")
    validation = predict_split(predictor, home.folder, home.manifest, "val", home.options, tick)
    return parsed.chosen(validation.of(positive))
