"""The files that `builder_from_directory` of TensorFlow Datasets reads; they follow from the manifest.

The formats are those of tensorflow_datasets/core/proto/{feature,dataset_info}.proto as JSON, in which 64-bit
numbers are strings. The names of the shards already follow the default template.
"""

import json
from typing import Any, Final
from urllib.parse import quote_from_bytes

from tfrecords.example import FIELDS
from tfrecords.manifest import Manifest, Split

TFDS_NAMES: Final = ("features.json", "dataset_info.json", "label.labels.txt")

_TEMPLATE: Final = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"

_VERSION: Final = (
    "1.0.0"  # TFDS requires one; our data sets are identified by the hash of the manifest instead
)
_FEATURES: Final = "tensorflow_datasets.core.features"


def tfds_files(manifest: Manifest) -> dict[str, bytes]:
    """Returns the content of each file of `TFDS_NAMES`."""
    names = _label_names(manifest.class_names)
    contents = (_json(_features(manifest)), _json(_info(manifest)), "".join(f"{n}\n" for n in names).encode())
    return dict(zip(TFDS_NAMES, contents, strict=True))


def _features(manifest: Manifest) -> dict[str, Any]:
    """Returns the features of a record for TFDS: a FeaturesDict of `FIELDS`."""
    known = {
        "image": _image(manifest),
        "label": {
            "pythonClassName": f"{_FEATURES}.class_label_feature.ClassLabel",
            "classLabel": {"numClasses": str(len(manifest.class_names))},
        },
    }
    kinds = {
        "bytes": {"pythonClassName": f"{_FEATURES}.text_feature.Text", "text": {}},
        "int64": {
            "pythonClassName": f"{_FEATURES}.scalar.Scalar",
            "tensor": {"shape": {}, "dtype": "int64", "encoding": "none"},
        },
    }
    return {
        "pythonClassName": f"{_FEATURES}.features_dict.FeaturesDict",
        "featuresDict": {"features": {name: known.get(name, kinds[kind]) for name, kind in FIELDS.items()}},
    }


def _image(manifest: Manifest) -> dict[str, Any]:
    """Returns the feature that reads `image`: uint8 [H, W, C] from raw bytes or from a file."""
    facts = {"shape": {"dimensions": [str(side) for side in manifest.image_shape]}, "dtype": "uint8"}
    if manifest.encoding == "raw":
        name, kind = f"{_FEATURES}.tensor_feature.Tensor", {"tensor": facts | {"encoding": "bytes"}}
    else:
        name = f"{_FEATURES}.image_feature.Image"
        kind = {"image": facts | {"encodingFormat": manifest.encoding}}
    return {"pythonClassName": name, **kind}


def _info(manifest: Manifest) -> dict[str, Any]:
    height, width, channels = manifest.image_shape
    return {
        "name": manifest.name,
        "version": _VERSION,
        "description": f"{height}x{width}x{channels} {manifest.encoding} images of "
        f"{len(manifest.class_names)} classes; manifest.json tells how they were made",
        "fileFormat": "tfrecord",
        "supervisedKeys": {"tuple": {"items": [{"featureKey": "image"}, {"featureKey": "label"}]}},
        "splits": [_split(name, split) for name, split in manifest.splits.items()],
    }


def _split(name: str, split: Split) -> dict[str, Any]:
    return {
        "name": name,
        "filepathTemplate": _TEMPLATE,
        "shardLengths": [str(shard.records) for shard in split.shards],
        "numBytes": str(sum(shard.bytes for shard in split.shards)),  # of the files
    }


def _label_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the class names; if one cannot be a line of text, all of them percent-encoded.

    TFDS strips every line and drops empty ones. Encoding all names or none keeps them distinct.
    """
    if all(name.isprintable() and name == name.strip() for name in names):
        return names
    return tuple(quote_from_bytes(name.encode(errors="surrogateescape"), safe="") for name in names)


def _json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=4, sort_keys=True) + "\n").encode()
