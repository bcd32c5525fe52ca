"""Hosts and ranks to TF_CONFIG; the node lists' forms are those of Slurm's own `scontrol show hostnames`."""

import json
import shutil
import subprocess

import pytest

from launch.cluster import LAST_PORT, Place, base_port, expand_nodes, shares, tasks_per_node
from launch.command import LaunchError

NODES = [
    ("node1", ["node1"]),
    ("node[2,10]", ["node2", "node10"]),
    ("node[10,2]", ["node10", "node2"]),
    ("node[08-11]", ["node08", "node09", "node10", "node11"]),
    ("node[1-3,7],login", ["node1", "node2", "node3", "node7", "login"]),
    ("rack[0-1]n[0-1]", ["rack0n0", "rack0n1", "rack1n0", "rack1n1"]),
    ("a[1-2],b[001-002],login", ["a1", "a2", "b001", "b002", "login"]),
    ("gpu-a100-[5-5]", ["gpu-a100-5"]),
    ("node[098-101]", ["node098", "node099", "node100", "node101"]),
]


@pytest.mark.parametrize(
    ("text", "nodes"), [*NODES, ("b[1-2].example.org", ["b1.example.org", "b2.example.org"])]
)
def test_node_lists_keep_their_order(text, nodes):
    assert expand_nodes(text) == nodes


@pytest.mark.parametrize(("text", "nodes"), NODES)
def test_slurm_itself_says_the_same(text, nodes, tmp_path):
    if not shutil.which("scontrol"):
        pytest.skip("Slurm is not installed")
    config = tmp_path / "slurm.conf"  # without one it says nothing
    config.write_text("ClusterName=x\nSlurmctldHost=localhost\nNodeName=n\nPartitionName=p Nodes=n\n")
    command = ["env", f"SLURM_CONF={config}", "scontrol", "show", "hostnames", text]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown.stdout.split() == nodes


@pytest.mark.parametrize("text", ["", "node[", "node[a-b]", "node[3-1]", "node[1-]", "node1,,node2", "n]1"])
def test_a_node_list_that_is_not_understood_is_named(text):
    with pytest.raises(LaunchError, match="node list"):
        expand_nodes(text)


@pytest.mark.parametrize(
    ("text", "counts"), [("1", [1]), ("2(x3),1", [2, 2, 2, 1]), ("8(x2)", [8, 8]), ("1,4", [1, 4])]
)
def test_tasks_of_each_node(text, counts):
    assert tasks_per_node(text) == counts


@pytest.mark.slow
def test_a_thousand_machines_fit_into_a_variable_eight_thousand_processes_do_not():
    """Linux itself is asked: it starts a program with the longest that is allowed."""

    def place(machines, each):
        hosts = [f"gpu{number:05d}.cluster" for number in range(machines) for _ in range(each)]
        return Place(tuple(f"{host}:{12345 + number}" for number, host in enumerate(hosts)), 0)

    assert len(place(1000, 1).tf_config) < 30_000
    with pytest.raises(LaunchError, match=r"8000 processes: .* one process on each machine"):
        place(1000, 8).tf_config  # noqa: B018  # it raises
    count = 1
    while True:  # the most that are allowed
        try:
            text = place(count + 10, 1).tf_config
        except LaunchError:
            break
        count += 10
    assert len(text) > 130_000
    subprocess.run(["true"], env={"TF_CONFIG": text}, check=True)


@pytest.mark.parametrize("text", ["", "x", "2(x)", "2(3)", "2,,1"])
def test_tasks_that_are_not_understood_are_named(text):
    with pytest.raises(LaunchError, match="tasks per node"):
        tasks_per_node(text)


SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NODELIST": "node[2,10]",
    "SLURM_NTASKS": "3",
    "SLURM_PROCID": "2",
    "SLURM_TASKS_PER_NODE": "2,1",
}


def test_a_task_of_slurm():
    place = Place.in_slurm(SLURM)
    base = base_port(4711, 3)
    assert place.addresses == (f"node2:{base}", f"node2:{base + 1}", f"node10:{base + 2}")
    assert json.loads(place.tf_config) == {
        "cluster": {"worker": list(place.addresses)},
        "task": {"type": "worker", "index": 2},
    }
    assert place.hosts == ["node2", "node10"]
    step = {"SLURM_STEP_NODELIST": "node10", "SLURM_STEP_TASKS_PER_NODE": "3"}
    assert Place.in_slurm(SLURM | step).hosts == ["node10"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"SLURM_NTASKS": ""}, "SLURM_NTASKS"),
        ({"SLURM_PROCID": "first"}, "SLURM_PROCID=first"),
        ({"SLURM_PROCID": "3"}, "rank 3"),
        ({"SLURM_JOB_NODELIST": ""}, "srun"),
        ({"SLURM_TASKS_PER_NODE": "1(x3)"}, "2 nodes, tasks for 3 nodes"),
        ({"SLURM_NTASKS": "4"}, "SLURM_NTASKS=4"),
    ],
)
def test_an_environment_of_slurm_that_is_not_understood_is_told(change, said):
    with pytest.raises(LaunchError) as error:
        Place.in_slurm(SLURM | change)
    assert said in str(error.value)


def test_ports_of_jobs_do_not_overlap_and_stay_in_their_range():
    for count in (1, 2, 64, 8000, 22000):
        first = [base_port(job, count) for job in range(100)]
        assert all(port >= 10000 and port + count - 1 <= LAST_PORT for port in first)
    assert abs(base_port(8, 16) - base_port(9, 16)) >= 16
    with pytest.raises(LaunchError, match="30000 processes"):
        base_port(1, 30000)


def test_a_pod_of_kubernetes():
    pod = {
        "JOB_COMPLETION_INDEX": "1",
        "LAUNCH_PROCESSES": "2",
        "LAUNCH_JOB": "train",
        "LAUNCH_SERVICE": "train-svc",
    }
    place = Place.in_kubernetes(pod, 2222)
    assert place.addresses == ("train-0.train-svc:2222", "train-1.train-svc:2222")
    assert place.rank == 1
    for name in pod:
        with pytest.raises(LaunchError, match=name):
            Place.in_kubernetes(pod | {name: ""})


@pytest.mark.parametrize(
    ("lines", "addresses"),
    [
        (["a", "b"], ["a:12345", "b:12345"]),
        (["a:7 # the first", "", "# none", "b"], ["a:7", "b:12345"]),
        (["a slots=2", "b"], ["a:12345", "a:12346", "b:12345"]),
        (["a", "a"], ["a:12345", "a:12346"]),
        (["[::1]:5"], ["[::1]:5"]),
    ],
)
def test_a_list_of_hosts(lines, addresses):
    assert list(Place.in_hosts(lines, 0).addresses) == addresses


@pytest.mark.parametrize(
    ("lines", "rank", "said"),
    [
        ([], 0, "is empty"),
        (["a slots=x"], 0, "line 1 of the hosts: 'a slots=x'"),
        (["a", "b c"], 0, "line 2 of the hosts: 'b c'"),
        (["a", "b"], 2, "rank 2: must be from 0 to 1"),
    ],
)
def test_a_list_of_hosts_that_is_not_understood_is_told(lines, rank, said):
    with pytest.raises(LaunchError) as error:
        Place.in_hosts(lines, rank)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("items", "count", "shared"),
    [
        ("0123", 2, [["0", "1"], ["2", "3"]]),
        ("01234", 2, [["0", "1"], ["2", "3", "4"]]),
        ("01", 3, [["0"], ["1"], ["0"]]),
        ("", 2, [[], []]),
        ("0", 1, [["0"]]),
    ],
)
def test_shares(items, count, shared):
    assert shares(list(items), count) == shared
