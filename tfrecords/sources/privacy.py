"""What keeps patients out of the output: a secret key, hashes by it, and files told by their position.

A hash without a secret hides nothing that can be guessed: whoever has the output and a list of
patients' ids can try them all. So the key is the user's, never written, and never derived from what is.
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
_MAKE_A_KEY: Final = "make one, once, keep it where the images are kept, and give it with every conversion"


@dataclass(frozen=True)
class GroupKey:
    """A user's secret; the same key gives the same hashes, in every data set."""

    secret: bytes = field(repr=False)

    def group(self, name: str) -> str:
        """Returns what stands for a group, a patient's id for example: 16 hex digits."""
        return self._hash(b"group", name, 8)

    def id(self, folder: str, path: str) -> str:
        """Returns what stands for a file: its class folder, and 32 hex digits for its path below the root."""
        return f"{quote(os.fsencode(folder))}/{self._hash(b'id', path, 16)}"

    def _hash(self, use: bytes, text: str, size: int) -> str:
        key = hashlib.blake2b(self.secret, person=use).digest()
        data = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, key=key, digest_size=size).hexdigest()


def load_key(path: Path) -> GroupKey:
    """Reads the key in a file.

    Raises:
        InputError: it cannot be read, or is too short for a key.
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
            f"--group_key_file={path}: has {len(secret)} bytes, {LEAST_KEY_BYTES} random ones or more are "
            f"needed; {_MAKE_A_KEY}:\n"
            f"  head -c {LEAST_KEY_BYTES} /dev/urandom > {path}"
        )
    return GroupKey(secret)


def no_key(root: Path) -> str:
    """Returns the refusal of DICOM files without a key."""
    return (
        f"{root}: has DICOM files, whose patients are told apart by hashes with a key; {_MAKE_A_KEY}:\n"
        f"  head -c {LEAST_KEY_BYTES} /dev/urandom > group.key\n"
        f"  python -m tfrecords.convert --group_key_file=group.key --images={root} ..."
    )


def positions(folder: str, paths: Sequence[str]) -> dict[str, str]:
    """Returns what errors call each file: its class folder, and its number in the order of its bytes.

    `tfrecords.sources.positions.file_at` leads back.
    """
    ordered = sorted(paths, key=os.fsencode)
    return {path: f"{folder}, file {number}" for number, path in enumerate(ordered, 1)}
