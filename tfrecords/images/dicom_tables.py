"""The lookup tables of a DICOM file: modality, values of interest (VOI), and palette colours.

A table has a descriptor (number of entries, value of the first entry, bits of an entry) and data: PS3.3,
C.11.1.1, C.11.2.1.1 and C.7.6.3.1.5. A value below the first entry takes the first one, a value above the
last entry the last one.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from tfrecords.images.dicom_values import has, tag_of
from tfrecords.images.kinds import DecodeError

if TYPE_CHECKING:
    from pydicom import Dataset

_WORDS: Final = np.dtype("<u2")


@dataclass(frozen=True, slots=True)
class Table:
    """A lookup table.

    Attributes:
        first: the value of the first entry, modulo 65536; it is signed if the values are.
        bits: bits of an entry.
        entries: int64 [N], from 0 to 2**bits - 1.
    """

    first: int
    bits: int
    entries: npt.NDArray[np.int64]

    def __call__(self, values: npt.NDArray[np.number]) -> npt.NDArray[np.int64]:
        """Returns the entry of each value, int64 of the same shape; values are rounded to whole numbers."""
        whole = np.floor(np.asarray(values, np.float64) + 0.5).astype(np.int64)
        signed = whole.size and int(whole.min()) < 0
        first = self.first - (1 << 16) if signed and self.first >= 1 << 15 else self.first
        return self.entries[np.clip(whole - first, 0, len(self.entries) - 1)]

    def share(self, values: npt.NDArray[np.number]) -> npt.NDArray[np.float64]:
        """Returns the entry of each value as a share of the largest possible entry, from 0 to 1."""
        return self(values) / ((1 << self.bits) - 1)


def words(dataset: "Dataset", name: str, *, little: bool) -> npt.NDArray[np.uint16] | None:
    """Returns an attribute of 16-bit numbers, uint16 [N] as stored; None where it is missing or empty.

    Its VR does not matter: it may be wrong or unknown.

    Args:
        dataset: that may hold it.
        name: name of the attribute.
        little: whether the file is little endian.
    """
    data = _bytes(dataset, name, little=little)
    return np.frombuffer(data, _WORDS, len(data) // 2) if data else None


def _bytes(dataset: "Dataset", name: str, *, little: bool) -> bytes:
    """Returns the bytes of an attribute of bytes or 16-bit numbers, the lower byte of each number first."""
    if not has(dataset, name):
        return b""
    element = dataset.get_item(tag_of(name))
    value = element.value
    if value is None or isinstance(value, str):
        return b""
    if isinstance(value, bytes):
        if little or element.VR == "OB":
            return value
        return np.frombuffer(value, ">u2", len(value) // 2).astype(_WORDS).tobytes()
    return (np.atleast_1d(np.asarray(value, np.int64)) & 0xFFFF).astype(_WORDS).tobytes()


def read_table(dataset: "Dataset", name: str, *, little: bool, kind: str) -> Table:
    """Returns a table from its attributes NAMEDescriptor and NAMEData.

    Args:
        dataset: that holds them: the file itself for a palette, else an item of a sequence.
        name: `LUT`, or `RedPaletteColorLookupTable` and the like.
        little: whether the file is little endian.
        kind: name of the table in errors.

    Raises:
        DecodeError: a part is missing, or the parts do not match.
    """
    descriptor = words(dataset, f"{name}Descriptor", little=little)
    data = _bytes(dataset, f"{name}Data", little=little)
    for part, found in (("Descriptor", descriptor is not None), ("Data", data)):
        if not found:
            raise DecodeError(f"a DICOM file whose {kind} has no {name}{part}")
    assert descriptor is not None
    if descriptor.size != 3:
        raise DecodeError(
            f"a DICOM file whose {kind} has a {name}Descriptor of {descriptor.size} numbers, not 3"
        )
    count, first, bits = (int(value) for value in descriptor)
    count = count or 1 << 16
    if not 1 <= bits <= 16:
        raise DecodeError(f"a DICOM file whose {kind} has entries of {bits} bits; 1 to 16 are read")
    if len(data) >= 2 * count:
        entries = np.frombuffer(data, _WORDS, count).astype(np.int64)
    elif len(data) >= count:  # entries of one byte
        entries, bits = np.frombuffer(data, np.uint8, count).astype(np.int64), min(bits, 8)
    else:
        raise DecodeError(f"a DICOM file whose {kind} has {len(data)} bytes for {count} entries")
    if (most := int(entries.max())) >> bits:
        raise DecodeError(
            f"a DICOM file whose {kind} has an entry of {most}, which needs more than {bits} bits"
        )
    return Table(first, bits, entries)


def to_colours(index: npt.NDArray[np.integer], palette: tuple[Table, Table, Table]) -> npt.NDArray[np.uint8]:
    """Returns the colours of palette indices, uint8 [H, W, 3]; of more than 8 bits the upper 8."""
    deepest = max(int(table.entries.max()) for table in palette)
    colours = np.empty((*index.shape, 3), np.uint8)
    for channel, table in enumerate(palette):
        # Some files say that entries have 16 bits, but store 8.
        bits = 8 if deepest < 256 else table.bits
        entries = table.entries >> bits - 8 if bits > 8 else table.entries
        colours[..., channel] = Table(table.first, 8, entries)(np.arange(int(index.max()) + 1))[index]
    return colours


def ybr_to_rgb(ybr: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Returns YBR_FULL pixels as RGB, uint8 [H, W, 3], rounded: PS3.3, C.7.6.3.1.2, and ITU-T T.871, 7."""
    luma, offset = ybr[..., 0].astype(np.int16), np.arange(-128, 128)
    red = ((1402 * offset + 500) // 1000).astype(np.int16)
    blue = ((1772 * offset + 500) // 1000).astype(np.int16)
    both = 114 * 1772 * offset[:, None] + 299 * 1402 * offset[None, :]
    green = ((587_000 // 2 - both) // 587_000).astype(np.int16)
    rgb = np.empty_like(ybr)
    rgb[..., 0] = np.clip(luma + red[ybr[..., 2]], 0, 255)
    rgb[..., 1] = np.clip(luma + green[ybr[..., 1], ybr[..., 2]], 0, 255)
    rgb[..., 2] = np.clip(luma + blue[ybr[..., 1]], 0, 255)
    return rgb
