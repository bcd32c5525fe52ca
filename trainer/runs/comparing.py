"""From two runs to the difference of their test figures, top to bottom."""

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from tfrecords.errors import InputError, first_names
from trainer.evaluation.folder import PLAN_FACT
from trainer.evaluation.page import classes_of
from trainer.evaluation.predictions import Predictions
from trainer.run import CONFIG_NAME, Run
from trainer.runs.comparison import Comparison, Side
from trainer.runs.difference_page import difference_page
from trainer.runs.difference_text import difference_csv, difference_text
from trainer.runs.listing import width_of, write_outputs
from trainer.runs.paired import RESAMPLES, differences
from trainer.runs.reading import is_current
from trainer.runs.reported import Reported

PREDICTIONS_NAME: Final = "predictions.csv"
_PROBABILITY: Final = "probability_"  # before the class's name, in the head of that file


@dataclass(frozen=True)
class CompareOptions:
    """What is compared, and where to.

    Attributes:
        folder: below which the names of runs are looked for that are no paths.
        pair: the two runs: paths of run directories or of report folders, or names below `folder`.
        split: name of the report that is compared.
        seed: of the resamples.
        csv: file for the differences as CSV; "-" is standard output; "": none.
        html: file for the differences as a page; "": none.
    """

    folder: Path
    pair: tuple[str, ...]
    split: str = "test"
    seed: int = 0
    csv: str = ""
    html: str = ""

    def __post_init__(self) -> None:
        if len(self.pair) != 2 or not all(self.pair):
            raise InputError(
                f"--compare={','.join(self.pair)}: must name two runs, as --compare=runs/a,runs/b"
            )
        if self.seed < 0:
            raise InputError(f"--seed={self.seed}: must be 0 or more")


def compare_runs(options: CompareOptions) -> None:
    """Prints the difference of two runs, and writes it into files if asked to.

    Raises:
        InputError: a run or report is not there, they are of other records, or a file cannot be written.
    """
    found = compared(options)
    outputs: dict[str, tuple[str, str]] = {}
    if options.csv:
        outputs["csv"] = (options.csv, difference_csv(found.differences))
    if options.html:
        outputs["html"] = (options.html, difference_page(found))
    out, said = write_outputs(outputs)
    print(difference_text(found, width_of(out)), file=out)
    for line in said:
        print(line, file=out)
    print(f"Next:\n  python -m trainer.runs --runs={options.folder} --sort=auroc", file=out)


def compared(options: CompareOptions) -> Comparison:
    """Returns the comparison of two runs.

    Raises:
        InputError: a run or report is not there, or they are of other records.
    """
    first, second = (read_side(name, options.folder, options.split) for name in options.pair)
    _require_same(first, second)
    thresholds = (first.reported.threshold, second.reported.threshold)
    found = differences(
        first.predictions, second.predictions, thresholds, resamples=RESAMPLES, seed=options.seed
    )
    return Comparison(first, second, tuple(found), RESAMPLES, options.seed)


def read_side(name: str, folder: Path, split: str) -> Side:
    """Reads the report and the predictions of one run.

    Args:
        name: path of a run directory or of a report's folder, or name of a run below `folder`.
        folder: see `name`.
        split: name of the run's report.

    Raises:
        InputError: there is no such run or report, or it is damaged or of an earlier model.
    """
    place = next((path for path in (Path(name), folder / name) if path.is_dir()), None)
    if place is None:
        raise InputError(
            f"--compare={name}: there is no folder {name}, and none of this name below {folder}; name a run "
            f"directory, or the folder of a report"
        )
    plan = ""
    if (place / CONFIG_NAME).exists():
        run = Run.load(place)
        report, plan = run.report(split), run.data.plan
        fix = f"python -m trainer.evaluate --run_dir={place} --split={split}"
        if not (report / "report.json").exists():
            raise InputError(f"--compare={name}: has no report/{split} yet; write it with\n  {fix}")
        reported = Reported.read(report)
        if not is_current(reported, run.stored_result()):
            raise InputError(
                f"--compare={name}: report/{split} is of an earlier model of this run; write it again with\n "
                f" {fix}"
            )
    else:
        report, reported = place, Reported.read(place)
    plan = reported.facts.get(PLAN_FACT, plan)
    predictions = read_predictions(report / PREDICTIONS_NAME)
    positive, _ = classes_of(reported.content)
    if positive:
        predictions = predictions.of(positive)
    return Side(name, report, reported, _sorted_by_id(predictions), plan)


def read_predictions(path: Path) -> Predictions:
    """Returns the predictions of a report's table.

    Raises:
        InputError: there is no such file, or it is damaged.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            head = next(reader)
            names = tuple(name.removeprefix(_PROBABILITY) for name in head if name.startswith(_PROBABILITY))
            own = [head.index(name) for name in ("id", "group", "label")]
            first = len(head) - len(names)
            rows = list(reader)
            numbers = {name: number for number, name in enumerate(names)}
            ids, groups, labels = (tuple(row[at] for row in rows) for at in own)
            return Predictions(
                names,
                ids,
                groups,
                np.array([numbers[label] for label in labels], np.int64),
                np.array([row[first:] for row in rows], np.float64),
            )
    except FileNotFoundError:
        raise InputError(
            f"{path}: is missing; write the report again with python -m trainer.evaluate"
        ) from None
    except (OSError, ValueError, KeyError, IndexError, StopIteration, csv.Error) as error:
        raise InputError(
            f"{path}: is damaged ({error!r}); write the report again with python -m trainer.evaluate"
        ) from None


def _sorted_by_id(predictions: Predictions) -> Predictions:
    """Returns the same predictions, sorted: two reports may list their records in another order."""
    order = sorted(range(len(predictions.ids)), key=lambda at: (predictions.ids[at], predictions.groups[at]))
    return replace(
        predictions,
        ids=tuple(predictions.ids[at] for at in order),
        groups=tuple(predictions.groups[at] for at in order),
        labels=predictions.labels[order],
        probabilities=predictions.probabilities[order],
    )


def _require_same(first: Side, second: Side) -> None:
    """Raises InputError unless both runs were evaluated on the same records for the same positive class."""
    pair = f"--compare={first.name},{second.name}"
    one, two = first.predictions, second.predictions
    fix = (
        "evaluate both on the same data: python -m trainer.evaluate --run_dir=RUN --data=FOLDER "
        "--out=REPORT for each of them, then name the two reports in --compare"
    )
    if first.plan != second.plan:
        of = [side.reported.facts.get("evaluated", "other data") for side in (first, second)]
        raise InputError(
            f"{pair}: were evaluated on different data: {first.name} on {of[0]} (plan {first.plan[:8]}), "
            f"{second.name} on {of[1]} (plan {second.plan[:8]}); {fix}"
        )
    if one.class_names != two.class_names:
        raise InputError(
            f"{pair}: know different classes: {first_names(one.class_names)}, and "
            f"{first_names(two.class_names)}; {fix}"
        )
    if (one.ids, one.groups) != (two.ids, two.groups) or (one.labels != two.labels).any():
        ones, twos = ({*zip(each.ids, each.groups, each.labels.tolist(), strict=True)} for each in (one, two))
        raise InputError(
            f"{pair}: were evaluated on different records: {len(ones - twos):,} are only in the report of "
            f"{first.name}, {len(twos - ones):,} only in that of {second.name} ({first.report}, "
            f"{second.report}); {fix}"
        )
    if one.positive_name != two.positive_name:
        raise InputError(
            f"{pair}: sensitivity is that of {one.positive_name} in {first.name}, of {two.positive_name} in "
            f"{second.name}; the command that trained {second.name}, given --positive={one.positive_name}, "
            f"chooses its threshold anew and writes its report again"
        )
