import pytest

from data_pipeline.benchmark.diagnosis import INPUT_BOUND, StepProfile, diagnose
from data_pipeline.tiers.registry import HELD_TIERS

DEVICE, DISK, MEMORY = (f"--cache={tier.name}: {tier.advice}" for tier in HELD_TIERS)
TUNE = "python -m data_pipeline.tune: searches --threads, --parallel_reads and the like"
RAW = "--encoding=raw in tfrecords.convert: no PNG to decode"
RAM = "a machine with more memory: it would decode the split only once"
BATCH = "--global_batch_size: a larger batch costs less for each image"


def profile(share, **changes):
    values = {
        "share": share, "lowest": share, "highest": share, "waited": share, "tier": "stream",
        "encoding": "raw", "fits": ("disk", "memory"),
    }  # fmt: skip
    return StepProfile(**values | changes)


@pytest.mark.parametrize(
    ("share", "sentence"),
    [
        (-0.05, "Training is not input-bound: the input takes 0% of each step."),
        (0.012, "Training is not input-bound: the input takes 1% of each step."),
        (INPUT_BOUND, "Training is not input-bound: the input takes 3% of each step."),
        (0.38, "Input takes 38% of each step: try --cache=memory."),
    ],
)
def test_the_sentence_by_the_share(share, sentence):
    diagnosis = diagnose(profile(share))
    assert diagnosis.sentence == sentence
    assert bool(diagnosis.advice) == (share > INPUT_BOUND)


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({}, (MEMORY, TUNE)),
        ({"encoding": "png"}, (MEMORY, RAW, TUNE)),
        ({"fits": ("disk",)}, (DISK, TUNE, RAM)),
        ({"fits": (), "encoding": "png"}, (RAW, TUNE, RAM)),
        ({"fits": ()}, (TUNE, RAM)),
        ({"fits": ("device", "disk", "memory")}, (DEVICE, MEMORY, TUNE)),
        ({"tier": "memory"}, (BATCH,)),
        ({"tier": "memory", "encoding": "png"}, (BATCH,)),  # decoded already
        ({"tier": "disk", "fits": ("device", "memory")}, (DEVICE, BATCH)),
        ({"tier": "device", "fits": ("device",)}, (BATCH,)),
    ],
)
def test_what_to_try_the_strongest_first(changes, advice):
    diagnosis = diagnose(profile(0.5, **changes))
    assert diagnosis.advice == advice
    assert diagnosis.sentence == f"Input takes 50% of each step: try {advice[0].split(':')[0]}."


def test_cores_taken_are_told_from_waiting():
    diagnosis = diagnose(profile(0.3, waited=0.01, tier="memory"))
    assert diagnosis.sentence == (
        "Input takes 30% of each step, by using cores that the step needs too: try --global_batch_size."
    )


@pytest.mark.parametrize(
    ("lowest", "highest", "certain"), [(-0.2, 0.3, False), (0.0, 0.02, True), (0.1, 0.4, True)]
)
def test_repeats_that_do_not_agree_are_told(lowest, highest, certain):
    sentence = diagnose(profile(0.01 if highest < 0.1 else 0.2, lowest=lowest, highest=highest)).sentence
    doubt = f"({'The repeats do not agree, -20% to 30%: measure again when the machine does nothing else.'})"
    assert sentence.endswith(doubt) != certain
