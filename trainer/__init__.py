"""Batches to a model and its evidence.

Commands: `main` trains, `evaluate` reports on a split, `predict/` classifies image files. `training` is
a run from top to bottom. `flags` become one `config`; `run` is the run's directory, `checkpoint` its
saves; `loop` runs the steps and calls `callbacks/`, which also write for `tensorboard/`; `strategy` and
`precision` choose devices and number formats, `tiers` where the train split is held, `models` the network,
`seeds` its random layers.
`inference` gives a saved model's probabilities, `evaluation/` makes of them metrics, intervals, pictures
and the report.
"""

import sys

if sys.argv[:1] == ["-m"]:  # python -m, which is about to import a command: a signal ends that quietly
    from tfrecords.signals import listen_first

    listen_first()
