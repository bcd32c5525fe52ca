"""DICOM files of all kinds that are read, drawn for tests; also what no library writes."""

import io
import struct
import warnings

import numpy as np
from PIL import Image
from pydicom import dcmwrite
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


def dicom(stored, syntax="explicit", *, bits=None, drop=(), **attributes):
    """Returns a DICOM file of stored values [Rows, Columns]; attributes replace what follows from them."""
    stored = np.asarray(stored)
    allocated = 8 * stored.itemsize
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1")
    meta.MediaStorageSOPInstanceUID = attributes.get("SOPInstanceUID", UID("1.2.3.4"))
    made = FileDataset("", Dataset(), file_meta=meta, preamble=b"\0" * 128)
    values = {
        "SOPClassUID": UID("1.2.840.10008.5.1.4.1.1.1"),
        "SOPInstanceUID": UID("1.2.3.4"),
        "PatientID": "patient",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": stored.shape[-2],
        "Columns": stored.shape[-1],
        "BitsAllocated": allocated,
        "BitsStored": bits or allocated,
        "HighBit": (bits or allocated) - 1,
        "PixelRepresentation": int(stored.dtype.kind == "i"),
        **attributes,
    }
    for name, value in values.items():
        if name not in drop:
            setattr(made, name, value)
    chosen = SYNTAXES[syntax]
    if "PixelData" not in drop:
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
