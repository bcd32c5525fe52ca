"""The flags of a training run, shared by the commands that train: one module for each group of --help.

The first line of a module is the title of its group. Its `values` gives what the flags say, by the names of
`TrainConfig.of`. `config` makes the configuration of all of them.
"""
