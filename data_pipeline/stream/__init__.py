"""Reads shards while training, for data that do not fit into memory. There are two tf.data chains.

`in_place` is the chain over shards on this machine: `local` reads them window by window, with `frames` (one
shard) and `layout` (where the fields are). `batches` is the chain for everything else: `portable` reads the
records by tf.data alone, and with `service` other processes decode them. `generated` makes a dataset from a
Python iterator.
"""
