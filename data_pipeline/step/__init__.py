"""One training step: the trainer repeats it, the benchmark times it.

`network` builds a classifier and has the notebook's convolutional net; `gradient` is the step itself.
"""
