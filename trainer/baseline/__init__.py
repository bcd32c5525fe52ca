"""The command `python -m trainer.baseline`: a classical model beside the networks.

`fitting` is the main path. `reading` computes the features of the train split, `search` compares the settings
in `grids` by cross-validation over groups; the best one is fitted to the whole split and evaluated as a
network is.
"""
