"""The keys of manifest.json by schema: schema 1 of version 0.1.0 is read as well, and told from damage.

A schema 1 file is checked against its SHA-256 like any other, so its content can also be written back
to the byte. It is never written anew: the next `tfrecords.convert` writes the current schema.
"""

from collections.abc import Mapping
from typing import Any, Final

from tfrecords.example import SCHEMA_VERSION

MANIFEST_SCHEMA: Final = 2  # of the keys; that of the records is `SCHEMA_VERSION`
FIRST_SCHEMA: Final = 1
_QUALITY: Final = "split_quality"
_FIRST_QUALITY: Final = "trust"  # the same in schema 1
# The keys in it, as they are now, by those of schema 1, in the order of that schema.
_QUALITY_KEYS: Final = {
    "duplicates": "duplicate_policy",
    "exact_sets": "duplicate_sets",
    "exact_images": "duplicate_images",
    "sets_across_splits": "duplicate_sets_across_splits",
    "sets_across_labels": "duplicate_sets_across_labels",
    "dropped": "dropped_duplicates",
    "near_pairs": "near_duplicate_pairs",
    "largest_groups": "images_in_largest_group",
    "shard_shares": "class_shares_of_shards",
    "widths": "source_widths",
    "heights": "source_heights",
    "listed_sha256": "duplicates_sha256",
}
# The keys of schema 1 in their order; the SHA-256 follows from it.
_FIRST_KEYS: Final = (
    *("name", "class_names", "image_shape", "encoding", "splits", "copies", "augmentation", "seed"),
    *("sources_sha256", "plan", "rejected", "versions", "schema", "copies_per_class", _FIRST_QUALITY),
    *("positive", "resize", "value_range"),
)
_FIRST_DEFAULTS: Final = {
    "positive": "",
    "resize": "stretch",
    "value_range": "full",
}  # then the key is left out


def to_schema(values: Mapping[str, Any], schema: int) -> dict[str, Any]:
    """Returns the content of manifest.json in a schema, but for its own SHA-256.

    Args:
        values: by the current keys.
        schema: 1 or `MANIFEST_SCHEMA`.
    """
    if schema == MANIFEST_SCHEMA:
        return {**values, "schema": schema}
    quality = values[_QUALITY]
    first = {**values, "schema": schema, _FIRST_QUALITY: {k: quality[n] for k, n in _QUALITY_KEYS.items()}}
    left_out = {name for name, default in _FIRST_DEFAULTS.items() if first[name] == default}
    return {name: first[name] for name in _FIRST_KEYS if name not in left_out}


def from_schema(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of manifest.json by the current keys; `schema` stays as it was.

    Raises:
        KeyError, AttributeError, TypeError: a key is missing or unknown, or has a value of another kind.
    """
    if values["schema"] == MANIFEST_SCHEMA:
        return dict(values)
    unknown = set(values) - set(_FIRST_KEYS)
    if unknown:
        raise KeyError(min(unknown))
    current = {**_FIRST_DEFAULTS, **values, "record_schema": SCHEMA_VERSION}
    quality = current.pop(_FIRST_QUALITY)
    current[_QUALITY] = {_QUALITY_KEYS[name]: value for name, value in quality.items()}
    return current
