"""The callbacks of a run: checkpoints, history files, the progress line, the config in TensorBoard."""

import csv
import io
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

import keras
import tensorflow as tf

from tfrecords.files import write_atomically
from tfrecords.progress import duration
from trainer.checkpoint import Checkpoints, State, callback_state
from trainer.evaluation.metric_table import PREFIX, in_the_line

History = list[dict[str, float]]

_NO_BEST: Final = (0, 0, float("inf"))


class HistoryFiles(keras.callbacks.Callback):
    """Keeps `history.csv` and `history.json`: a row an epoch, rewritten whole each time.

    Args:
        run_dir: where they go; None (a worker that does not write) keeps the rows only.
        rows: of the epochs done before.
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
    # Rows of a version before may lack a column.
    columns = list(dict.fromkeys(name for row in rows for name in row)) or ["epoch"]
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_atomically(run_dir / "history.csv", text.getvalue().encode())
    write_atomically(run_dir / "history.json", json.dumps(rows, indent=1).encode())


class SaveCheckpoints(keras.callbacks.Callback):
    """Saves a checkpoint after each epoch, and within; must come after the callbacks whose state it holds.

    The best epoch is the one of the lowest validation loss, the first of equals. Within an epoch it saves
    where a block of steps ends, if it is told to; every worker must come to the same decision, for all take
    part.

    Args:
        checkpoints: where to.
        history: its rows are saved.
        others: callbacks whose state is saved.
        resumed: what was resumed from.
        steps_per_epoch: of the run.
        keep_meters: `Loop.keep_meters`.
        every_steps: a save is due at each multiple of this step too; 0: no such. The loop must cut blocks
            there.
        minutes: a save is due when the last checkpoint is so old; 0: never for its age.
        check: called before a save; what it raises keeps it from being made.
        clock: seconds.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        history: HistoryFiles,
        others: Sequence[keras.callbacks.Callback],
        resumed: State | None,
        *,
        steps_per_epoch: int,
        keep_meters: Callable[[], None] = lambda: None,
        every_steps: int = 0,
        minutes: float = 0.0,
        check: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._checkpoints, self._history, self._others = checkpoints, history, others
        self._steps_per_epoch, self._keep_meters = steps_per_epoch, keep_meters
        self._every_steps, self._minutes, self._check, self._clock = every_steps, minutes, check, clock
        self._best = (resumed.best_epoch, resumed.best_step, resumed.best_loss) if resumed else _NO_BEST
        self._saved = clock()

    def due(self, step: int) -> bool:
        """Returns whether a checkpoint is to be made within an epoch, after this step of the run."""
        old = self._minutes > 0 and self._clock() - self._saved >= 60 * self._minutes
        return old or (bool(self._every_steps) and step % self._every_steps == 0)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Saves.

        Raises:
            NotFinite: what would be saved are no numbers.
        """
        step, loss = (epoch + 1) * self._steps_per_epoch, (logs or {})["val_loss"]
        if loss < self._best[-1]:
            self._best = (epoch + 1, step, loss)
        self.save(step, epoch + 1)

    def save(self, step: int, epochs: int) -> None:
        """Saves after `step` steps and `epochs` whole epochs, validation included."""
        self._keep_meters()
        self._check()
        rows, state = tuple(self._history.rows), callback_state(self._others)
        self._checkpoints.save(State(step, epochs, *self._best, rows, state))
        self._saved = self._clock()


class ProgressLine(keras.callbacks.Callback):
    """Prints one line an epoch, and on a terminal how far the epoch is.

    Args:
        epochs: of the run, at most.
        steps: of an epoch.
        out: where to; None: standard output.
        clock: seconds.
    """

    def __init__(
        self,
        epochs: int,
        steps: int,
        out: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._epochs, self._steps, self._out, self._clock = epochs, steps, out or sys.stdout, clock
        self._began: tuple[float, float] | None = None  # the first epoch, in parts, of this process, and when

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Notes the epoch."""
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Notes when and where in the run this process began."""
        self._began = self._began or (self._epoch + batch / self._steps, self._clock())

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Rewrites the line within the epoch."""
        if self._out.isatty():
            loss = (logs or {})["loss"]
            share = f"{(batch + 1) / self._steps:4.0%}"
            print(f"\repoch {self._epoch + 1:3d} {share}  loss {loss:.4f}\033[K", end="", file=self._out)
            self._out.flush()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Prints the epoch's line."""
        left = math.nan  # not known: this process has trained no step yet, only validated
        if self._began:
            first, began = self._began
            left = (self._clock() - began) / (epoch + 1 - first) * (self._epochs - epoch - 1)
        start = "\r\033[K" if self._out.isatty() else ""
        print(start + progress_line(epoch, self._epochs, logs or {}, left), file=self._out, flush=True)


def progress_line(epoch: int, epochs: int, logs: dict[str, float], left: float) -> str:
    """Returns an epoch's line; `left` is in seconds, for all epochs that may come; NaN if not known."""
    train, val = in_the_line(logs), in_the_line(logs, PREFIX)
    parts = [f"epoch {epoch + 1:3d}/{epochs}  {train} | val {val}"]
    if logs["images_per_second"]:  # 0 where only the validation of the epoch was left to do
        speed = f"{logs['images_per_second']:,.0f} images/s, input wait {logs['input_wait']:.1%}"
        parts.append(speed + ("" if math.isnan(left) else f", at most {duration(left)} left"))
    return " | ".join(parts)


def tensorboard_callback(folder: Path) -> Any:
    """Returns Keras' TensorBoard callback: scalars an epoch, train and validation in one chart."""
    return keras.callbacks.TensorBoard(str(folder), write_graph=False, update_freq="epoch")


def write_config_text(folder: Path, text: str) -> None:
    """Writes the run's configuration as text into TensorBoard."""
    with tf.summary.create_file_writer(str(folder / "config")).as_default():
        tf.summary.text("config", text, step=0)
