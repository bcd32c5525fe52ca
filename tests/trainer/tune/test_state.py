"""What a search looks like from outside: its journal, its claims and its histories, put there by hand."""

import json
import shlex
import time
from dataclasses import asdict, replace

import pytest

from tfrecords.errors import InputError
from trainer.lock import LOCK_NAME, Holder, RunLock
from trainer.tune.order import CONCLUDED, CREATED, NO_TRIAL
from trainer.tune.show.overview import DONE, FAILED, RUNNING, WAITING
from trainer.tune.state import Looker, claim_name, facts_of
from trainer.tune.trials import Starts, run_dir, seed_of

VALUES = {"learning_rate": 0.01, "model_args.units": 48}


def created(parent=None, epochs=9, **values):
    return {
        "event": CREATED,
        "values": {**VALUES, **values},
        "by": "drawn" if parent is None else "promoted",
        "epochs": epochs,
        "goes_on_with": parent,
        "oracle": {},
    }


@pytest.fixture
def write():
    """Appends to the journal of a search."""

    def write(search, *events):
        with search.journal.lease() as lease:
            lease.append(events)

    return write


def history(search, number, epochs, execution=0):
    folder = run_dir(search, number, execution)
    folder.mkdir(parents=True)
    (folder / "history.json").write_text(json.dumps([{"val_loss": 0.5}] * epochs))


@pytest.fixture
def search(make_search, tmp_path):
    return make_search(tmp_path, oracle="random", max_trials=6, parallel=4)


def test_a_search_that_has_just_begun(search):
    overview = Looker(search).look()
    assert overview.rows == ()
    assert (overview.max_trials, overview.over, overview.best) == (6, False, None)
    assert (overview.seconds_left, overview.winner_flags, overview.final) == (None, "", "")
    assert overview.parameters == search.parameters
    assert (overview.oracle, overview.objective, overview.direction) == ("random", "val_loss", "min")


def test_the_states_of_trials(search, write, ended):
    write(search, *(created() for _ in range(4)))
    write(
        search,
        ended(0, 0.25, epochs=7),
        ended(1, None, epochs=2),
    )
    history(search, 2, 4)
    history(search, 3, 1)
    dead = search.claim(claim_name(3, 0))
    dead.mkdir(parents=True)
    (dead / LOCK_NAME).write_text(json.dumps(asdict(replace(Holder.here(), started=1))))
    claim = search.claim(claim_name(2, 0))
    with RunLock(claim, lambda _: None, wait=0):
        starts = Starts(claim, run_dir(search, 2, 0))
        starts.end(20.0, killed=False)
        starts.begin(time.time() - 100)
        overview = Looker(search).look()
        assert [row.state for row in overview.rows] == [DONE, FAILED, RUNNING, WAITING]
        assert [row.epochs for row in overview.rows] == [7, 2, 4, 1]
        assert [row.most_epochs for row in overview.rows] == [9] * 4
        assert [row.score for row in overview.rows] == [0.25, None, None, None]
        assert [row.ended is None for row in overview.rows] == [False, False, True, True]
        assert [row.seconds for row in overview.rows if row.number != 2] == [1.0, 1.0, 0]
        assert 120 <= overview.rows[2].seconds < 600
        assert [overview.count(state) for state in (DONE, FAILED, RUNNING, WAITING)] == [1, 1, 1, 1]
        assert overview.rows[1].message.splitlines() == ["it broke", "here"]
        assert (overview.best, overview.over, overview.max_trials) == (0, False, 6)
        assert overview.seconds_left is not None
    assert Looker(search).look().rows[2].state == WAITING


def test_a_looker_sees_what_changes(search, write, ended):
    looker = Looker(search)
    write(search, created())
    assert looker.look().rows[0].state == WAITING
    with RunLock(search.claim(claim_name(0, 0)), lambda _: None, wait=0):
        assert looker.look().rows[0].state == RUNNING
    assert looker.look().rows[0].state == WAITING
    write(search, ended(0, 0.5))
    assert looker.look().rows[0].state == DONE


def test_an_execution_that_is_left_is_waited_for(make_search, tmp_path, write, ended):
    search = make_search(tmp_path, oracle="random", max_trials=6, executions_per_trial=2)
    write(search, created(), created(), ended(0, 0.2, 0, epochs=3), ended(1, 0.2, 0), ended(1, 0.4, 1))
    write(search, created(), ended(2, None, 0))
    history(search, 0, 3)
    history(search, 0, 5, execution=1)
    with RunLock(search.claim(claim_name(0, 1)), lambda _: None, wait=0):
        rows = Looker(search).look().rows
    assert [row.state for row in rows] == [RUNNING, DONE, FAILED]
    assert [row.score for row in rows] == [None, pytest.approx(0.3), None]
    assert [row.seconds for row in rows] == [1.0, 2.0, 1.0]
    assert rows[0].epochs == 5
    trial = search.order(search.journal.read()).trials[0]
    assert rows[0].seeds == tuple(seed_of(search, trial, execution) for execution in (0, 1))


def test_the_winner(search, write, ended):
    values = {"learning_rate": 0.002, "model_args.units": 64}
    write(search, created(), created(**values), ended(0, 0.5), ended(1, 0.25))
    overview = Looker(search).look()
    assert overview.best == 1
    found = shlex.split(overview.winner_flags)
    trial = search.order(search.journal.read()).trials[1]
    for flag in (
        "--data=data",
        "--learning_rate=0.002",
        "--model_args=units=64",
        "--epochs=9",
        f"--seed={seed_of(search, trial, 0)}",
    ):
        assert flag in found


def test_a_search_that_is_over(search, write, ended):
    write(search, *(created() for _ in range(4)), *(ended(number) for number in range(4)))
    assert not Looker(search).look().over
    write(search, created(), created(), ended(4), ended(5))
    overview = Looker(search).look()
    assert (overview.over, overview.max_trials, overview.seconds_left) == (True, 6, None)
    write(search, {"event": CONCLUDED, "final": "retrain", "best": 0, "trials": 6, "text": "as good as this"})
    assert Looker(search).look().final == "as good as this"


def test_a_search_that_the_oracle_ends(search, write, ended):
    """It has no more trials to give: those there are were all."""
    write(search, created(), {"event": NO_TRIAL, "why": "stopped"}, ended(0))
    overview = Looker(search).look()
    assert (overview.over, overview.max_trials) == (True, 1)


def test_a_search_of_which_too_many_have_failed(search, write, ended):
    write(search, *(created() for _ in range(6)), *(ended(number, None) for number in range(3)))
    assert not Looker(search).look().over
    write(search, ended(3, None))
    overview = Looker(search).look()
    assert (overview.over, overview.best, overview.count(FAILED)) == (True, None, 4)


def test_a_promoted_trial(make_search, tmp_path, write, ended):
    search = replace(make_search(tmp_path, oracle="hyperband", epochs=9), brackets=22)
    write(search, created(epochs=1), ended(0, epochs=1), created(0, epochs=3))
    overview = Looker(search).look()
    assert overview.max_trials == 22
    assert [row.goes_on_with for row in overview.rows] == [None, 0]
    assert [row.by for row in overview.rows] == ["drawn", "promoted"]
    assert overview.rows[0].seeds == overview.rows[1].seeds
    assert [row.most_epochs for row in overview.rows] == [1, 3]


def test_a_damaged_journal_is_named(search, write, facts):
    write(search, created())
    path = search.folder / "journal" / "journal.jsonl"
    path.write_bytes(b"x" + path.read_bytes())
    with pytest.raises(InputError, match=facts(f"{path}, line 1: another --search_dir")):
        Looker(search).look()


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (
            {"oracle": "random", "max_trials": 7},
            {"search": ("random",), "trials": ("at most 7", "9 epochs", "4 open"), "objective": ("minimum",)},
        ),
        ({"oracle": "hyperband", "factor": 4}, {"search": ("one trial in 4",), "trials": ("22 in all",)}),
        ({"max_trials": 30}, {"search": ("bayesian", "7 trials")}),
        ({"objective": "val_auc"}, {"objective": ("val_auc", "maximum")}),
        ({"executions_per_trial": 3, "parallel": 2}, {"trials": ("3 executions", "2 open")}),
        ({"seed": 5}, {"seed": ("5",)}),
        (
            {},
            {
                "data": ("drawn: data",),
                "space": ("notebook: learning_rate, model_args.filters_1",),
                "each trial": ("one_device", "auto", "--cache=auto", "1 threads"),
            },
        ),
    ],
)
def test_facts_in_words(make_search, options, wanted):
    search = make_search(**options)
    facts = facts_of(replace(search, brackets=22) if search.options.oracle == "hyperband" else search)
    for name, words in wanted.items():
        for word in words:
            assert word in facts[name]


def test_facts_name_the_url_of_the_data(make_search):
    search = make_search()
    search = replace(search, config=replace(search.config, data_url="s3://bucket/data", deterministic=True))
    assert facts_of(search)["data"] == "drawn: s3://bucket/data"
    assert "deterministic" in facts_of(search)["each trial"]
