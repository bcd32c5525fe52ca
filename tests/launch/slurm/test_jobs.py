"""Batch jobs on a real Slurm of two nodes: whatever stops them, they end in the same weights, bit by bit."""

import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from launch.cluster import expand_nodes

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

_HERE = Path(__file__).parent
_SLOWED = _HERE / "slowed.py"
TRAINING = (
    "--strategy=multi_worker",
    "--model=mlp",
    "--epochs=8",
    "--global_batch_size=4",
    "--precision=float32",
    "--learning_rate=0.003",
    "--deterministic",
    "--checkpoint_minutes=0",
    "--threads_per_process=2",
    "--cache=memory",
)
KILLS_ITSELF = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


@pytest.fixture(scope="module")
def chain(cluster, image_folder):
    """An array that converts, what seals it, and a training after it, which nothing disturbs: three jobs."""
    convert = (
        sys.executable,
        "-m",
        "tfrecords.convert",
        f"--images={image_folder}",
        "--out=data",
        "--shard_size=64KB",
    )
    convert += ("--size=48x64", "--val_fraction=0.2", "--test_fraction=0.25", "--workers=1")
    task = "--task=$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
    array = cluster.submit("--array=0-2", command=(*convert, task))
    finish = cluster.submit(f"--after={array}", command=(*convert, "--finish"))
    training = cluster.submit(
        "--nodes=2",
        "--time=30",
        f"--after={finish}",
        command=(sys.executable, _SLOWED, *TRAINING, "--data=data", "--run_dir=whole"),
        SLOWED="no-such-file",
    )
    for job in (*(f"{array}/task-{task}" for task in range(3)), finish, training):
        cluster.wait_for_end(job)
        assert cluster.text(job, "state").strip() == "ended with code 0", cluster.everything(job)
    return array, finish, training, convert


@pytest.fixture
def interrupted(cluster, chain, tmp_path):
    """Starts the same training, slowed so that it can be met in the middle; returns its job."""
    slowed = tmp_path / "slowed"
    slowed.touch()

    def start(*flags):
        job = cluster.submit(
            "--nodes=2",
            *flags,
            command=(sys.executable, _SLOWED, *TRAINING, "--data=data", f"--run_dir={tmp_path / 'run'}"),
            SLOWED=str(slowed),
        )
        cluster.wait(lambda: cluster.text(job, "progress"), lambda: cluster.everything(job))
        return job

    return start


def finish_as_whole(cluster, tmp_path, job, starts):
    """The training goes on at full speed to the weights of the undisturbed one."""
    (tmp_path / "slowed").unlink()
    cluster.wait_for_end(job)
    assert cluster.text(job, "state").strip() == "ended with code 0", cluster.everything(job)
    assert cluster.text(job, "starts").split()[:2] == [str(starts), "0"], cluster.everything(job)
    runs = [tmp_path / "run", cluster.folder / "whole"]
    weights = [keras.models.load_model(run / "model.keras", compile=False).get_weights() for run in runs]
    for mine, its in zip(*weights, strict=True):
        assert np.array_equal(mine, its)
    mine, its = ((run / "report/test/predictions.csv").read_bytes() for run in runs)
    assert mine == its
    assert "resuming after" in cluster.text(job, "rank-0.log")


def test_conversion_finish_and_training_after_another(cluster, chain, run_command, tmp_path):
    array, finish, training, convert = chain
    for job in (finish, training):
        assert cluster.text(job, "state").strip() == "ended with code 0", cluster.everything(job)
    assert [cluster.text(array, f"task-{task}/state").strip() for task in range(3)] == [
        "ended with code 0"
    ] * 3
    assert "3 tasks ended with code 0: 0-2" in cluster.launch("status", array).stdout
    began = {job: json.loads(cluster.text(job, "rank-0.json"))["began"] for job in (finish, training)}
    ends = [json.loads(cluster.text(array, f"task-{task}/rank-0.json"))["ended"] for task in range(3)]
    assert max(ends) < began[finish] < began[training]

    alone = run_command(
        convert[2], *(word.replace("=data", f"={tmp_path / 'alone'}") for word in convert[3:])
    )
    assert alone.returncode == 0, alone.stderr
    shards = sorted(path.name for path in (tmp_path / "alone").glob("*.tfrecord-*"))
    assert len(shards) > 3
    for name in shards:
        assert (tmp_path / "alone" / name).read_bytes() == (cluster.folder / "data" / name).read_bytes()

    shown = cluster.launch("status", training).stdout
    assert "ended with code 0" in shown
    assert "2 of 2 tasks" in shown
    both = cluster.launch("logs", training).stdout
    assert {line[:4] for line in both.splitlines()} == {"[0] ", "[1] "}
    one = cluster.launch("logs", training, "--rank=0", "--follow").stdout
    assert "report:" in one
    assert one == cluster.text(training, "rank-0.log")


def test_time_limit(cluster, interrupted, tmp_path):
    """A limit that comes near: the tasks save, the script requeues."""
    job = interrupted("--time=30", "--grace=20")
    cluster.ask("scontrol", "update", f"JobId={job}", "TimeLimit=1")
    cluster.wait(lambda: "requeued" in cluster.text(job, "state"), lambda: cluster.everything(job))
    cluster.ask("scontrol", "update", f"JobId={job}", "TimeLimit=30")
    finish_as_whole(cluster, tmp_path, job, starts=2)
    assert re.search(r"rank \d .*\b75\b", cluster.text(job, "batch.log"))


@pytest.mark.parametrize("partition", [pytest.param("low", marks=pytest.mark.storm), "grace", "cancel"])
def test_preempted(cluster, interrupted, tmp_path, partition):
    """Without grace, with it, and where the site cancels: by a job that needs both nodes."""
    job = interrupted("--time=30", f"--partition={partition}", "--sbatch_args=--exclusive")
    higher = ["--parsable", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null"]
    cluster.ask("sbatch", *higher, "--wrap=sleep 1")
    cluster.wait(lambda: "requeued" in cluster.text(job, "state"), lambda: cluster.everything(job))
    finish_as_whole(cluster, tmp_path, job, starts=2)


@pytest.mark.parametrize("who", [pytest.param("command", marks=pytest.mark.storm), "launcher"])
def test_a_worker_that_is_killed(cluster, interrupted, tmp_path, who):
    """All are started again at once, in the same start of the job."""
    job = interrupted("--time=30")
    pids = [int(pid) for pid in cluster.ask("pgrep", "-f", f"run_dir={tmp_path / 'run'}").split()]
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in pids}
    mine = {
        pid: words
        for pid, words in lines.items()
        if words[0] != b"srun" and (b"launch.worker" in words) == (who == "launcher")
    }
    ranks = {
        pid: Path(f"/proc/{pid}/environ").read_bytes().partition(b"SLURM_PROCID=")[2].partition(b"\0")[0]
        for pid in mine
    }
    os.kill(next(pid for pid, rank in ranks.items() if rank == b"1"), signal.SIGKILL)
    cluster.wait(lambda: "start 2" in cluster.text(job, "state"), lambda: cluster.everything(job))
    finish_as_whole(cluster, tmp_path, job, starts=2)
    assert "SLURM_RESTART_COUNT" not in cluster.text(job, "batch.log")
    assert cluster.job(job).get("Restarts", "0") == "0"


def test_tasks_that_do_not_leave_in_time_are_started_again(cluster, tmp_path):
    """The script requeues the job before Slurm kills it, which here would be its end."""
    script = f"""
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if (mark := pathlib.Path({str(tmp_path / "mark")!r} + os.environ["SLURM_PROCID"])).exists():
    sys.exit(0)
mark.touch()
time.sleep(600)
"""
    flags = ("--partition=cancel", "--sbatch_args=--exclusive", "--nodes=2", "--tasks_per_node=1")
    job = cluster.submit(*flags, command=(sys.executable, "-c", script))
    cluster.wait(lambda: len(list(tmp_path.glob("mark*"))) == 2, lambda: cluster.everything(job))
    higher = ["--parsable", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null"]
    cluster.ask("sbatch", *higher, "--wrap=sleep 1")
    cluster.wait_for_end(job)
    assert cluster.text(job, "state").strip() == "ended with code 0", cluster.everything(job)
    assert cluster.text(job, "starts").split()[0] == "2"


def test_cancelled_for_good(cluster, interrupted, tmp_path):
    """It saves, is not requeued, and the same command in a new job goes on from there."""
    job = interrupted("--time=30")
    assert f"job {job} is cancelled" in cluster.launch("cancel", job).stdout
    cluster.wait_for_end(job)
    assert cluster.text(job, "state").strip() == "cancelled"
    cluster.wait(
        lambda: cluster.job(job).get("JobState", "CANCELLED") == "CANCELLED", lambda: cluster.everything(job)
    )
    assert "has ended already" in cluster.launch("cancel", job).stdout
    cluster.wait(lambda: not cluster.job(job), lambda: cluster.everything(job))  # Slurm has forgotten it
    shown = cluster.launch("status", job).stdout
    assert "Slurm: no longer knows the job" in shown
    assert "script: cancelled" in shown
    assert "rank 0: 75" in shown
    assert "saved: step" in shown
    assert "saved after" in cluster.launch("logs", job, "--follow").stdout
    again = interrupted("--time=30")
    finish_as_whole(cluster, tmp_path, again, starts=1)


def test_submitted_again_where_nothing_is_requeued(cluster, interrupted, tmp_path):
    job = interrupted("--time=30", "--partition=cancel", "--sbatch_args=--exclusive", "--resubmit")
    higher = ["--parsable", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null"]
    cluster.ask("sbatch", *higher, "--wrap=sleep 1")
    cluster.wait(lambda: "submitted again" in cluster.text(job, "state"), lambda: cluster.everything(job))
    finish_as_whole(cluster, tmp_path, job, starts=2)
    shown = cluster.launch("status", job).stdout
    following = cluster.text(job, "jobs").strip()
    assert f"continues as job {following}" in shown
    assert (
        f"job {job} "
        in cluster.launch("status", following, f"--log_dir={cluster.folder}/launch/{job}").stdout
    )


@pytest.mark.parametrize(
    ("script", "limit", "code", "starts"),
    [("import sys; print('no luck'); sys.exit(5)", 3, 5, 1), (KILLS_ITSELF, 1, 137, 2)],
    ids=["its own code", "killed each time"],
)
def test_what_cannot_go_on_ends_with_its_code(cluster, script, limit, code, starts):
    job = cluster.submit("--nodes=2", f"--max_restarts={limit}", command=(sys.executable, "-c", script))
    cluster.wait_for_end(job)
    assert cluster.text(job, "state").strip() == f"ended with code {code}", cluster.everything(job)
    assert cluster.text(job, "starts").split()[0] == str(starts)
    shown = cluster.launch("status", job).stdout
    assert f"rank 0: {code}" in shown or f"rank 1: {code}" in shown
    cluster.wait(
        lambda: cluster.job(job).get("JobState") in {"FAILED", None}, lambda: cluster.everything(job)
    )


def test_the_printed_script_runs_without_this_command(cluster):
    flags = ("--nodes=2", "--tasks_per_node=2", "--env=GREETING=a 'b' $HOME", "--setup=export shown=here")
    script = (
        "import json, os, sys; print(os.environ['GREETING'], os.environ['shown'], sys.argv[1:], "
        "len(set(json.loads(os.environ['TF_CONFIG'])['cluster']['worker'])))"
    )
    given = ("two words", "it's", "$HOME", "*", "", "--", "`x`", "job-$SLURM_JOB_ID.x")
    text = cluster.launch(*flags, "--dry_run", "--", sys.executable, "-c", script, *given).stdout
    job = int(
        subprocess.run(
            ["sbatch", "--parsable", f"--output={cluster.folder}/by-hand.log"],
            env=os.environ | cluster.variables | {"TF_CONFIG": "{}"},  # of a shell: it is nobody's here
            cwd=cluster.folder,
            input=text,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    cluster.wait_for_end(job)
    expected = f"a 'b' $HOME here {[*given[:-1], f'job-{job}.x']} 4\n"
    assert [cluster.text(job, f"rank-{rank}.log") for rank in range(4)] == [expected] * 4, (
        cluster.folder / "by-hand.log"
    ).read_text()


def test_the_example_of_the_docs(cluster, image_folder, run_python, tmp_path):
    """As it stands in docs/launching.md, but for a smaller model and one epoch."""
    page = (_HERE.parents[2] / "docs" / "launching.md").read_text()
    block = page.split("## On Slurm\n")[1].split("```sh\n")[1].split("```")[0]
    assert "--model=cnn" in block
    (tmp_path / "chest_xray").symlink_to(image_folder)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-ec", block.replace("--model=cnn", "--model=mlp --epochs=1")],
        cwd=tmp_path,
        env=os.environ | cluster.variables | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "report: runs/cluster/report/test/report.html" in done.stdout, done.stdout
    assert (tmp_path / "runs/cluster/model.keras").exists()


def test_node_lists_are_read_as_slurm_reads_them(cluster):
    """Two hundred drawn ones: several brackets, zero padding, ranges, in any order."""
    chance = random.Random(0)

    def numbers():
        width, first = chance.choice((0, 0, 2, 3)), chance.randint(0, 120)
        shown = [f"{number:0{width}d}" for number in (first, first + chance.randint(0, 12))]
        return "-".join(shown[: chance.randint(1, 2)])

    def bracket():
        return f"[{','.join(numbers() for _ in range(chance.randint(1, 3)))}]"

    def part():
        name = chance.choice(("n", "node", "gpu-a100-", "c1-", "x_"))
        return name + chance.choice((str(chance.randint(0, 20)), bracket(), f"{bracket()}c{bracket()}"))

    for _ in range(200):
        text = ",".join(part() for _ in range(chance.randint(1, 3)))
        assert expand_nodes(text) == cluster.ask("scontrol", "show", "hostnames", text).split(), text


def test_what_slurm_refuses_is_told_in_its_words(cluster):
    assert "to start at" in cluster.launch("--nodes=2", "--test_only", "--", "true").stdout
    for flags in (["--partition=none"], ["--nodes=9"], ["--partition=none", "--test_only"]):
        said = cluster.launch(*flags, "--", "true", code=2).stderr
        assert said.startswith("error: the job ")
        assert "partition" in said or "configuration" in said
    assert not cluster.ask("squeue", "--noheader").strip()


def test_a_job_whose_predecessor_failed_is_cancelled(cluster):
    first = cluster.submit(command=(sys.executable, "-c", "import sys; sys.exit(1)"))
    second = cluster.submit(f"--after={first}", command=("true",))
    cluster.wait(
        lambda: cluster.job(second).get("JobState") == "CANCELLED", lambda: cluster.everything(second)
    )
    assert "has not started" in cluster.launch("status", second).stdout


def test_workers_of_a_search_come_and_go(cluster, chain, run_python):
    """An array of two workers, one cancelled in mid-trial, another added: the same search as by one alone."""
    flags = ("--model=mlp", "--epochs=6", "--global_batch_size=2", "--precision=float32", "--patience=99")
    search = ("--oracle=random", "--max_trials=6", "--threads_per_process=1", "--checkpoint_steps=5")
    (cluster.folder / "space.yaml").write_text(
        "learning_rate: {type: float, min: 1e-4, max: 1e-2, log: true}\n"
    )
    tune = ("-m", "trainer.tune", "--data=data", "--space=space.yaml", "--final=none", *flags, *search)
    for words in (("--search_dir=alone", "--workers=1"), ("--search_dir=shared", "--workers=0")):
        done = run_python(*tune, *words, cwd=cluster.folder, TF_ENABLE_ONEDNN_OPTS="0")  # as the jobs
        assert done.returncode == 0, done.stderr
    worker = (sys.executable, "-m", "trainer.tune", "--worker", "--search_dir=shared")
    array = cluster.submit("--array=0-1", command=worker)

    def in_mid_trial():
        begun = re.findall(r"trial (\d+), execution 0: begins", cluster.text(array, "task-1/rank-0.log"))
        run = (
            cluster.folder / "shared" / "trials" / f"{int(begun[-1]):04d}" / "execution-0" if begun else None
        )
        return run and list((run / "checkpoints").glob("step-*")) and not (run / "result.json").exists()

    cluster.wait(in_mid_trial, lambda: cluster.everything(f"{array}/task-1"))
    cluster.ask("scancel", f"{array}_1")
    another = cluster.submit(command=worker)
    for job in (f"{array}/task-0", another):
        cluster.wait_for_end(job)
        assert cluster.text(job, "state").strip() == "ended with code 0", cluster.everything(job)
    tables = []
    for name in ("alone", "shared"):
        with (cluster.folder / name / "trials.csv").open() as file:
            rows = list(csv.DictReader(file))
        tables.append([{key: row[key] for key in row if key != "seconds"} for row in rows])
    assert tables[0] == tables[1]
    logs = [cluster.text(job, "rank-0.log") for job in (f"{array}/task-0", f"{array}/task-1", another)]
    done = [number for log in logs for number in re.findall(r"trial (\d+), execution 0: done", log)]
    assert sorted(done) == [str(number) for number in range(6)]  # each once
