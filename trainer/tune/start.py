"""The start of a search: checks the flags and writes the search down, or opens the one that is there."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras_tuner
import tensorflow as tf

from data_pipeline.dataset import tier_of
from data_pipeline.tiers.choice import AUTO
from data_pipeline.tiers.tier import Machine
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest
from trainer.config import TrainConfig
from trainer.devices.precision import POLICIES, choose_precision, cpu_flags, gpu_capabilities
from trainer.run import DataFacts
from trainer.tune.options import SearchOptions
from trainer.tune.oracles import ask, make_oracle
from trainer.tune.search import SEARCH_NAME, Search, of_trials, refuse_early
from trainer.tune.show.hparams import write_experiment
from trainer.tune.space import load_space


def begin(folder: Path, options: SearchOptions, config: TrainConfig, space: str) -> None:
    """Begins a search, or goes on with the one in the folder, and asks the oracle for the first trials.

    Args:
        folder: of the search.
        options: of the search.
        config: of its trials, for what is not searched.
        space: see `load_space`.

    Raises:
        InputError: an option, the space or the data cannot be used, or the folder holds another search.
    """
    manifest = Manifest.load(Path(config.data), check_shards=not config.direct)
    for split in ("train", "val"):
        manifest.split(split)
    refuse_early(folder, options, config, manifest)
    hyperparameters = load_space(space, config)
    names = {entry.name for entry in hyperparameters.space}
    if options.oracle == "hyperband" and "schedule" in names:
        raise InputError(
            f"--space={space}: schedule: cosine ends with a trial's last epoch, so a trial that "
            f"--oracle=hyperband promotes cannot go on with it; leave it out, or use another oracle"
        )
    asked = Search(
        folder=folder,
        options=options,
        config=of_trials(config),
        data=DataFacts.of(manifest),
        space=hyperparameters.get_config(),
        space_name=space,
        initial_points=options.initial_points(len(names)),
        brackets=0,
        keras_tuner=keras_tuner.__version__,
    )
    with asked.journal.lease() as lease:
        if (folder / SEARCH_NAME).exists():
            search = Search.load(folder).continued(asked)
        else:
            search = _chosen(asked, manifest)
            write_experiment(folder / "tensorboard", search.parameters)
        search.save()
        ask(search, lease)


def _chosen(search: Search, manifest: Manifest) -> Search:
    """Replaces each "auto" by what it stands for here, once, so that trials are the same on all machines."""
    config, parallel = search.config, search.options.parallel
    if config.precision == "auto":
        policy = choose_precision("auto", gpu_capabilities(), cpu_flags()).policy
        config = replace(config, precision=next(name for name, value in POLICIES.items() if value == policy))
    if not config.threads_per_process:
        threads = max(1, len(os.sched_getaffinity(0)) // parallel)
        config = replace(config, threads_per_process=threads)
    if config.pipeline.cache == AUTO:
        # A stream has another order than the other tiers, so all trials stream or none do; on a GPU each
        # trial may choose among the others.
        tier = tier_of(manifest, "train", config.pipeline, Machine(processes=parallel), training=True)
        if tier.streams or not tf.config.list_physical_devices("GPU"):
            config = config.changed(cache=tier.name)
    search = replace(search, config=config)
    return replace(search, brackets=_trials_in_brackets(make_oracle(search)))


def _trials_in_brackets(oracle: Any) -> int:
    """Returns how many trials hyperband has; 0 for another oracle."""
    if not hasattr(oracle, "hyperband_iterations"):
        return 0
    # KerasTuner has no public way; tests/trainer/tune/test_oracles.py compares this with a real search.
    return sum(
        oracle._get_size(bracket, level)
        for bracket in range(oracle._get_num_brackets())
        for level in range(oracle._get_num_rounds(bracket))
    )
