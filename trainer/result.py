"""What a run has made, as result.json keeps it."""

from dataclasses import dataclass

from trainer.config import TrainConfig


@dataclass(frozen=True)
class Result:
    """What a run has made, in one small file that is written last and names the model by its hash.

    So a reader never combines a new model with an old threshold, or with the history of another epoch.

    Attributes:
        model_sha256: of `model.keras`, or of a baseline's `model.skops`.
        epoch: the best one by --monitor, whose weights the model has; 0 for a baseline, which has no epochs.
        val_loss: validation loss of that epoch.
        epochs: epochs done when the model was published; as many rows of the history belong to it.
        waited: epochs among these since the validation loss last improved.
        threshold: the positive class is predicted from this probability on; None: not chosen yet, or there
            are more than two classes and the most probable one is predicted.
        chosen_on: number of validation records that the threshold was chosen on.
        plan: fingerprint of the data.
        precision: Keras dtype policy of the model.
        positive: of two classes the one that the threshold is for; "": the second class, in results of
            earlier versions, or there are more than two classes.
        chosen_on_groups: for each class the number of groups among the records that the threshold was chosen
            on; (): unknown.
        threshold_rule: the rule that the threshold was chosen by, as --threshold_rule has it.
        threshold_note: a sentence, if validation does not allow what the rule asks for; else "".
        rule_came_later: whether the rule was given after the training, when reports may have been seen.
        temperature: that the logits of the model's file are divided by; 1: by none.
        stopped: whether a callback of the user's stopped the training.
    """

    model_sha256: str
    epoch: int
    val_loss: float
    epochs: int
    waited: int
    threshold: float | None
    chosen_on: int
    plan: str
    precision: str
    positive: str = ""
    chosen_on_groups: tuple[int, ...] = ()
    stopped: bool = False
    threshold_rule: str = "youden"
    threshold_note: str = ""
    rule_came_later: bool = False
    temperature: float = 1.0

    def done(self, config: TrainConfig) -> bool:
        """Returns whether a run of this configuration is fully trained."""
        stopped = self.stopped and bool(config.callbacks)
        return self.epochs >= config.epochs or self.waited >= config.patience or stopped
