"""Prints a line for each predicted file, writes the table, and names the files that were left out."""

import csv
import io
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tqdm import tqdm

from tfrecords.command import LEFT_OUT
from tfrecords.errors import EndedEarly, InputError
from tfrecords.files import open_output
from tfrecords.images.kinds import HEAD_BYTES, DecodeError, check_kind
from trainer.predict.files import LeftOut, Prediction, predict_listed
from trainer.predict.listing import ending_of, list_files
from trainer.run import Run


def write_predictions(run: Run, paths: Sequence[Path], table_name: str = "") -> None:
    """Predicts files and all images in folders; prints and writes each prediction as soon as it is there.

    Args:
        run: the run whose model predicts.
        paths: files and folders.
        table_name: file for the table, or anything else that an output flag may name; "": no table. If it is
            standard output, everything else is printed to stderr.

    Raises:
        InputError: the run has no model, no file could be predicted, or the table cannot be written.
        EndedEarly: all is done, but some files were left out, and each was named.
    """
    if table_name:
        _refuse_image(table_name)
    names, files = run.data.class_names, list_files(paths)
    predicted, left_out, skipped = 0, 0, Counter[str]()
    with ExitStack() as stack:
        table = stack.enter_context(open_output("--csv", table_name)) if table_name else None
        out = sys.stderr if table and table.is_stdout else sys.stdout
        shows = sys.stderr.isatty() and not out.isatty()  # on a terminal the lines themselves show progress
        bar = stack.enter_context(tqdm(total=len(files), unit=" files", desc="predicting", disable=not shows))
        if table:
            table.write(header(names))
        for outcome in predict_listed(run, files):
            bar.update()
            if isinstance(outcome, Prediction):
                predicted += 1
                probability = outcome.probabilities[names.index(outcome.predicted)]
                print(f"{outcome.file}\t{outcome.predicted}\t{probability:.4f}", file=out, flush=True)
            elif isinstance(outcome, LeftOut):
                left_out += 1
                with tqdm.external_write_mode(sys.stderr):
                    print(f"left out: {outcome.shown}: {outcome.reason}", file=sys.stderr, flush=True)
            else:
                skipped[ending_of(str(outcome.file))] += 1
                continue
            if table:
                table.write(row(names, outcome))
        if not predicted:
            raise InputError(_nothing(left_out, skipped))
    if table:
        print(f"{predicted + left_out:,} rows: {table_name}", file=out, flush=True)
    if skipped:
        print(f"skipped, because they are no images: {_counts(skipped)}", file=sys.stderr)
    if left_out:
        raise EndedEarly(
            f"{left_out:,} of {predicted + left_out:,} files were left out, each named above with the reason",
            LEFT_OUT,
        )


def header(class_names: Sequence[str]) -> bytes:
    """Returns the table's first line: `file`, `predicted`, a `probability_CLASS` for each class, `error`."""
    return _line(["file", "predicted", *(f"probability_{name}" for name in class_names), "error"])


def row(class_names: Sequence[str], outcome: Prediction | LeftOut) -> bytes:
    """Returns a file's line of the table; for a file that was left out only `file` and `error` are filled."""
    if isinstance(outcome, LeftOut):
        return _line([outcome.file, "", *("" for _ in class_names), outcome.reason])
    return _line([outcome.file, outcome.predicted, *outcome.probabilities.tolist(), ""])


def _line(values: Sequence[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _nothing(left_out: int, skipped: Mapping[str, int]) -> str:
    reasons = [f"{left_out:,} left out, each named above with the reason"] if left_out else []
    reasons += [f"skipped, because they are no images: {_counts(skipped)}"] if skipped else []
    return f"no image could be predicted: {'; '.join(reasons)}; name other files, or repair these"


def _counts(skipped: Mapping[str, int]) -> str:
    """Returns how many files of each ending were skipped; no names, because they may be patients'."""
    each = ", ".join(f"{ending or 'without ending'} {count:,}" for ending, count in sorted(skipped.items()))
    return f"{sum(skipped.values()):,} ({each})"


def _refuse_image(name: str) -> None:
    """Refuses an image as the table's file: in `--csv *.png` the shell names the first image there."""
    path = Path(name)
    if not path.is_file():
        return
    try:
        with path.open("rb") as file:
            kind = check_kind(file.read(HEAD_BYTES))
    except (DecodeError, OSError):
        return
    raise InputError(f"--csv={name}: is an image ({kind}), and the table would replace it; name another file")
