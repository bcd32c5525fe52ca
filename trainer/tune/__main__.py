"""Searches for the best hyperparameters: each trial is an ordinary training run in a process of its own.

    python -m trainer.tune --data=data/chest_xray --oracle=bayesian --workers=2

The search is the same for any number of workers, and the same command again goes on with it after any end.
All flags of trainer.main that are not searched are taken as they are. On a cluster, begin with --workers=0;
then any number of `python -m trainer.tune --worker --search_dir=DIR` work on it. (data_pipeline.tune is
another command: it searches for the fastest input, which changes no result.)
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

_SEARCH_DIR = define_path(
    "search_dir",
    None,
    "Folder of the search; the same command again goes on with it. Default: searches/DATA-MODEL-ORACLE.",
)
_ORACLE = flags.DEFINE_enum(
    "oracle",
    _DEFAULT.oracle,
    ORACLES,
    "How trials are chosen. random: drawn. hyperband: many short trials are drawn, and the best of each "
    "round go on for --factor times the epochs. bayesian: the results of the trials that are done are "
    "modelled by a Gaussian process, and the most promising values are tried next.",
)
_OBJECTIVE = flags.DEFINE_enum(
    "objective",
    _DEFAULT.objective,
    list(OBJECTIVES),
    "The metric of validation that the search improves: val_loss is made as low as possible, every other one "
    "as high as possible. It is taken in the epoch of the lowest validation loss, whose model a run keeps.",
)
_SPACE = define_path(
    "space",
    NOTEBOOK,
    "What is searched: notebook (filters, kernels, dense units of the cnn, and the learning rate); a YAML or "
    "JSON file that maps flags of trainer.main, and arguments of models under model_args, to ranges or "
    "choices; or package.module:function, which gets keras_tuner.HyperParameters. See docs/tuning.md.",
)
_MAX_TRIALS = flags.DEFINE_integer(
    "max_trials",
    _DEFAULT.max_trials,
    "Trials at most; more, given later, go on with a finished search. 0: 20, or all that hyperband has.",
)
_EXECUTIONS = flags.DEFINE_integer(
    "executions_per_trial",
    _DEFAULT.executions_per_trial,
    "Trainings of each trial, each with a seed of its own; the trial's score is their mean.",
)
_FACTOR = flags.DEFINE_integer(
    "factor", _DEFAULT.factor, "Of hyperband: one trial in so many goes on, for so many times the epochs."
)
_INITIAL_RANDOM = flags.DEFINE_integer(
    "initial_random",
    _DEFAULT.initial_random,
    "Of bayesian: trials that must be done before results are modelled. 0: a quarter of the trials, at "
    "least 2, at most three for each parameter.",
)
_PARALLEL = flags.DEFINE_integer(
    "parallel",
    _DEFAULT.parallel,
    "Trials that are open at the same time at most. The search depends on it, but not on --workers, which "
    "may be as many at most.",
)
_WORKERS = flags.DEFINE_integer(
    "workers",
    None,
    "Trials that run at the same time on this machine; GPUs and cores are divided among them. 0: write the "
    "search down and start none, for workers elsewhere. Default: one for each GPU, or for each "
    "--threads_per_process cores, at most --parallel.",
    lower_bound=0,
)
_WORKER = flags.DEFINE_bool(
    "worker", False, "Be one worker of the search in --search_dir, on any machine that sees that folder."
)
_MAX_FAILURES = flags.DEFINE_integer(
    "max_failures",
    None,
    "Trials that may fail; one more ends the search. Default: a tenth of the trials, at least 3.",
    lower_bound=0,
)
_KEEP_TRIALS = flags.DEFINE_enum(
    "keep_trials",
    _DEFAULT.keep_trials,
    KEEP,
    "Of which trials model and checkpoints are kept: all, the best so far, or none. Histories, logs and "
    "curves are always kept, and so is what hyperband may still go on with.",
)
_FINAL = flags.DEFINE_enum(
    "final",
    _DEFAULT.final,
    FINALS,
    "What becomes of the best trial, in SEARCH_DIR/final, and is evaluated once on test. retrain: it is "
    "trained anew. reload: its best execution is taken as it is. none: nothing.",
)
_LIST = flags.DEFINE_bool("list", False, "Show the search in --search_dir as it is now, and leave.")


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
