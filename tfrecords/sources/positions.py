"""Finds a file by the name that errors and tables use for it where there is a key."""

from pathlib import Path
from typing import Any

from tfrecords.errors import InputError
from tfrecords.sources.class_folders import list_images
from tfrecords.sources.privacy import load_key
from tfrecords.sources.rejection import MaxRejects
from tfrecords.sources.tables import read_listing


def file_at(
    name: str, images: str | Path, key_file: str | Path, listing: str | Path | None = None, **options: Any
) -> Path:
    """Returns the file with a position or id that a conversion with a key has printed.

    It lists the images again as the conversion did, so that the positions are the same.

    Args:
        name: a position, such as `NORMAL, file 3` or `row 3 of the listing`, or an id from `rejected.csv`.
        images: --images of the conversion.
        key_file: --group_key_file of the conversion.
        listing: --listing of the conversion, if it had one.
        **options: other arguments of `list_images` or `read_listing` that choose which files are listed.

    Raises:
        InputError: no file has this name, or the images cannot be listed.
    """
    root = Path(images)
    options |= {"key": load_key(Path(key_file)), "max_rejects": MaxRejects(percent=100)}
    if listing is None:
        listed = list_images(root, **options)
    else:
        listed = read_listing(Path(listing), root, **{"allow_columns": True} | options)
    wanted = name.removeprefix(f"{root}/")
    for source in listed.sources:
        if wanted in (source.position, source.id):
            return root / source.path
    first = listed.sources[0]
    raise InputError(
        f"{name!r}: no file has this name; {len(listed.sources)} files have names like {first.position!r}, "
        f"as in errors, or {first.id!r}, as in rejected.csv and sources.csv, with this key"
    )
