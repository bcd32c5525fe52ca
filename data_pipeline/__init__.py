"""Online: TFRecord shards to batches on a device, with tf.data.

Commands: `benchmark/` measures what each stage costs, `tune/` finds the fastest options, `serve` runs a data
service.
Start with `dataset`: it chooses a tier and calls the tf.data chain of that tier. `tiers/` describes the tiers
and holds a split decoded; `stream/` reads a split from its shards. All chains use `options`, `request` (one
call of `make_dataset`), `order` and `windows` (which record comes next), `copies` (which variant of an
image), `sampling/` (how often an epoch shows each record), `augment` (changes images anew in each epoch),
`parse` (records to tensors) and `damage` (names shard and record of a reading error). Other modules: `fetch`
(data behind a URL), `settings` (pipeline.json), `supervised` (tuples for Keras's `fit`), `measuring`
(images/s, CPU time, memory), `quiet` (imports TensorFlow without its notes), `distribution` (mends what a
strategy adds).
"""

import sys

if sys.argv[:1] == ["-m"]:  # python -m is about to import a command: a signal ends it quietly from now on
    from tfrecords.signals import listen_first

    listen_first()
