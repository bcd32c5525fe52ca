from dataclasses import replace

import pytest

from data_pipeline.dataset import tier_of
from data_pipeline.options import PipelineOptions
from data_pipeline.tiers import decoded_file
from data_pipeline.tiers.choice import ChosenTier, choose_tier
from data_pipeline.tiers.free_memory import free_memory
from data_pipeline.tiers.tier import Machine, SplitOnMachine
from tfrecords.errors import InputError


@pytest.fixture
def split_of(data, monkeypatch):
    """Returns a split of so many decoded bytes, on a machine with 1,000 bytes of memory for it."""

    def make(need, machine, *, encoded=False, disk_free=5000):
        monkeypatch.setattr(decoded_file, "room", lambda *_: disk_free)
        train = replace(data.manifest.split("train"), records=need)
        manifest = replace(
            data.manifest,
            image_shape=(1, 1, 1),
            splits={"train": train},
            encoding="png" if encoded else "raw",
        )
        return SplitOnMachine(manifest, "train", machine, memory=1000)

    return make


@pytest.mark.parametrize(
    ("cache", "need", "encoded", "processes", "gpu", "chosen"),
    [
        # A tier that is named is taken, whether it has room or not.
        ("memory", 1001, False, 1, False, ChosenTier("memory", 1001, 1000)),
        ("memory", 999, True, 4, True, ChosenTier("memory", 999, 250)),
        ("disk", 5001, False, 1, False, ChosenTier("disk", 5001, 5000)),
        ("device", 4001, False, 1, False, ChosenTier("device", 4001, 4000)),
        ("stream", 1, True, 1, True, ChosenTier("stream", 1, 1000)),
        # auto, raw shards, one process: memory, or the stream.
        ("auto", 1000, False, 1, False, ChosenTier("memory", 1000, 1000)),
        ("auto", 1001, False, 1, False, ChosenTier("stream", 1001, 1000)),
        # auto, encoded shards or several processes: the file, whose pages they share.
        ("auto", 1000, True, 1, False, ChosenTier("disk", 1000, 1000)),
        ("auto", 1000, False, 2, False, ChosenTier("disk", 1000, 1000)),
        ("auto", 1001, True, 2, False, ChosenTier("stream", 1001, 500)),
        # auto on GPUs: their memory, up to half of what is free there.
        ("auto", 2000, False, 1, True, ChosenTier("device", 2000, 2000)),
        ("auto", 2000, True, 4, True, ChosenTier("device", 2000, 2000)),
        ("auto", 2001, False, 1, True, ChosenTier("stream", 2001, 1000)),
    ],
)
def test_the_tier_follows_the_cache_and_what_the_machine_has(
    split_of, cache, need, encoded, processes, gpu, chosen
):
    split = split_of(need, Machine(processes, 4000, gpu), encoded=encoded)
    assert choose_tier(cache, split) == chosen
    assert choose_tier(chosen.name, split).name == chosen.name


@pytest.mark.parametrize(("need", "processes", "name"), [(500, 2, "memory"), (501, 2, "stream")])
def test_without_room_on_disk_each_process_has_its_part_of_the_memory(split_of, need, processes, name):
    split = split_of(need, Machine(processes), disk_free=need - 1)
    assert choose_tier("auto", split) == ChosenTier(name, need, 500)


@pytest.mark.parametrize(
    ("need", "encoded", "chosen"),
    [
        (1000, False, ChosenTier("memory", 1000, 1000)),
        (1001, False, ChosenTier("disk", 1001, 5000)),  # not all of it stays in memory
        (1001, True, ChosenTier("disk", 1001, 5000)),
    ],
)
def test_a_split_that_must_be_held_is_not_streamed(split_of, need, encoded, chosen):
    assert choose_tier("auto", split_of(need, Machine(), encoded=encoded), held=True) == chosen


def test_a_split_that_no_tier_can_hold_is_refused(split_of):
    with pytest.raises(InputError) as error:
        choose_tier("auto", split_of(5001, Machine()), held=True)
    for word in ("--cache=auto", "'train'", "--cache_dir", "--ram_budget_mb", "--sampling=natural"):
        assert word in str(error.value)


@pytest.mark.parametrize("sampling", ["class", "group", "weights.csv"])
def test_what_is_sampled_is_held_for_training_alone(data, sampling):
    options = PipelineOptions(ram_budget=1, sampling=sampling)
    assert tier_of(data.manifest, "train", options, training=True).name == "disk"
    assert tier_of(data.manifest, "train", options).name == "stream"


def test_without_a_budget_a_split_may_take_half_of_the_free_memory(data):
    free = free_memory()
    chosen = tier_of(data.manifest, "train", PipelineOptions())
    assert chosen.name == "memory"
    # Other processes take and give back memory between the two readings.
    assert free / 4 < chosen.budget < free
    assert tier_of(data.manifest, "train", PipelineOptions(ram_budget=1)).name == "stream"


def test_a_tier_that_there_is_not_is_refused(split_of):
    with pytest.raises(InputError, match="--cache=tape: must be one of device, disk, memory, stream"):
        choose_tier("tape", split_of(1, Machine()))
    with pytest.raises(InputError, match="--cache=tape: "):
        ChosenTier("tape", 1, 1)


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (ChosenTier("memory", 2_000_000, 3_000_000), "memory (2 MB decoded fit into 3 MB)"),
        (ChosenTier("memory", 3_000_000, 3_000_000), "memory (3 MB decoded fit into 3 MB)"),
        (ChosenTier("stream", 5_000_000_000, 3_000_000), "stream (5,000 MB decoded exceed 3 MB)"),
    ],
)
def test_a_tier_in_words(chosen, words):
    assert str(chosen) == words
