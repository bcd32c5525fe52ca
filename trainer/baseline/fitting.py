"""The main path of a baseline: from its options to its report."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from data_pipeline.tiers.free_memory import free_memory
from tfrecords.demo.dataset import DEMO_NAME
from tfrecords.errors import InputError
from tfrecords.files.atomic import file_sha256, write_atomically
from tfrecords.manifest import Manifest
from tfrecords.positive import positive_in_words
from tfrecords.progress import tell_launcher
from trainer.baseline.grids import GRIDS, in_words
from trainer.baseline.options import BaselineOptions
from trainer.baseline.reading import allowed_jobs, read_train
from trainer.baseline.search import fit, group_folds, search
from trainer.classical.features import feature_shape
from trainer.classical.saved import Fitted, skops_io
from trainer.evaluation.data import predict_split
from trainer.evaluation.evaluate_run import POSITIVE_FACT, Evaluation, evaluate_run, finished_evaluation
from trainer.evaluation.intervals import point_values
from trainer.evaluation.predictions import Threshold
from trainer.finish import choose_anew, headline_split, positive_of
from trainer.inference import load_predictor
from trainer.lock import RunLock
from trainer.result import Result
from trainer.run import DataFacts, Run

SEARCH_NAME: Final = "search.json"  # the scores of the settings, kept while the search runs


def fit_baseline(
    options: BaselineOptions, log: Callable[[str], None] = print, *, manifest: Manifest | None = None
) -> Evaluation:
    """Compares the settings, fits the best one and evaluates it; a finished run is only shown again.

    Args:
        options: what to fit, to which data.
        log: called with each line to print.
        manifest: of the data; None: it is read here.

    Raises:
        InputError: the data or the run directory cannot be used, the memory is not enough, or the extra
            `baseline` is not installed.
    """
    manifest = manifest or Manifest.load(Path(options.data), check_shards=False)
    manifest.check_shards(Path(options.data))
    for split in ("train", "val"):
        manifest.split(split)
    positive_of(options.config, manifest)  # refuses an unknown class now, not after the search
    skops_io()  # fails now if it is not installed, not when the model is saved
    if there := _finished(options, manifest):
        return _again(there, manifest, log)
    with RunLock(Path(options.run_dir), log) as lock:
        if there := _finished(options, manifest):  # another process may have finished it meanwhile
            return _again(there, manifest, log)
        run = Run(options.config, DataFacts.of(manifest), _facts(options, manifest), baseline=options.own)
        jobs = allowed_jobs(options, manifest, cores=len(os.sched_getaffinity(0)), free=free_memory())
        log("\n".join(f"{name:10} {value}" for name, value in run.facts.items()))
        log(f"reading {manifest.split('train').images:,} train images")
        train = read_train(Path(options.data), manifest, options.pixels)
        folds = group_folds(
            train.labels,
            train.groups,
            most=options.folds,
            seed=options.seed,
            class_names=manifest.class_names,
        )
        run.sweep()
        run.save()
        journal = _Journal(run, options)
        best = search(
            train,
            folds,
            options.model,
            seed=options.seed,
            jobs=jobs,
            known=journal.scores,
            keep=journal.keep,
            log=log,
        )
        chosen = f"{in_words(best.setting)}: AUROC {best.auroc:.4f} over {len(folds)} folds of train by group"
        log(f"best setting {chosen}; fitting it on all {len(train.labels):,} images")
        pipeline, calibration = fit(train, folds, options.model, best.setting, seed=options.seed, jobs=jobs)
        del train
        run = replace(run, facts={**run.facts, "chosen": chosen})
        fitted = Fitted(
            pipeline, calibration, options.pixels, manifest.image_shape, len(manifest.class_names)
        )
        _publish(run, manifest, fitted, check=lock.check)
        return evaluate_run(run, split=headline_split(manifest), manifest=manifest)


class _Journal:
    """The scores of the settings, kept in the run directory so that the same command goes on with them."""

    def __init__(self, run: Run, options: BaselineOptions) -> None:
        import sklearn

        self._path = run.folder / SEARCH_NAME
        self._of = {
            "model": options.model,
            "seed": options.seed,
            **options.own,
            "plan": run.data.plan,
            "scikit-learn": sklearn.__version__,
        }
        self.scores: dict[str, Sequence[float]] = {}
        try:
            there = json.loads(self._path.read_bytes())
            if there["of"] == self._of:
                self.scores = {
                    str(name): [float(one) for one in each] for name, each in there["scores"].items()
                }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # no scores, or none that can be used: all settings are compared again

    def keep(self, name: str, aurocs: list[float]) -> None:
        """Adds a setting's scores to the file."""
        self.scores[name] = aurocs
        content = json.dumps({"of": self._of, "scores": self.scores}, indent=1) + "\n"
        write_atomically(self._path, content.encode())
        tell_launcher(f"{len(self.scores)} of {len(GRIDS[str(self._of['model'])])} settings")


def _publish(run: Run, manifest: Manifest, fitted: Fitted, *, check: Callable[[], None]) -> None:
    """Publishes the model with the threshold that is chosen on validation, as for a network."""
    temporary = run.model.with_name(f".{os.getpid()}.{run.model.name}")
    try:
        fitted.save(temporary)
        answers = predict_split(load_predictor(temporary), Path(run.config.data), manifest, "val")
        threshold = Threshold.chosen(answers.of(positive_of(run.config, manifest)))
        result = Result(
            model_sha256=file_sha256(temporary),
            epoch=0,  # a baseline has no epochs
            val_loss=point_values(answers, None)["loss"],
            epochs=0,
            waited=0,
            plan=run.data.plan,
            precision="float32",
            **asdict(threshold),
        )
        check()
        run.save()
        run.publish(temporary, result)
    except OSError as error:
        raise InputError(f"{run.model}: cannot be written: {error.strerror or error}; make room") from None
    finally:
        temporary.unlink(missing_ok=True)


def _finished(options: BaselineOptions, manifest: Manifest) -> Run | None:
    """Returns the run that is there if it is finished, else None.

    Raises:
        InputError: the directory holds another run, or something else.
    """
    there = Run.stored(options.config, manifest)
    if there is None:
        return None
    if there.baseline != options.own:
        changed = _difference(there.baseline or {}, options.own)
        raise InputError(
            f"--run_dir={options.run_dir}: holds a run of another configuration ({changed}); choose another "
            f"--run_dir, or give the same flags"
        )
    try:
        there.result()
    except InputError:  # not published, or only in part: that is left to do
        return None
    return replace(there, config=options.config)


def _difference(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    return "; ".join(
        f"--{name}={theirs.get(name)} there, --{name}={value} now"
        for name, value in mine.items()
        if theirs.get(name) != value
    )


def _again(run: Run, manifest: Manifest, log: Callable[[str], None]) -> Evaluation:
    result, split = run.result(), headline_split(manifest)
    log(f"finished; validation loss {result.val_loss:.4f}")
    result = choose_anew(run, result, manifest, log)
    return finished_evaluation(run, split, result) or evaluate_run(run, split=split, manifest=manifest)


def _facts(options: BaselineOptions, manifest: Manifest) -> dict[str, str]:
    """Returns the facts of a baseline, for the terminal and the report."""
    import sklearn
    import skops

    demo = " (demo data: drawn, no patient's)" if manifest.name == DEMO_NAME else ""
    records = ", ".join(f"{name} {split.records:,}" for name, split in manifest.splits.items())
    rows, columns = feature_shape(manifest.image_shape, options.pixels)
    positive = positive_in_words(manifest.class_names, options.positive or manifest.positive)
    return {
        "data": f"{manifest.name}{demo}: {options.data_url or options.data}",
        "records": f"{records}; {'x'.join(map(str, manifest.image_shape))}, {manifest.copies_in_words()}",
        **({POSITIVE_FACT: positive} if positive else {}),
        "model": f"{options.model}, the best of {len(GRIDS[options.model])} settings by AUROC",
        "search": f"at most {options.folds} folds of train, no group in two of them",
        "input": f"area means {rows}x{columns}, grey, as float32; originals only",
        "seed": str(options.seed),
        "run": options.run_dir,
        "versions": f"scikit-learn {sklearn.__version__}, skops {skops.__version__}, numpy {np.__version__}",
    }
