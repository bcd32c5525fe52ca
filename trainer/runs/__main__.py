"""Shows all training runs below a folder in one table, or the difference of two of them.

    python -m trainer.runs --runs=runs
    python -m trainer.runs --runs=runs --sort=auroc --html=runs.html
    python -m trainer.runs --compare=runs/chest_xray-resnet,runs/chest_xray-cnn

The table has a line a run: data, model, state (done; training, and which process trains it; stopped;
diverged), best epoch, validation loss, and the figures of its report on the test split with 95% intervals. It
is read from the run directories as they are, while runs are training too. The command imports no TensorFlow,
needs no GPU and changes nothing. Folders that hold no run, and damaged files, are named at the end; the exit
code is 3 then.

--compare says whether two runs differ by more than chance. It takes the predictions of both reports for the
same records and draws the groups (patients) anew 2,000 times, the same ones for both runs. The difference of
each metric comes with its 95% interval and a verdict: better, worse, or no clear difference.
"""

from pathlib import Path

from absl import flags

from tfrecords.command import define_path, run
from trainer.runs.comparing import CompareOptions, compare_runs
from trainer.runs.listing import ListingOptions, list_runs

_RUNS = define_path(
    "runs",
    "runs",
    "Folder below which the runs are looked for, in all its folders but hidden ones. A run directory itself "
    "and the folder of a search are taken too.",
)
_SORT = flags.DEFINE_string(
    "sort",
    "name",
    "What the table is sorted by. name: by path. when: the run that changed last comes first. val_loss: the "
    "lowest validation loss comes first. A metric of the reports (auroc, accuracy, sensitivity, "
    "specificity, f1...): the best run comes first, and the metric gets a column. Runs without that figure "
    "come last.",
)
_SPLIT = flags.DEFINE_string(
    "split",
    "test",
    "The report whose figures are shown or compared: the name of a folder in report/ of each run, as test, "
    "val or OTHER_DATA-test.",
)
_TRIALS = flags.DEFINE_bool(
    "trials",
    False,
    "Show the trials of hyperparameter searches too, each execution of a trial as a run of its own. Without "
    "it they are only counted; the final run of a search is always shown.",
)
_CSV = define_path(
    "csv",
    None,
    "File for the table, or for the differences, as CSV with all metrics in full precision. - is standard "
    "output; all else is printed to stderr then.",
)
_HTML = define_path(
    "html",
    None,
    "File for the table, or for the differences, as one HTML page that needs nothing else, with the "
    "intervals as bars. - is standard output; all else is printed to stderr then.",
)
_COMPARE = flags.DEFINE_list(
    "compare",
    [],
    "Two runs, RUN_A,RUN_B, whose difference A - B is shown instead of the table. Each is a run directory, "
    "the name of one below --runs, or the folder of a report. Both must have been evaluated on the same "
    "records.",
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Seed of the resamples of --compare: the same seed gives the same intervals."
)


def main(_: list[str]) -> None:
    """Parses the flags and shows the table or the difference."""
    outputs = {"csv": _CSV.value or "", "html": _HTML.value or ""}
    folder, split = Path(_RUNS.value), _SPLIT.value
    if _COMPARE.value:
        compare_runs(CompareOptions(folder, tuple(_COMPARE.value), split, _SEED.value, **outputs))
    else:
        list_runs(ListingOptions(folder, _SORT.value, split, _TRIALS.value, **outputs))


if __name__ == "__main__":
    run(main)
