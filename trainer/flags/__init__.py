"""The flags of a training run, shared by the commands that train: one module for each group of --help.

The first line of a module's docstring is the title of its group. Its `values` returns what the flags say, by
the names of `TrainConfig.of`; `config` makes the configuration of all groups.
"""
