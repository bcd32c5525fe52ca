"""Trains a model on a converted data set, evaluates it and writes its report.

    python -m trainer.main --strategy=mirrored                      (on drawn demo data)
    python -m trainer.main --strategy=mirrored --data=data/chest_xray --model=cnn

The same command again resumes an interrupted run.
"""

import os
import sys
from pathlib import Path

from absl import flags

from data_pipeline.fetch import end_process
from data_pipeline.quiet import quiet_start
from tfrecords.command import flag_group, run
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest
from tfrecords.signals import held
from tfrecords.verification.data_set import require_sound
from trainer.flags import data
from trainer.flags.config import GROUPS, config_from_flags
from trainer.flags.devices import whole_numbers
from trainer.repeats.children import end_with_parent, train_seeds

for group in GROUPS:
    flags.adopt_module_key_flags(group)

flag_group("Before the start")
_VERIFY_DATA = flags.DEFINE_bool(
    "verify_data",
    False,
    "Check the SHA-256 of every shard before training, as tfrecords.verify --quick does; of data at a URL, "
    "of the shards that are fetched. Sizes are checked in any case.",
)

flag_group("Several seeds")
_SEEDS = flags.DEFINE_list(
    "seeds",
    [],
    "Seeds, as 0,1,2: train a run with each, one after the other, in RUN_DIR/seed-N, and average them. "
    "RUN_DIR is a run itself then: its model averages the probabilities, and seeds.json has mean, standard "
    "deviation and range of the figures. The same command again goes on; it may add seeds.",
)


def main(_: list[str]) -> None:
    """Parses the flags and trains."""
    end_with_parent()
    folder = data.folder(check=_VERIFY_DATA.value)
    if folder is None:
        from tfrecords.demo.dataset import demo_data

        folder = demo_data()
    manifest = Manifest.load(folder, check_shards=False)
    config = config_from_flags(folder, manifest)
    # A flag of this start, not of the run: data that are sound today may be damaged tomorrow.
    if _VERIFY_DATA.value and not config.data_url:
        require_sound(folder, quick=True)
    if config.strategy == "multi_worker":
        # Set before TensorFlow is imported: its many lines would hide the one line that names a lost worker.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    seeds = whole_numbers("seeds", _SEEDS.value)
    if seeds:
        if flags.FLAGS["seed"].present:
            raise InputError(
                f"--seed={config.seed}: --seeds={','.join(_SEEDS.value)} names all seeds; leave it out"
            )
        train_seeds(config, seeds, sys.argv[1:], command=(sys.executable, "-m", "trainer.main"))
    with quiet_start(), held():  # TensorFlow's threads must not take signals from this one
        from data_pipeline.tiers import decoded_file
        from trainer.repeats.average import average_seeds
        from trainer.training import train
    if _VERIFY_DATA.value:
        decoded_file.require_sound(config.pipeline.cache_dir, manifest)
    evaluation = average_seeds(config, seeds) if seeds else train(config, manifest=manifest)
    if evaluation is not None:  # None on a worker that is not the chief
        print(
            f"\n{evaluation.text}\n\n"
            f"model:  {Path(config.run_dir) / 'model.keras'}\n"
            f"report: {evaluation.page}\n"
            f"Next:\n  tensorboard --logdir={config.run_dir}\n"
            f"  python -m trainer.predict --run_dir={config.run_dir} IMAGE_OR_FOLDER"
        )
    end_process()  # TensorFlow's own end waits for threads and for other workers, sometimes for long


if __name__ == "__main__":
    run(main)
