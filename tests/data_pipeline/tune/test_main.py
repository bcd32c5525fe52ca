"""The search on a real data set, and the command as a process of its own."""

import itertools
import json
import os
import re
import time

import pytest

from data_pipeline.options import PipelineOptions
from data_pipeline.settings import TUNED, in_words, load_settings
from data_pipeline.tiers.choice import ChosenTier
from data_pipeline.tune.search import PAIRS, Trial, candidates
from data_pipeline.tune.tuning import Tuned, encoding_advice, images_per_second, tune
from tfrecords.errors import InputError

pytestmark = [pytest.mark.slow, pytest.mark.stops]

OPTIONS = PipelineOptions(global_batch_size=16)


def tuned(**changes):
    values = {
        "options": PipelineOptions(cache="disk", threads=2),
        "settings": {"cache": "disk", "threads": 2},
        "pairs": ((100.0, 150.0),) * PAIRS,
        "trials": (Trial({"threads": 2}, ((100.0, 150.0),) * PAIRS, kept=True),),
        "tier": ChosenTier("stream", 2_000_000, 1_000_000),
        "advice": (),
    }
    return Tuned(**values | changes)


def test_the_gain_and_a_change_of_order_are_told():
    assert tuned().text() == (
        "defaults: from stream (2 MB decoded exceed 1 MB)\n"
        "best: --cache=disk --threads=2\n"
        "gain: 1.50 times the defaults\n"
        "This tier shows the records in another order than a stream; both orders are exact. Runs that have "
        "begun keep their tier."
    )
    same_order = tuned(tier=ChosenTier("memory", 1, 2)).text()
    assert "order" not in same_order
    nothing = tuned(settings={}, pairs=(), advice=("convert",)).text()
    assert nothing.endswith("best: the defaults; nothing was clearly faster\nconvert")


@pytest.mark.storm
def test_a_search_tries_all_and_leaves_options_that_can_be_used(harmed):
    start = PipelineOptions(global_batch_size=16, cache="stream")
    lines, cores = [], len(os.sched_getaffinity(0))

    def slow():  # so that a busy machine has the time to try all
        return time.monotonic() / 100

    found, path = tune(
        harmed.directory, harmed.manifest, "train", start, seconds=3, report=lines.append, clock=slow
    )
    assert path == harmed.directory / "pipeline.json"
    settings = load_settings(harmed.directory, harmed.manifest)
    assert settings == found.settings
    assert settings.keys() <= set(TUNED) - {"cache"}  # --cache was given
    assert len(lines) == len(found.trials) == len(candidates(cores, (), streams=True))
    written = json.loads(path.read_bytes())["found"]
    assert written.keys() == {
        "gain", "images_per_second", "global_batch_size", "tier", "cores", "gpus", "tensorflow",
        "budget_seconds", "trials",
    }  # fmt: skip
    assert (written["gain"] > 1) == bool(settings)
    assert written["tier"] == "stream"
    assert len(written["trials"]) == len(found.trials)


def test_a_budget_for_no_comparison_is_told_and_nothing_is_written(harmed):
    ticks = itertools.count(0, 100)
    with pytest.raises(InputError, match=r"^--budget_seconds=12: one comparison of this split takes 200 s; "):
        tune(harmed.directory, harmed.manifest, "train", OPTIONS, seconds=12, clock=lambda: next(ticks))
    assert not (harmed.directory / "pipeline.json").exists()


def test_the_start_counts(data):
    rate = images_per_second(data.directory, data.manifest, "train", OPTIONS, 0.05)
    assert rate > 0


@pytest.mark.parametrize(
    ("encoding", "tier", "advised"),
    [("png", "stream", True), ("jpeg", "stream", True), ("raw", "stream", False), ("png", "memory", False)],
)
def test_advice_on_the_encoding(converted, encoding, tier, advised):
    advice = encoding_advice(converted(encoding).manifest, "train", ChosenTier(tier, 3_000_000, 1))
    assert len(advice) == advised
    if advised:
        assert advice[0].startswith(
            f"{encoding.upper()} is decoded anew in each epoch: tfrecords.convert --enc"
        )


@pytest.fixture
def search(run_command):
    """Runs the command; where a busy machine needs a larger budget, once more with that."""

    def run(*flags):
        done = run_command("data_pipeline.tune", *flags, "--budget_seconds=10", "--cache=memory")
        while asked := re.search(
            r"one comparison of this split takes \d+ s; give (\d+) or more", done.stderr
        ):
            budget = f"--budget_seconds={2 * int(asked[1])}"
            done = run_command("data_pipeline.tune", *flags, budget, "--cache=memory")
        return done

    return run


def test_the_command(harmed, search):
    done = search(f"--data={harmed.directory}", "--global_batch_size=16")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"written: {harmed.directory / 'pipeline.json'}\n" in done.stdout
    assert "\nbest: " in done.stdout
    load_settings(harmed.directory, harmed.manifest)


@pytest.mark.storm
def test_of_remote_data_the_options_are_kept_with_what_is_fetched(data, tmp_path, search, run_command):
    place = (f"--data=file://{data.directory}", f"--cache_dir={tmp_path}", "--global_batch_size=16")
    done = search(*place)
    assert done.returncode == 0, done.stderr
    assert f"  python -m trainer.main --data=file://{data.directory}" in done.stdout
    (written,) = tmp_path.glob("remote/*/pipeline.json")
    settings = load_settings(written.parent, data.manifest)
    assert (written.parent / data.manifest.split("train").shards[0].name).exists()
    assert not (written.parent / data.manifest.split("val").shards[0].name).exists()
    out = ("--model=none", "--seconds=5", "--repeats=1", f"--out={tmp_path / 'out'}")
    done = run_command("data_pipeline.benchmark", *place, *out)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "out/benchmark.json").read_bytes())["facts"]
    assert facts["input"].endswith(f"pipeline.json: {in_words(settings)}")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--budget_seconds=2"], "error: --budget_seconds=2: must be 10 or more; 120 is usual"),
        (["--split=dev"], "error: split 'dev' is not in data set"),
    ],
)
def test_nonsense_is_refused(data, run_command, flags, message):
    done = run_command("data_pipeline.tune", f"--data={data.directory}", *flags)
    assert done.returncode == 2
    assert message in done.stderr
