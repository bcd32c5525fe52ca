import os
from types import SimpleNamespace

import pytest

from tfrecords.errors import InputError
from trainer.runs.finding import find_runs
from trainer.tune.search import Search
from trainer.tune.trials import run_dir


def names(found, root):
    return [str(run.relative_to(root)) for run in found.runs]


def make_search(root, make_run, trials=2):
    """A search as trainer.tune lays it out, with runs as its trials and as its final run."""
    folder = root / "search"
    (folder / "journal").mkdir(parents=True)
    (folder / "journal" / "lock.json").write_text("{}")
    (folder / "claims" / "0000-0").mkdir(parents=True)
    (folder / "search.json").write_text("{}")
    search = SimpleNamespace(folder=folder)
    search.trial = lambda number: Search.trial(search, number)
    for number in range(trials):
        make_run(str(run_dir(search, number, 0).relative_to(make_run.root)))
    make_run("search/final")
    return folder


def test_runs_are_found_at_any_depth_and_hidden_folders_are_left_out(make_run):
    for name in ("b", "a", "project/old/c", ".hidden/d", "a/report/inside"):
        make_run(name)
    (make_run.root / "notes.txt").write_text("a file is no folder")
    found = find_runs(make_run.root)
    assert names(found, make_run.root) == ["a", "b", "project/old/c"]
    assert (found.problems, found.hidden_trials) == ((), 0)


def test_a_run_itself_may_be_given(make_run):
    assert find_runs(make_run("a")).runs == (make_run.root / "a",)


def test_an_average_of_seeds_is_found_with_the_runs_of_its_seeds(make_run):
    for name in ("one", "one/seed-0", "one/seed-1"):
        make_run(name)
    (make_run.root / "one" / "seeds.json").write_text("{}")
    found = find_runs(make_run.root)
    assert names(found, make_run.root) == ["one", "one/seed-0", "one/seed-1"]
    assert found.problems == ()


def test_folders_without_a_run_are_named(make_run):
    make_run("a")
    (make_run.root / "foreign" / "deeper").mkdir(parents=True)
    (problem,) = find_runs(make_run.root).problems
    assert "foreign" in problem
    assert "config.json" in problem


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_named(make_run):
    make_run("a")
    closed = make_run.root / "closed"
    closed.mkdir(mode=0)
    (problem,) = find_runs(make_run.root).problems
    closed.chmod(0o700)
    assert "closed" in problem


@pytest.mark.parametrize(("trials", "shown", "hidden"), [(False, 1, 2), (True, 3, 0)])
def test_the_trials_of_a_search_are_counted_or_shown_and_its_final_run_always_is(
    make_run, trials, shown, hidden
):
    make_search(make_run.root, make_run)
    found = find_runs(make_run.root, trials=trials)
    assert (len(found.runs), found.hidden_trials, found.problems) == (shown, hidden, ())
    assert "search/final" in names(found, make_run.root)


def test_the_folder_of_a_search_may_be_given(make_run):
    found = find_runs(make_search(make_run.root, make_run), trials=True)
    assert (len(found.runs), found.problems) == (3, ())


def test_links_are_followed_once(make_run):
    make_run("a")
    (make_run.root / "again").symlink_to(make_run.root / "a")
    (make_run.root / "circle").symlink_to(make_run.root)
    found = find_runs(make_run.root)
    assert names(found, make_run.root) == ["a"]


def test_no_such_folder(tmp_path):
    with pytest.raises(InputError, match=r"--runs=.*nowhere.*trainer\.main"):
        find_runs(tmp_path / "nowhere")
