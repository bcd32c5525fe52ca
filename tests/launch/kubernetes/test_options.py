"""A job's options: what is understood, and what is refused by name with its fix."""

import pytest

from launch.command import LaunchError
from launch.kubernetes.options import Job, Volume, default_name

GOOD = {"command": ("python", "-m", "trainer.main"), "image": "registry.example.com/a:1", "name": "train"}


@pytest.mark.parametrize(
    ("text", "volume"),
    [
        ("images:/data", Volume("images", "/data")),
        ("images.v2:/data/x:ro", Volume("images.v2", "/data/x", read_only=True)),
        ("/srv/images:/data", Volume("/srv/images", "/data")),
        ("/srv/images:/data:ro", Volume("/srv/images", "/data", read_only=True)),
    ],
)
def test_volumes(text, volume):
    assert Volume.parse(text) == volume
    assert volume.on_host == text.startswith("/")


@pytest.mark.parametrize(
    ("text", "facts_of"),
    [
        ("images", "CLAIM:/path or /host/path:/path"),
        ("images:/data:rw", "CLAIM:/path or /host/path:/path, with :ro"),
        ("images:/data:ro:x", "CLAIM:/path or /host/path:/path, with :ro"),
        ("images:data", "'data' --volume=images:/data"),
        ("images:/", "'/' --volume=images:/data"),
        ("/:/data", "'/' --volume=images:/data"),
        ("/srv/../etc:/data", "'/srv/../etc' '..'"),
        ("My_Images:/data", "'My_Images' `kubectl get pvc`"),
        (":/data", "'' PersistentVolumeClaim"),
    ],
)
def test_volumes_that_are_refused(text, facts_of, facts):
    with pytest.raises(LaunchError, match=facts(f"--volume={text} {facts_of}")):
        Volume.parse(text)


@pytest.mark.parametrize(
    ("command", "nodes", "name"),
    [
        (["python", "-m", "trainer.main", "--a"], 1, "trainer-main"),
        (["/usr/bin/python3", "-u", "-m", "tfrecords.convert"], 1, "tfrecords-convert"),
        (["python", "work/my_train.py", "-m", "x"], 1, "my-train"),
        (["python", "-c", "code"], 1, "python"),
        (["python"], 1, "python"),
        (["./bin/Train_It.sh"], 1, "train-it-sh"),
        (["7z"], 1, "job-7z"),
        (["___"], 1, "job"),
        (["x" * 80], 10, "x" * 61),
        (["x" * 80], 11, "x" * 60),
        (["x" * 60 + "-y"], 10, "x" * 60),
    ],
)
def test_a_name_is_made_of_the_command(command, nodes, name):
    assert default_name(command, nodes) == name
    Job(tuple(command), "a:1", name, nodes)


@pytest.mark.parametrize(
    "image", ["a", "a:1", "python:3.11-slim", "localhost:5000/a/b_c:v1.2", "Host.io/a@sha256:" + "0" * 64]
)
def test_images(image):
    assert Job(**GOOD | {"image": image}).image == image


@pytest.mark.parametrize("memory", ["4Gi", "512Mi", "1.5Gi", "4G", "4000000000"])
@pytest.mark.parametrize("cpu", ["1", "0.5", "500m", "2.5"])
def test_quantities(memory, cpu):
    job = Job(**GOOD, memory=memory, cpu=cpu)
    assert (job.memory, job.cpu) == (memory, cpu)


@pytest.mark.parametrize(
    ("change", "facts_of"),
    [
        ({"image": ""}, "--image= --image=registry.example.com/team/shardlight:0.1.0 BUILD.md"),
        ({"image": "My Image"}, "--image=My --image=registry.example.com/team/shardlight:0.1.0"),
        ({"image": "a/Team:1"}, "--image=a/Team:1 --image=registry.example.com/team/shardlight:0.1.0"),
        ({"name": "Train"}, "--name=Train --name=chest-xray"),
        ({"name": "a_b"}, "--name=a_b --name=chest-xray"),
        ({"name": "7a"}, "--name=7a --name=chest-xray"),
        ({"name": ""}, "--name= --name=chest-xray"),
        ({"name": "x" * 62}, f"--name={'x' * 62} 62 61 63 --nodes=1"),
        ({"name": "x" * 61, "nodes": 11}, f"--name={'x' * 61} 61 60 63 --nodes=11"),
        ({"nodes": 0}, "--nodes=0 1 100,000"),
        ({"gpus": -1}, "--gpus=-1 0"),
        ({"max_restarts": -1}, "--max_restarts=-1 0"),
        ({"cpu": "8cores"}, "--cpu=8cores 500m"),
        ({"cpu": "0"}, "--cpu=0 500m 1m"),
        ({"cpu": "0.0001"}, "--cpu=0.0001 500m 1m"),
        ({"cpu": "-1"}, "--cpu=-1 500m"),
        ({"memory": "4GB"}, "--memory=4GB --memory=4Gi"),
        ({"memory": "512mb"}, "--memory=512mb --memory=512Mi"),
        ({"memory": "16 Gi"}, "--memory=16 --memory=16Gi"),
        ({"memory": "lots"}, "--memory=lots --memory=16Gi"),
        ({"memory": "4"}, "--memory=4 4 64Mi"),
        ({"memory": "400m"}, "--memory=400m --memory=400Mi"),
        ({"memory": "-4Gi"}, "--memory=-4Gi --memory=16Gi"),
        ({"namespace": "My Space"}, "--namespace=My --namespace=chest-xray"),
        ({"namespace": "x" * 64}, f"--namespace={'x' * 64} 64 63"),
        ({"volumes": (Volume("a", "/d"), Volume("b", "/d/"))}, "--volume=b:/d/ /d"),
        ({"volumes": (Volume("a", "/dev/shm"),), "gpus": 1}, "--volume=a:/dev/shm NCCL"),
        ({"environment": (("A", "1"), ("A", "2"))}, "--env=A=2 A"),
        ({"environment": (("TF_CONFIG", "{}"),)}, "--env=TF_CONFIG={} TF_CONFIG launch.worker"),
        ({"environment": (("LAUNCH_JOB", "x"),)}, "--env=LAUNCH_JOB=x LAUNCH_JOB --nodes --name"),
        ({"command": ("python", "caf\udce9")}, "1 UTF"),
    ],
)
def test_jobs_that_are_refused(change, facts_of, facts):
    with pytest.raises(LaunchError, match=facts(facts_of)):
        Job(**GOOD | change)


def test_a_volume_on_shared_memory_without_gpus():
    assert Job(**GOOD, volumes=(Volume("a", "/dev/shm"),))
