"""Trains a model on a converted data set, evaluates it and writes its report.

    python -m trainer.main --strategy=mirrored                      (on drawn demo data)
    python -m trainer.main --strategy=mirrored --data=data/chest_xray --model=cnn

The same command again resumes an interrupted run.
"""

import os
from pathlib import Path

from absl import flags

from data_pipeline.fetch import end_process
from data_pipeline.quiet import quiet_start
from tfrecords.command import run
from tfrecords.manifest import Manifest
from tfrecords.signals import held
from tfrecords.verification import require_sound
from trainer import flags as run_flags

flags.adopt_module_key_flags(run_flags)

_VERIFY_DATA = flags.DEFINE_bool(
    "verify_data",
    False,
    "Check every SHA-256 of the data before training, as tfrecords.verify --quick does; sizes always are. "
    "Of remote data, those that are fetched.",
)


def main(_: list[str]) -> None:
    """Parses the flags and trains."""
    data = run_flags.data_flag(check=_VERIFY_DATA.value)
    if data is None:
        from tfrecords.demo.dataset import demo_data

        data = demo_data()
    config = run_flags.config_from_flags(data)
    # Of this start, not of the run: what is sound today may be harmed tomorrow.
    if _VERIFY_DATA.value and not config.data_url:
        require_sound(data, quick=True)
    if config.strategy == "multi_worker":
        # A lost worker is told in one line of ours; TensorFlow's many would hide it. Before its import.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet_start(), held():  # TensorFlow's threads must not take signals from this one
        from data_pipeline.tiers import disk
        from trainer.training import train
    if _VERIFY_DATA.value:
        disk.require_sound(config.cache_dir, Manifest.load(Path(config.data), check_shards=False))
    evaluation = train(config)
    if evaluation is not None:  # a helping worker leaves the report to the chief
        print(
            f"\n{evaluation.text}\n\n"
            f"model:  {Path(config.run_dir) / 'model.keras'}\n"
            f"report: {evaluation.page}\n"
            f"Next:\n  tensorboard --logdir={config.run_dir}\n"
            f"  python -m trainer.predict --run_dir={config.run_dir} IMAGE_OR_FOLDER"
        )
    end_process()  # TensorFlow's own end waits for threads and for other workers, at times for long


if __name__ == "__main__":
    run(main)
