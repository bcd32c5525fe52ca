"""The run whose model averages the probabilities of one run for each seed.

It is an ordinary run directory without epochs of its own: model.keras, a threshold that validation chooses
for it, and a report. So every command that takes a trained run takes it too.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tfrecords.errors import InputError
from tfrecords.files.atomic import write_atomically
from tfrecords.manifest import Manifest
from trainer.config import TrainConfig
from trainer.evaluation.data import DataSet, predict_split
from trainer.evaluation.evaluate_run import Evaluation, evaluate_run, finished_evaluation
from trainer.evaluation.report import Report, read_report
from trainer.finish import choose_anew, headline_split, publish
from trainer.inference import Predictor
from trainer.lock import RunLock
from trainer.models.users import import_module_of
from trainer.repeats.children import seed_folder
from trainer.repeats.figures import in_words, spreads, table
from trainer.result import Result
from trainer.run import SEEDS_NAME, Run
from trainer.served.averaging import averaged_runs
from trainer.served.rules import fixed_temperature


def average_seeds(
    config: TrainConfig, seeds: Sequence[int], log: Callable[[str], None] = print
) -> Evaluation:
    """Makes the averaged run of finished runs, evaluates it, and writes the figures of all into seeds.json.

    Args:
        config: of all runs, but for the seed; its `run_dir` is the folder of all.
        seeds: of the runs; see `children.train_seeds`.
        log: called with the table of the figures.

    Returns:
        the evaluation of the averaged run, on the split of the runs' reports.

    Raises:
        InputError: a run has not ended, or the averaged run cannot be written.
    """
    folder = Path(config.run_dir)
    members = [Run.load(seed_folder(folder, seed)) for seed in seeds]
    results = [member.result() for member in members]
    home = DataSet.of(members[0])
    split = headline_split(home.manifest)
    reports = [_report(member, result, split) for member, result in zip(members, results, strict=True)]
    first = members[0]
    # A number has divided each member's logits already; the average has no temperature of its own then.
    own = config.temperature if fixed_temperature(config.temperature) is None else "none"
    run = replace(
        first,
        config=first.config.changed(run_dir=str(folder), positive=config.positive, temperature=own),
        facts={
            **first.facts,
            "seed": f"{', '.join(map(str, seeds))}: the mean of the probabilities of the models in "
            f"{', '.join(seed_folder(folder, seed).name for seed in seeds)}",
            "seeds": f"{split}: {in_words(spreads(reports))}",
            "run": str(folder),
        },
    )
    made_from = {str(seed): result.model_sha256 for seed, result in zip(seeds, results, strict=True)}
    with RunLock(folder, log) as lock:
        result = _finished(run, made_from)
        if result is None:
            _make(run, members, results, home.manifest, lock.check)
            _note(folder, {"seeds": list(seeds), "models": made_from})
            result = run.result()
        result = choose_anew(run, result, home.manifest, log)
        evaluation = finished_evaluation(run, split, result) or evaluate_run(
            run, split=split, manifest=home.manifest
        )
        found = spreads(reports, read_report(run.report(split)))
        numbers = {each.name: each.to_json() for each in found}
        _note(folder, {"seeds": list(seeds), "models": made_from, "split": split, "metrics": numbers})
    log(table(found, split, seeds))
    return evaluation


def _report(member: Run, result: Result, split: str) -> Report:
    """Returns the report of a member's model; it is made anew if it is not there."""
    if finished_evaluation(member, split, result) is None:
        evaluate_run(member, split=split)
    return read_report(member.report(split))


def _finished(run: Run, made_from: dict[str, str]) -> Result | None:
    """Returns the result of the averaged run if it was made from these models, else None."""
    with suppress(InputError, OSError, ValueError, KeyError):
        there = json.loads((run.folder / SEEDS_NAME).read_bytes())
        if there["models"] == made_from:
            return run.result()
    return None


def _make(
    run: Run,
    members: Sequence[Run],
    results: Sequence[Result],
    manifest: Manifest,
    check: Callable[[], None],
) -> None:
    """Publishes the averaged model with its threshold."""
    run.sweep()
    run.save()
    import_module_of(run.config.model)
    model = averaged_runs(members)
    home = DataSet.of(run, manifest=manifest)
    home.require("val")
    validation = predict_split(Predictor.of(model), home.folder, manifest, "val", home.options)
    given = validation.probabilities[np.arange(len(validation.labels)), validation.labels]
    trained = {
        "epoch": 0,
        "val_loss": float(-np.log(np.maximum(given, np.finfo(np.float32).tiny)).mean()),
        "epochs": max(result.epochs for result in results),
        "waited": run.config.patience,  # nothing is left to train
    }
    publish(run, manifest, model, trained, check=check)


def _note(folder: Path, content: dict[str, Any]) -> None:
    write_atomically(folder / SEEDS_NAME, (json.dumps(content, indent=1) + "\n").encode())
