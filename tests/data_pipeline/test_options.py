import dataclasses

import pytest

from data_pipeline.options import PipelineOptions, Tier, Worker, choose_tier, free_memory
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
        ("cache", "disk", "--cache=disk: must be one of auto, memory, off"),
        ("cache", "", "--cache=: must be one of auto, memory, off"),
        ("last_batch", "pad", "--last_batch=pad: must be one of wrap, drop"),
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
        {"cache": "off", "last_batch": "drop"},
        {"ram_budget": 0, "shuffle_window": 0, "prefetch": 0, "seed": 0},
        {"seed": 2**32 - 1},
    ],
)
def test_options_at_their_limits_are_taken(options):
    made = PipelineOptions(**options)
    assert {name: getattr(made, name) for name in options} == options


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
    ("cache", "need", "name"),
    [
        ("auto", 999, "memory"),
        ("auto", 1000, "memory"),
        ("auto", 1001, "stream"),
        ("memory", 1001, "memory"),
        ("off", 1, "stream"),
    ],
)
def test_the_tier_follows_the_cache_and_the_budget(cache, need, name):
    assert choose_tier(PipelineOptions(cache=cache, ram_budget=1000), need) == Tier(name, need, 1000)


def test_without_a_budget_half_of_the_free_memory_is_one():
    free = free_memory()
    tier = choose_tier(PipelineOptions(), 1)
    assert tier.name == "memory"
    # Other processes take and give back memory between the two readings.
    assert free / 4 < tier.budget < free
    assert choose_tier(PipelineOptions(), 1 << 60).name == "stream"


@pytest.mark.parametrize(
    ("tier", "words"),
    [
        (Tier("memory", 2_000_000, 3_000_000), "memory (2 MB decoded fit into 3 MB)"),
        (Tier("memory", 3_000_000, 3_000_000), "memory (3 MB decoded fit into 3 MB)"),
        (Tier("stream", 5_000_000_000, 3_000_000), "stream (5,000 MB decoded exceed 3 MB)"),
    ],
)
def test_a_tier_in_words(tier, words):
    assert str(tier) == words


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


def test_the_free_memory_of_this_machine():
    assert 0 <= free_memory() < 1 << 50
