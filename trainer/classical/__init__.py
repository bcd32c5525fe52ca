"""Classical models: `features` makes a short row of numbers of an image, `saved` is the model's file.

A random `forest` is stored as plain arrays.
"""
