import json

import pytest

from data_pipeline.options import LARGEST_SEED
from trainer.run import MODEL_NAME, RESULT_NAME
from trainer.tune.order import CREATED
from trainer.tune.trials import (
    Starts,
    best_execution,
    best_of,
    config_of,
    epochs_done,
    newest_checkpoint,
    prune,
    run_dir,
    seed_of,
    take_over,
)

VALUES = {"learning_rate": 0.01, "model_args.units": 48}


def created(parent=None, epochs=3):
    return {
        "event": CREATED,
        "values": VALUES,
        "by": "drawn" if parent is None else "promoted",
        "epochs": epochs,
        "goes_on_with": parent,
        "oracle": {},
        "at": 1.0,
    }


@pytest.fixture
def order_of(ended):
    """Follows a search whose trials ended with these scores; "open" has no end, None is a failure."""

    def order_of(search, *scores):
        ends = []
        for number, score in enumerate(scores):
            if score != "open":
                scored = score if isinstance(score, tuple) else (score,)
                ends += [ended(number, one, execution) for execution, one in enumerate(scored)]
        return search.order([created() for _ in scores] + [{**end, "at": 2.0} for end in ends])

    return order_of


@pytest.fixture
def search(make_search, tmp_path):
    return make_search(tmp_path, parallel=99)


@pytest.fixture
def line(search):
    """Trials of which the third goes on with the second, and that with the first."""
    return search.order([created(), created(0, 9), created(1, 27), created()]).trials


def test_the_seed_is_pinned(search, line):
    """A search that goes on after an update must have the seeds that it had."""
    assert [seed_of(search, line[0], execution) for execution in (0, 1)] == [2300951499, 78869637]
    assert seed_of(search, line[3], 0) == 2775325298


def test_seeds_differ_by_search_trial_and_execution(make_search, line):
    found = [
        seed_of(search, trial, execution)
        for search in [make_search(seed=seed) for seed in (0, 1, LARGEST_SEED)]
        for trial in (line[0], line[3])
        for execution in range(20)
    ]
    assert len(set(found)) == len(found)
    assert all(0 <= seed <= LARGEST_SEED for seed in found)


def test_a_promotion_keeps_the_seeds(search, line):
    for execution in (0, 1):
        assert len({seed_of(search, trial, execution) for trial in line[:3]}) == 1


def test_a_trial_is_the_search_with_its_values(search, line):
    config = config_of(search, line[1], 2)
    assert config == search.config.changed(
        run_dir=str(search.folder / "trials" / "0001" / "execution-2"),
        seed=seed_of(search, line[1], 2),
        epochs=9,
        learning_rate=0.01,
        model_args=(("units", 48),),
    )


@pytest.mark.parametrize(
    ("objective", "scores", "wanted"),
    [
        ("val_loss", (0.3, 0.2, 0.4), 1),
        ("val_auc", (0.3, 0.2, 0.4), 2),
        ("val_accuracy", (0.3, 0.2, 0.4), 2),
        ("val_loss", (0.3, 0.2, 0.2), 1),  # of equals the first
        ("val_auc", (0.2, 0.4, 0.4), 1),
        ("val_loss", (None, 0.2), 1),
        ("val_auc", (None, 0.0), 1),
        ("val_loss", ("open", 0.2), 1),
        ("val_loss", (None, "open"), None),
        ("val_loss", (), None),
        ("val_loss", (0.0, -1.0), 1),
    ],
)
def test_the_best_trial(make_search, order_of, objective, scores, wanted):
    search = make_search(objective=objective, parallel=99)
    best = best_of(search, order_of(search, *scores))
    assert (best and best.number) == wanted


def test_the_best_trial_by_the_mean_of_its_executions(make_search, order_of):
    search = make_search(executions_per_trial=2, parallel=99)
    order = order_of(search, (0.1, 0.9), (0.4, 0.4), (0.0,), (0.0, None))
    assert best_of(search, order).number == 1


@pytest.mark.parametrize(
    ("objective", "scores", "wanted"),
    [("val_loss", (0.3, 0.1, 0.1), 1), ("val_auc", (0.3, 0.1, 0.3), 0), ("val_auc", (0.0, 0.2), 1)],
)
def test_the_best_execution(make_search, order_of, objective, scores, wanted):
    search = make_search(objective=objective, executions_per_trial=len(scores))
    assert best_execution(search, order_of(search, scores).trials[0]) == wanted


@pytest.fixture
def trained():
    """Makes a run as a training leaves it, in short."""

    def trained(folder, epochs=2):
        for name in (
            "config.json",
            "history.json",
            "lock.json",
            ".lock.json.5",
            RESULT_NAME,
            MODEL_NAME,
            "checkpoints/step-10/weights",
            "checkpoints/step-20/weights",
            "report/val/report.md",
            "tensorboard/train/events.out.1",
            "tensorboard/events.out.1.hparams",
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(f"{name} of {folder}")
        (folder / "history.json").write_text(json.dumps([{"val_loss": 0.5}] * epochs))
        return folder

    return trained


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


GOES_ON = {
    "config.json",
    "history.json",
    "checkpoints/step-10/weights",
    "checkpoints/step-20/weights",
    "tensorboard/train/events.out.1",
}


def test_a_promoted_trial_takes_over_what_it_goes_on_with(search, line, trained):
    source = trained(run_dir(search, 0, 1))
    target = run_dir(search, 1, 1)
    left = target.with_name(f".{target.name}.copy")  # by a kill
    left.mkdir(parents=True)
    (left / "history.json").write_text("half")
    (left / "other").touch()
    take_over(search, line[1], 1)
    assert files(target) == GOES_ON
    assert not left.exists()
    assert (target / "history.json").read_text() == (source / "history.json").read_text()
    assert not run_dir(search, 1, 0).exists()  # another execution


def test_what_is_taken_over_is_its_own(search, line, trained):
    source, target = trained(run_dir(search, 0, 0)), run_dir(search, 1, 0)
    take_over(search, line[1], 0)
    before = {name: (target / name).read_text() for name in GOES_ON}
    for name in files(source):
        (source / name).unlink()
    assert {name: (target / name).read_text() for name in GOES_ON} == before
    take_over(search, line[1], 0)  # twice is once, even without the source
    assert {name: (target / name).read_text() for name in GOES_ON} == before


def test_what_has_gone_on_is_not_taken_over_again(search, line, trained):
    trained(run_dir(search, 0, 0))
    take_over(search, line[1], 0)
    (run_dir(search, 1, 0) / "history.json").write_text("further")
    take_over(search, line[1], 0)
    assert (run_dir(search, 1, 0) / "history.json").read_text() == "further"


def test_who_goes_on_with_nothing_takes_nothing_over(search, line):
    take_over(search, line[0], 0)
    assert list(search.folder.iterdir()) == []


ALL = {"checkpoints", MODEL_NAME}


@pytest.mark.parametrize(
    ("keep", "final", "kept"),
    [
        ("all", "retrain", {0, 1, 2, 3, 4, 5}),
        ("best", "retrain", {1, 3, 5}),  # the best, the needed one, the open one
        ("best", "reload", {1, 3, 5}),
        ("none", "retrain", {3, 5}),
        ("none", "none", {3, 5}),
    ],
)
def test_what_is_removed(make_search, order_of, trained, tmp_path, keep, final, kept):
    search = make_search(tmp_path, parallel=2, keep_trials=keep, final=final, executions_per_trial=2)
    scores = ((0.5, 0.5), (0.2, 0.4), (0.4, 0.4), (0.6, 0.6), (0.7, None), "open")
    folders = {
        (number, execution): trained(run_dir(search, number, execution))
        for number in range(len(scores))
        for execution in (0, 1)
    }
    order = order_of(search, *scores)
    for _ in range(2):
        prune(search, order, {3})
        found = {
            number
            for (number, _), folder in folders.items()
            if (folder / "checkpoints").exists() or (folder / MODEL_NAME).exists()
        }
        assert found == kept
    for (number, _), folder in folders.items():
        whole = number in kept
        assert {path.name for path in folder.iterdir()} & ALL == (ALL if whole else set())
        # Curves, history, report stay.
        assert {"history.json", "report/val/report.md", "tensorboard/train/events.out.1"} <= files(folder)


def test_what_has_ended_but_was_not_handed_over_is_kept(make_search, order_of, trained, tmp_path):
    """The oracle may still promote it."""
    search = make_search(tmp_path, parallel=2, keep_trials="none", final="none")
    order = order_of(search, "open", 0.5)
    assert order.open == (0, 1)
    folder = trained(run_dir(search, 1, 0))
    prune(search, order, ())
    assert (folder / "checkpoints").exists()


def test_removing_what_is_not_there_is_no_error(make_search, order_of, tmp_path):
    search = make_search(tmp_path, keep_trials="none", parallel=1)
    prune(search, order_of(search, 0.5, 0.4), ())


def test_epochs_are_counted_from_histories(search, trained):
    trained(run_dir(search, 0, 0), epochs=2)
    trained(run_dir(search, 0, 1), epochs=5)
    assert epochs_done(search, 0, [0]) == 2
    assert epochs_done(search, 0, [0, 1, 2]) == 5
    (run_dir(search, 0, 1) / "history.json").write_text("[{")
    assert epochs_done(search, 0, [0, 1]) == 2
    assert epochs_done(search, 9, [0, 1]) == 0


def test_the_newest_checkpoint(tmp_path):
    assert newest_checkpoint(tmp_path) == ""
    (tmp_path / "checkpoints").mkdir()
    assert newest_checkpoint(tmp_path) == ""
    for name in ("step-9", "step-100", "step-99", "other-999", ".step-1000"):
        (tmp_path / "checkpoints" / name).mkdir()
    assert newest_checkpoint(tmp_path) == "step-100"


@pytest.fixture
def starts(tmp_path):
    """Reads the starts of an execution anew, as the next worker does."""
    (tmp_path / "claim").mkdir()
    return lambda: Starts(tmp_path / "claim", tmp_path / "run")


def test_starts_survive_the_worker(starts):
    one = starts()
    one.begin(100.0)
    assert (starts().starts, starts().began) == (1, 100.0)
    one.end(5.0, killed=True)
    again = starts()
    assert (again.starts, again.killed, again.seconds, again.began) == (1, 1, 5.0, 0.0)
    again.begin(200.0)
    again.end(7.0, killed=False)
    assert (starts().starts, starts().killed, starts().seconds) == (2, 1, 12.0)


def test_a_newer_checkpoint_begins_the_count_anew(starts, tmp_path):
    for _ in range(3):
        one = starts()
        one.begin(1.0)
        one.end(1.0, killed=True)
    assert (starts().starts, starts().killed) == (3, 3)
    (tmp_path / "run" / "checkpoints" / "step-10").mkdir(parents=True)
    one = starts()
    one.begin(2.0)
    assert (one.starts, one.killed, one.seconds) == (1, 0, 3.0)
    one.end(1.0, killed=True)
    assert (starts().starts, starts().killed) == (1, 1)
    one = starts()
    one.begin(3.0)
    (tmp_path / "run" / "checkpoints" / "step-20").mkdir()
    one.end(1.0, killed=True)  # it has saved something before it was killed
    assert (starts().starts, starts().killed, starts().seconds) == (0, 1, 5.0)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "\x00", '"text"', '[["a"]]'])
def test_damaged_starts_begin_anew(starts, tmp_path, text):
    (tmp_path / "claim" / "starts.json").write_text(text)
    one = starts()
    assert (one.starts, one.killed, one.seconds) == (0, 0, 0.0)
    one.begin(1.0)
    assert starts().starts == 1
