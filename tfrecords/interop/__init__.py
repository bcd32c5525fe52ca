"""Files beside the shards with which other tools read a data set as it is.

`companions` writes and checks them all: those of TensorFlow Datasets (`tfds`) and the index files of
DALI (`index`).
"""
