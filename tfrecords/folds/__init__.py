"""Folds over train and val of one conversion: which images a fold holds out, and the data set of a fold.

`held_out` decides, `folded` writes.
"""
