"""From what errors and tables call a file, where there is a key, back to the file."""

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
    """Returns the file that a conversion with a key calls by its position or id.

    It lists the images as the conversion did, so that it counts as the conversion did.

    Args:
        name: `NORMAL, file 3` or `row 3 of the listing`, as in errors, or an id, as in `rejected.csv`.
        images: the conversion's --images.
        key_file: its --group_key_file.
        listing: its --listing, if it had one.
        **options: other arguments of `list_images` or `read_listing` that say which files are listed.

    Raises:
        InputError: no file is called so, or the images cannot be listed, as the conversion would say.
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
        f"{name!r}: no file is called so; {len(listed.sources)} are called as {first.position!r} in errors, "
        f"or as {first.id!r} in rejected.csv and sources.csv, with this key"
    )
