"""The folder of a job, read without Slurm: status, logs, and what is refused."""

import json
import os
import time

import pytest

from launch.command import LaunchError
from launch.slurm import folder as folders
from launch.slurm.commands import parse_fields, without_job_variables
from launch.slurm.logs import show
from launch.slurm.status import describe
from launch.slurm.submission import task_indices


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Makes the folder of job 7, and hides Slurm."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def folder(processes=2, tasks=(), **files):
        path = tmp_path / "launch" / "7"
        path.mkdir(parents=True)
        values = {
            "job": 7,
            "name": "trainer.main",
            "made_by": "x",
            "processes": processes,
            "tasks": list(tasks),
        }
        (path / "job.json").write_text(json.dumps(values))
        for name, text in files.items():
            file = path / name.replace("__", "/").replace("_", "-").replace("-log", ".log").replace(
                "-json", ".json"
            )
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        return folders.find(7, None)

    return folder


def end(rank, code, ended, *lines):
    values = {"ended": ended, "code": code, "rank": rank, "how": f"ended with exit code {code}", "host": "n1"}
    return json.dumps(values | {"last_lines": list(lines)})


def printed(folder, rank=None, **options):
    lines = []
    show(folder, rank, follow=options.get("follow", False), out=lines.append)
    return lines


def test_status_names_the_first_to_fail(make):
    folder = make(
        state="ended with code 5\n",
        starts="3 0 step 9\n",
        progress="step 12\n",
        rank_0_json=end(0, 143, 9.0, "told"),
        rank_1_json=end(1, 5, 8.5, "no", "luck"),
    )
    text = describe(folder)
    for part in (
        "ended with code 5",
        "starts: 3",
        "saved: step 12",
        "rank 1: 5, rank 0: 143",
        "rank 1 on n1",
    ):
        assert part in text
    assert "    no\n    luck" in text
    assert "told" not in text
    assert "scontrol: no such program" in text  # and what the folder says is shown all the same


def test_status_of_an_array_counts(make):
    states = {f"task_{index}__state": "ended with code 0" for index in (0, 1, 2, 5)}
    text = describe(
        make(tasks=range(7), **states, task_3__state="running, start 1, job 9", task_4__state="cancelled")
    )
    assert "4 tasks ended with code 0: 0-2,5" in text
    assert "1 tasks running: 3" in text
    assert "1 tasks cancelled: 4" in text
    assert "1 tasks not started: 6" in text


def test_a_job_that_was_never_started_says_where_to_look(make):
    assert "has not started" in describe(make())


def test_logs_have_their_rank_in_front_where_there_are_several(make):
    folder = make(rank_0_log="a\nb\nunfinished", rank_1_log="c\n")
    assert printed(folder) == ["[0] a", "[0] b", "[1] c", "[0] unfinished"]
    assert printed(folder, 1) == ["c"]
    with pytest.raises(LaunchError, match="--rank=2: the job has the ranks 0 to 1"):
        printed(folder, 2)


def test_logs_of_an_array_have_their_task_in_front(make):
    folder = make(processes=1, tasks=(0, 1), task_0__rank_0_log="a\n", task_1__rank_0_log="b\n")
    assert printed(folder) == ["[task 0] a", "[task 1] b"]


@pytest.mark.slow
def test_logs_are_followed_until_the_last_word(make, tmp_path):
    folder = make(rank_0_log="a\n", state="running")
    pid = os.fork()
    if not pid:
        time.sleep(0.7)
        (tmp_path / "launch/7/rank-0.log").write_text("a\nb\n")
        (tmp_path / "launch/7/state").write_text("ended with code 0")
        os._exit(0)
    assert printed(folder, 0, follow=True) == ["a", "b"]
    os.waitpid(pid, 0)


def test_a_job_without_a_folder_is_told_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LaunchError, match=r"job 8: .*launch/8.*--log_dir"):
        folders.find(8, None)


def test_the_folder_of_another_job_is_refused(make, tmp_path):
    folder = make(jobs="9\n11\n")
    assert folder.current == 11
    with pytest.raises(LaunchError, match="is the folder of job 7, not of 8"):
        folders.find(8, folder.path)
    for job in (7, 9, 11):
        assert folders.find(job, folder.path).job == 7


@pytest.mark.parametrize(
    ("array", "indices"), [("0-3", [0, 1, 2, 3]), ("0-6:2,9%3", [0, 2, 4, 6, 9]), ("5", [5]), ("3,1", [1, 3])]
)
def test_indices_of_an_array(array, indices):
    assert task_indices(array) == indices


def test_a_line_of_scontrol_is_understood():
    line = (
        "JobId=7 JobName=a b UserId=me(1) Command=/x --y=z Dependency=(null) Req:Sock:Core=*:*:* StdOut=/l/%j"
    )
    found = parse_fields(line)
    assert (found["JobName"], found["Command"], found["StdOut"]) == ("a b", "/x --y=z", "/l/%j")


def test_variables_of_a_job_are_not_handed_to_the_next():
    given = {
        "SLURM_JOB_ID": "1",
        "SLURM_MEM_PER_NODE": "5",
        "SLURM_CONF": "c",
        "SBATCH_ACCOUNT": "a",
        "X": "y",
    }
    assert without_job_variables(given) == {"SLURM_CONF": "c", "SBATCH_ACCOUNT": "a", "X": "y"}
