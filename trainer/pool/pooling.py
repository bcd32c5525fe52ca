"""From the runs of all folds to one report, top to bottom."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tfrecords.errors import InputError, first_names
from tfrecords.folds.folded import PARENTS
from tfrecords.folds.held_out import Fold
from tfrecords.manifest import Manifest
from trainer.config import BASELINES
from trainer.evaluation.data import DataSet, images_at, predict_split
from trainer.evaluation.evaluate_run import Evaluation, load_result
from trainer.evaluation.folder import MODEL_FACT, PLAN_FACT
from trainer.evaluation.intervals import point_values
from trainer.evaluation.predictions import Predictions, choose_threshold, worst_mistakes
from trainer.evaluation.report import render_text, summarise, write_report
from trainer.evaluation.shortcut.cells import cells_of
from trainer.evaluation.shortcut.finding import NumbersSay, numbers_say
from trainer.run import Run
from trainer.served.rules import HIGHEST, LOWEST, UNCHANGED, fixed_temperature
from trainer.served.temperature import fit_temperature, logits_of

_MISTAKES: Final = 12  # pictures in the report
_THRESHOLD: Final = 0.5
# What may differ between the runs of the folds, besides what may differ when a run is resumed.
_OWN: Final = frozenset(
    {"fold", "fold_of", "data", "run_dir", "seed", "threads_per_process", "cache", "from_recipe"}
)


@dataclass(frozen=True)
class PoolOptions:
    """What is pooled, and where to.

    Attributes:
        runs: the run directories, one for each fold, in any order.
        out: folder of the report.
        data: of the conversion that they have divided, if it was moved; None: where it was.
    """

    runs: tuple[Path, ...]
    out: Path
    data: Path | None = None

    def __post_init__(self) -> None:
        if not self.runs:
            raise InputError("no run given; name the run directories of all folds after the flags")


def pool_runs(options: PoolOptions) -> Evaluation:
    """Writes the report on the pooled predictions of the runs.

    Raises:
        InputError: the runs are not those of all folds of one conversion with one configuration, one has not
            ended, the conversion is not there, or the report cannot be written.
    """
    runs = in_order([Run.load(folder) for folder in options.runs])
    if options.out.is_dir() and any(options.out.iterdir()) and not (options.out / "report.json").exists():
        raise InputError(
            f"--out={options.out}: holds other things than a report; give a new or an empty folder"
        )
    parent = options.data or Path(runs[0].config.fold_of)
    manifest = Manifest.load(parent)
    require_parent(runs, parent, manifest)
    positives = {run.result().positive for run in runs}
    if len(positives) > 1:
        raise InputError(f"the runs have different positive classes, {first_names(sorted(positives))}")
    homes, parts = predicted(runs, parent, manifest)
    pooled = joined(parts, manifest).of(positives.pop())
    threshold = _THRESHOLD if pooled.binary else None
    worst = worst_mistakes(pooled, threshold, _MISTAKES)
    report = summarise(
        split="train and val, out of fold",
        predictions=pooled,
        threshold=None,  # 0.5, or the most probable class
        threshold_source=f"{_THRESHOLD}, fixed before training"
        if pooled.binary
        else "more than two classes: the most probable class is predicted",
        facts=_facts(runs, parts, pooled, parent, manifest),
        warnings=[
            f"Out-of-fold predictions of {len(runs)} models, each over the records that it was not trained "
            f"on: a curve over all of them mixes the scales of the models. Unless --monitor=last, each model "
            f"is of the epoch that was best on the records that it predicts here: the figures are somewhat "
            f"optimistic then."
        ],
    )
    report["shortcut"] = _shortcut(runs, homes, parts, pooled, threshold)
    pictures = _images_at(homes, parts, worst)
    write_report(options.out, report, predictions=pooled, history=[], mistakes=pictures)
    return Evaluation(options.out / "report.html", render_text(report))


def in_order(runs: Sequence[Run]) -> list[Run]:
    """Returns the runs in the order of their folds.

    Raises:
        InputError: one has no fold, a fold is missing or there twice, or their configurations differ.
    """
    for run in runs:
        if not run.config.fold or run.config.model in BASELINES:
            raise InputError(f"{run.folder}: is no run with --fold=I/K; name the runs of all folds")
    folds = [Fold.parse(run.config.fold) for run in runs]
    count = folds[0].folds
    if sorted((fold.folds, fold.number) for fold in folds) != [(count, i + 1) for i in range(count)]:
        given = ", ".join(map(str, folds))
        raise InputError(
            f"the runs have the folds {given}; needed is each of 1/{count} to {count}/{count} once: train "
            f"the missing ones with --fold, and name each fold's run once"
        )
    first = runs[0]
    one = first.config.to_json()
    ignored = _OWN | first.config.free_to_change
    for run in runs[1:]:
        other = run.config.to_json()
        differ = [
            f"--{name}={one[name]} in {first.folder}, --{name}={other[name]} in {run.folder}"
            for name in one
            if name not in ignored and one[name] != other[name]
        ]
        if differ:
            raise InputError(
                f"the runs have different configurations ({'; '.join(differ)}): figures of different models "
                f"cannot be pooled; train all folds with the same flags"
            )
    return [run for _, run in sorted(zip([f.number for f in folds], runs, strict=True), key=lambda x: x[0])]


def require_parent(runs: Sequence[Run], parent: Path, manifest: Manifest) -> None:
    """Raises InputError unless the runs have divided this conversion."""
    for run in runs:
        if Fold.parse(run.config.fold).plan(manifest.plan) != run.data.plan:
            raise InputError(
                f"{run.folder}: has divided other data than those in {parent}; pool the runs of one "
                f"conversion, or name its folder with --data=FOLDER"
            )


def predicted(
    runs: Sequence[Run], parent: Path, manifest: Manifest
) -> tuple[list[DataSet], list[Predictions]]:
    """Returns for each run its data, and what it predicts for the records that it has held out.

    Args:
        runs: of all folds.
        parent: folder of the conversion.
        manifest: of the conversion.

    Raises:
        InputError: a run has not ended, or its model cannot be loaded.
    """
    homes, parts = [], []
    for run in runs:
        predictor, _ = load_result(run)
        home = DataSet.of(run, parent, manifest)
        homes.append(home)
        parts.append(
            predict_split(predictor, home.folder, home.manifest, "val", home.options, originals=True)
        )
    return homes, parts


def joined(parts: Sequence[Predictions], manifest: Manifest) -> Predictions:
    """Returns the predictions of all folds as one, one fold after the other.

    Args:
        parts: of each fold.
        manifest: of the conversion.

    Raises:
        InputError: they are not of all images of train and val, each once.
    """
    ids = tuple(name for part in parts for name in part.ids)
    images = sum(manifest.split(split).images for split in PARENTS)
    if len(ids) != images or len(set(ids)) != images:
        raise InputError(
            f"the folds hold out {len(ids):,} records, {len(set(ids)):,} of them different, but train and "
            f"val have {images:,} images; remove the folds in the cache folder, and run this again"
        )
    return Predictions(
        parts[0].class_names,
        ids,
        tuple(name for part in parts for name in part.groups),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
    )


def _facts(
    runs: Sequence[Run],
    parts: Sequence[Predictions],
    pooled: Predictions,
    parent: Path,
    manifest: Manifest,
) -> dict[str, str]:
    first = runs[0]
    shared = {name: first.facts[name] for name in ("model", "kept", "precision") if name in first.facts}
    aurocs = [point_values(part.of(pooled.positive_name), _threshold(pooled))["auroc"] for part in parts]
    facts = {
        "data": f"{manifest.name}: {parent}",
        **shared,
        "seeds": ", ".join(str(run.config.seed) for run in runs),
        "runs": ", ".join(str(run.folder) for run in runs),
        "evaluated": f"train and val of {manifest.name}, originals only, each by the run that held it out",
        "auroc of each fold": ", ".join(f"{value:.4f}" for value in aurocs),
        PLAN_FACT: manifest.plan,
        MODEL_FACT: f"{len(runs)} models, one for each fold",
    }
    if fixed_temperature(first.config.temperature) is not None:
        facts["temperature by these records"] = _temperature(pooled, first.config.temperature)
    if pooled.binary:
        facts["threshold by these records"] = (
            f"{choose_threshold(pooled):.4f} has the highest sensitivity + specificity on them; figures at "
            f"it would be optimistic here"
        )
    return facts


def _temperature(pooled: Predictions, asked: str) -> str:
    """Returns the fact on the temperature for a training on all of these records.

    Args:
        pooled: of all folds.
        asked: the temperature that all runs have, as --temperature names it: no choice of validation.
    """
    factor = fit_temperature(logits_of(pooled), pooled.labels)
    value = min(max(factor * (fixed_temperature(asked) or UNCHANGED), LOWEST), HIGHEST)
    if factor == UNCHANGED:
        return f"{value:.3g}: these records give no better one"
    return (
        f"{value:.3g} makes them most likely; the training on all records takes it: --temperature={value:.3g}"
    )


def _shortcut(
    runs: Sequence[Run],
    homes: Sequence[DataSet],
    parts: Sequence[Predictions],
    pooled: Predictions,
    threshold: float | None,
) -> dict[str, Any]:
    """Returns the report's content on the shortcut: of each record, what the others of its fold's run say."""
    found = []
    for run, home, part in zip(runs, homes, parts, strict=True):
        said = numbers_say(run, home, "val", part, lambda: None)
        if isinstance(said, str):
            return {"missing": f"fold {run.config.fold}: {said}"}
        found.append(said)
    named = Counter(number for said in found for number in said.strongest)
    together = NumbersSay(
        np.concatenate([said.probabilities for said in found]),
        min(said.learned_from for said in found),
        tuple(number for number, _ in named.most_common(len(found[0].strongest))),
    )
    return cells_of(pooled, together, threshold)


def _threshold(predictions: Predictions) -> float | None:
    return _THRESHOLD if predictions.binary else None


def _images_at(
    homes: Sequence[DataSet], parts: Sequence[Predictions], positions: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint8]:
    """Returns the images at these positions of the joined predictions, uint8 [n, H, W, C]."""
    images = np.zeros((len(positions), *homes[0].manifest.image_shape), np.uint8)
    start = 0
    for home, part in zip(homes, parts, strict=True):
        own = (positions >= start) & (positions < start + len(part.ids))
        if own.any():
            images[own] = images_at(home, "val", positions[own] - start)
        start += len(part.ids)
    return images
