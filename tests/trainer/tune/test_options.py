import pytest

from data_pipeline.options import LARGEST_SEED
from tfrecords.errors import InputError
from trainer.evaluation.metric_table import OF_AN_EPOCH, PREFIX
from trainer.tune.options import IDENTITY, OBJECTIVES, SearchOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"oracle": "grid"}, "--oracle=grid: must be one of random, hyperband, bayesian"),
        ({"objective": "loss"}, "--objective=loss: must be one of val_loss, val_accuracy, "),
        ({"keep_trials": "some"}, "--keep_trials=some: must be one of all, best, none"),
        ({"final": "again"}, "--final=again: must be one of retrain, reload, none"),
        ({"max_trials": -1}, "--max_trials=-1: must be 0 or more"),
        ({"executions_per_trial": 0}, "--executions_per_trial=0: must be 1 or more"),
        ({"factor": 1}, "--factor=1: must be 2 or more"),
        ({"initial_random": -1}, "--initial_random=-1: must be 0 or more"),
        ({"parallel": 0}, "--parallel=0: must be 1 or more"),
        ({"max_failures": -1}, "--max_failures=-1: must be 0 or more"),
        ({"seed": -1}, f"--seed=-1: must be from 0 to {LARGEST_SEED}"),
        ({"seed": LARGEST_SEED + 1}, f"--seed={LARGEST_SEED + 1}: must be from 0 to {LARGEST_SEED}"),
        (
            {"initial_random": 3, "oracle": "random"},
            "--initial_random=3: only --oracle=bayesian",
        ),
        (
            {"initial_random": 3, "oracle": "hyperband"},
            "--initial_random=3: only --oracle=bayesian",
        ),
        (
            {"final": "reload", "keep_trials": "none"},
            "--final=reload: not with --keep_trials=none; use --keep_trials=best",
        ),
    ],
)
def test_what_is_refused(options, message, facts):
    with pytest.raises(InputError, match=facts(message)) as error:
        SearchOptions(**options)
    for word in message.partition("must be one of")[2].replace(",", "").split():
        assert word in str(error.value)


@pytest.mark.parametrize(
    "options",
    [
        {"seed": LARGEST_SEED},
        {"factor": 2, "parallel": 1, "executions_per_trial": 1, "max_failures": 0},
        {"final": "reload", "keep_trials": "all"},
        {"final": "none", "keep_trials": "none"},
        {"final": "retrain", "keep_trials": "none"},
    ],
)
def test_what_is_allowed(options):
    SearchOptions(**options)


@pytest.mark.parametrize(
    ("options", "trials", "failures"),
    [
        ({}, 20, 3),
        ({"oracle": "random"}, 20, 3),
        ({"oracle": "hyperband"}, 0, 3),  # as many as its brackets have
        ({"oracle": "hyperband", "max_trials": 7}, 7, 3),
        ({"max_trials": 39}, 39, 3),
        ({"max_trials": 40}, 40, 4),
        ({"max_trials": 200}, 200, 20),
        ({"max_failures": 0}, 20, 0),
        ({"max_trials": 200, "max_failures": 1}, 200, 1),
    ],
)
def test_how_many_trials_there_are_and_may_fail(options, trials, failures):
    found = SearchOptions(**options)
    assert (found.most_trials, found.most_failures) == (trials, failures)


@pytest.mark.parametrize(
    ("options", "parameters", "wanted"),
    [
        ({}, 8, 5),  # a quarter of 20
        ({"max_trials": 4}, 8, 2),  # at least two
        ({"max_trials": 100}, 8, 24),  # at most three for each parameter
        ({"max_trials": 100}, 1, 3),
        ({"max_trials": 100, "initial_random": 7}, 8, 7),
        ({"initial_random": 1}, 8, 1),
    ],
)
def test_how_many_trials_are_drawn_first(options, parameters, wanted):
    assert SearchOptions(**options).initial_points(parameters) == wanted


def test_each_objective_has_its_direction():
    found = {name: SearchOptions(objective=name).direction for name in OBJECTIVES}
    assert found["val_loss"] == "min"
    assert {found[PREFIX + metric.name] for metric in OF_AN_EPOCH if metric.name != "loss"} == {"max"}


def test_how_long_and_what_is_kept_is_no_part_of_the_search():
    free = {"max_trials", "max_failures", "keep_trials", "final"}
    assert set(SearchOptions.__dataclass_fields__) - set(IDENTITY) == free
