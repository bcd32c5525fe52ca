"""Shards that are read while training, for data beyond the memory.

`in_place` is the tf.data chain over shards on this machine, which `local` reads by windows with `frames`
(one shard) and `layout` (where the fields are). `batches` is the chain for everything else, over the
records that `portable` reads by tf.data alone; `service` lets other processes decode. `generated` makes a
dataset of what Python makes.
"""
