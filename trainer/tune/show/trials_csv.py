"""The trials of a search as CSV, for a spreadsheet or a data frame."""

import csv
import io
from typing import Final

from trainer.tune.show.overview import Overview, Value

_COLUMNS: Final = (
    *("number", "state", "score", "epochs", "most_epochs", "seconds", "by", "goes_on_with", "seeds"),
)


def trials_csv(overview: Overview) -> str:
    """Returns CSV: a header, then one row for each trial, by number.

    The columns are those of `Row`; then one for each hyperparameter, under its name, empty where it is not
    active; then the first line of `message`. `score` is that of the objective. Floats are exact, None is
    empty, `seeds` are separated by spaces.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [parameter.name for parameter in overview.parameters]
    writer.writerow([*_COLUMNS, *names, "message"])
    for row in overview.rows:
        writer.writerow(
            [
                *(row.number, row.state, _cell(row.score), row.epochs, row.most_epochs, _cell(row.seconds)),
                *(row.by, _cell(row.goes_on_with), " ".join(map(str, row.seeds))),
                *(_cell(row.values.get(name)) for name in names),
                row.message.partition("\n")[0].rstrip("\r"),
            ]
        )
    return text.getvalue()


def _cell(value: Value | None) -> str:
    """Returns a value as Python writes it, but text without quotes, and "" for None."""
    if value is None:
        return ""
    return value if isinstance(value, str) else repr(value)
