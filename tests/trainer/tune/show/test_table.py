import io
import os
import pty
import threading
from dataclasses import replace

import pytest
from rich.console import Console

from trainer.tune.show.overview import Overview, Parameter, Row
from trainer.tune.show.table import Live, by_score, render, short_names, summary_line, trial_line

RATE = Parameter("learning_rate", "float", (1e-4, 1e-2), True)


def row(number, state="done", score=None, **changes):
    values = {"learning_rate": 0.00123456, "model_args.name": f"[red]{number}"}
    ended = None if state in ("running", "waiting") else 100.0 + number
    made = Row(number, values, "drawn", None, (0,), state, score, 3, 9, 61.0, 0.0, ended)
    return replace(made, **changes)


def search(*rows, parameters=(RATE,), direction="min", **changes):
    scored = [r for r in rows if r.score is not None]
    sign = 1 if direction == "min" else -1
    best = min(scored, key=lambda r: sign * r.score).number if scored else None
    objective = "val_loss" if direction == "min" else "val_auc"
    made = Overview("s", {}, "random", objective, direction, parameters, rows, 20, False, best, None, "")
    return replace(made, **changes)


def drawn(overview, width, limit=50):
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(render(overview, limit))
    return out.getvalue().splitlines()


def numbers(lines):
    """The trials of the table, below the summary."""
    return [int(line.split()[0]) for line in lines[1:] if line.split() and line.split()[0].isdigit()]


@pytest.mark.parametrize(
    ("rows", "changes", "told"),
    [
        ([], {}, ["0 of 20 done"]),
        ([], {"max_trials": 0}, ["0 done"]),
        ([row(0, score=0.10336)], {}, ["1 of 20 done", "val_loss 0.1034", "trial 0"]),
        (
            [row(0, "running"), row(1, "failed"), row(2, "waiting")],
            {},
            ["1 running", "1 failed", "1 waiting"],
        ),
        ([row(0, "running")], {"seconds_left": 721.0}, ["about 12m left"]),
        ([row(0, "running")], {"seconds_left": 42.0}, ["about 42s left"]),
        ([row(0, "running")], {"seconds_left": 7499.0}, ["about 2h05m left"]),
    ],
)
def test_the_summary_counts_the_states(rows, changes, told):
    line = summary_line(search(*rows, **changes))
    assert [text for text in told if text not in line] == []


def test_a_trials_line_says_how_it_went():
    rows = [row(0, score=0.5, by="promoted", goes_on_with=4), row(1, "failed", message="\n\x1b[1mOOM\nlong")]
    overview = search(*rows)
    done, failed = (trial_line(overview, one) for one in rows)
    for text in ("trial 0", "val_loss 0.5", "3/9", "1m01s", "promoted of 4", "learning_rate=0.001235"):
        assert text in done
    assert "trial 1 failed" in failed
    assert "OOM" in failed
    assert "long" not in failed
    assert "\x1b" not in failed


@pytest.mark.parametrize(("direction", "order"), [("min", [3, 0, 4, 1, 2]), ("max", [1, 0, 4, 3, 2])])
def test_the_best_comes_first(direction, order):
    scores = (0.5, 0.9, None, 0.1, 0.5)
    overview = search(*(row(i, score=score) for i, score in enumerate(scores)), direction=direction)
    assert [one.number for one in by_score(overview)] == order


def test_what_runs_comes_first_and_what_failed_last():
    states = ["failed", "done", "done", "waiting", "running"]
    rows = [row(i, state, 1.0 - i / 10 if state == "done" else None) for i, state in enumerate(states)]
    lines = drawn(search(*rows), 120)
    assert numbers(lines) == [4, 3, 2, 1, 0]
    assert [line.split()[0] for line in lines if "done, best" in line] == ["2"]
    short = drawn(search(*rows), 120, limit=2)
    assert numbers(short) == [4, 3]
    assert any("3 more" in line for line in short)


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("parameters", [0, 1, 3, 6, 7, 30])
def test_each_trial_has_one_line_in_any_width(width, parameters):
    some = tuple(Parameter(f"model_args.filters_{i}", "int", (1, 9)) for i in range(parameters))
    values = {one.name: 7 for one in some[::2]}
    lines = drawn(
        search(row(0, score=0.5, values=values), row(1, "running", values=values), parameters=some), width
    )
    assert max(map(len, lines)) <= width
    if width >= 80:
        assert numbers(lines) == [1, 0]
        assert any("0.5" in line and "3/9" in line and "1m01s" in line for line in lines)
    if width == 200 and parameters in (1, 3, 6):
        assert any(f"filters_{parameters - 1}" in line for line in lines)
        assert not any("=" in line for line in lines)
    if parameters > 6 and width >= 80:
        assert any("filters_0=7" in line for line in lines)


def test_names_lose_what_they_share_unless_two_become_one():
    names = ("model_args.a", "model_args.b", "b")
    assert short_names([Parameter(name, "int", (1, 2)) for name in names]) == {
        "model_args.a": "a",
        "model_args.b": "model_args.b",
        "b": "b",
    }


def test_markup_in_values_is_text():
    name = Parameter("model_args.name", "choice", ("[red]0",))
    assert any("[red]0" in line for line in drawn(search(row(0, score=0.1), parameters=(name,)), 120))


def test_lines_tell_each_start_and_end_once():
    out = io.StringIO()
    states = [
        ("running", "waiting"),
        ("running", "running"),
        ("done", "running"),
        ("done", "running"),
        ("done", "failed"),
        ("done", "failed"),
    ]
    with Live(out) as shown:
        for pair in states:
            rows = [row(i, state, 0.5 if state == "done" else None) for i, state in enumerate(pair)]
            shown.update(search(*rows))
        shown.log("[bold]said")
    lines = out.getvalue().splitlines()
    starts = [line.split(",")[0] for line in lines if line.startswith("trial")]
    assert starts == ["trial 0 running", "trial 1 running", "trial 0 done", "trial 1 failed"]
    assert sum("of 20 done" in line for line in lines) == 3
    assert lines[-1] == "[bold]said"


def test_what_ended_before_the_start_gets_no_line():
    out = io.StringIO()
    with Live(out) as shown:
        shown.update(search(row(0, score=0.5), row(1, "running")))
    assert [line.split(",")[0] for line in out.getvalue().splitlines()] == ["1 of 20 done", "trial 1 running"]


def test_a_pipe_without_a_reader_is_told():
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError), os.fdopen(writer, "w") as out, Live(out) as shown:
        shown.update(search(row(0, "running")))


def test_a_terminal_is_redrawn_without_a_thread(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    main, side = pty.openpty()
    with os.fdopen(side, "w") as out:
        before = threading.active_count()
        with Live(out) as shown:
            shown.update(search(row(0, "running")))
            shown.log("[bold]said")
            shown.update(search(row(0, score=0.25)))
            assert threading.active_count() == before
        text = os.read(main, 1 << 16).decode()
    os.close(main)
    assert "[bold]said" in text
    assert "done, best" in text
    assert "\x1b[2K" in text  # a line was erased to be drawn anew
