"""Classical models: `features` makes few numbers of an image, `saved` keeps a fitted model in a safe file.

A `forest` is kept as arrays.
"""
