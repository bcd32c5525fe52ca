"""DICOM files of all kinds that are read, drawn for tests; also what no library writes."""

import copy
import io
import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import dcmwrite
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

SYNTAXES = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
    "RLE": RLELossless,
    "JPEG baseline": JPEGBaseline8Bit,
    "JPEG lossless": JPEGLosslessSV1,
    "JPEG 2000": JPEG2000Lossless,
}


RGB = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}


def dicom(stored, syntax="explicit", *, bits=None, drop=(), pixels=None, **attributes):
    """Returns a DICOM file of stored values [Rows, Columns] or RGB; attributes replace what follows.

    `pixels` are the bytes of PixelData, or a list of fragments.
    """
    stored = np.asarray(stored)
    allocated = 8 * stored.itemsize
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = attributes.get("SOPClassUID", UID("1.2.840.10008.5.1.4.1.1.1"))
    meta.MediaStorageSOPInstanceUID = attributes.get("SOPInstanceUID", UID("1.2.3.4"))
    made = FileDataset("", Dataset(), file_meta=meta, preamble=b"\0" * 128)
    values = {
        "SOPClassUID": UID("1.2.840.10008.5.1.4.1.1.1"),
        "SOPInstanceUID": UID("1.2.3.4"),
        "PatientID": "patient",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": stored.shape[0],
        "Columns": stored.shape[1],
        "BitsAllocated": allocated,
        "BitsStored": bits or allocated,
        "HighBit": (bits or allocated) - 1,
        "PixelRepresentation": int(stored.dtype.kind == "i"),
        **(RGB if stored.ndim == 3 else {}),
        **attributes,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values that are wrong on purpose
        for name, value in values.items():
            if name not in drop:
                setattr(made, name, value)
    for name in ("PixelPaddingValue", "ModalityLUTSequence", "VOILUTSequence"):
        if name == "PixelPaddingValue" and name in made:
            made[name].VR = "US"
        elif name in made and syntax == "big endian":
            setattr(made, name, [_swapped(one) for one in made[name]])
    chosen = SYNTAXES[syntax]
    if pixels is not None:
        made.PixelData = pixels if isinstance(pixels, bytes) else in_fragments(pixels)
        made["PixelData"].VR = "OB" if allocated == 8 or syntax.startswith("JPEG") else "OW"
        made["PixelData"].is_undefined_length = not isinstance(pixels, bytes)
    elif "PixelData" not in drop:
        _set_pixels(made, stored, syntax, bits or allocated)
    made.file_meta.TransferSyntaxUID = chosen
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values that are wrong on purpose
        dcmwrite(
            buffer,
            made,
            implicit_vr=chosen.is_implicit_VR,
            little_endian=chosen.is_little_endian,
            force_encoding=True,
        )
    return buffer.getvalue()


def in_fragments(fragments, offsets=()):
    """Returns encapsulated pixel data: the offset table, the fragments, the delimiter: PS3.5, A.4."""
    table = struct.pack(f"<{len(offsets)}L", *offsets)
    item = [struct.pack("<HHL", 0xFFFE, 0xE000, len(part)) + part for part in (table, *fragments)]
    return b"".join(item) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


def without_preamble(data):
    """Returns a DICOM file that opens with its file meta information."""
    assert data[128:132] == b"DICM"
    return data[132:]


def without_meta(data):
    """Returns the data set alone."""
    at = 132
    while data[at : at + 2] == b"\x02\0":
        long = data[at + 4 : at + 6] == b"OB"
        at += 12 + data[at + 8] if long else 8 + data[at + 6]
    return data[at:]


def item(**attributes):
    """Returns an item of a sequence."""
    made = Dataset()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def lookup_table(entries, first=0, bits=16, *, count=None, vr="OW", kind="<u2"):
    """Returns an item of a Modality or VOI LUT Sequence; of no entries, one without data."""
    made = Dataset()
    made.add_new(
        "LUTDescriptor", "SS" if first < 0 else "US", [len(entries) if count is None else count, first, bits]
    )
    data = np.asarray(entries, kind).tobytes()
    if data:
        made.add_new("LUTData", vr, data if vr != "US" else list(entries))
    return made


def _swapped(table):
    swapped = copy.deepcopy(table)
    if "LUTData" in swapped and swapped["LUTData"].VR == "OW":
        swapped["LUTData"].value = np.frombuffer(swapped.LUTData, "<u2").astype(">u2").tobytes()
    return swapped


def _set_pixels(made, stored, syntax, bits):
    if syntax == "JPEG baseline":
        buffer = io.BytesIO()
        Image.fromarray(stored).save(buffer, "JPEG", quality=100)
        made.PixelData = encapsulate([buffer.getvalue()])
    elif syntax == "JPEG lossless":
        made.PixelData = encapsulate([jpeg_lossless(stored.astype(np.int64) & (1 << bits) - 1, bits)])
    elif syntax in ("RLE", "JPEG 2000"):
        made.PixelData = stored.tobytes()
        made.compress(SYNTAXES[syntax], generate_instance_uid=False)
    else:
        order = ">" if syntax == "big endian" else "<"
        data = stored.astype(stored.dtype.newbyteorder(order)).tobytes()
        made.PixelData = data + b"\0" * (len(data) % 2)
    made["PixelData"].VR = "OB" if made["PixelData"].is_undefined_length or stored.itemsize == 1 else "OW"


def jpeg_lossless(values, bits):
    """Encodes [Rows, Columns] as lossless JPEG, each value predicted by its left neighbour: ITU-T T.81 H.

    Every length category has a code of 5 bits, its own number: no table is shorter to write.
    """
    rows, columns = values.shape
    predicted = np.empty_like(values)
    predicted[:, 1:] = values[:, :-1]
    predicted[1:, 0] = values[:-1, 0]
    predicted[0, 0] = 1 << bits - 1
    differences = (values - predicted + (1 << 15)) % (1 << 16) - (1 << 15)
    text = []
    for difference in differences.ravel().tolist():
        size = abs(difference).bit_length()
        text.append(f"{size:05b}")
        if 0 < size < 16:
            text.append(f"{difference if difference > 0 else difference + (1 << size) - 1:0{size}b}")
    joined = "".join(text)
    joined += "1" * (-len(joined) % 8)
    scan = int(joined, 2).to_bytes(len(joined) // 8).replace(b"\xff", b"\xff\0")
    lengths = bytes([0, 0, 0, 0, 17, *[0] * 11])
    return b"".join(
        [
            b"\xff\xd8",
            b"\xff\xc3" + struct.pack(">HBHHB3B", 11, bits, rows, columns, 1, 1, 0x11, 0),
            b"\xff\xc4" + struct.pack(">HB", 36, 0) + lengths + bytes(range(17)),
            b"\xff\xda" + struct.pack(">HB2B3B", 8, 1, 1, 0, 1, 0, 0),
            scan,
            b"\xff\xd9",
        ]
    )


RAMP = np.array([[0, 1000, 2000, 3000, 4000]], np.uint16)


ALL = {"WindowCenter": 2048, "WindowWidth": 4096}


COLOURS = np.uint8([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 200, 200]], [[9, 99, 199]] * 4])


NOISE = np.random.default_rng(0).integers(0, 1 << 16, (36, 41), dtype=np.uint16)


def window(center, width, function=None, **more):
    function = {"VOILUTFunction": function} if function else {}
    return {"WindowCenter": center, "WindowWidth": width, **function, **more}


def bundled(name):
    return Path(get_testdata_file(name, download=False)).read_bytes()
