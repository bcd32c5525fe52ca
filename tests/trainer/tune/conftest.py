"""A search with results that are computed, not trained, for the tests of what surrounds the trainings."""

import math
import random
from pathlib import Path

import pytest
from spaces import CONFIG

from tfrecords.errors import InputError
from trainer.config import TrainConfig
from trainer.run import DataFacts
from trainer.tune.options import SearchOptions
from trainer.tune.order import ENDED, Next
from trainer.tune.search import Search
from trainer.tune.show.overview import DONE, FAILED
from trainer.tune.space import load_space


class _List:
    """Events in memory, as a journal's lease has them."""

    def __init__(self, events=()):
        self.events = list(events)

    def append(self, events):
        self.events += [{**event, "at": float(len(self.events))} for event in events]


@pytest.fixture(scope="session")
def ended():
    """Makes the event of an execution's end; a score of None is a failure."""
    return _ended


def _ended(trial, score=0.5, execution=0, epochs=1):
    return {
        "event": ENDED,
        "trial": trial,
        "execution": execution,
        "state": FAILED if score is None else DONE,
        "score": score,
        "epochs": epochs,
        "seconds": 1.0,
        "message": "" if score is not None else "it broke\nhere",
        "host": "here",
    }


@pytest.fixture(scope="session")
def in_memory():
    """Makes a lease of events in memory."""
    return _List


@pytest.fixture(scope="session")
def make_search():
    """Makes a search of the notebook's space, by the options given."""

    def make(folder=Path("search"), *, epochs=9, space="notebook", **options):
        config = TrainConfig(data="data", run_dir="", epochs=epochs, threads_per_process=1)
        values = SearchOptions(**options)
        hyperparameters = load_space(space, config)
        return Search(
            folder=folder,
            options=values,
            config=config,
            data=DataFacts("drawn", ("a", "b"), (8, 8, 1), "plan"),
            space=hyperparameters.get_config(),
            space_name=space,
            initial_points=values.initial_points(len(hyperparameters.space)),
            brackets=0,
            keras_tuner="1.4.8",
        )

    return make


def _computed(trial):
    """A score that depends on the values as a loss might."""
    rate = abs(math.log10(trial.values["learning_rate"]) + 3)
    return rate + trial.values["model_args.units"] / 1000 + 1 / trial.epochs


@pytest.fixture(scope="session")
def run_search():
    """Runs a search to its end with workers of uneven speed; returns its events."""
    from trainer.tune.oracles import ask

    def run(search, workers=1, *, events=(), seed=0, failing=(), most=10_000):
        lease, draw, running, now = _List(events), random.Random(seed), {}, 0.0
        while len(lease.events) < most:
            order = search.order(lease.events)
            if order.next == Next.ASK:
                ask(search, lease)
                continue
            if order.next in (Next.OVER, Next.TOO_MANY_FAILED):
                break
            for number in order.open:
                if not order.trials[number].state(1) and number not in running and len(running) < workers:
                    running[number] = now + draw.random()
            number = min(running, key=running.get)
            now = running.pop(number)
            trial = order.trials[number]
            score = None if number in failing else _computed(trial)
            lease.append([_ended(number, score, epochs=trial.epochs)])
        return lease.events

    return run


@pytest.fixture(scope="session")
def told():
    """Says what a search has tried, and what came of it."""

    def told(search, events):
        return [
            (trial.values, trial.by, trial.epochs, trial.goes_on_with, trial.score)
            for trial in search.order(events).trials
        ]

    return told


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Loads a space that stands in a file in the current folder."""
    monkeypatch.chdir(tmp_path)

    def load(text, name="space.yaml", config=CONFIG):
        (tmp_path / name).write_text(text)
        return load_space(name, config)

    return load


@pytest.fixture
def refused(facts):
    """Calls, and says whether an InputError tells all of these: facts in a message, and words."""

    def refused(call, message, words=()):
        with pytest.raises(InputError) as error:
            call()
        found = str(error.value)
        assert "\n" not in found
        for word in (message, *words) if isinstance(message, str) else (*message, *words):
            assert word in found
        return found

    return refused
