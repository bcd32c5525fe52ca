"""`history.csv` and `history.json`: one row for each epoch."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import keras

from tfrecords.files.atomic import write_atomically

History = list[dict[str, float]]


class HistoryFiles(keras.callbacks.Callback):
    """Keeps one row for each epoch and rewrites both files after each epoch.

    Args:
        run_dir: the folder of the files; None on a worker that does not write: it only keeps the rows.
        rows: the rows of earlier epochs.
    """

    def __init__(self, run_dir: Path | None, rows: Sequence[dict[str, float]] = ()) -> None:
        super().__init__()
        self.rows: History = list(rows)
        self._run_dir = run_dir

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Adds the epoch's row."""
        self.rows.append({"epoch": epoch + 1, **(logs or {})})
        if self._run_dir is not None:
            write_history(self._run_dir, self.rows)


def write_history(run_dir: Path, rows: Sequence[dict[str, float]]) -> None:
    """Writes `history.csv` and `history.json`."""
    text = io.StringIO()
    # Rows that an earlier version wrote may lack a column.
    columns = list(dict.fromkeys(name for row in rows for name in row)) or ["epoch"]
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_atomically(run_dir / "history.csv", text.getvalue().encode())
    write_atomically(run_dir / "history.json", json.dumps(rows, indent=1).encode())
