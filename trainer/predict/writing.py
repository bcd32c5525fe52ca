"""What is seen of a prediction: a line for each file, the table, and what was left out."""

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
from tfrecords.files.outputs import open_output
from tfrecords.images.kinds import HEAD_BYTES, DecodeError, check_kind
from trainer.predict.files import LeftOut, Prediction, predict_listed
from trainer.predict.listing import ending_of, list_files
from trainer.run import Run


def write_answers(run: Run, paths: Sequence[Path], table_name: str = "") -> None:
    """Predicts files and all images below folders, and prints and writes each answer when it is there.

    Args:
        run: whose model answers.
        paths: files and folders.
        table_name: file for a table, or what else an output flag may name; "": no table. Where it is
            standard output, what is printed goes to stderr.

    Raises:
        InputError: no model, nothing could be predicted, or the table cannot be written.
        EndedEarly: all is done, but some files were left out, and each was named.
    """
    if table_name:
        _refuse_image(table_name)
    names, files = run.data.class_names, list_files(paths)
    answers, left_out, passed = 0, 0, Counter[str]()
    with ExitStack() as stack:
        table = stack.enter_context(open_output("--csv", table_name)) if table_name else None
        out = sys.stderr if table and table.is_stdout else sys.stdout
        shows = sys.stderr.isatty() and not out.isatty()  # else the lines themselves are seen
        bar = stack.enter_context(tqdm(total=len(files), unit=" files", desc="predicting", disable=not shows))
        if table:
            table.write(header(names))
        for outcome in predict_listed(run, files):
            bar.update()
            if isinstance(outcome, Prediction):
                answers += 1
                probability = outcome.probabilities[names.index(outcome.predicted)]
                print(f"{outcome.file}\t{outcome.predicted}\t{probability:.4f}", file=out, flush=True)
            elif isinstance(outcome, LeftOut):
                left_out += 1
                with tqdm.external_write_mode(sys.stderr):
                    print(f"left out: {outcome.shown}: {outcome.reason}", file=sys.stderr, flush=True)
            else:
                passed[ending_of(str(outcome.file))] += 1
                continue
            if table:
                table.write(row(names, outcome))
        if not answers:
            raise InputError(_nothing(left_out, passed))
    if table:
        print(f"{answers + left_out:,} rows: {table_name}", file=out, flush=True)
    if passed:
        print(f"passed over, for they are no images: {_counts(passed)}", file=sys.stderr)
    if left_out:
        raise EndedEarly(
            f"{left_out:,} of {answers + left_out:,} files were left out, each named above with the reason",
            LEFT_OUT,
        )


def header(class_names: Sequence[str]) -> bytes:
    """Returns the table's first line: `file`, `predicted`, a `probability_CLASS` for each class, `error`."""
    return _line(["file", "predicted", *(f"probability_{name}" for name in class_names), "error"])


def row(class_names: Sequence[str], outcome: Prediction | LeftOut) -> bytes:
    """Returns a file's line of the table; of one that was left out only `file` and `error` are filled."""
    if isinstance(outcome, LeftOut):
        return _line([outcome.file, "", *("" for _ in class_names), outcome.reason])
    return _line([outcome.file, outcome.predicted, *outcome.probabilities.tolist(), ""])


def _line(values: Sequence[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _nothing(left_out: int, passed: Mapping[str, int]) -> str:
    reasons = [f"{left_out:,} left out, each named above with the reason"] if left_out else []
    reasons += [f"passed over, for they are no images: {_counts(passed)}"] if passed else []
    return f"no image could be predicted: {'; '.join(reasons)}; name other files, or repair these"


def _counts(passed: Mapping[str, int]) -> str:
    """Returns how many files of each ending were passed over; no names, which may be patients'."""
    each = ", ".join(f"{ending or 'without ending'} {count:,}" for ending, count in sorted(passed.items()))
    return f"{sum(passed.values()):,} ({each})"


def _refuse_image(name: str) -> None:
    """Refuses an image as the table: `--csv *.png` names the first image, which would be replaced."""
    path = Path(name)
    if not path.is_file():
        return
    try:
        with path.open("rb") as file:
            kind = check_kind(file.read(HEAD_BYTES))
    except (DecodeError, OSError):
        return
    raise InputError(f"--csv={name}: an image ({kind}), which the table would replace; name another file")
