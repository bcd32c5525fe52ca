"""The command, by real processes: small searches on the drawn images."""

import csv
import json
import re
import shutil

import pytest
from sessions import read

from trainer.tune.search import Search

pytestmark = [pytest.mark.slow, pytest.mark.stops]

SPACE = """
learning_rate: {type: float, min: 1e-4, max: 1e-2, log: true}
model_args:
  units: {type: int, min: 4, max: 16, step: 4}
"""
TRAIN = (
    "--model=mlp",
    "--epochs=2",
    "--precision=float32",
    "--threads_per_process=1",
    "--global_batch_size=8",
)


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    path = tmp_path_factory.mktemp("space") / "space.yaml"
    path.write_text(SPACE)
    return path


@pytest.fixture(scope="module")
def tune(run_command, converted, space):
    """Runs a search to its end."""

    def tune(folder, *flags, **environment):
        base = (f"--data={converted}", f"--space={space}", f"--search_dir={folder}", *TRAIN)
        return run_command("trainer.tune", *base, *flags, **environment)

    return tune


@pytest.fixture(scope="module")
def finished(tune, tmp_path_factory):
    """A finished search of three trials and what it printed; read only."""
    folder = tmp_path_factory.mktemp("finished") / "search"
    done = tune(folder, "--oracle=random", "--max_trials=3", "--workers=2")
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stderr == ""
    return folder, done.stdout


def rows_of(folder):
    with (folder / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def told(folder):
    """What the search tried and what came of it, times aside."""
    return [{name: row[name] for name in row if name != "seconds"} for row in rows_of(folder)]


def contents(folder):
    return {
        path.relative_to(folder): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and not {"logs", "claims", "journal"} & set(path.relative_to(folder).parts)
    }


def test_all_trials_are_in_the_table(finished):
    folder, printed = finished
    rows = rows_of(folder)
    assert [row["number"] for row in rows] == ["0", "1", "2"]
    assert {row["state"] for row in rows} == {"done"}
    best = min(rows, key=lambda row: float(row["score"]))
    assert f"best val_loss {float(best['score']):.4g} (trial {best['number']})" in printed
    for row in rows:
        run = folder / "trials" / f"{int(row['number']):04d}" / "execution-0"
        history = json.loads((run / "history.json").read_text())
        assert float(row["score"]) == min(epoch["val_loss"] for epoch in history)
        assert row["seeds"] == str(json.loads((run / "config.json").read_text())["config"]["seed"])
        # The model and the checkpoints of the best alone are kept.
        assert (run / "model.keras").exists() == (row is best)
        assert (run / "checkpoints").exists() == (row is best)
        assert not (run / "report").exists()  # a trial never reads test


def test_tensorboard_shows_each_trial_once(finished):
    """Not as a run of its own too, and the final run not at all: it is the best trial again."""
    folder, _ = finished
    experiment, groups = read(folder)
    assert {info.name for info in experiment.hparam_infos} == {"learning_rate", "model_args.units"}
    assert set(groups) == {"0000", "0001", "0002"}
    for row in rows_of(folder):
        (session,) = groups[f"{int(row['number']):04d}"].sessions
        assert session.name == f"trials/{int(row['number']):04d}/execution-0/tensorboard"


def test_the_end_says_what_there_is_and_what_is_next(finished):
    folder, printed = finished
    assert (folder / "search.html").read_text().startswith("<!DOCTYPE html>")
    report = json.loads((folder / "final" / "report" / "test" / "report.json").read_text())
    assert "best of 3 trials" in report["facts"]["chosen"]
    assert f"final run: {folder}/final" in printed
    for line in ("python -m trainer.main --data=", f"tensorboard --logdir={folder}"):
        assert line in printed


@pytest.mark.storm
def test_the_flags_at_the_end_give_the_best_trial_again(finished, run_command, tmp_path):
    folder, printed = finished
    flags = re.search(r"python -m trainer\.main (--data=.*)", printed)[1].split()
    done = run_command("trainer.main", *flags, f"--run_dir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    best = min(rows_of(folder), key=lambda row: float(row["score"]))
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert min(epoch["val_loss"] for epoch in history) == float(best["score"])


def test_a_finished_search_trains_nothing_again(finished, tune):
    folder, printed = finished
    before = contents(folder)
    done = tune(folder, "--oracle=random", "--max_trials=3", "--workers=1")
    assert (done.returncode, done.stderr) == (0, "")
    assert contents(folder) == before
    assert printed[printed.index("test: ") :] in done.stdout


@pytest.mark.storm
def test_more_trials_go_on_with_a_finished_search(finished, tune, tmp_path):
    """As if they had been asked for from the beginning."""
    folder = shutil.copytree(finished[0], tmp_path / "search")
    done = tune(folder, "--oracle=random", "--max_trials=4", "--workers=1", "--final=none")
    assert done.returncode == 0, done.stderr
    assert told(folder)[:3] == told(finished[0])
    assert len(told(folder)) == 4


def test_the_list_from_outside(finished, run_command):
    folder, _ = finished
    done = run_command("trainer.tune", "--list", f"--search_dir={folder}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 of 3 done" in done.stdout


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--oracle=hyperband",), "--search_dir: --oracle=random there, --oracle=hyperband now"),
        (("--seed=7",), "--search_dir: --seed=0 there, --seed=7 now"),
        (("--epochs=3",), "--search_dir: --epochs=2 there, --epochs=3 now"),
        (("--threads_per_process=2",), "--threads_per_process=1 there, --threads_per_process=2 now"),
        (("--space=notebook", "--model=cnn"), "--model=mlp there, --model=cnn now"),
        (("--run_dir=x",), "--run_dir: use --search_dir"),
        (("--workers=9",), "--workers=9: at most --parallel=4"),
        (("--strategy=multi_worker",), "--strategy=multi_worker: one_device"),
        (("--oracle=hyperband", "--schedule=cosine"), "--schedule=cosine: --oracle=hyperband: constant"),
        (("--objective=accuracy",), "--objective=accuracy: val_accuracy"),
        (("--max_trials=-1",), "--max_trials=-1: 0 or more"),
        (("--space=missing.yaml",), "--space=missing.yaml: package.module:function"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_changed(flags, said, finished, tune, facts):
    folder, _ = finished
    before = contents(folder)
    done = tune(folder, "--oracle=random", "--max_trials=3", *flags)
    assert done.returncode == 2
    assert re.match(facts(said), done.stderr), done.stderr
    assert contents(folder) == before


def test_a_folder_of_something_else_is_refused(tune, tmp_path, facts):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.txt").write_text("dear")
    done = tune(tmp_path / "letters", "--max_trials=1")
    assert done.returncode == 2
    assert re.match(facts(f"--search_dir={tmp_path}/letters: empty"), done.stderr)
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["letter.txt"]


def test_a_worker_needs_a_search(run_command, tmp_path, facts):
    for flag in ("--worker", "--list"):
        done = run_command("trainer.tune", flag, f"--search_dir={tmp_path}")
        assert done.returncode == 2
        assert re.match(
            facts(f"--search_dir={tmp_path}: search.json: python -m trainer.tune --data="), done.stderr
        )
        done = run_command("trainer.tune", flag)
        assert done.returncode == 2
        assert "--search_dir" in done.stderr


def test_trials_that_fail_are_recorded_and_do_not_stop_the_search(tune, tmp_path):
    """One rate is so high that the loss is not finite."""
    space = tmp_path / "space.yaml"
    space.write_text("learning_rate: {type: choice, values: [0.001, 1e30]}\n")
    done = tune(
        tmp_path / "search",
        f"--space={space}",
        "--oracle=random",
        "--max_trials=2",
        "--parallel=2",
        "--workers=1",
    )
    assert done.returncode == 0, done.stderr
    bad, good = sorted(rows_of(tmp_path / "search"), key=lambda row: row["state"], reverse=True)
    assert (good["state"], good["learning_rate"]) == ("done", "0.001")
    assert (bad["state"], bad["learning_rate"], bad["score"]) == ("failed", "1e+30", "")
    assert bad["message"].startswith("diverged")


@pytest.mark.storm
def test_too_many_failures_end_the_search(tune, converted, tmp_path, facts):
    space = tmp_path / "space.yaml"
    space.write_text("learning_rate: {type: float, min: 1e30, max: 1e35}\n")
    flags = (f"--space={space}", "--oracle=random", "--max_trials=6", "--parallel=1", "--workers=1")
    done = tune(tmp_path / "search", *flags, "--max_failures=0")
    assert done.returncode == 2
    said = facts("1: --max_failures=0: trial 0: another --search_dir")
    assert re.match(said, done.stderr), done.stderr
    assert [row["state"] for row in rows_of(tmp_path / "search")] == ["failed"]


@pytest.mark.storm
def test_a_search_is_written_down_for_workers_elsewhere(tune, run_command, tmp_path):
    folder = tmp_path / "search"
    done = tune(folder, "--oracle=random", "--max_trials=1", "--workers=0", "--final=none")
    assert done.returncode == 0, done.stderr
    assert f"--worker --search_dir={folder}" in done.stdout
    assert len(Search.load(folder).journal.read()) == 1
    done = run_command("trainer.tune", "--worker", f"--search_dir={folder}")
    assert done.returncode == 0, done.stderr
    assert [row["state"] for row in rows_of(folder)] == ["done"]
    assert not (folder / "final").exists()


@pytest.mark.storm
def test_reload_takes_the_best_execution(tune, tmp_path):
    folder = tmp_path / "search"
    flags = ("--oracle=random", "--max_trials=1", "--executions_per_trial=2", "--final=reload")
    done = tune(folder, *flags, "--objective=val_auc", "--workers=2")
    assert done.returncode == 0, done.stderr
    rows = rows_of(folder)
    best = max(rows, key=lambda row: (float(row["score"]), -int(row["number"])))
    aucs = []
    for execution in range(2):
        run = folder / "trials" / f"{int(best['number']):04d}" / f"execution-{execution}"
        result = json.loads((run / "result.json").read_text())
        aucs.append(json.loads((run / "history.json").read_text())[result["epoch"] - 1]["val_auc"])
        model = (run / "model.keras").read_bytes()
        if aucs[-1] == max(aucs) and aucs.count(aucs[-1]) == 1:
            wanted = model
    assert float(best["score"]) == sum(aucs) / 2
    assert (folder / "final" / "model.keras").read_bytes() == wanted
    assert len(set(best["seeds"].split())) == 2
    report = json.loads((folder / "final" / "report" / "test" / "report.json").read_text())
    assert "best of 1 trial" in report["facts"]["chosen"]


@pytest.mark.storm
def test_bad_input_of_the_first_trial_ends_the_search_and_fails_no_trial(tune, converted, tmp_path):
    """The data are damaged: no trial is to blame."""
    data = shutil.copytree(converted, tmp_path / "data")
    shard = next(path for path in sorted(data.glob("*-train.*")))
    sound = shard.read_bytes()
    middle = len(sound) // 2
    shard.write_bytes(sound[:middle] + bytes([sound[middle] ^ 255]) + sound[middle + 1 :])
    flags = (f"--data={data}", "--oracle=random", "--max_trials=1", "--final=none", "--cache=stream")
    done = tune(tmp_path / "search", *flags, "--workers=1")
    assert done.returncode == 2
    assert shard.name in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "search" / "trials.csv").exists()
    assert len(Search.load(tmp_path / "search").journal.read()) == 1  # the trial is open and can be trained
