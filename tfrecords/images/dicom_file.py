"""Opens a DICOM file: the only place where pydicom reads, and the list of the attributes that it may read.

Errors and warnings of pydicom quote the file, so they do not leave this module.
"""

import io
import logging
import warnings
from typing import TYPE_CHECKING, BinaryIO, Final

from tfrecords.errors import InputError
from tfrecords.images.dicom_bytes import BIG_ENDIAN, DATA_SET, EXPLICIT, IMPLICIT, PREFIX, transfer_syntax
from tfrecords.images.dicom_values import tag_of
from tfrecords.images.kinds import DecodeError

if TYPE_CHECKING:
    from pydicom import Dataset

PALETTE: Final = tuple(f"{name}PaletteColorLookupTable" for name in ("Red", "Green", "Blue"))
# All attributes that are read, besides the transfer syntax. None says who, when or where, except the
# patient's id, which is hashed and never shown.
ALLOWED: Final = (
    "PatientID",
    "SOPClassUID",  # the kind of object, which an error names where the file has no image
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "BurnedInAnnotation",
    "RescaleIntercept",
    "RescaleSlope",
    "ModalityLUTSequence",  # of each sequence the first item, and in it the attributes of this list
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "LUTDescriptor",
    "LUTData",
    *(f"{name}{part}" for name in PALETTE for part in ("Descriptor", "Data")),
    *(f"Segmented{name}Data" for name in PALETTE),  # only whether it is there
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "FrameVOILUTSequence",
    "PixelValueTransformationSequence",
    "PixelData",
    "FloatPixelData",  # only whether it is there
    "DoubleFloatPixelData",
)

DECODERS: Final = {  # one for each transfer syntax, so that all machines decode the same pixels
    IMPLICIT: "",
    EXPLICIT: "",
    BIG_ENDIAN: "",
    "1.2.840.10008.1.2.5": "pydicom",  # RLE
    "1.2.840.10008.1.2.4.50": "pylibjpeg",  # JPEG baseline
    "1.2.840.10008.1.2.4.51": "pylibjpeg",  # JPEG extended
    "1.2.840.10008.1.2.4.57": "pylibjpeg",  # JPEG lossless
    "1.2.840.10008.1.2.4.70": "pylibjpeg",  # JPEG lossless, first-order prediction
    "1.2.840.10008.1.2.4.80": "pylibjpeg",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.81": "pylibjpeg",  # JPEG-LS near-lossless
    "1.2.840.10008.1.2.4.90": "pylibjpeg",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.91": "pylibjpeg",  # JPEG 2000
}
_MOST_META: Final = 1 << 16  # bytes that must hold the transfer syntax


def open_dataset(file: BinaryIO, defer: int | None = None) -> "Dataset":
    """Returns the elements in `ALLOWED`, with the transfer syntax in the file meta information.

    Args:
        file: at its start.
        defer: bytes; longer values are not read. None reads all.

    Raises:
        DecodeError: the transfer syntax is not supported, or the file is damaged.
        InputError: pydicom is not installed.
    """
    try:
        import pydicom
        from pydicom.uid import UID
    except ImportError:
        raise InputError(
            "a DICOM file, and the package that reads it is not installed; install it with\n"
            '  python -m pip install "pydicom>=3.0.2" pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg'
        ) from None
    for name in ("pydicom", "pylibjpeg", "libjpeg", "openjpeg"):
        logging.getLogger(name).propagate = False
    head = file.read(_MOST_META)
    syntax = transfer_syntax(head)
    if (
        syntax not in DECODERS
    ):  # refused before pydicom opens it: a deflated file unpacks into memory without a limit
        raise DecodeError(_unknown_syntax(syntax))
    if head.startswith(PREFIX) and not head.startswith(PREFIX, DATA_SET - len(PREFIX)):
        file = io.BytesIO(bytes(DATA_SET - len(PREFIX)) + head + file.read())  # pydicom needs the preamble
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(file, defer, force=True, specific_tags=[*map(tag_of, ALLOWED)])
            found = dataset.file_meta.get("TransferSyntaxUID") or syntax
            if found == syntax and dataset.original_encoding[1] == (syntax != BIG_ENDIAN):
                dataset.file_meta.TransferSyntaxUID = UID(syntax)
                return dataset
    except Exception:
        pass  # the message quotes the file
    raise DecodeError("a DICOM file whose header is damaged or cut")


def _unknown_syntax(syntax: str) -> str:
    from pydicom.uid import AllTransferSyntaxes

    known = {str(uid): uid.name for uid in AllTransferSyntaxes}
    found = known.get(syntax, "an unknown transfer syntax")  # never the text in the file
    return (
        f"a DICOM file in {found}; uncompressed, RLE, JPEG, JPEG-LS and JPEG 2000 ones are read: store it "
        f"uncompressed, with dcmdjpeg or gdcmconv --raw"
    )
