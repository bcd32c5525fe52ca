"""The grid search: all settings on the same folds of the train split, with each group whole in one fold."""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tfrecords.errors import InputError
from tfrecords.signals import held
from trainer.baseline.grids import GRIDS, SEARCHED_TREES, TREES, Setting, build, in_words
from trainer.baseline.reading import TrainSplit
from trainer.classical.forest import Forest
from trainer.classical.saved import scores

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Folds = Sequence[tuple[Ints, Ints]]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Best:
    """A setting and its AUROC on each fold."""

    setting: Setting
    aurocs: tuple[float, ...]

    @property
    def auroc(self) -> float:
        """The mean over the folds, by which settings are compared."""
        return float(np.mean(self.aurocs))


def group_folds(labels: Ints, groups: Ints, *, most: int, seed: int, class_names: Sequence[str]) -> Folds:
    """Returns for each fold the records to fit on and the records held out, int64 each; no group is in both.

    Each fold has the classes in proportion, as far as whole groups allow. There are fewer folds than `most`
    if a class would otherwise be missing from one.

    Args:
        labels: int64 [N].
        groups: int64 [N].
        most: the most folds, 2 or more.
        seed: of the division into folds.
        class_names: by label.

    Raises:
        InputError: a class has too few groups for two folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    found = [len(np.unique(groups[labels == label])) for label in range(len(class_names))]
    for count in range(min(most, *found), 1, -1):
        splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
        folds = [
            (fit.astype(np.int64), out.astype(np.int64))
            for fit, out in splitter.split(labels, labels, groups)
        ]
        if all(len(np.unique(labels[part])) == len(class_names) for fold in folds for part in fold):
            return folds
    rare = int(np.argmin(found))
    raise InputError(
        f"the grid search needs folds of the train split with all classes in each, and no group in two; "
        f"class {class_names[rare]!r} has {found[rare]} groups there, of at least 2: convert more images of "
        f"it, or give less to --val_fraction and --test_fraction"
    )


def auroc(labels: Ints, found: Floats) -> float:
    """Returns the AUROC; of more than two classes the mean of each class against the rest.

    Args:
        labels: int64 [N].
        found: float64 [N, K], higher for a class that is more likely.
    """
    from sklearn.metrics import roc_auc_score

    ranked = [1] if found.shape[1] == 2 else range(found.shape[1])
    return float(np.mean([roc_auc_score(labels == label, found[:, label]) for label in ranked]))


def search(
    train: TrainSplit,
    folds: Folds,
    model: str,
    *,
    seed: int,
    jobs: int,
    known: Mapping[str, Sequence[float]],
    keep: Callable[[str, list[float]], None],
    log: Callable[[str], None],
) -> Best:
    """Compares the settings of a model's grid and returns the best; of equally good ones the first.

    Args:
        train: the train split.
        folds: of it.
        model: one of `GRIDS`.
        seed: of the model's random numbers.
        jobs: how many models are fitted at the same time; it changes no result.
        known: scores that an earlier start of the same search kept, by setting.
        keep: called with each setting and its scores on the folds.
        log: called with a line for each setting.
    """
    grid = GRIDS[model]
    with _workers(jobs) as start:
        began = time.monotonic()
        running = [
            None
            if in_words(setting) in known
            else [start(_score_fold, train, fold, model, setting, seed) for fold in folds]
            for setting in grid
        ]
        tried = []
        for number, (setting, futures) in enumerate(zip(grid, running, strict=True), 1):
            name = in_words(setting)
            if futures is None:
                best, note = Best(setting, tuple(known[name])), "from before"
            else:
                results = [future.result() for future in futures]
                best = Best(setting, tuple(area for area, _ in results))
                note = f"{time.monotonic() - began:.0f} s"
                if not all(converged for _, converged in results):
                    note += ", not converged"
                keep(name, list(best.aurocs))
            tried.append(best)
            reached = f"AUROC {best.auroc:.4f} over {len(folds)} folds"
            log(f"setting {number} of {len(grid)}: {name}: {reached}, {note}")
    return max(tried, key=lambda best: best.auroc)


def fit(
    train: TrainSplit, folds: Folds, model: str, setting: Setting, *, seed: int, jobs: int
) -> tuple[Any, Any]:
    """Returns a model fitted to the whole train split, and its calibration or None; see `Fitted`.

    A logistic regression turns the distances of a support vector machine into probabilities (Platt,
    "Probabilistic Outputs for Support Vector Machines", 1999). It is fitted to the distances of the held-out
    records of each fold, which their machine has not seen. The penalty of that regression stands for Platt's
    smoothed targets. The features may be overwritten.
    """
    from sklearn.linear_model import LogisticRegression

    pipeline = build(model, setting, train.features.shape, seed, trees=TREES)
    calibration = None
    with _workers(jobs) as start:
        if not hasattr(pipeline, "predict_proba"):
            futures = [start(_held_out, train, fold, model, setting, seed) for fold in folds]
            found = np.concatenate([future.result()[0] for future in futures])
            truth = train.labels[np.concatenate([out for _, out in folds])]
            calibration = LogisticRegression(C=1.0).fit(found, truth)
        if model == "random_forest":  # each tree has its own seed, so trees can be fitted in parallel
            pipeline.set_params(forest__n_jobs=jobs)
        start(pipeline.fit, train.features, train.labels).result()
    if model == "random_forest":
        return Forest.of(pipeline["forest"]), calibration
    pipeline.set_params(scale__copy=True)  # features that are predicted later must not be overwritten
    return pipeline, calibration


def _score_fold(
    train: TrainSplit, fold: tuple[Ints, Ints], model: str, setting: Setting, seed: int
) -> tuple[float, bool]:
    """Returns the AUROC on the records held out, and whether the fit converged."""
    found, converged = _held_out(train, fold, model, setting, seed)
    return auroc(train.labels[fold[1]], found), converged


def _held_out(
    train: TrainSplit, fold: tuple[Ints, Ints], model: str, setting: Setting, seed: int
) -> tuple[Floats, bool]:
    inside, outside = fold
    shape = (len(inside), train.features.shape[1])
    pipeline = build(model, setting, shape, seed, trees=SEARCHED_TREES)
    pipeline.fit(train.features[inside], train.labels[inside])
    last = pipeline[-1]
    converged = not hasattr(last, "n_iter_") or bool(np.max(last.n_iter_) < last.max_iter)
    return scores(pipeline, train.features[outside]), converged


@contextmanager
def _workers(jobs: int) -> Iterator[Callable[..., Future[Any]]]:
    """Yields a function that starts a call in one of `jobs` threads, which share the features.

    The main thread only waits, so it hears signals at once. BLAS uses one thread in each of them, because its
    sums depend on the number of threads. If the block ends by an exception, calls that still run are
    abandoned.
    """
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    pool = ThreadPoolExecutor(jobs, thread_name_prefix="fit")

    def start(call: Callable[..., _T], *arguments: object) -> Future[_T]:
        with held():  # a new thread must not take signals from the main one
            return pool.submit(call, *arguments)

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the line of the setting says so
        try:
            yield start
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()
