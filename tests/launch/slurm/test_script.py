"""A job as a batch script: its options, its words, and what it does when its tasks end; bash itself runs it.

Slurm's commands are functions of the shell here, for their answers are the cases; test_jobs.py has the real
ones.
"""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from launch.slurm.options import Job
from launch.slurm.script import render


def job(*command, **options):
    return Job(
        **{"command": command or ("true",), "folder": Path("/home/me"), "python": "/usr/bin/python"} | options
    )


def directives(text):
    return [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]


def test_what_is_asked_for_stands_at_the_top():
    text = render(
        job(
            nodes=2,
            tasks_per_node=4,
            gpus_per_node=8,
            cpus_per_task=6,
            mem="64G",
            time="1-0",
            partition="gpu,long",
            account="me",
            qos="high",
            constraint="h100&(ib|roce)",
            array="0-7%2",
            after=(12, 13),
            grace=60,
            sbatch_args=("--exclusive --mail-type=END",),
        ),
        "python -m launch.slurm ...",
    )
    assert text.splitlines()[1] == "# Made by: python -m launch.slurm ..."
    assert directives(text) == [
        "--job-name=true",
        "--nodes=2",
        "--ntasks-per-node=4",
        "--gpus-per-node=8",
        "--cpus-per-task=6",
        "--mem=64G",
        "--time=1-0",
        "--partition=gpu,long",
        "--account=me",
        "--qos=high",
        "--constraint=h100&(ib|roce)",
        "--array=0-7%2",
        "--dependency=afterok:12:13",
        "--kill-on-invalid-dep=yes",
        "--signal=TERM@60",
        "--open-mode=append",
        "--requeue",
        "--exclusive --mail-type=END",
    ]
    srun = next(line for line in text.splitlines() if line.strip().startswith("srun"))
    assert "--cpus-per-task=6" in srun
    assert "--gpu-bind=none" in srun
    assert "--devices_per_process=2" in srun


def test_nothing_that_was_not_asked_for():
    assert directives(render(job(grace=0), "x")) == [
        "--job-name=true",
        "--nodes=1",
        "--ntasks-per-node=1",
        "--open-mode=append",
        "--requeue",
    ]


def test_a_made_by_of_several_lines_stays_a_comment():
    text = render(job(), "a\n#SBATCH --nodes=9\nrm -rf /")
    assert text.splitlines()[1:4] == ["# Made by: a", "# #SBATCH --nodes=9", "# rm -rf /"]


# What the script calls, as functions of the shell. `srun` plays the tasks: it runs $TASKS.
_SLURM = """
scontrol() {
  case "$1 $2" in
    "show config") echo "KillWait = 30 sec" ;;
    "show job") [ -e "$JOB_STATE".asked ] || { touch "$JOB_STATE".asked; return 1; } # busy, the first time
      cat "$JOB_STATE" ;;
    "requeue 7") echo requeue >>"$CALLS"; [ -e "$JOB_STATE".never ] && return 1; exit 0 ;;
  esac
}
sbatch() { echo "sbatch $*" >>"$CALLS"; echo "SLURM_* are gone: ${!SLURM_*}" >>"$CALLS"; echo "8;cluster"; }
srun() { while [ "$1" != -- ]; do shift; done; shift; eval "$TASKS"; }
sleep() { :; }
"""
RUNNING = "JobId=7 JobState=RUNNING Reason=None Requeue=1 Restarts=0 PreemptTime=None Comment=x"


@pytest.fixture
def play(tmp_path):
    """Runs the script of a job with tasks that leave with given codes, start after start."""

    def run(*starts, state=RUNNING, said="", srun=1, **options):
        (tmp_path / "slurm").write_text(_SLURM)
        (tmp_path / "state").write_text(f"{state}\n")
        (tmp_path / "calls").touch()
        for number, ends in enumerate(starts, 1):
            lines = [
                json.dumps(
                    {"ended": ended, "code": code, "rank": rank, "how": "", "last_lines": ['{"code": 9}']}
                )
                for rank, (ended, code) in enumerate(ends)
            ]
            for rank, line in enumerate(lines):
                (tmp_path / f"start-{number}-rank-{rank}").write_text(f"{line}\n")
        tasks = f"""
            n=$(( $(cat {tmp_path}/n 2>/dev/null || echo 0) + 1 )); echo $n >{tmp_path}/n
            for file in {tmp_path}/start-$n-rank-*; do
              [ -e "$file" ] && cp "$file" "$logs/rank-${{file##*-}}.json"
            done
            {said}
            return {srun}
        """
        text = render(job(folder=tmp_path, **options), "x")
        (tmp_path / "job.sh").write_text(text.replace("#!/bin/bash", f"#!/bin/bash\n. {tmp_path}/slurm"))
        done = subprocess.run(
            ["bash", str(tmp_path / "job.sh")],
            env={
                "PATH": "/usr/bin:/bin",
                "SLURM_JOB_ID": "7",
                "SLURM_CONF": "mine",
                "SLURM_JOB_NODELIST": "n[0-1]",
                "TASKS": tasks,
                "JOB_STATE": str(tmp_path / "state"),
                "CALLS": str(tmp_path / "calls"),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        logs = tmp_path / "launch" / "7"
        return done, (logs / "state").read_text().strip(), (tmp_path / "calls").read_text()

    return run


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        ([(1.5, 0), (2.5, 0)], 0),
        ([(1.5, 3), (2.5, 0)], 3),
        ([(9.5, 76), (8.5, 2)], 2),  # the first to end, not the first rank
        ([(10.5, 1), (9.5, 0)], 1),
        ([(2.0, 77), (2.1, 77)], 77),
        ([(2.0, 130), (2.1, 75)], 130),
    ],
)
def test_the_first_code_counts_and_is_the_jobs(play, ends, code):
    done, state, calls = play(ends, nodes=2)
    assert state == f"ended with code {code}"
    assert done.returncode == (0 if code == 3 else code), done.stderr  # 3 is done: jobs --after may start
    assert calls == ""


@pytest.mark.slow
def test_the_script_reads_what_a_task_leaves(run_python, tmp_path):
    """`launch.worker` writes it, sed reads it: both sides of the border."""
    place = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "localhost", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}
    worker = ("-m", "launch.worker", f"--log_dir={tmp_path}", "--", sys.executable, "-c")
    script = 'import sys; print(\'"code": 9, "ended": 9\'); sys.exit(5)'
    done = run_python(*worker, script, **place, SLURM_TASKS_PER_NODE="1", TF_CONFIG="")
    assert done.returncode == 5, done.stderr
    (expression,) = re.findall(r"sed -n '(.*)'", render(job(), "x"))
    command = ["sed", "-n", expression, str(tmp_path / "rank-0.json")]
    ended, code = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert (code, float(ended)) == ("5", json.loads((tmp_path / "rank-0.json").read_text())["ended"])


@pytest.mark.parametrize("lost", [[(1, 76), (2, 76)], [(1, 137), (2, 75)], [(1, 0)], [(1, 76)]])
def test_who_was_lost_is_started_again_at_once(play, lost):
    done, state, calls = play(lost, [(3, 0), (4, 0)], nodes=2)
    assert (done.returncode, state, calls) == (0, "ended with code 0", ""), done.stdout + done.stderr
    assert "start 2" in done.stdout


@pytest.mark.parametrize("ends", [[(1, 75), (2, 75)], [(1, 75), (2, 137)], [(1, 143), (2, 143)]])
def test_who_was_stopped_is_requeued(play, ends):
    _, state, calls = play(ends, nodes=2)
    assert (state.partition(",")[0], calls) == ("requeued", "requeue\n")


def test_where_it_cannot_be_requeued_the_way_on_is_told(play, tmp_path):
    (tmp_path / "state.never").touch()
    done, state, calls = play([(1, 75)])
    assert (done.returncode, state, calls) == (75, "ended with code 75", 3 * "requeue\n")
    assert "--resubmit" in done.stdout
    assert f"sbatch {tmp_path}/launch/7/job.sh" in done.stdout


def test_where_srun_says_that_all_went_well_no_file_is_waited_for(play):
    """On a shared disk a file of another node may not be seen yet."""
    done, state, _ = play([(1, 0)], nodes=9, srun=0)
    assert (done.returncode, state) == (0, "ended with code 0"), done.stdout


@pytest.mark.parametrize(
    ("slurm", "state", "calls"),
    [
        ("JobState=COMPLETING Reason=None Restarts=0 PreemptTime=None", "cancelled", ""),
        ("JobState=COMPLETING Reason=None Restarts=1", "requeued by Slurm", ""),
        ("JobState=COMPLETING Reason=TimeLimit Restarts=0", "requeued,", "requeue\n"),
        (
            "JobState=COMPLETING Reason=None Restarts=0 PreemptTime=2026-01-01T00:00:00",
            "requeued,",
            "requeue\n",
        ),
        ("", "cancelled", ""),
    ],
)
def test_slurms_word_on_the_job_decides(play, slurm, state, calls):
    _, found, asked = play([(1, 75), (2, 75)], nodes=2, state=f"JobId=7 {slurm} Comment=x")
    assert found.startswith(state)
    assert asked == calls


def test_a_task_that_is_lost_in_a_job_that_ends_is_not_started_again(play):
    found = play([(1, 137), (2, 137)], nodes=2, state="JobId=7 JobState=COMPLETING Reason=None Restarts=0 x")
    assert found[1:] == ("cancelled", "")


def test_where_nothing_is_requeued_it_is_submitted_again(play, tmp_path):
    done, state, calls = play([(1, 75)], resubmit=True)
    assert done.returncode == 75
    assert state.startswith("submitted again as job 8,")
    folder = tmp_path / "launch" / "7"
    assert calls.splitlines() == [
        f"sbatch --parsable --open-mode=append --output={folder}/batch.log {folder}/job.sh",
        "SLURM_* are gone: SLURM_CONF",
    ]
    assert (folder / "jobs").read_text() == "8\n"


@pytest.mark.parametrize(("limit", "starts"), [(0, 1), (2, 3)])
def test_starts_in_vain_are_counted(play, tmp_path, limit, starts):
    done, state, _ = play(*[[(1, 137)]] * 5, max_restarts=limit)
    assert (done.returncode, state) == (137, "ended with code 137")
    assert (tmp_path / "n").read_text() == f"{starts}\n"
    assert f"--max_restarts={limit}" in done.stdout


def test_a_start_that_saved_something_does_not_count(play, tmp_path):
    saved = 'if [ "$n" -le 3 ]; then echo "step $n" >"$LAUNCH_PROGRESS"; fi'
    done, state, _ = play(*[[(1, 137)]] * 9, max_restarts=1, said=saved)
    assert (done.returncode, state) == (137, "ended with code 137")
    assert (tmp_path / "n").read_text() == "5\n"  # three that saved, one in vain, and one more was allowed


@pytest.mark.parametrize(
    "words",
    [
        ["two words", "it's", '"', "$HOME", "`x`", "*", "", "--", "\\", "!", "a\nb"],
        [
            "--task=$SLURM_ARRAY_TASK_ID/${SLURM_ARRAY_TASK_COUNT}",
            "$SLURM_ARRAY_TASK_IDX",
            'a "$SLURM_JOB_ID" `x` $HOME \\',
        ],
        ["$SLURM_PROCID", "${SLURM_ARRAY_TASK_ID", "$$SLURM_JOB_ID"],
    ],
)
def test_words_are_untouched_but_for_an_arrays_variables(words):
    text = render(job(*words, nodes=2), "x")
    at = text.index(" -- \\\n") + len(" -- \\\n")
    shell = text[at : text.index(" &\n", at)]
    shown = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {shell}"],
        env={"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8", "SLURM_JOB_ID": "7"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")[:-1]
    filled = {
        "--task=$SLURM_ARRAY_TASK_ID/${SLURM_ARRAY_TASK_COUNT}": "--task=3/8",
        'a "$SLURM_JOB_ID" `x` $HOME \\': 'a "7" `x` $HOME \\',
        "$$SLURM_JOB_ID": "$7",
    }
    assert shown == [filled.get(word, word) for word in words]


@pytest.mark.parametrize(
    ("options", "folder"),
    [
        ({}, "/home/me/launch/7"),
        ({"array": "0-3"}, "/home/me/launch/5/task-2"),
        ({"log_dir": Path("/a b/c")}, "/a b/c"),
        ({"log_dir": Path("/x"), "array": "0-3"}, "/x/task-2"),
    ],
)
def test_where_its_state_is(options, folder):
    line = next(line for line in render(job(**options), "x").splitlines() if line.startswith("logs="))
    array = {"SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "2"} if "array" in options else {}
    shown = subprocess.run(
        ["bash", "-c", f'{line}; printf %s "$logs"'],
        env={"SLURM_JOB_ID": "7", **array},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == folder


def test_variables_and_setup_come_before_the_command():
    text = render(job(environment=(("A", "b 'c' $d"),), setup=("module load x", "ulimit -n 4096")), "x")
    lines = text.splitlines()
    assert f"export A={shlex.quote(chr(98) + ' ' + chr(39) + 'c' + chr(39) + ' $d')}" in lines
    assert (
        lines.index("module load x") < lines.index("ulimit -n 4096") < text[: text.index("srun")].count("\n")
    )
