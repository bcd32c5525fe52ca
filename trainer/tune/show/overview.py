"""A search at one moment, as its table, its page and its list of trials show it."""

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
    """A parameter that is searched.

    Attributes:
        name: as a flag of trainer.main, or `model_args.NAME`.
        kind: "int", "float", "choice" or "boolean".
        values: of a choice, all; of a number, the lowest and the highest.
        log: whether it is searched by its logarithm.
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
        values: of the parameters that are active in it, by name.
        by: "drawn", "modelled" or "promoted".
        goes_on_with: number of the trial whose training it goes on with; None: it begins anew.
        seeds: of its executions.
        state: "waiting", "running", "done" or "failed".
        score: of the objective, a mean over executions; None: none yet, or it failed.
        epochs: trained up to now; of several executions the most.
        most_epochs: that it may train.
        seconds: that its executions have taken.
        created: seconds since the epoch.
        ended: likewise; None: it has not.
        message: of a failed one, what went wrong, first in one line.
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
        facts: what the search is, in words, by name.
        oracle: "random", "hyperband" or "bayesian".
        objective: one of `trainer.tune.options.OBJECTIVES`.
        direction: "min" or "max".
        parameters: that are searched, in the order of the space.
        rows: all trials that were created, by number.
        max_trials: of the search; 0: not known before its end.
        over: whether no trial is left to run.
        best: number of the best trial that is done; None: none is.
        seconds_left: about; None: not known.
        winner_flags: of trainer.main, that give the best trial; "" while there is none.
        final: what became of the winner after the search, in words; "" if nothing (yet).
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
