import dataclasses
from dataclasses import replace

import pytest

from data_pipeline.options import CACHE_FLAG, CACHE_HELP, PipelineOptions, Worker
from data_pipeline.tiers.free_memory import free_memory
from data_pipeline.tiers.registry import TIERS
from tfrecords.errors import InputError

MEMINFO = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    4000000 kB\n"
AVAILABLE = 4_000_000 << 10


def refusal(call, *arguments, **options):
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("global_batch_size", 0, "--global_batch_size=0: must be 1 or more"),
        ("global_batch_size", -32, "--global_batch_size=-32: must be 1 or more"),
        ("cache", "ram", "--cache=ram: must be one of auto, device, disk, memory, stream"),
        ("cache", "", "--cache=: must be one of auto, device, disk, memory, stream"),
        ("last_batch", "pad", "--last_batch=pad: must be one of wrap, drop"),
        ("copies", "two", "--copies=two: must be one of all, one, none"),
        ("sampling", "rare", "--sampling=rare: must be natural, class, group, or a file that ends in .csv"),
        (
            "augment",
            "all",
            "--augment=all: must be one of none, light, standard, radiograph, exposure, strong, robust",
        ),
        ("ram_budget", -1, "--ram_budget=-1: must be 0 or more"),
        ("shuffle_window", -1, "--shuffle_window=-1: must be 0 or more"),
        ("prefetch", -2, "--prefetch=-2: must be 0 or more"),
        ("seed", -1, "--seed=-1: must be 0 or more"),
        ("seed", 1 << 32, "--seed=4294967296: must be from 0 to 4294967295"),
    ],
)
def test_a_bad_option_is_refused(name, value, message):
    assert refusal(PipelineOptions, **{name: value}) == message


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"global_batch_size": 1},
        {"cache": "memory"},
        {"cache": "stream", "last_batch": "drop"},
        {"ram_budget": 0, "shuffle_window": 0, "prefetch": 0, "seed": 0},
        {"seed": 2**32 - 1},
    ],
)
def test_options_at_their_limits_are_taken(options):
    made = PipelineOptions(**options)
    assert {name: getattr(made, name) for name in options} == options


def test_off_is_the_former_name_of_stream():
    assert PipelineOptions(cache="off") == PipelineOptions(cache="stream")
    assert PipelineOptions(cache="off", data_service="grpc://h:1").cache == "stream"
    assert replace(PipelineOptions(), cache="off").cache == "stream"


def test_the_flag_explains_each_of_its_words():
    for word in CACHE_FLAG:
        assert f"{word}: " in CACHE_HELP
    assert set(CACHE_FLAG) == {"auto", "off", *(tier.name for tier in TIERS)}


@pytest.mark.parametrize("sampling", ["class", "group", "weights.csv"])
@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("cache", "stream", "--cache=stream"),
        ("shards_at", "s3://a", "--remote=direct"),
        ("data_service", "grpc://h:1", "--data_service"),
    ],
)
def test_a_stream_is_not_sampled(sampling, name, value, why):
    said = refusal(PipelineOptions, sampling=sampling, **{name: value})
    for word in (f"--sampling={sampling}: {why} ", "--cache=memory", "--cache=disk"):
        assert word in said
    assert PipelineOptions(**{name: value}).sampling == "natural"
    assert PipelineOptions(sampling=sampling).weights_file == sampling * sampling.endswith(".csv")


def test_options_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PipelineOptions().seed = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        Worker().index = 1


@pytest.mark.parametrize(
    ("global_batch_size", "count", "replicas", "rows"),
    [
        (32, 1, 1, 32),
        (32, 1, 2, 16),
        (32, 2, 1, 16),
        (32, 2, 2, 8),
        (6, 3, 2, 1),
        (1, 1, 1, 1),
        (33, 1, 3, 11),
    ],
)
def test_the_rows_of_a_replica(global_batch_size, count, replicas, rows):
    for index in range(count):
        assert Worker(index, count, replicas).replica_batch_size(global_batch_size) == rows


@pytest.mark.parametrize(
    ("global_batch_size", "count", "replicas", "near"),
    [
        (32, 1, 3, 33),
        (31, 1, 2, 32),
        (100, 2, 4, 96),
        (1, 1, 2, 2),  # smaller than the replicas: the smallest batch there is, not 0
        (3, 4, 8, 32),
    ],
)
def test_a_batch_that_cannot_be_shared_names_one_that_can(global_batch_size, count, replicas, near):
    total = count * replicas
    assert refusal(Worker(0, count, replicas).replica_batch_size, global_batch_size) == (
        f"--global_batch_size={global_batch_size}: must be a multiple of the {total} replicas, so that each "
        f"gets an equal part; for example {near}"
    )
    assert Worker(0, count, replicas).replica_batch_size(near) * total == near


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, AVAILABLE),  # no cgroup, or the root group: the machine's memory
        ({"memory.max": "max\n"}, AVAILABLE),
        ({"memory.max": "3000000\n"}, 2_000_000),
        ({"memory.max": f"{1 << 60}\n"}, AVAILABLE),  # a limit above the machine's memory
        ({"memory.max": "1000000\n"}, 0),
        ({"memory.max": "500000\n"}, 0),  # over a limit that was lowered
        # Pages of files that were read are no loss: they are given back when memory is needed.
        ({"memory.max": "3000000\n", "memory.stat": "anon 300000\ninactive_file 700000\n"}, 2_700_000),
    ],
)
def test_the_free_memory_is_the_cgroups_if_less(tmp_path, files, free):
    (tmp_path / "meminfo").write_text(MEMINFO)
    if files:
        files = {"memory.current": "1000000\n", "memory.stat": "anon 1000000\ninactive_file 0\n"} | files
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert free_memory(tmp_path, tmp_path / "meminfo") == free


V2 = {"memory.current": 1_000_000, "memory.stat": "anon 300000\ninactive_file 0"}
V1 = {
    "memory.usage_in_bytes": 1_000_000,
    "memory.stat": "cache 1\ninactive_file 9000000\ntotal_inactive_file 500000",
}


@pytest.mark.parametrize(
    ("own", "tree", "free"),
    [
        # Version 2: the tightest of the own group and all above it, wherever it is.
        ("0::/a/b/c", {"a/b/c": V2 | {"memory.max": 3_000_000}}, 2_000_000),
        ("0::/a/b/c", {"a/b/c": V2 | {"memory.max": "max"}, "a": V2 | {"memory.max": 4_000_000}}, 3_000_000),
        (
            "0::/a/b",
            {"a/b": V2 | {"memory.max": 3_000_000}, "a": V2 | {"memory.max": 1_500_000}},
            500_000,
        ),
        ("0::/a", {"a": V2 | {"memory.max": 3_000_000}, "b": V2 | {"memory.max": 1_000_001}}, 2_000_000),
        ("0::/a", {"a/b": V2 | {"memory.max": 1_000_001}}, AVAILABLE),  # a group below is not ours
        # In a container: the path is the host's, what is mounted is the container's group.
        ("0::/docker/0f3a", {"": V2 | {"memory.max": 3_000_000}}, 2_000_000),
        # Version 1; what a group's children cached counts as given back, too.
        ("4:memory:/a/b", {"memory/a/b": V1 | {"memory.limit_in_bytes": 3_000_000}}, 2_500_000),
        ("4:cpu,memory:/a/b", {"memory/a": V1 | {"memory.limit_in_bytes": 1_600_000}}, 1_100_000),
        ("4:memory:/a", {"memory/a": V1 | {"memory.limit_in_bytes": 0x7FFFFFFFFFFFF000}}, AVAILABLE),
        ("4:memory:/docker/0f3a", {"memory": V1 | {"memory.limit_in_bytes": 3_000_000}}, 2_500_000),
        ("4:cpu:/a", {"memory/a": V1 | {"memory.limit_in_bytes": 3_000_000}}, AVAILABLE),
        # Both: version 2 mounted beside version 1.
        (
            "4:memory:/a\n0::/b",
            {"memory/a": V1 | {"memory.limit_in_bytes": 3_000_000}, "unified/b": {}},
            2_500_000,
        ),
        ("1:cpu:/\n0::/b", {"unified/b": V2 | {"memory.max": 3_000_000}}, 2_000_000),
        ("1:name=systemd:/a:b\n0::/a:b", {"a:b": V2 | {"memory.max": 3_000_000}}, 2_000_000),
    ],
)
def test_the_limits_of_all_groups_above_count(tmp_path, own, tree, free):
    (tmp_path / "meminfo").write_text(MEMINFO)
    (tmp_path / "own").write_text(own + "\n")
    for folder, files in tree.items():
        (tmp_path / "cgroup" / folder).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (tmp_path / "cgroup" / folder / name).write_text(f"{content}\n")
    assert free_memory(tmp_path / "cgroup", tmp_path / "meminfo", tmp_path / "own") == free


def test_the_free_memory_of_this_machine():
    assert 0 <= free_memory() < 1 << 50
