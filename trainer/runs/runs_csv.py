"""The runs as CSV, for a spreadsheet or a data frame."""

import csv
import io
import time
from collections.abc import Sequence
from typing import Final

from trainer.runs.reading import RunRow

_COLUMNS: Final = (
    *("name", "run_dir", "data", "plan", "model", "state", "holder"),
    *("best_epoch", "epochs", "most_epochs", "val_loss"),
)
_AFTER: Final = ("threshold", "records", "groups", "changed")


def runs_csv(rows: Sequence[RunRow]) -> str:
    """Returns CSV: a header, and a row a run.

    Each metric of the reports gets three columns: NAME, then NAME_low and NAME_high, its 95% interval.
    `epochs` are those done, `records` and `groups` those of the report, `changed` is in UTC (ISO 8601).
    Floats are exact; what is not known is empty.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.estimates))
    heads = [name for metric in metrics for name in (metric, f"{metric}_low", f"{metric}_high")]
    writer.writerow([*_COLUMNS, *heads, *_AFTER])
    for row in rows:
        numbers = [
            row.estimates.get(metric, {}).get(key) for metric in metrics for key in ("value", "low", "high")
        ]
        reported = row.reported
        writer.writerow(
            [
                *(row.name, row.folder, row.data, row.plan, row.model, row.state, row.holder),
                *(_cell(value) for value in (row.best_epoch, row.epochs, row.most_epochs, row.val_loss)),
                *map(_cell, numbers),
                _cell(row.threshold),
                *((reported.records, reported.groups) if reported else ("", "")),
                time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(row.changed)),
            ]
        )
    return text.getvalue()


def _cell(value: float | None) -> str:
    return "" if value is None else repr(value)
