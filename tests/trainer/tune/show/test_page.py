import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from trainer.tune.show.overview import Overview, Parameter, Row
from trainer.tune.show.page import page, render_page

NASTY = "<script>alert('x')</script> & \"quoted\""
RATE = Parameter("learning_rate", "float", (1e-4, 1e-2), True)
VOID = {"meta", "img"}


class Checked(HTMLParser):
    """Collects tags, cells of the trials' table and texts; every tag must be closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.links, self.rows, self.texts = set(), [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def search(count, parameters=(RATE,), **changes):
    rows = []
    for i in range(count):
        state = ("failed", "done", "done", "running")[i % 4]
        score = 1 / (i + 1) if state == "done" else None
        message = f"line of {i} {NASTY}\nrest {NASTY}" if state == "failed" else ""
        values = {one.name: 1e-2 / (1 + i / 4) for one in parameters}
        rows.append(
            Row(i, values, "drawn", None, (i,), state, score, 3, 9, 60.0, 60.0 * i, 60.0 * i + 60, message)
        )
    done = [row for row in rows if row.score is not None]
    best = done[-1].number if done else None
    made = Overview("s", {}, "random", "val_loss", "min", parameters, tuple(rows), 0, False, best, None, "")
    return replace(made, **changes)


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, 2, 300])
def test_the_page_needs_nothing_else(count):
    text = page(search(count))
    found = Checked(text)
    assert not {"script", "link", "iframe"} & found.tags
    assert all(link.startswith("data:image/png;base64,") for link in found.links)
    assert "url(" not in text
    assert len(found.links) == 3 + (count == 300)  # with 150 trials done there is importance
    assert "prefers-color-scheme: dark" in text


def test_what_users_write_is_text():
    parameter = Parameter(NASTY, "choice", (NASTY,))
    overview = search(
        4,
        (parameter,),
        folder=NASTY,
        facts={NASTY: NASTY},
        oracle=NASTY,
        winner_flags=NASTY,
        final=NASTY,
    )
    rows = tuple(replace(row, values={NASTY: NASTY}) for row in overview.rows)
    found = Checked(render_page(replace(overview, rows=rows), {}))
    assert "script" not in found.tags
    assert sum(NASTY in text for text in found.texts) >= 8


def test_trials_are_sorted_best_first_and_failed_last():
    found = Checked(render_page(search(8), {}))
    trials = [cells for cells in found.rows if len(cells) == 7 and cells[0].isdigit()]
    assert [int(cells[0]) for cells in trials] == [6, 5, 2, 1, 3, 7, 0, 4]
    assert "best" in trials[0][1]
    assert [cells[1] for cells in found.rows if cells[0] == "" and len(cells) == 2 and "line of" in cells[1]]


def test_a_message_is_whole():
    found = Checked(render_page(search(1), {}))
    assert any(f"line of 0 {NASTY}" in text for text in found.texts)
    assert any(f"rest {NASTY}" in text for text in found.texts)


@pytest.mark.parametrize("done", [0, 1, 2])
def test_the_page_warns_of_the_best_of_many(done):
    text = render_page(search(done + 1), {})
    assert ("validation" in re.sub("<style>.*</style>", "", text, flags=re.S)) == (done > 0)


def test_the_flags_of_the_winner_are_there_to_copy():
    assert "<pre>--learning_rate=0.001</pre>" in render_page(
        search(2, winner_flags="--learning_rate=0.001"), {}
    )
    assert "<pre>" not in render_page(search(0), {})


def test_time_spent_is_summed_and_the_share_of_failures_is_told():
    text = render_page(search(8), {})
    assert "8m00s" in text
    assert "25%" in text


@pytest.mark.parametrize(
    ("shares", "told"), [(None, "40 trials"), ({"learning_rate": 0.0}, "do not explain")]
)
def test_why_there_is_no_importance(shares, told):
    assert told in render_page(search(4), {}, shares)
