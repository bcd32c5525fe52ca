"""The command `python -m trainer.baseline`: a classical model beside the networks.

`fitting` is the way from top to bottom. `reading` makes features of the train split, `search` compares the
candidates of `grids` on it, group by group; the best is fitted on all of it and judged as a network is.
"""
