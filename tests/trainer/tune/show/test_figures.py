import warnings
from dataclasses import replace

import pytest

from trainer.evaluation.figures import png
from trainer.tune.show.figures import best_so_far, importance_bars, slices, timeline
from trainer.tune.show.overview import Overview, Parameter, Row

PARAMETERS = (
    Parameter("learning_rate", "float", (1e-4, 1e-2), True),
    Parameter("rate_$x_1$", "float", (0.001, 0.002), True),
    Parameter("model_args.filters", "int", (32, 128)),
    Parameter("batch", "int", (8, 8), True),
    Parameter("huge", "float", (0.0, 1e300)),
    Parameter("kernel", "choice", (3, 5)),
    Parameter("optimizer", "choice", tuple(f"a_long_name_{i}_$" for i in range(5))),
    Parameter("augment", "boolean", (False, True)),
    Parameter("conditional", "choice", tuple(range(30))),
)
DRAWINGS = (best_so_far, slices, timeline)


def value(parameter, number):
    if parameter.kind in ("choice", "boolean"):
        return parameter.values[number % len(parameter.values)]
    low, high = parameter.values
    between = low + (high - low) * (number * 0.618 % 1)
    return int(between) if parameter.kind == "int" else between


def search(count, scores=lambda i: 1 / (i + 1), direction="min", step=100.0):
    rows = []
    for i in range(count):
        state = "failed" if i % 7 == 2 else "done"
        some = PARAMETERS if i % 2 else PARAMETERS[:-1]
        values = {one.name: value(one, i) for one in some}
        score = scores(i) if state == "done" else None
        rows.append(Row(i, values, "drawn", None, (i,), state, score, 9, 9, 90.0, step * i, step * i + 90))
    done = [row for row in rows if row.score is not None]
    best = min(done, key=lambda row: row.score).number if done else None
    objective = "val_loss" if direction == "min" else "val_auc"
    return Overview("s", {}, "random", objective, direction, PARAMETERS, tuple(rows), 0, True, best, None, "")


def drawn(figure):
    """The picture's width and height in pixels; any warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = png(figure, dpi=40)
    assert data.startswith(b"\x89PNG")
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, 2, 200])
@pytest.mark.parametrize("draw", DRAWINGS)
def test_any_number_of_trials_is_drawn(draw, count):
    width, height = drawn(draw(search(count)))
    assert width <= 9.6 * 40
    assert height <= 9.6 * 40


@pytest.mark.slow
@pytest.mark.parametrize(
    "scores",
    [
        lambda i: None,
        lambda i: 0.5,
        lambda i: 10.0 ** (i % 100 * 3 - 150),
        lambda i: float("inf") if i else float("nan"),
        lambda i: -1e-300 * i,
        lambda i: 0.0,
    ],
    ids=["none", "equal", "decades", "no number", "tiny", "zero"],
)
@pytest.mark.parametrize("draw", DRAWINGS)
def test_any_scores_are_drawn(draw, scores):
    drawn(draw(search(20, scores)))


@pytest.mark.parametrize("draw", DRAWINGS)
def test_trials_that_have_not_ended_are_drawn(draw):
    overview = search(3)
    rows = [
        replace(row, state=state, score=None, ended=None)
        for row, state in zip(overview.rows, ("running", "waiting", "running"), strict=True)
    ]
    drawn(draw(replace(overview, rows=tuple(rows), best=None)))


@pytest.mark.parametrize(
    ("direction", "line"), [("min", [3.0, 2.0, 2.0, 1.0]), ("max", [3.0, 3.0, 4.0, 4.0])]
)
def test_the_line_is_the_best_in_the_order_of_the_ends(direction, line):
    overview = search(5, lambda i: {0: 3.0, 1: 4.0, 3: 2.0, 4: 1.0}[i], direction)
    ends = {0: 1.0, 3: 2.0, 2: 3.0, 1: 4.0, 4: 5.0}
    overview = replace(overview, rows=tuple(replace(row, ended=ends[row.number]) for row in overview.rows))
    (axes,) = best_so_far(overview).axes
    points, best, failed = axes.lines
    assert list(points.get_xdata()) == [1, 2, 4, 5]
    assert list(best.get_ydata())[:-1] == line
    assert list(failed.get_xdata()) == [3]


@pytest.mark.parametrize(
    ("objective", "scores", "scale"),
    [
        ("val_loss", (0.1, 1.5), "log"),
        ("val_loss", (0.1, 0.5), "linear"),
        ("val_loss", (0.0, 1.5), "linear"),
        ("val_accuracy", (0.01, 0.9), "linear"),
    ],
)
def test_losses_over_a_decade_have_a_log_axis(objective, scores, scale):
    overview = replace(search(2, lambda i: scores[i]), objective=objective)
    assert best_so_far(overview).axes[0].get_yscale() == scale
    assert slices(overview).axes[0].get_yscale() == scale


def test_a_slice_holds_the_trials_in_which_it_is_active():
    figure = slices(search(20))
    by_name = {axes.get_xlabel(): axes for axes in figure.axes if axes.collections}
    assert len(by_name["learning_rate"].collections[0].get_offsets()) == 17
    assert len(by_name["conditional"].collections[0].get_offsets()) == 9
    assert by_name["learning_rate"].get_xscale() == "log"


@pytest.mark.slow
def test_many_parameters_wrap():
    many = tuple(Parameter(f"p{i}", "int", (0, 9)) for i in range(21))
    overview = replace(search(5), parameters=many)
    rows = tuple(replace(row, values={one.name: 4 for one in many}) for row in overview.rows)
    width, height = drawn(slices(replace(overview, rows=rows)))
    assert width == 384
    assert height > width


@pytest.mark.parametrize(
    "shares", [{}, {"a": 0.0}, {"a": 0.2, "b_$": 1.0}, {f"p{i}": i / 40 for i in range(40)}]
)
def test_importance_is_drawn(shares):
    drawn(importance_bars(shares))


def test_the_most_important_is_on_top():
    (axes,) = importance_bars({"a": 0.2, "b": 0.7, "c": 0.1}).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("step", "unit"), [(0.01, "seconds"), (10, "minutes"), (1000, "hours"), (90000, "days")]
)
def test_time_has_a_fitting_unit(step, unit):
    (axes,) = timeline(search(60 if step < 1 else 30, step=step)).axes
    assert unit in axes.get_xlabel().lower()
