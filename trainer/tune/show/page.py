"""A search as one HTML page that needs nothing else: no scripts, no links, pictures inlined."""

import base64
from collections.abc import Mapping
from html import escape
from typing import Final

from tfrecords.progress import duration
from trainer.evaluation.document import document, facts_table
from trainer.evaluation.figures import png
from trainer.tune.show.figures import best_so_far, importance_bars, slices, timeline
from trainer.tune.show.importance import LEAST_TRIALS, importance
from trainer.tune.show.overview import DONE, FAILED, RUNNING, WAITING, Overview, Row
from trainer.tune.show.table import about, by_score, first_line, how, short_names, shown

_CSS: Final = """
pre { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 14px 18px;
  margin: 0 0 12px; font: 13.5px/1.6 ui-monospace, "Liberation Mono", Menlo, monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; }
section.cards .value { overflow-wrap: anywhere; }
figure { margin-bottom: 18px; }
.facts td, .trials td.message { overflow-wrap: anywhere; }
.trials { font-size: 13.5px; font-variant-numeric: tabular-nums; }
.trials th, .trials td { padding: 6px 10px; white-space: nowrap; }
.trials .n { text-align: right; }
.trials tr.best { background: color-mix(in srgb, var(--accent) 14%, transparent); }
.trials tr.best td { font-weight: 650; }
.trials tr.failed td { color: var(--faint); }
.trials td.message { white-space: normal; border-top: 0; padding-top: 0; }
.trials pre { font-size: 12.5px; margin: 8px 0; max-height: 24em; overflow: auto; }
"""
_CAPTIONS: Final = {
    "best_so_far": (
        "Best so far",
        "The score of each trial, in the order in which the trials ended. If the line has been flat for "
        "long, more trials of this space will gain little.",
    ),
    "slices": (
        "Values and scores",
        "Each point is a trial; the ring marks the best one. If good trials crowd at the end of a range, "
        "widen the range there.",
    ),
    "importance": (
        "Importance",
        "A random forest predicts the score from the values. The bar shows which share of the variance that "
        "it explains is lost when the values of the hyperparameter are shuffled. It holds for this space "
        "and these trials only.",
    ),
    "timeline": ("Time", "From the creation of each trial to its end."),
}


def page(overview: Overview) -> str:
    """Returns the page of a search, with its pictures."""
    shares = importance(overview)
    figures = {
        "best_so_far": best_so_far(overview),
        "slices": slices(overview),
        "timeline": timeline(overview),
    }
    if shares and any(shares.values()):
        figures["importance"] = importance_bars(shares)
    return render_page(overview, {name: png(figure) for name, figure in figures.items()}, shares)


def render_page(
    overview: Overview, pictures: Mapping[str, bytes], shares: Mapping[str, float] | None = None
) -> str:
    """Returns the page.

    Args:
        overview: the search.
        pictures: PNG by name: "best_so_far", "slices", "importance", "timeline"; any may be missing.
        shares: what `importance` returns; without a picture of it they explain why there is none.
    """
    body = [
        *_head(overview),
        _cards(overview),
        *_notices(overview),
        *_winner(overview),
        *_final(overview),
        "<h2>The search</h2>",
        facts_table(overview.facts),
        "<h2>Scores</h2>",
        *_figures(pictures, ("best_so_far", "slices", "importance")),
        *([] if "importance" in pictures else [_no_importance(shares)]),
        "<h2>Time spent</h2>",
        f"<p>{escape(_time_sentence(overview))}</p>",
        *_figures(pictures, ("timeline",)),
        "<h2>All trials</h2>",
        _trials(overview),
    ]
    return document(_title(overview), body, css=_CSS)


def _title(overview: Overview) -> str:
    if overview.best is None:
        return "No trial is done yet" if not overview.over else "No trial is done"
    return f"Best {overview.objective} {shown(overview.rows[overview.best].score)}"


def _head(overview: Overview) -> list[str]:
    most = f" of {overview.max_trials}" if overview.max_trials else ""
    state = "it is over" if overview.over else "it goes on"
    text = (
        f"{overview.oracle} search in {overview.folder}, {len(overview.rows)}{most} trials; {state}. "
        f"The {'lowest' if overview.direction == 'min' else 'highest'} {overview.objective} is the best."
    )
    return [
        '<header><div class="over">Hyperparameter search</div>',
        f"<h1>{escape(_title(overview))}</h1>",
        f'<p class="faint">{escape(text[0].upper() + text[1:])}</p></header>',
    ]


def _cards(overview: Overview) -> str:
    """Returns the four headline numbers."""
    done, failed = overview.count(DONE), overview.count(FAILED)
    still_open = overview.count(RUNNING) + overview.count(WAITING)
    best = None if overview.best is None else overview.rows[overview.best]
    spent = sum(row.seconds for row in overview.rows)
    if overview.over or overview.seconds_left is None:
        left = "summed over trials"
    else:
        left = f"summed; about {about(overview.seconds_left)} left"
    cards = (
        (f"Best {overview.objective}", shown(best.score) if best else "none", _of_best(best)),
        ("Trials done", f"{done}", f"{still_open} not yet ended" if still_open else ""),
        ("Trials failed", f"{failed}", f"{failed / len(overview.rows):.0%} of all" if failed else ""),
        ("Time spent", duration(spent), left),
    )
    return '<section class="cards">{}</section>'.format(
        "".join(
            f'<div class="card"><div class="name">{escape(name)}</div>'
            f'<div class="value">{escape(value)}</div><div class="range">{escape(more)}</div></div>'
            for name, value, more in cards
        )
    )


def _of_best(best: Row | None) -> str:
    return f"trial {best.number}, {best.epochs} epochs" if best else ""


def _notices(overview: Overview) -> list[str]:
    """Returns how far the best score can be trusted."""
    done = overview.count(DONE)
    notices = []
    if done:
        picked = (
            f"The best score was picked from {done} on the same validation records, so it owes some to chance"
        )
        if done == 1:
            picked = "The training stopped at the epoch that was best on the validation records"
        notices.append(
            f'<p class="notice">{picked}: new data will most likely give a worse one. '
            "Only the test split, used once, tells how good the model is.</p>"
        )
    return notices


def _winner(overview: Overview) -> list[str]:
    """Returns the flags of the best trial."""
    if not overview.winner_flags:
        return []
    return [
        "<h2>The winner</h2>",
        f"<p>These flags of trainer.main give trial {overview.best}:</p>",
        f"<pre>{escape(overview.winner_flags)}</pre>",
    ]


def _final(overview: Overview) -> list[str]:
    """Returns the report of the final run."""
    if not overview.final:
        return []
    return [
        "<h2>The final run</h2>",
        f"<p>In {escape(overview.folder)}/final, evaluated once:</p>",
        f"<pre>{escape(overview.final)}</pre>",
    ]


def _figures(pictures: Mapping[str, bytes], names: tuple[str, ...]) -> list[str]:
    return [_figure(name, pictures[name]) for name in names if name in pictures]


def _figure(name: str, picture: bytes) -> str:
    title, sentence = _CAPTIONS[name]
    data = base64.b64encode(picture).decode("ascii")
    return (
        f'<figure class="wide chart"><img alt="{title}" src="data:image/png;base64,{data}">'
        f"<figcaption><b>{title}.</b> {sentence}</figcaption></figure>"
    )


def _no_importance(shares: Mapping[str, float] | None) -> str:
    if shares is None:
        text = f"How much each hyperparameter matters is estimated once {LEAST_TRIALS} trials are finished."
    else:
        text = (
            "The values do not explain the scores of these trials, so no hyperparameter is called important."
        )
    return f'<p class="faint">{text}</p>'


def _time_sentence(overview: Overview) -> str:
    spent = sum(row.seconds for row in overview.rows)
    failed = sum(row.seconds for row in overview.rows if row.state == FAILED)
    epochs = sum(
        row.epochs - (0 if row.goes_on_with is None else overview.rows[row.goes_on_with].epochs)
        for row in overview.rows
    )
    text = f"All trials together took {duration(spent)} and trained {max(epochs, 0):,} epochs"
    return text + (f"; {failed / spent:.0%} of the time went into trials that failed." if spent else ".")


def _trials(overview: Overview) -> str:
    """Returns the table: finished trials by score, then those that have not ended, then failed ones."""
    names = short_names(overview.parameters)
    others = [row for row in overview.rows if row.state not in (DONE, FAILED)]
    failed = [row for row in overview.rows if row.state == FAILED]
    heads = (("trial", "n"), ("state", ""), (overview.objective, "n"), ("epochs", "n"), ("time", "n"))
    columns = [*heads, ("how", ""), *((short, "n") for short in names.values())]
    head = "".join(f'<th scope="col" class="{kind}">{escape(name)}</th>' for name, kind in columns)
    body = []
    for row in (*by_score(overview), *others, *failed):
        is_best = row.number == overview.best
        cells = [str(row.number), f"{row.state}, best" if is_best else row.state, shown(row.score)]
        cells += [f"{row.epochs}/{row.most_epochs}", duration(row.seconds) if row.seconds else "", how(row)]
        cells += [shown(row.values.get(name)) for name in names]
        kind = "best" if is_best else row.state
        shown_cells = "".join(
            f'<td class="{kind}">{escape(cell)}</td>' for cell, (_, kind) in zip(cells, columns, strict=True)
        )
        body.append(f'<tr class="{escape(kind)}">{shown_cells}</tr>')
        if row.message:
            body.append(_message_row(row, len(columns)))
    return (
        f'<div class="sheet"><table class="trials"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _message_row(row: Row, columns: int) -> str:
    """Returns a row with what went wrong; the lines after the first are folded."""
    first, rest = first_line(row.message), row.message.strip().partition("\n")[2]
    text = escape(first)
    if rest.strip():
        text = f"<details><summary>{text}</summary><pre>{escape(rest)}</pre></details>"
    cell = f'<td class="message" colspan="{columns - 1}">{text}</td>'
    return f'<tr class="{escape(row.state)}"><td></td>{cell}</tr>'
