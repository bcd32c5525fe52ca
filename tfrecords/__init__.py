"""Converts images into verified, sharded TFRecords, once, before training. Imports no TensorFlow.

Commands: `convert/` makes shards of images, `verify` checks every byte of them, `show/` shows a data set as
text and pictures.
Subjects: `sources/` lists images, `images/` decodes them, `duplicates/` finds equal and similar images,
`verification/` checks a data set, `interop/` writes files for other tools, `demo/` draws a data set.
Shared by all: `errors`, `command` (flags in, an exit code out), `streams` (what is printed), `signals`,
`files/` (atomic writing, locks, URLs), `pool` (processes), `records` (TFRecord framing), `example`
(a record's fields), `manifest`, `quality` (of the splits), `augment` (the copies).
"""

import sys

if sys.argv[:1] == ["-m"]:  # python -m, which is about to import a command: a signal ends that quietly
    from tfrecords.signals import listen_first

    listen_first()
