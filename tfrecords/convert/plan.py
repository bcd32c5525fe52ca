"""The plan of a conversion, plan.json: a second call with the same plan continues the first."""

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
    """Returns the content of plan.json: fingerprints of all that the shards follow from.

    `layout` covers the options and which image goes where. `plan` covers the layout and the sizes of the
    source files. Their modification times, change times (both in ns) and inodes are listed besides: they
    belong to no fingerprint, because copied images give the same data set. So if an image is repaired during
    a conversion, only its own shard is written again.
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
    statuses = [_status(f"{listing.root}/{source.path}") for source in listing.sources]
    facts = {
        name: [status[at] for status in statuses] for at, name in enumerate(("mtimes", "ctimes", "inodes"))
    }
    return {"plan": plan, "layout": layout, "sizes": sizes, **facts}


def _status(path: str) -> tuple[int, int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116 - a million Paths take seconds
    except OSError:  # removed since it was listed; reading it will report that
        return 0, 0, 0
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def versions(listing: Listing) -> dict[str, str]:
    """Returns the versions of the libraries that the bytes of the shards depend on."""
    decoders = tuple(filter(_is_installed, DICOM_PACKAGES)) if listing.has_dicom else ()
    return {name: version(name) for name in ("numpy", "pillow", *decoders)}


def _is_installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False
