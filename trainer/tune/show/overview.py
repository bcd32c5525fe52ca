"""The state of a search at one moment: what its table, its page and its CSV file show."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

Value = bool | int | float | str
WAITING: Final = "waiting"
RUNNING: Final = "running"
DONE: Final = "done"
FAILED: Final = "failed"


@dataclass(frozen=True)
class Parameter:
    """A hyperparameter that is searched.

    Attributes:
        name: as a flag of trainer.main, or `model_args.NAME`.
        kind: "int", "float", "choice" or "boolean".
        values: all values of a choice; the lowest and the highest of a number.
        log: whether it is searched on a logarithmic scale.
    """

    name: str
    kind: str
    values: tuple[Value, ...]
    log: bool = False


@dataclass(frozen=True)
class Row:
    """A trial.

    Attributes:
        number: from 0.
        values: of the hyperparameters that are active in it, by name.
        by: "drawn", "modelled" or "promoted".
        goes_on_with: number of the trial whose training it continues; None: it begins anew.
        seeds: of its executions.
        state: "waiting", "running", "done" or "failed".
        score: mean of the objective over its executions; None: there is none yet, or it failed.
        epochs: trained up to now; of several executions the most.
        most_epochs: that it may train.
        seconds: that its executions have taken together.
        created: time of its creation, seconds since 1970.
        ended: time of its end, likewise; None: it has not ended.
        message: what went wrong, first in one line; "" if it did not fail.
    """

    number: int
    values: Mapping[str, Value]
    by: str
    goes_on_with: int | None
    seeds: tuple[int, ...]
    state: str
    score: float | None
    epochs: int
    most_epochs: int
    seconds: float
    created: float
    ended: float | None
    message: str = ""


@dataclass(frozen=True)
class Overview:
    """A search.

    Attributes:
        folder: of the search, as it was given.
        facts: of the search, by name, in words.
        oracle: "random", "hyperband" or "bayesian".
        objective: one of `trainer.tune.options.OBJECTIVES`.
        direction: "min" or "max".
        parameters: that are searched, in the order of the space.
        rows: all trials that were created, by number.
        max_trials: the most trials; 0: not known before the end.
        over: whether no trial is left to run.
        best: number of the best finished trial; None: none is finished.
        seconds_left: an estimate; None: not known.
        winner_flags: flags of trainer.main that train the best trial again; "" while there is none.
        final: the report of the final run, in words; "" if there is none (yet).
    """

    folder: str
    facts: Mapping[str, str]
    oracle: str
    objective: str
    direction: str
    parameters: tuple[Parameter, ...]
    rows: tuple[Row, ...]
    max_trials: int
    over: bool
    best: int | None
    seconds_left: float | None
    winner_flags: str
    final: str = ""

    def count(self, state: str) -> int:
        """Returns how many trials are in a state."""
        return sum(row.state == state for row in self.rows)
