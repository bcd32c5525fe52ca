"""Keeps patients out of the output: a secret key, hashes with it, and positions instead of file names.

A hash without a secret hides nothing: whoever has the output and a list of patient ids can try them all. So
the user holds the key; it is never written, and never derived from anything that is written.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote

from tfrecords.errors import InputError

LEAST_KEY_BYTES: Final = 32
_MAKE_A_KEY: Final = "make one key, keep it with the images, and give it to every conversion"


@dataclass(frozen=True)
class GroupKey:
    """The user's secret; the same key gives the same hashes in every data set."""

    secret: bytes = field(repr=False)

    def group(self, name: str) -> str:
        """Returns the hash of a group, such as a patient's id: 16 hex digits."""
        return self._hash(b"group", name, 8)

    def id(self, folder: str, path: str) -> str:
        """Returns the id of a file: its class folder, and a hash of its path (32 hex digits)."""
        return f"{quote(os.fsencode(folder))}/{self._hash(b'id', path, 16)}"

    def _hash(self, use: bytes, text: str, size: int) -> str:
        key = hashlib.blake2b(self.secret, person=use).digest()
        data = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, key=key, digest_size=size).hexdigest()


def load_key(path: Path) -> GroupKey:
    """Reads the key in a file.

    Raises:
        InputError: the file cannot be read, or is too short for a key.
    """
    try:
        secret = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"--group_key_file={path}: cannot be read: {error.strerror}; {_MAKE_A_KEY}:\n"
            f"  head -c {LEAST_KEY_BYTES} /dev/urandom > {path}"
        ) from None
    if len(secret) < LEAST_KEY_BYTES:
        raise InputError(
            f"--group_key_file={path}: has {len(secret)} bytes, but {LEAST_KEY_BYTES} random bytes or more "
            f"are needed; {_MAKE_A_KEY}:\n"
            f"  head -c {LEAST_KEY_BYTES} /dev/urandom > {path}"
        )
    return GroupKey(secret)


def no_key(root: Path) -> str:
    """Returns the error for DICOM files without a key."""
    return (
        f"{root}: has DICOM files; hashing their patient ids needs --group_key_file; {_MAKE_A_KEY}:\n"
        f"  head -c {LEAST_KEY_BYTES} /dev/urandom > group.key\n"
        f"  python -m tfrecords.convert --group_key_file=group.key --images={root} ..."
    )


def positions(folder: str, paths: Sequence[str]) -> dict[str, str]:
    """Returns the name of each file in errors: its class folder, and its number in the sorted order of bytes.

    `tfrecords.sources.positions.file_at` finds the file again.
    """
    ordered = sorted(paths, key=os.fsencode)
    return {path: f"{folder}, file {number}" for number, path in enumerate(ordered, 1)}
