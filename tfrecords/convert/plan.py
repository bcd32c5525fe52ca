"""What a conversion follows from: the content of plan.json, by which the same call again is known."""

import hashlib
import json
import os
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tfrecords.convert.engines import layout_digest
from tfrecords.convert.shards import Rendering, ShardJob
from tfrecords.example import SCHEMA_VERSION
from tfrecords.images.dicom import PACKAGES as DICOM_PACKAGES
from tfrecords.sources.listing import Listing


def plan_content(rendering: Rendering, listing: Listing, jobs: list[ShardJob]) -> dict[str, Any]:
    """Returns the content of plan.json: all that the shards follow from.

    What the system tells of the sources (size, modification and change time in ns, inode) is kept apart
    from the layout, so that an image that was repaired in the middle of a conversion costs only its own
    shard. Of it only the sizes are a part of the plan: the same images elsewhere, or copied, are the same
    data set.
    """
    facts = {
        "schema": SCHEMA_VERSION,
        "versions": versions(listing),
        "rendering": rendering.to_json(),
        "classes": listing.class_names,
    }
    layout = layout_digest(facts, jobs)
    sizes = [source.size for source in listing.sources]
    plan = hashlib.sha256(json.dumps([layout, sizes]).encode()).hexdigest()
    found = [_status(f"{listing.root}/{source.path}") for source in listing.sources]
    facts = {name: [status[at] for status in found] for at, name in enumerate(("mtimes", "ctimes", "inodes"))}
    return {"plan": plan, "layout": layout, "sizes": sizes, **facts}


def _status(path: str) -> tuple[int, int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116 - a million Paths take seconds
    except OSError:  # gone since it was listed: who reads it says so
        return 0, 0, 0
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def versions(listing: Listing) -> dict[str, str]:
    """Returns the versions of the tools whose output the bytes are."""
    decoders = tuple(filter(_is_installed, DICOM_PACKAGES)) if listing.has_dicom else ()
    return {name: version(name) for name in ("numpy", "pillow", *decoders)}


def _is_installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False
