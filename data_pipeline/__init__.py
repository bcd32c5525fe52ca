"""Online: TFRecord shards to batches on a device, with tf.data.

Commands: `benchmark/` what each stage costs, `tune/` the fastest options, `serve` a data service.
`dataset` is the way in: it chooses a tier and calls that tier's chain of tf.data. `tiers/` hold a split
decoded, `stream/` reads it from its shards. What they share: `options`, `request` (one call of
`make_dataset`), `order` and `windows` (which record comes next), `copies` (which variant of an image),
`augment` (changed anew each epoch), `parse` (records to tensors), `damage` (named by shard and record).
Beside them: `fetch` (data behind a URL), `settings` (pipeline.json), `measuring` (images/s, CPU,
memory), `quiet` (imports TensorFlow silently).
"""

import sys

if sys.argv[:1] == ["-m"]:  # python -m, which is about to import a command: a signal ends that quietly
    from tfrecords.signals import listen_first

    listen_first()
