"""The order of a search, which is the same for any number and speed of workers.

At most `--parallel` trials are open. As soon as there are fewer, the oracle is asked for another one. The
oracle gets the results in the order of the trials' numbers, not in the order in which they end; so each
proposal rests on the same results. The journal alone determines all of it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from trainer.tune.journal import Event
from trainer.tune.show.overview import DONE, FAILED, Value

CREATED: Final = "created"  # a trial
NO_TRIAL: Final = "no trial"  # the oracle gave none: "idle" for now, or "stopped" for good
ENDED: Final = "ended"  # an execution of a trial
CONCLUDED: Final = "concluded"  # the search: its final model is trained, its tables are written


@dataclass(frozen=True)
class End:
    """How an execution of a trial ended.

    Attributes:
        state: `DONE` or `FAILED`.
        score: value of the objective; None if it failed.
        epochs: trained, those of the trial that it goes on with included.
        seconds: that it took.
        message: what went wrong, with the last lines that it printed; "" if nothing.
    """

    state: str
    score: float | None
    epochs: int
    seconds: float
    message: str = ""

    @property
    def event(self) -> dict[str, Any]:
        """Its fields of an event of the journal."""
        return {
            "state": self.state,
            "score": self.score,
            "epochs": self.epochs,
            "seconds": round(self.seconds, 3),
            "message": self.message,
        }


@dataclass(frozen=True)
class Trial:
    """A trial of a search, as the journal records it.

    Attributes:
        number: in the order of creation, from 0, as KerasTuner numbers trials.
        values: of the hyperparameters that are searched and active, by name.
        by: "drawn" at random, "modelled" from earlier results, or "promoted" by Hyperband.
        epochs: the most epochs of its training, including those of the trial that it continues.
        goes_on_with: number of the trial whose training it continues; None: it begins anew.
        root: number of the first trial of that chain, whose seeds it uses; its own number if it begins anew.
        oracle: further values that the oracle of KerasTuner adds.
        created: seconds since the epoch.
        ends: how its executions ended, by number.
    """

    number: int
    values: Mapping[str, Value]
    by: str
    epochs: int
    goes_on_with: int | None
    root: int
    oracle: Mapping[str, Any]
    created: float
    ends: dict[int, tuple[End, float]] = field(default_factory=dict)

    def state(self, executions: int) -> str:
        """Returns `DONE`, `FAILED`, or "" while executions are left."""
        ends = [end for end, _ in self.ends.values()]
        if any(end.state == FAILED for end in ends):
            return FAILED
        return DONE if len(ends) == executions else ""

    @property
    def score(self) -> float | None:
        """The mean over the executions that are done; None if one failed or none is done."""
        scores = [end.score for _, (end, _) in sorted(self.ends.items())]
        if not scores or None in scores:
            return None
        return sum(score for score in scores if score is not None) / len(scores)


class Next(Enum):
    """What a search needs next."""

    ASK = "ask the oracle for a trial"
    WAIT = "wait for the end of a trial"
    OVER = "nothing: all trials have ended"
    TOO_MANY_FAILED = "nothing: too many trials have failed"


@dataclass(frozen=True)
class Action:
    """A step of the oracle: it creates a trial, gets the result of one, or has no trial to give."""

    kind: str
    trial: Trial | None = None


@dataclass(frozen=True)
class Order:
    """The state of a search.

    Attributes:
        trials: all that were created, by number.
        actions: the steps of the oracle up to now.
        open: numbers of the trials whose result the oracle has not got yet, in order.
        next: what the search needs next.
        concluded: the event of its conclusion; None: it is not concluded.
    """

    trials: tuple[Trial, ...]
    actions: tuple[Action, ...]
    open: tuple[int, ...]
    next: Next
    concluded: Mapping[str, Any] | None


def follow(
    events: Iterable[Event], *, parallel: int, executions: int, max_trials: int, max_failures: int
) -> Order:
    """Returns the state of a search from the events of its journal.

    Args:
        events: of the journal, in order.
        parallel: the most trials that may be open.
        executions: of each trial.
        max_trials: the most trials of the search; 0: as many as the oracle gives.
        max_failures: how many trials may fail; one more ends the search.
    """
    trials, asked, concluded = _read(events)
    actions: list[Action] = []
    still_open: list[int] = []
    answers, created, failed = iter(asked), 0, 0
    idle = stopped = False
    while True:
        may_ask = not (idle or stopped or (max_trials and created >= max_trials))
        if failed > max_failures:
            step = Next.TOO_MANY_FAILED
            break
        if may_ask and len(still_open) < parallel:
            answer = next(answers, None)
            if answer is None:
                step = Next.ASK
                break
            if answer["event"] == CREATED:
                actions.append(Action(CREATED, trials[created]))
                still_open.append(created)
                created += 1
            else:
                actions.append(Action(NO_TRIAL))
                idle, stopped = True, answer["why"] == "stopped"
        elif still_open:
            trial = trials[still_open[0]]
            state = trial.state(executions)
            if not state:
                step = Next.WAIT
                break
            actions.append(Action(ENDED, trial))
            still_open.pop(0)
            failed += state == FAILED
            idle = False
        else:
            step = Next.OVER
            break
    return Order(tuple(trials), tuple(actions), tuple(still_open), step, concluded)


def _read(events: Iterable[Event]) -> tuple[list[Trial], list[Event], Mapping[str, Any] | None]:
    """Returns the trials with their ends, the oracle's answers in order, and the event of the conclusion."""
    trials: list[Trial] = []
    asked: list[Event] = []
    concluded: Mapping[str, Any] | None = None
    for event in events:
        kind = event["event"]
        if kind == CREATED:
            trials.append(_created(event, trials))
            asked.append(event)
        elif kind == NO_TRIAL:
            asked.append(event)
        elif kind == ENDED:
            end = End(*(event[name] for name in ("state", "score", "epochs", "seconds", "message")))
            trials[event["trial"]].ends.setdefault(event["execution"], (end, event["at"]))
        elif kind == CONCLUDED:
            concluded = event
    return trials, asked, concluded


def _created(event: Event, before: list[Trial]) -> Trial:
    parent = event["goes_on_with"]
    return Trial(
        number=len(before),
        values=event["values"],
        by=event["by"],
        epochs=event["epochs"],
        goes_on_with=parent,
        root=len(before) if parent is None else before[parent].root,
        oracle=event["oracle"],
        created=event["at"],
    )
