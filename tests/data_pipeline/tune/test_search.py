import pytest

from data_pipeline.options import PipelineOptions
from data_pipeline.tune.search import PAIRS, candidates, compare, difference, gain, search, wins

START = PipelineOptions()


def always():
    return True


class Machine:
    """Gives each option the speed that a table says, and notes what was asked for."""

    def __init__(self, speed):
        self.speed, self.asked = speed, []

    def __call__(self, options):
        self.asked.append(options)
        return self.speed(options)


@pytest.mark.parametrize(
    ("pairs", "won"),
    [
        ([(100, 104), (100, 110), (100, 105)], True),
        ([(100, 102), (100, 102), (100, 110)], False),  # the median is below the margin
        ([(100, 200), (100, 200), (100, 99)], False),  # lost once
        ([(100, 103)], True),
    ],
)
def test_only_a_clear_win_is_one(pairs, won):
    assert wins(pairs) == won


def test_the_gain_is_the_median_of_the_pairs():
    assert gain([(100, 150), (50, 100), (100, 101)]) == 1.5


def test_sides_are_measured_in_turn_and_a_loser_is_dropped_at_once():
    other = PipelineOptions(threads=2)
    machine = Machine(lambda options: 1.0 + options.threads)
    assert compare(START, other, machine, always) == ((1.0, 3.0),) * PAIRS
    assert machine.asked == [START, other, other, START, START, other]
    machine = Machine(lambda options: 1.0 - options.threads / 10)
    assert len(compare(START, other, machine, always)) == 1


def test_changes_that_win_are_kept_together_and_the_others_are_not():
    def speed(options):
        return (
            100 * (1 + (options.threads == 2)) * (1.5 if options.prefetch == 8 else 1)
            - options.parallel_reads
        )

    changes = [{"threads": 2}, {"parallel_reads": 8}, {"prefetch": 2}, {"prefetch": 8}]
    seen = []
    best, trials = search(START, changes, Machine(speed), always, seen.append)
    assert best == PipelineOptions(threads=2, prefetch=8)
    assert difference(START, best) == {"threads": 2, "prefetch": 8}
    assert [trial.kept for trial in trials] == [True, False, False, True]
    assert trials[-1].settings == {"threads": 2, "prefetch": 8}
    assert trials[-1].gain == 1.5
    assert seen == trials


def test_noise_below_the_margin_changes_nothing():
    best, trials = search(START, [{"prefetch": 8}], Machine(lambda o: 100 + o.prefetch / 4), always)
    assert best == START
    assert [trial.kept for trial in trials] == [False]


def test_when_time_is_up_nothing_half_measured_is_kept():
    left = iter([True, True, False, False])  # the change, its first pair, then no more
    best, trials = search(START, [{"threads": 2}] * 3, Machine(lambda o: 1.0 + o.threads), lambda: next(left))
    assert best == START
    assert [(len(trial.pairs), trial.kept) for trial in trials] == [(1, False)]


def test_without_time_for_one_pair_nothing_was_tried():
    assert search(START, [{"threads": 2}], Machine(lambda _: 1.0), lambda: False) == (START, [])


@pytest.mark.parametrize("streams", [True, False])
def test_each_candidate_is_a_change_of_options_that_do_not_choose_records(streams):
    changes = candidates(2, ("disk",), streams=streams)
    assert changes[0] == {"cache": "disk"}
    for change in changes:
        assert difference(START, PipelineOptions(**change)) == change
    assert any("parallel_reads" in change for change in changes) == streams
