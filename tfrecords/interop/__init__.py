"""Files beside the shards that let other tools read a data set without a conversion.

`companions` writes and checks all of them: those for TensorFlow Datasets (`tfds`) and the index files for
NVIDIA DALI (`index`).
"""
