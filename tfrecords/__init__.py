"""Offline: images to verified, sharded TFRecords, once. Imports no TensorFlow.

Commands: `convert/` images to shards, `verify` every byte accounted for, `show/` a data set as text and
picture.
Subjects: `sources/` what there is to convert, `images/` bytes to pixels, `duplicates/` the same image
twice, `interop/` files for other tools, `demo/` a drawn data set.
What all of them share: `errors`, `command` (flags in, an exit code out), `streams` (what is printed),
`signals`, `files` (whole or not there), `pool` (processes), `records` (TFRecord framing), `example` (the
fields of a record), `manifest`, `quality` (how far splits can be trusted), `augment` (the copies),
`verification` with `inspection` (one shard).
"""

import sys

if sys.argv[:1] == ["-m"]:  # python -m, which is about to import a command: a signal ends that quietly
    from tfrecords.signals import listen_first

    listen_first()
