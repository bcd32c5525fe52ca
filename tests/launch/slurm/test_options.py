"""What a job may ask for; what may not be is told with the flag, the value and what is allowed."""

from pathlib import Path

import pytest

from launch.command import LaunchError
from launch.slurm.options import Job, seconds


def job(**options):
    return Job(**{"command": ("true",), "folder": Path("/home/me"), "python": "/usr/bin/python"} | options)


@pytest.mark.parametrize(
    ("time", "found"),
    [
        ("90", 5400),
        ("1:30", 90),
        ("1:00:00", 3600),
        ("2-0", 172800),
        ("1-12:30", 131400),
        ("1-00:00:01", 86401),
        ("0:30", 30),
    ],
)
def test_time_limits(time, found):
    assert seconds(time) == found


@pytest.mark.parametrize("time", ["", "0", "0:00", "2h", "1-", "1:2:3:4", "-5", "1.5", "UNLIMITED"])
def test_a_time_that_is_none_is_named(time):
    with pytest.raises(LaunchError, match=r"--time=.*must be minutes"):
        seconds(time)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gpus_per_node": 3, "tasks_per_node": 2}, "--gpus_per_node=3.*multiple of --tasks_per_node=2"),
        ({"nodes": 3000, "tasks_per_node": 8}, "--nodes=3000 --tasks_per_node=8: 24000 processes"),
        ({"array": "a-b"}, "--array=a-b.*0-7"),
        ({"array": "0-7%"}, "--array=0-7%"),
        ({"array": "0-7", "resubmit": True}, "--resubmit.*--array"),
        ({"time": "2", "grace": 120}, "--grace=120.*--time=2.*120 s"),
        ({"mem": "64 G"}, "--mem='64 G'"),
        ({"partition": ""}, "--partition=''"),
        ({"sbatch_args": ("exclusive",)}, "--sbatch_args='exclusive'.*--exclusive"),
        ({"sbatch_args": ("--exclusive\n--x",)}, "--sbatch_args="),
        ({"sbatch_args": ("--comment='",)}, "--sbatch_args=.*quot"),
        ({"sbatch_args": ("--exclusive --output=x",)}, "--output .* use --log_dir"),
        ({"sbatch_args": ("-N 3",)}, "-N .* use --nodes"),
    ],
)
def test_what_cannot_be_is_named(options, said):
    with pytest.raises(LaunchError, match=said):
        job(**options)


@pytest.mark.parametrize("array", ["0-7", "0-99%10", "1,3,5", "0-6:2,9", "4"])
def test_arrays(array):
    assert job(array=array).array == array


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (("python", "-m", "trainer.main", "--x"), "trainer.main"),
        (("apptainer", "exec", "a.sif", "python", "-m", "trainer.main"), "trainer.main"),
        (("/opt/bin/tool", "-m"), "tool"),
    ],
)
def test_the_name_says_what_runs(command, name):
    assert job(command=command).name == name
