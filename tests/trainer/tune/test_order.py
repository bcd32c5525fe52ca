import pytest

from trainer.tune.order import CONCLUDED, CREATED, NO_TRIAL, Next, follow
from trainer.tune.show.overview import DONE, FAILED


def created(parent=None):
    return {
        "event": CREATED,
        "values": {"learning_rate": 0.1},
        "by": "drawn",
        "epochs": 3,
        "goes_on_with": parent,
        "oracle": {},
        "at": 1.0,
    }


@pytest.fixture
def order(ended):
    """Follows events in short: "c" created, "i" idle, "s" stopped; 0, 1, ... ended, -1, -2, ... failed."""

    def order(*short, parallel=2, executions=1, max_trials=0, max_failures=9):
        none = {"event": NO_TRIAL, "at": 1.0}
        events = []
        for mark in short:
            if isinstance(mark, int):
                one = ended(mark) if mark >= 0 else ended(-mark - 1, None)
                events.append({**one, "at": 2.0})
            else:
                events.append(
                    {"c": created(), "i": {**none, "why": "idle"}, "s": {**none, "why": "stopped"}}[mark]
                )
        return follow(
            events,
            parallel=parallel,
            executions=executions,
            max_trials=max_trials,
            max_failures=max_failures,
        )

    return order


@pytest.mark.parametrize(
    ("events", "options", "wanted", "still_open"),
    [
        ((), {}, Next.ASK, ()),
        (("c",), {}, Next.ASK, (0,)),
        (("c", "c"), {}, Next.WAIT, (0, 1)),
        # The second has ended, but results are given in the order of trials: the first is waited for.
        (("c", "c", 1), {}, Next.WAIT, (0, 1)),
        (("c", "c", 1, 0), {}, Next.ASK, (1,)),
        (("c", "c", 1, 0, "c"), {}, Next.ASK, (2,)),
        (("c", "i"), {}, Next.WAIT, (0,)),
        (("c", "i", 0), {}, Next.ASK, ()),
        (("c", "s"), {}, Next.WAIT, (0,)),
        (("c", "s", 0), {}, Next.OVER, ()),
        (("c", "c", 0, 1), {"max_trials": 2}, Next.OVER, ()),
        (("c", "c", 0, 1), {"max_trials": 3}, Next.ASK, (1,)),
        (("c", "c", -1, -2), {"max_failures": 1}, Next.ASK, (1,)),
        (("c", "c", -1, -2, "c"), {"max_failures": 1}, Next.TOO_MANY_FAILED, (2,)),
        (("c", "c", -1, 1), {"max_failures": 1, "max_trials": 2}, Next.OVER, ()),
        (("c", "c", 0), {"executions": 2}, Next.WAIT, (0, 1)),
        # One execution that fails is enough.
        (("c", "c", -1), {"executions": 2}, Next.ASK, (1,)),
    ],
)
def test_what_is_next(order, events, options, wanted, still_open):
    found = order(*events, **options)
    assert found.next == wanted
    assert found.open == still_open


def test_results_are_given_in_the_order_of_the_trials(order):
    actions = order("c", "c", 1, 0, "c", "c").actions
    assert [(action.kind, action.trial.number) for action in actions] == [
        *(("created", 0), ("created", 1)),
        *(("ended", 0), ("created", 2)),
        *(("ended", 1), ("created", 3)),
    ]


def test_an_execution_ends_once(order):
    (trial,) = order("c", 0, -1, parallel=1).trials
    assert trial.state(1) == DONE


def test_the_score_is_the_mean_over_executions(ended):
    events = [created(), *({**ended(0, score, number), "at": 2.0} for number, score in enumerate((0.2, 0.4)))]
    (trial,) = follow(events, parallel=1, executions=2, max_trials=1, max_failures=0).trials
    assert trial.score == pytest.approx(0.3)
    events[1] = {**ended(0, None, 0), "at": 2.0}
    (trial,) = follow(events, parallel=1, executions=2, max_trials=1, max_failures=0).trials
    assert (trial.score, trial.state(2)) == (None, FAILED)


def test_a_line_of_promotions_has_one_root():
    events = [created(), created(0), created(1), created()]
    trials = follow(events, parallel=9, executions=1, max_trials=0, max_failures=0).trials
    assert [trial.root for trial in trials] == [0, 0, 0, 3]


def test_the_conclusion_is_kept():
    concluded = {"event": CONCLUDED, "final": "none", "at": 1.0}
    assert follow([concluded], parallel=1, executions=1, max_trials=0, max_failures=0).concluded == concluded
