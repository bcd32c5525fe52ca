"""The options of a search."""

from dataclasses import dataclass
from typing import Final

from data_pipeline.options import LARGEST_SEED
from tfrecords.errors import InputError
from trainer.evaluation.metric_table import OF_AN_EPOCH, PREFIX

ORACLES: Final = ("random", "hyperband", "bayesian")
OBJECTIVES: Final = {  # which end is better
    PREFIX + metric.name: "max" if metric.better == "high" else "min" for metric in OF_AN_EPOCH
}
KEEP: Final = ("all", "best", "none")
FINALS: Final = ("retrain", "reload", "none")
MOST_TRIALS: Final = 20  # of random and bayesian by default, as in the notebook
_LEAST_FAILURES: Final = 3
# Options that make another search of it if they differ.
IDENTITY: Final = (
    *("oracle", "objective", "executions_per_trial", "factor"),
    *("initial_random", "parallel", "seed"),
)


@dataclass(frozen=True)
class SearchOptions:
    """The options of a search, validated when built.

    Attributes:
        oracle: one of `ORACLES`.
        objective: one of `OBJECTIVES`.
        max_trials: the most trials; 0: 20, or with hyperband as many as its brackets have.
        executions_per_trial: how often each trial is trained, with different seeds; its score is the mean.
        factor: of hyperband: one trial in `factor` trains on, for `factor` times as many epochs.
        initial_random: of bayesian: trials that must be finished before scores are modelled; 0: a quarter of
            `max_trials`, at least 2, at most three for each hyperparameter.
        parallel: the most trials that are open at the same time; another number gives another search.
        seed: of the proposals and of the trials' own seeds.
        max_failures: how many trials may fail; one more ends the search. None: a tenth of the trials, at
            least 3.
        keep_trials: which trials keep their model and checkpoints; one of `KEEP`.
        final: how the final model is made from the best trial; one of `FINALS`.
    """

    oracle: str = "bayesian"
    objective: str = "val_loss"
    max_trials: int = 0
    executions_per_trial: int = 1
    factor: int = 3
    initial_random: int = 0
    parallel: int = 4
    seed: int = 0
    max_failures: int | None = None
    keep_trials: str = "best"
    final: str = "retrain"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("oracle", ORACLES),
            ("objective", tuple(OBJECTIVES)),
            ("keep_trials", KEEP),
            ("final", FINALS),
        ):
            if getattr(self, name) not in allowed:
                raise InputError(f"--{name}={getattr(self, name)}: must be one of {', '.join(allowed)}")
        for name, least in (
            ("max_trials", 0),
            ("executions_per_trial", 1),
            ("factor", 2),
            ("initial_random", 0),
            ("parallel", 1),
            ("max_failures", 0),
        ):
            if (value := getattr(self, name)) is not None and value < least:
                raise InputError(f"--{name}={value}: must be {least} or more")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise InputError(f"--seed={self.seed}: must be from 0 to {LARGEST_SEED}")
        if self.initial_random and self.oracle != "bayesian":
            raise InputError(
                f"--initial_random={self.initial_random}: only --oracle=bayesian has it, not {self.oracle}; "
                f"leave it out"
            )
        if self.final == "reload" and self.keep_trials == "none":
            raise InputError(
                "--final=reload: needs the model of the best trial, which --keep_trials=none removes; use "
                "--keep_trials=best"
            )

    @property
    def direction(self) -> str:
        """Whether the objective is better when it is lower ("min") or higher ("max")."""
        return OBJECTIVES[self.objective]

    @property
    def most_trials(self) -> int:
        """The most trials that there are; 0: as many as the oracle gives."""
        return self.max_trials or (0 if self.oracle == "hyperband" else MOST_TRIALS)

    @property
    def most_failures(self) -> int:
        """How many trials may fail."""
        if self.max_failures is not None:
            return self.max_failures
        return max(_LEAST_FAILURES, self.most_trials // 10)

    def initial_points(self, parameters: int) -> int:
        """Returns how many trials must be finished before scores are modelled."""
        return self.initial_random or min(3 * parameters, max(2, self.most_trials // 4))
