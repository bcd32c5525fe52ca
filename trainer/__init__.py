"""Batches to a model and its evidence.

Commands: `main` trains, `evaluate` reports on a split, `predict/` classifies image files.

`training` is a run from top to bottom. `flags/` become one `config`. `run` is the run's directory,
`checkpoint` saves in it, `lock` keeps other processes out. `loop` runs the steps and calls `callbacks/`,
which also write for `tensorboard/`.
`devices/` chooses devices and number format, `tiers` where the train split is held. `models` builds the
network, `optimizer` its optimizer, `seeds` handles its random layers. `inference` computes a saved model's
probabilities; `evaluation/` makes metrics, intervals, pictures and the report from them.
"""

import sys

if sys.argv[:1] == ["-m"]:  # python -m, which is about to import a command: a signal ends that quietly
    from tfrecords.signals import listen_first

    listen_first()
