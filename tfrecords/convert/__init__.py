"""The command `python -m tfrecords.convert`: images to shards, once.

`conversion` is the way from top to bottom. `options` is what may be asked for, `balance` how many copies
each class gets, `plan` what the result follows from, `shards` plans and writes them, `engines` on which
processes, `output` guards the folder, `assessment` looks at the result, `remote` reads and writes URLs.
"""
