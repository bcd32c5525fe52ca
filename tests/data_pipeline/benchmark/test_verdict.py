import pytest

from data_pipeline.benchmark.verdict import STARVED, StepProfile, diagnose

MEMORY = "--cache=memory: the split is decoded once and gathered by index"
DISK = "--cache=disk: the split is decoded once into a file and gathered by index"
DEVICE = "--cache=device: the split lives on the GPU, the host sends indices only"
TUNE = "python -m data_pipeline.tune: searches --threads, --parallel_reads and the like"
RAW = "--encoding=raw in tfrecords.convert: no PNG to decode"
RAM = "a machine with more memory: the split would be decoded once"
BATCH = "--global_batch_size: a larger one costs less for each image"


def situation(share, **changes):
    values = {
        "share": share, "lowest": share, "highest": share, "waited": share, "tier": "stream",
        "encoding": "raw", "fits_memory": True, "fits_disk": True, "fits_device": False,
    }  # fmt: skip
    return StepProfile(**values | changes)


@pytest.mark.parametrize(
    ("share", "sentence"),
    [
        (-0.05, "Training is not starved: the input takes 0% of each step."),
        (0.012, "Training is not starved: the input takes 1% of each step."),
        (STARVED, "Training is not starved: the input takes 3% of each step."),
        (0.38, "Input takes 38% of each step: try --cache=memory."),
    ],
)
def test_the_sentence_by_the_share(share, sentence):
    verdict = diagnose(situation(share))
    assert verdict.sentence == sentence
    assert bool(verdict.advice) == (share > STARVED)


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({}, (MEMORY, TUNE)),
        ({"encoding": "png"}, (MEMORY, RAW, TUNE)),
        ({"fits_memory": False}, (DISK, TUNE, RAM)),
        ({"fits_memory": False, "fits_disk": False, "encoding": "png"}, (RAW, TUNE, RAM)),
        ({"fits_memory": False, "fits_disk": False}, (TUNE, RAM)),
        ({"fits_device": True}, (DEVICE, MEMORY, TUNE)),
        ({"tier": "memory"}, (BATCH,)),
        ({"tier": "memory", "encoding": "png"}, (BATCH,)),  # decoded already
        ({"tier": "disk", "fits_device": True}, (DEVICE, BATCH)),
        ({"tier": "device", "fits_device": True}, (BATCH,)),
    ],
)
def test_what_to_try_the_strongest_first(changes, advice):
    verdict = diagnose(situation(0.5, **changes))
    assert verdict.advice == advice
    assert verdict.sentence == f"Input takes 50% of each step: try {advice[0].split(':')[0]}."


def test_cores_taken_are_told_from_waiting():
    verdict = diagnose(situation(0.3, waited=0.01, tier="memory"))
    assert verdict.sentence == (
        "Input takes 30% of each step, by using cores that the step needs too: try --global_batch_size."
    )


@pytest.mark.parametrize(
    ("lowest", "highest", "certain"), [(-0.2, 0.3, False), (0.0, 0.02, True), (0.1, 0.4, True)]
)
def test_repeats_that_do_not_agree_are_told(lowest, highest, certain):
    sentence = diagnose(situation(0.01 if highest < 0.1 else 0.2, lowest=lowest, highest=highest)).sentence
    doubt = f"({'The repeats do not agree, -20% to 30%: measure again when the machine does nothing else.'})"
    assert sentence.endswith(doubt) != certain
