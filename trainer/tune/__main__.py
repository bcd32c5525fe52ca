"""Searches for the best hyperparameters: each trial is an ordinary training run in a process of its own.

    python -m trainer.tune --data=data/chest_xray --oracle=bayesian --workers=2

The same flags and seed give the same search for any number of workers, and the same command goes on with a
search that was interrupted. Flags of trainer.main that are not searched hold for all trials. On a cluster,
write the search down with --workers=0, then start any number of workers:
`python -m trainer.tune --worker --search_dir=DIR`. (data_pipeline.tune is another command: it searches for
the fastest options of the input pipeline, which change no result.)
"""

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

from absl import flags

from data_pipeline.quiet import quiet_start
from tfrecords.command import define_path, run
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest
from tfrecords.signals import held
from trainer.flags import data as data_flags
from trainer.flags.config import GROUPS, config_from_flags
from trainer.tune.local import PARENT_VARIABLE, gpus_here, run_workers
from trainer.tune.options import FINALS, KEEP, OBJECTIVES, ORACLES, SearchOptions
from trainer.tune.order import Next
from trainer.tune.process import CSV_NAME, FINAL_NAME, PAGE_NAME, end_with
from trainer.tune.search import SEARCH_NAME, Search, refuse_early
from trainer.tune.show.overview import Overview
from trainer.tune.show.table import Live
from trainer.tune.space_file import NOTEBOOK
from trainer.tune.state import Looker
from trainer.tune.worker import Worker, concluded

for group in GROUPS:
    flags.adopt_module_key_flags(group)
FLAGS = flags.FLAGS

_DEFAULT = SearchOptions()

# What is searched, and where it is kept.
_SEARCH_DIR = define_path(
    "search_dir",
    None,
    "Folder of the search. The same command again goes on with the search that is there. Default: "
    "searches/DATA-MODEL-ORACLE.",
)
_SPACE = define_path(
    "space",
    NOTEBOOK,
    "The search space: which hyperparameters are searched, and their ranges. notebook: filters, kernel "
    "sizes and dense units of the cnn, and the learning rate. A path: a YAML or JSON file that maps flags "
    "of trainer.main, and model arguments below model_args, to ranges or choices. package.module:function: "
    "a function that gets keras_tuner.HyperParameters and adds to it. docs/tuning.md has examples.",
)
_OBJECTIVE = flags.DEFINE_enum(
    "objective",
    _DEFAULT.objective,
    list(OBJECTIVES),
    "The score by which trials are compared, a metric of validation: val_loss is made as low as possible, "
    "every other one as high as possible. It is the value in the epoch of the lowest validation loss, "
    "because the run keeps the model of that epoch.",
)

# How trials are chosen, and how many there are.
_ORACLE = flags.DEFINE_enum(
    "oracle",
    _DEFAULT.oracle,
    ORACLES,
    "How the values of a trial are chosen. random: they are drawn at random. hyperband: many short trials "
    "are drawn, and the best ones of each round train on, for --factor times as many epochs. bayesian: a "
    "Gaussian process models the scores of the finished trials, and the most promising values are tried "
    "next.",
)
_MAX_TRIALS = flags.DEFINE_integer(
    "max_trials",
    _DEFAULT.max_trials,
    "The most trials that the search runs. A higher number, given later, goes on with a finished search. "
    "Default 0: 20 trials, or with --oracle=hyperband as many as its brackets have.",
)
_EXECUTIONS = flags.DEFINE_integer(
    "executions_per_trial",
    _DEFAULT.executions_per_trial,
    "How often each trial is trained, each time with another seed. The trial's score is the mean.",
)
_FACTOR = flags.DEFINE_integer(
    "factor",
    _DEFAULT.factor,
    "With --oracle=hyperband: one trial in --factor trains on after each round, for --factor times as many "
    "epochs.",
)
_INITIAL_RANDOM = flags.DEFINE_integer(
    "initial_random",
    _DEFAULT.initial_random,
    "With --oracle=bayesian: how many trials must be finished before their scores are modelled; until then "
    "values are drawn. Default 0: a quarter of --max_trials, at least 2, at most three for each "
    "hyperparameter.",
)
_MAX_FAILURES = flags.DEFINE_integer(
    "max_failures",
    None,
    "How many trials may fail; one more ends the search. Default: a tenth of --max_trials, at least 3.",
    lower_bound=0,
)

# Where trials run.
_PARALLEL = flags.DEFINE_integer(
    "parallel",
    _DEFAULT.parallel,
    "The most trials that are open (created and not yet finished) at the same time. Another number gives "
    "another search, because each proposal knows fewer or more results; the number of workers changes "
    "nothing.",
)
_WORKERS = flags.DEFINE_integer(
    "workers",
    None,
    "How many trials run at the same time on this machine, at most --parallel. Its GPUs and cores are "
    "divided among them. 0: only write the search down, for workers on other machines. Default: one worker "
    "for each GPU, or, without GPUs, for each --threads_per_process cores.",
    lower_bound=0,
)
_WORKER = flags.DEFINE_bool(
    "worker",
    False,
    "Be one worker of the search in --search_dir, on any machine that sees that folder, until nothing is "
    "left to do. All other flags but --max_minutes are taken from the search.",
)
_LIST = flags.DEFINE_bool("list", False, "Print the search in --search_dir as it is now, and start nothing.")

# What is kept.
_KEEP_TRIALS = flags.DEFINE_enum(
    "keep_trials",
    _DEFAULT.keep_trials,
    KEEP,
    "Which trials keep their model and checkpoints. all: every trial. best: the best trial so far. none: no "
    "trial. Histories, logs and curves are always kept, and so are checkpoints from which hyperband may "
    "still train on.",
)
_FINAL = flags.DEFINE_enum(
    "final",
    _DEFAULT.final,
    FINALS,
    "How the final model in SEARCH_DIR/final is made from the best trial; it is evaluated once on the test "
    "split. retrain: the best values are trained anew. reload: the model of the best trial is taken as it "
    "is. none: no final model is made.",
)


def main(_: list[str]) -> None:
    """Parses the flags, begins the search or goes on with it, and shows what came of it."""
    if _WORKER.value or _LIST.value:
        if not _SEARCH_DIR.value:
            raise InputError("--search_dir is missing: give the folder of the search")
        folder = Path(_SEARCH_DIR.value)
        if _LIST.value:
            with Live() as live:
                live.update(Looker(Search.load(folder)).look())
            return
        _work(folder)
        return
    for module in ("keras_tuner", "yaml"):
        if importlib.util.find_spec(module) is None:
            raise InputError(f"{module} is not installed: pip install -c constraints.txt -e '.[tune]'")
    if FLAGS["run_dir"].present:
        raise InputError("--run_dir: trials have run directories of their own; use --search_dir")
    options = _options()
    data = data_flags.folder()
    if data is None:
        from tfrecords.demo.dataset import demo_data

        data = demo_data()
    manifest = Manifest.load(data, check_shards=False)
    config = config_from_flags(data, manifest)
    default = f"searches/{manifest.name}-{config.model}-{options.oracle}"
    folder = Path(_SEARCH_DIR.value or default)
    refuse_early(folder, options, config, manifest)
    _check_workers(options)
    if _WORKERS.value == 0:
        with quiet_start(), held():
            from trainer.tune.start import begin
        begin(folder, options, config, _SPACE.value)
        print(
            f"written: {folder / SEARCH_NAME}\nNext:\n"
            f"  python -m trainer.tune --worker --search_dir={folder}      on each machine, in any number\n"
            f"  python -m trainer.tune --list --search_dir={folder}"
        )
        return
    _begin_in_a_process(folder)
    search = Search.load(folder)
    order = search.order(search.journal.read())
    if order.next == Next.OVER and concluded(search, order):
        print("This search is finished; nothing is trained.")
        _show_end(search, Looker(search).look())
        return
    gpus = [] if search.config.logical_cpus else gpus_here()
    with Live() as live:
        overview = run_workers(search, _count(search, gpus), gpus, config.max_minutes, live)
    _show_end(search, overview)


def _options() -> SearchOptions:
    return SearchOptions(
        oracle=_ORACLE.value,
        objective=_OBJECTIVE.value,
        max_trials=_MAX_TRIALS.value,
        executions_per_trial=_EXECUTIONS.value,
        factor=_FACTOR.value,
        initial_random=_INITIAL_RANDOM.value,
        parallel=_PARALLEL.value,
        seed=FLAGS["seed"].value,
        max_failures=_MAX_FAILURES.value,
        keep_trials=_KEEP_TRIALS.value,
        final=_FINAL.value,
    )


def _begin_in_a_process(folder: Path) -> None:
    """Begins the search in a process of its own: TensorFlow and KerasTuner need not stay in this one."""
    arguments = [*sys.argv[1:], f"--search_dir={folder}", "--workers=0"]
    began = subprocess.run(
        [sys.executable, "-m", "trainer.tune", *arguments], stdout=subprocess.DEVNULL, check=False
    )
    if began.returncode:
        sys.exit(began.returncode if began.returncode > 0 else 128 - began.returncode)


def _check_workers(options: SearchOptions) -> None:
    if (_WORKERS.value or 0) > options.parallel:
        raise InputError(
            f"--workers={_WORKERS.value}: must be at most --parallel={options.parallel}, the trials that are "
            f"open at the same time"
        )


def _count(search: Search, gpus: list[str]) -> int:
    """Returns how many workers to start."""
    parallel, mirrored = search.options.parallel, search.config.strategy == "mirrored"
    if _WORKERS.value is None:
        if mirrored:
            return 1
        cores = len(os.sched_getaffinity(0)) // max(1, search.config.threads_per_process)
        return max(1, min(parallel, len(gpus) or cores))
    if mirrored and _WORKERS.value > 1 and gpus:
        raise InputError(
            f"--workers={_WORKERS.value}: with --strategy=mirrored each trial takes all GPUs; use "
            f"--workers=1, or --strategy=one_device"
        )
    return int(_WORKERS.value)


def _work(folder: Path) -> None:
    """Is a worker."""
    if parent := os.environ.pop(PARENT_VARIABLE, ""):
        end_with(int(parent), signal.SIGTERM)
    Worker(folder, lambda text: print(text, flush=True), max_minutes=FLAGS["max_minutes"].value).work()


def _show_end(search: Search, overview: Overview) -> None:
    folder = search.folder
    final = f"{folder / FINAL_NAME}" if overview.final else ""
    if overview.final:
        print(f"\n{overview.final}\n\nfinal run: {final}, report: {final}/report")
    print(f"trials:  {folder / CSV_NAME}\npage:    {folder / PAGE_NAME}")
    print("Next:")
    if overview.winner_flags:
        print(f"  python -m trainer.main {overview.winner_flags}")
    print(f"  tensorboard --logdir={folder}")
    if final:
        print(f"  python -m trainer.predict --run_dir={final} IMAGE_OR_FOLDER")


if __name__ == "__main__":
    # A search is to be the same again; a notebook's user who wants speed instead says --nodeterministic.
    flags.FLAGS.set_default("deterministic", True)
    run(main)
