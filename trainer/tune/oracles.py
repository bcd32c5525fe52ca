"""KerasTuner's oracles: each process makes one anew, replays the journal into it, and asks it for trials.

The journal, not KerasTuner's own files, records what a search has done: see docs/decisions.md. Tried with
KerasTuner 1.4.8; tests/trainer/tune/test_oracles.py fails first if another version behaves otherwise.
"""

import shutil
import warnings
from collections.abc import Mapping
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import keras_tuner
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from tfrecords.errors import InputError
from trainer.tune.journal import Lease
from trainer.tune.order import CREATED, ENDED, NO_TRIAL, Next, Order, Trial
from trainer.tune.search import Search
from trainer.tune.show.overview import FAILED

_OWN: Final = "tuner/"  # before the names of the values that Hyperband adds
_PARENT: Final = "tuner/trial_id"
_NO_LIMIT: Final = 1 << 30
PROJECT_NAME: Final = "keras_tuner"


class _Bayesian(keras_tuner.oracles.BayesianOptimizationOracle):
    """KerasTuner's Bayesian oracle, made to depend on the earlier trials alone.

    KerasTuner's own one carries a random state and a fitted model from one proposal to the next, and saves
    neither. It also proposes values that were tried already; here values are drawn instead.
    """

    trials: dict[str, Any]
    ongoing_trials: dict[str, Any]
    recorded: Mapping[str, Any] | None = None  # values of the journal, given instead of modelling anew
    by = ""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Returns the values of a new trial, as KerasTuner's method does."""
        if self.recorded is not None:
            return {"status": "RUNNING", "values": dict(self.recorded)}
        done = sum(trial.status == "COMPLETED" for trial in self.trials.values())
        self.by = "drawn"
        if done < self.num_initial_points:
            return self._random_populate_space()
        self._random_state = np.random.RandomState(self.seed + len(self.trials))
        self.gpr = self._make_gpr()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # comes with few trials
            self._fit_to_the_done()
            answer: dict[str, Any] = super().populate_space(trial_id)
        if self._duplicate(answer["values"]):
            return self._random_populate_space()
        self.by = "modelled"
        return answer

    def _fit_to_the_done(self) -> None:
        """Fits the model with which KerasTuner estimates the results of the open trials."""
        open_now, self.ongoing_trials = self.ongoing_trials, {}
        everything = self.trials
        self.trials = {name: trial for name, trial in everything.items() if trial.status == "COMPLETED"}
        try:
            self.gpr.fit(*self._vectorize_trials())
        finally:
            self.ongoing_trials, self.trials = open_now, everything


def make_oracle(search: Search) -> Any:
    """Returns the oracle of a search before its first trial; it writes no files."""
    options = search.options
    common = {
        "objective": keras_tuner.Objective(options.objective, options.direction),
        "hyperparameters": keras_tuner.HyperParameters.from_config(deepcopy(dict(search.space))),
        "tune_new_entries": False,
        "seed": options.seed + 1,  # KerasTuner takes 0 for no seed
        "max_consecutive_failed_trials": _NO_LIMIT,
    }
    if options.oracle == "hyperband":
        oracle = keras_tuner.oracles.HyperbandOracle(
            max_epochs=search.config.epochs, factor=options.factor, **common
        )
    elif options.oracle == "bayesian":
        oracle = _Bayesian(max_trials=None, num_initial_points=search.initial_points, **common)
    else:
        oracle = keras_tuner.oracles.RandomSearchOracle(max_trials=None, **common)
    oracle.verbose = 0
    oracle.save = lambda: None
    oracle._save_trial = lambda trial: None  # the only way to keep it from writing at each step
    return oracle


def brought_to(search: Search, order: Order) -> Any:
    """Returns the oracle of a search after all steps of its journal.

    Raises:
        InputError: this version of KerasTuner makes other proposals than the journal has.
    """
    oracle = make_oracle(search)
    for number, action in enumerate(order.actions):
        trial = action.trial
        if action.kind == ENDED and trial:
            _hand_over(oracle, search, trial)
            continue
        if trial and trial.by == "modelled":
            oracle.recorded = trial.values
        made = _created(oracle, f"slot {number}")
        oracle.recorded = None
        if (made is None) != (trial is None) or (
            trial and made and _said(made) != (trial.values, trial.oracle)
        ):
            raise InputError(
                f"--search_dir={search.folder}: KerasTuner {keras_tuner.__version__} does not propose what "
                f"the journal has of trial {trial.number if trial else '-'}; the search was begun with "
                f"KerasTuner {search.keras_tuner}: install that"
            )
    return oracle


def ask(search: Search, lease: Lease) -> None:
    """Asks the oracle for trials until as many are open as may be, and appends them to the journal.

    Raises:
        InputError: see `brought_to`; or the journal cannot be written.
    """
    order = search.order(lease.events)
    if order.next != Next.ASK:
        return
    with threadpool_limits(1):  # sums are the same on all machines then; the matrices are small
        oracle = brought_to(search, order)
        while order.next == Next.ASK:
            number = len(order.trials)
            made = oracle.create_trial(f"new {number} {len(order.actions)}")
            if made.status != "RUNNING":
                why = "idle" if made.status == "IDLE" else "stopped"
                lease.append([{"event": NO_TRIAL, "why": why}])
            else:
                lease.append([_event(search, made, getattr(oracle, "by", "drawn"))])
            given = len(order.actions)
            order = search.order(lease.events)
            for action in order.actions[given + 1 :]:  # results that had come already
                if action.kind == ENDED and action.trial:
                    _hand_over(oracle, search, action.trial)


def still_needed(search: Search, order: Order) -> set[int]:
    """Returns the trials whose training Hyperband continues now or may still continue."""
    if search.options.oracle != "hyperband":
        return set()
    oracle = brought_to(search, order)
    needed = {trial.goes_on_with for trial in order.trials if trial.number in order.open}
    for bracket in oracle._brackets:  # KerasTuner has no public way to see what can be promoted
        rounds, number = bracket["rounds"], bracket["bracket_num"]
        for level, (these, next_ones) in enumerate(pairwise(rounds)):
            if len(next_ones) < oracle._get_size(number, level + 1):  # likewise
                needed |= {int(entry["id"]) for entry in these}
    return {number for number in needed if number is not None}


def write_project(search: Search, order: Order) -> Path:
    """Writes the search as a project that KerasTuner itself can open; returns its folder."""
    oracle = brought_to(search, order)
    del oracle.save, oracle._save_trial  # now it must write
    oracle.max_trials = len(order.trials)
    shutil.rmtree(search.folder / PROJECT_NAME, ignore_errors=True)  # from before the search was continued
    tuner = keras_tuner.Tuner(
        oracle=oracle,
        hypermodel=lambda _: None,
        directory=str(search.folder),
        project_name=PROJECT_NAME,
    )
    for trial in oracle.trials.values():
        oracle._save_trial(trial)  # the public way ends the trial, too
    tuner.save()
    return search.folder / PROJECT_NAME


def _created(oracle: Any, slot: str) -> Any | None:
    """Returns a new trial; None if the oracle gives none."""
    trial = oracle.create_trial(slot)
    return trial if trial.status == "RUNNING" else None


def _said(made: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the values of a trial and those that the oracle adds, as JSON keeps them."""
    values = {name: _plain(value) for name, value in made.hyperparameters.values.items()}
    own = {name: value for name, value in values.items() if name.startswith(_OWN)}
    return {name: value for name, value in values.items() if name not in own}, own


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _event(search: Search, made: Any, by: str) -> dict[str, Any]:
    values, own = _said(made)
    parent = int(own[_PARENT]) if _PARENT in own else None
    return {
        "event": CREATED,
        "values": values,
        "by": by if parent is None else "promoted",
        "epochs": own.get("tuner/epochs", search.config.epochs),
        "goes_on_with": parent,
        "oracle": own,
    }


def _hand_over(oracle: Any, search: Search, trial: Trial) -> None:
    """Gives the result of a trial to the oracle."""
    there = next(made for name, made in oracle.trials.items() if int(name) == trial.number)
    if trial.state(search.options.executions_per_trial) == FAILED:
        there.status = "FAILED"
        there.message = next(end.message for end, _ in trial.ends.values() if end.state == FAILED)
    else:
        oracle.update_trial(there.trial_id, {search.options.objective: trial.score}, step=trial.epochs)
        there.status = "COMPLETED"
    oracle.end_trial(there)
