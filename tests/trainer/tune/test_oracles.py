import keras_tuner
import pytest

from tfrecords.errors import InputError
from trainer.tune.oracles import ask, brought_to, still_needed, write_project
from trainer.tune.order import CREATED, Next

OPTIONS = {
    "random": {"oracle": "random", "max_trials": 12},
    "hyperband": {"oracle": "hyperband"},
    "bayesian": {"oracle": "bayesian", "max_trials": 7, "parallel": 3},
}


@pytest.fixture(params=["random", "hyperband", pytest.param("bayesian", marks=pytest.mark.slow)])
def search(request, make_search, tmp_path):
    return make_search(tmp_path, **OPTIONS[request.param])


@pytest.mark.stops
@pytest.mark.slow
def test_the_search_is_the_same_for_any_number_of_workers(search, run_search, told):
    alone = run_search(search, 1)
    assert search.order(alone).next == Next.OVER
    for workers in (2, 4) if search.options.oracle != "bayesian" else (3,):
        assert told(search, run_search(search, workers, seed=workers)) == told(search, alone)


@pytest.mark.storm
@pytest.mark.stops
@pytest.mark.slow
def test_the_search_is_the_same_after_a_cut_at_each_event(search, run_search, told):
    """Each continuation begins with a fresh oracle that has the journal alone."""
    whole = run_search(search, 3)
    for cut in range(0, len(whole), 1 if search.options.oracle != "bayesian" else 5):
        again = run_search(search, 2, events=whole[:cut], seed=cut)
        assert told(search, again) == told(search, whole)


def test_another_seed_is_another_search(make_search, run_search, told):
    one, other = (make_search(oracle="random", max_trials=3, seed=seed) for seed in (0, 1))
    assert told(one, run_search(one)) != told(other, run_search(other))


@pytest.mark.slow
def test_parallel_is_part_of_the_search(make_search, run_search, told):
    one, other = (make_search(oracle="hyperband", parallel=parallel) for parallel in (1, 8))
    assert told(one, run_search(one)) != told(other, run_search(other))


@pytest.mark.slow
@pytest.mark.parametrize("oracle", ["random", "hyperband"])
def test_failed_trials_change_nothing_but_what_they_would_have_led_to(oracle, make_search, run_search, told):
    search = make_search(max_failures=9, **OPTIONS[oracle])
    alone = run_search(search, 1, failing=(1, 5))
    order = search.order(alone)
    assert order.next == Next.OVER
    assert [trial.number for trial in order.trials if trial.score is None] == [1, 5]
    assert not {trial.goes_on_with for trial in order.trials} & {1, 5}
    assert told(search, run_search(search, 3, failing=(1, 5), seed=1)) == told(search, alone)


@pytest.mark.slow
def test_bayesian_models_once_enough_is_done(make_search, run_search):
    search = make_search(oracle="bayesian", max_trials=6, initial_random=2, parallel=2)
    by = [trial.by for trial in search.order(run_search(search, 2)).trials]
    # The third is asked for when one is done, the fourth when two are.
    assert by == ["drawn"] * 3 + ["modelled"] * 3


@pytest.mark.slow
def test_bayesian_proposes_nothing_twice(make_search, run_search, tmp_path):
    """A space of six points has six trials at most, and the search ends there."""
    space = tmp_path / "space.yaml"
    space.write_text(
        "learning_rate: {type: choice, values: [0.001, 0.01]}\n"
        "model_args: {units: {type: choice, values: [32, 64, 128]}}\n"
    )
    search = make_search(space=str(space), oracle="bayesian", max_trials=20, initial_random=2)
    trials = search.order(run_search(search, 2)).trials
    assert 4 <= len(trials) <= 6
    assert len({tuple(trial.values.items()) for trial in trials}) == len(trials)


def test_hyperband_promotes_the_best_of_each_round(make_search, run_search):
    search = make_search(oracle="hyperband", epochs=9)
    order = search.order(run_search(search, 2))
    first = [trial for trial in order.trials if trial.oracle["tuner/bracket"] == 2]
    drawn, promoted = ([t for t in first if (t.goes_on_with is None) == new] for new in (True, False))
    assert {trial.epochs for trial in drawn} == {1}
    best = sorted(drawn, key=lambda trial: trial.score)
    second = [trial for trial in promoted if trial.epochs == 3]
    assert {trial.goes_on_with for trial in second} == {t.number for t in best[: len(second)]}
    for trial in promoted:
        parent = order.trials[trial.goes_on_with]
        assert trial.values == parent.values
        assert trial.oracle["tuner/initial_epoch"] == parent.epochs
        assert trial.root == parent.root


@pytest.mark.slow
def test_what_hyperband_can_still_promote_is_needed(make_search, run_search):
    """At every moment all that is gone on with later is needed, and at the end nothing is."""
    search = make_search(oracle="hyperband", epochs=9)
    events = run_search(search, 2)
    at_the_end = search.order(events)
    for cut in range(len(events)):
        order = search.order(events[:cut])
        later = {trial.goes_on_with for trial in at_the_end.trials[len(order.trials) :]} - {None}
        there = {number for number in later if number < len(order.trials)}
        assert there <= still_needed(search, order) | set(order.open)
    assert still_needed(search, at_the_end) == set()


def test_what_another_keras_tuner_proposed_is_refused(make_search, run_search, in_memory, facts):
    search = make_search(oracle="random", max_trials=4)
    events = run_search(search, most=4)
    changed = [dict(event) for event in events]
    changed[1]["values"] = {**changed[1]["values"], "learning_rate": 0.005}
    with pytest.raises(InputError, match=facts("--search_dir=search: KerasTuner 1.4.8: trial 1")):
        brought_to(search, search.order(changed))
    with pytest.raises(InputError):
        ask(search, in_memory(changed[:2]))


@pytest.mark.parametrize("oracle", ["random", "hyperband"])
def test_a_finished_search_opens_in_keras_tuner(oracle, make_search, run_search, tmp_path, capsys):
    search = make_search(tmp_path, **OPTIONS[oracle])
    events = run_search(search)
    folder = write_project(search, search.order(events))
    kinds = keras_tuner.oracles
    kind = {"random": kinds.RandomSearchOracle, "hyperband": kinds.HyperbandOracle}[oracle]
    tuner = keras_tuner.Tuner(
        oracle=kind(objective=keras_tuner.Objective("val_loss", "min")),
        hypermodel=lambda _: None,
        directory=str(folder.parent),
        project_name=folder.name,
    )
    tuner.reload()
    best = min(search.order(events).trials, key=lambda trial: (trial.score, trial.number))
    values = tuner.get_best_hyperparameters()[0].values
    assert {name: value for name, value in values.items() if not name.startswith("tuner/")} == best.values
    tuner.results_summary()
    assert f"{best.score}"[:8] in capsys.readouterr().out
    assert len(tuner.oracle.trials) == len([event for event in events if event["event"] == CREATED])
