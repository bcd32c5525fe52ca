"""What whole-image numbers without anatomy say of each record, learned from the run's train split."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from zlib import crc32

import numpy as np

from tfrecords.audit.numbers import numbers_of
from tfrecords.audit.quick import QuickShortcut
from tfrecords.audit.reading import Measured, measure_split, originals_of_classes
from tfrecords.errors import InputError
from tfrecords.pool import Pool
from trainer.evaluation.data import DataSet
from trainer.evaluation.predictions import Floats, Predictions
from trainer.run import Run

FEWEST: Final = 100  # train originals of each class; fewer say too little to judge a model by
_MOST: Final = 750  # train originals of each class that are measured: a second or two for two classes
_MOST_CLASSES: Final = 20
_FOLDS: Final = 5
_NAMED: Final = 3  # numbers


@dataclass(frozen=True, eq=False)
class NumbersSay:
    """The classes that the numbers point to.

    Attributes:
        probabilities: float64 [N, K], a row for each record of the predictions.
        learned_from: Train originals that the numbers' own model is fitted to.
        strongest: The numbers that tell the classes apart most, in words, the strongest first.
    """

    probabilities: Floats
    learned_from: int
    strongest: tuple[str, ...]


def numbers_say(
    run: Run, evaluated: DataSet, split: str, predictions: Predictions, tick: Callable[[], None]
) -> NumbersSay | str:
    """Learns from train originals what the numbers say, and asks them about each record of a split.

    Of the train split itself, each fifth of the groups is asked about by what the others have taught.

    Args:
        run: The run.
        evaluated: The data whose split is evaluated.
        split: Which split.
        predictions: Of the split's originals, in any order.
        tick: Called after each shard; what it raises ends this.

    Returns:
        What they say; or in a sentence why there is no answer.

    Raises:
        InputError: A shard is damaged.
    """
    classes = len(predictions.class_names)
    if classes > _MOST_CLASSES:
        return f"there are {classes:,} classes, and the audit takes {_MOST_CLASSES} at most"
    home = evaluated
    try:
        if not evaluated.own:
            home = DataSet.of(run)
        if home.options.shards_at or evaluated.options.shards_at:
            return "the shards are read from a URL, and the audit needs them on this machine"
        counts = originals_of_classes(home.manifest, "train")
        home.require("train")
    except InputError as error:
        return f"the train split of the run's data is not there ({str(error).splitlines()[0]})"
    if min(counts) < FEWEST:
        return (
            f"the smallest class has {min(counts):,} originals in train, and the audit needs {FEWEST} of each"
        )
    own_train = evaluated.own and split == "train"
    train = _measured(home, "train", tick, most_of_a_class=0 if own_train else _MOST)
    if own_train:
        asked, found = train, _out_of_fold(train, classes)
        if found is None:
            return "train has too few groups of a class to hold a fifth of them out"
        model = QuickShortcut.fit(train.values, train.labels, classes)
    else:
        asked = _measured(evaluated, split, tick)
        model = QuickShortcut.fit(train.values, train.labels, classes)
        found = model.probabilities(asked.values)
    rows = {record: row for row, record in enumerate(asked.ids)}
    titles = numbers_of(home.manifest.image_shape[2])
    strongest = np.argsort(-model.distances, kind="stable")[:_NAMED]
    return NumbersSay(
        found[[rows[record] for record in predictions.ids]],
        len(train.labels),
        tuple(titles[k].title for k in strongest),
    )


def _measured(data: DataSet, split: str, tick: Callable[[], None], *, most_of_a_class: int = 0) -> Measured:
    return measure_split(
        data.folder, data.manifest, split, Pool(1), most_of_a_class=most_of_a_class, progress=lambda _: tick()
    )


def _out_of_fold(train: Measured, classes: int) -> Floats | None:
    """Returns float64 [N, K]; None if the records outside a fold lack a class."""
    folds = np.array([crc32(group.encode()) % _FOLDS for group in train.groups])
    found = np.zeros((len(folds), classes))
    for fold in np.unique(folds):
        rest, own = folds != fold, folds == fold
        if len(np.unique(train.labels[rest])) < classes:
            return None
        found[own] = QuickShortcut.fit(train.values[rest], train.labels[rest], classes).probabilities(
            train.values[own]
        )
    return found
