"""The image of a record, as it is stored in a shard."""

from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from tfrecords.example import Record
from tfrecords.manifest import Manifest


def pixels(record: Record, manifest: Manifest) -> npt.NDArray[np.uint8]:
    """Returns a record's image as uint8 [H, W, C]."""
    if manifest.encoding == "raw":
        return np.frombuffer(record.image, np.uint8).reshape(manifest.image_shape)
    with Image.open(BytesIO(record.image)) as image:
        return np.asarray(image).reshape(manifest.image_shape)
