"""Bytes of a DICOM file to uint8 [Rows, Columns], and the patient they are of; nothing else is read.

| what                | policy                                                                       |
|---------------------|------------------------------------------------------------------------------|
| told by             | `DICM` at byte 128, whatever the file's name                                   |
| photometric         | MONOCHROME2; MONOCHROME1 is inverted, so that more is brighter; others refused |
| stored values       | 8 to 16 bits in 8 or 16, signed or not; bits beside them are cleared           |
| rescale             | value * slope + intercept; a Modality LUT Sequence is refused                  |
| window              | the first VOI window, by its function: LINEAR, LINEAR_EXACT or SIGMOID         |
| no window           | linear between the 1st and the 99th percentile, pixel padding left out         |
| compression         | none, RLE, JPEG (baseline, extended, lossless), JPEG-LS, JPEG 2000             |
| several frames      | refused: which one is meant is not known                                       |
| no pixel data       | refused                                                                        |
| Rows x Columns      | checked, as is the compressed image's own header, before anything is decoded   |
| burned in           | refused if the header says that the pixels show annotation                     |
| not applied         | overlays, VOI LUT tables, the pixels' aspect ratio                             |

What leaves this module is pixels, the patient's id, and reasons. A reason holds no text of the file:
attributes are called by their names, and of their values only whole numbers are shown. pydicom's own
errors and warnings quote what they could not read, so they end here.
"""

import io
import logging
import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from tfrecords.errors import InputError
from tfrecords.images.kinds import MAX_PIXELS, DecodeError

if TYPE_CHECKING:
    from pydicom import Dataset

# All that is read of a header, the transfer syntax aside. Those that say who, when or where are not
# in it, but for the patient's id, which is hashed and never shown.
ALLOWED: Final = (
    "PatientID",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "BurnedInAnnotation",
    "RescaleIntercept",
    "RescaleSlope",
    "ModalityLUTSequence",  # that it is there
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "PixelData",
)
PACKAGES: Final = ("pydicom", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg")
PERCENTILES: Final = (1, 99)  # of the window where the header has none

_DECODERS: Final = {  # one for each transfer syntax: which pixels come out must not depend on luck
    "1.2.840.10008.1.2": "",  # implicit little endian
    "1.2.840.10008.1.2.1": "",  # explicit little endian
    "1.2.840.10008.1.2.2": "",  # explicit big endian
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
_START_OF_FRAME: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}  # T.81, T.87
_JPEG_2000: Final = b"\xff\x4f\xff\x51"  # SOC and SIZ
_MOST_META: Final = 1 << 16  # bytes in which the transfer syntax must stand
_DEFERRED: Final = 1024  # bytes; a longer value, the pixels above all, is not read to check a header


@dataclass(frozen=True, slots=True)
class Header:
    """What the pixels of a DICOM file mean; see `ALLOWED`.

    Attributes:
        rows: height, pixels.
        columns: width, pixels.
        bits: of a stored value.
        signed: whether stored values are in two's complement.
        inverted: MONOCHROME1.
        slope: of the rescale.
        intercept: of the rescale.
        window: (center, width, function), or None.
        padding: the stored value of pixels outside the image, or None.
        decoder: pydicom's name of the decoder; "" where nothing is compressed.
        patient: the PatientID; "" if there is none. Never stored or shown.
    """

    rows: int
    columns: int
    bits: int
    signed: bool
    inverted: bool
    slope: float
    intercept: float
    window: tuple[float, float, str] | None
    padding: int | None
    decoder: str
    patient: str


def read_header(file: BinaryIO) -> Header:
    """Checks all that can be checked without decoding, and returns the header.

    Raises:
        DecodeError: not a DICOM file, or one that a policy above refuses.
        InputError: pydicom is not installed.
    """
    return _header(_read(file, _DEFERRED))


def decode_dicom(data: bytes) -> npt.NDArray[np.uint8]:
    """Returns the picture in a DICOM file, uint8 [Rows, Columns], more is brighter.

    Raises:
        DecodeError: not a DICOM file, one that is damaged or cut, or that a policy above refuses.
        InputError: pydicom is not installed.
    """
    dataset = _read(io.BytesIO(data))
    header = _header(dataset)
    stored = _stored(dataset, header)
    lowest = -(1 << header.bits - 1) if header.signed else 0
    table = _render(np.arange(lowest, lowest + (1 << header.bits)), stored, header)
    return table[stored - lowest]


def _read(file: BinaryIO, defer: int | None = None) -> "Dataset":
    try:
        import pydicom
    except ImportError:
        raise InputError(
            "a DICOM file, and what reads it is not installed; install it with\n"
            '  python -m pip install "pydicom>=3.0.2" pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg'
        ) from None
    for name in ("pydicom", "pylibjpeg", "libjpeg", "openjpeg"):
        logging.getLogger(name).propagate = False
    syntax = transfer_syntax(file.read(_MOST_META))
    if syntax not in _DECODERS:  # before pydicom: a deflated file opens into memory without a limit
        raise DecodeError(_unknown_syntax(syntax))
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(file, defer, specific_tags=list(ALLOWED))
            if dataset.file_meta.TransferSyntaxUID == syntax:
                return dataset
    except Exception:
        pass  # its words quote the file
    raise DecodeError("a DICOM file whose header is damaged or cut")


def transfer_syntax(head: bytes) -> str:
    """Returns the transfer syntax in the file meta information; "" if there is none: PS3.10, 7.1."""
    at = 132
    while head[at : at + 2] == b"\x02\x00":
        long = head[at + 4 : at + 6] in (b"OB", b"OW", b"UN", b"SQ", b"UT")
        start = at + (12 if long else 8)
        size = int.from_bytes(head[at + 8 if long else at + 6 : start], "little")
        if head[at + 2 : at + 4] == b"\x10\x00":
            return head[start : start + size].rstrip(b"\0 ").decode("ascii", "replace")
        at = start + size
    return ""


def _unknown_syntax(syntax: str) -> str:
    from pydicom.uid import AllTransferSyntaxes

    known = {str(uid): uid.name for uid in AllTransferSyntaxes}
    found = known.get(syntax, "an unknown transfer syntax")  # which may be any text
    return (
        f"a DICOM file in {found}; uncompressed, RLE, JPEG, JPEG-LS and JPEG 2000 ones are read: store it "
        f"uncompressed, with dcmdjpeg or gdcmconv --raw"
    )


def _header(dataset: "Dataset") -> Header:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _checked(dataset)
    except DecodeError:
        raise
    except Exception:
        raise DecodeError("a DICOM file whose header holds values that cannot be read") from None


def _checked(dataset: "Dataset") -> Header:
    if "PixelData" not in dataset:
        raise DecodeError("a DICOM file without pixel data, or cut before them; remove it")
    if (frames := _whole(dataset, "NumberOfFrames", 1)) != 1:
        raise DecodeError(
            f"a DICOM file of {frames} frames; save the frame that is meant as a file of its own"
        )
    photometric = str(dataset.get("PhotometricInterpretation", "")).strip()
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or _whole(dataset, "SamplesPerPixel", 1) != 1:
        raise DecodeError("a DICOM file in colour; MONOCHROME1 and MONOCHROME2 ones are read")
    if str(dataset.get("BurnedInAnnotation", "")).strip() == "YES":
        raise DecodeError(
            "a DICOM file whose pixels show annotation (BurnedInAnnotation is YES), a name perhaps; black "
            "it out and say NO there, or remove the file"
        )
    if "ModalityLUTSequence" in dataset:
        raise DecodeError("a DICOM file with a Modality LUT; only rescale slope and intercept are read")
    rows, columns = _whole(dataset, "Rows"), _whole(dataset, "Columns")
    if not 0 < rows * columns <= MAX_PIXELS:
        raise DecodeError(f"its header announces {columns}x{rows} pixels; at most {MAX_PIXELS} are read")
    allocated, bits = _whole(dataset, "BitsAllocated"), _whole(dataset, "BitsStored")
    lowest = _whole(dataset, "HighBit", bits - 1) == bits - 1
    if allocated not in (8, 16) or not 8 <= bits <= allocated or not lowest:
        raise DecodeError(
            f"a DICOM file of {bits} bits in {allocated}; 8 to 16 are read, in 8 or 16, the lowest ones"
        )
    signed = _whole(dataset, "PixelRepresentation", 0)
    if signed not in (0, 1):
        raise DecodeError(f"a DICOM file with PixelRepresentation {signed}; 0 and 1 are known")
    slope, intercept = _real(dataset, "RescaleSlope", 1.0), _real(dataset, "RescaleIntercept", 0.0)
    if slope == 0:
        raise DecodeError("a DICOM file with a rescale slope of 0: every pixel would be the same")
    return Header(
        rows=rows,
        columns=columns,
        bits=bits,
        signed=bool(signed),
        inverted=photometric == "MONOCHROME1",
        slope=slope,
        intercept=intercept,
        window=_window(dataset),
        padding=_padding(dataset),
        decoder=_DECODERS[str(dataset.file_meta.TransferSyntaxUID)],
        patient=_first(dataset.get("PatientID") or ""),
    )


def _first(value: Any) -> Any:
    """Returns the first of several values; one that stands alone as it is, text stripped."""
    if isinstance(value, str):
        return value.strip()
    return value[0] if hasattr(value, "__len__") and len(value) else value


def _whole(dataset: "Dataset", name: str, default: int | None = None) -> int:
    value = dataset.get(name)
    if (value is None or value == "") and default is not None:
        return default
    if not isinstance(value, int):
        raise DecodeError(f"a DICOM file whose {name} is missing or no whole number")
    return int(value)


def _real(dataset: "Dataset", name: str, default: float) -> float:
    value = dataset.get(name)
    number = default if value is None or value == "" else float(_first(value))
    if not abs(number) < 1e12:  # so that NaN fails too, and no product below overflows
        raise DecodeError(f"a DICOM file whose {name} is not a number that can be meant")
    return number


def _window(dataset: "Dataset") -> tuple[float, float, str] | None:
    if any(dataset.get(name) in (None, "", []) for name in ("WindowCenter", "WindowWidth")):
        return None
    center, width = _real(dataset, "WindowCenter", 0.0), _real(dataset, "WindowWidth", 0.0)
    function = str(dataset.get("VOILUTFunction") or "LINEAR").strip()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise DecodeError("a DICOM file with an unknown VOI LUT function")
    if width < 1 if function == "LINEAR" else width <= 0:
        raise DecodeError(f"a DICOM file whose {function} window is too narrow")
    return center, width, function


def _padding(dataset: "Dataset") -> int | None:
    value = dataset.get("PixelPaddingValue")
    return value if isinstance(value, int) else None


def _stored(dataset: "Dataset", header: Header) -> npt.NDArray[np.int32]:
    """Returns the stored values, int32 [Rows, Columns]."""
    from pydicom.encaps import get_frame
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.utils import pixel_array

    syntax = dataset.file_meta.TransferSyntaxUID
    if header.decoder and header.decoder not in get_decoder(syntax).available_plugins:
        raise DecodeError(
            f"a DICOM file in {syntax.name}, and its decoder is not installed; install it with python -m pip "
            f"install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if header.decoder == "pylibjpeg":
                found = codestream_size(get_frame(dataset.PixelData, 0, number_of_frames=1))
                if found != (header.rows, header.columns, 1):
                    raise DecodeError("a DICOM file whose compressed image is not of its Rows and Columns")
            values = pixel_array(dataset, raw=True, decoding_plugin=header.decoder)
    except DecodeError:
        raise
    except Exception:
        raise DecodeError("a DICOM file whose pixel data is damaged or cut") from None
    if values.shape != (header.rows, header.columns):
        raise DecodeError("a DICOM file whose pixel data is not of its Rows and Columns")
    stored = values.astype(np.int32) & (1 << header.bits) - 1
    return stored - ((stored >> header.bits - 1) << header.bits) if header.signed else stored


def codestream_size(data: bytes) -> tuple[int, int, int] | None:
    """Returns (rows, columns, components) from the header of a JPEG, JPEG-LS or JPEG 2000 stream.

    None if it has none that can be read: ITU-T T.81 B.2.2, T.87 C.2.2, T.800 A.5.1.
    """
    if data.startswith(_JPEG_2000) and len(data) >= 42:
        right, bottom, left, top = (int.from_bytes(data[at : at + 4]) for at in (8, 12, 16, 20))
        return bottom - top, right - left, int.from_bytes(data[40:42])
    at = 2
    while data.startswith(b"\xff\xd8") and at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # filling
            at += 1
        elif marker in _START_OF_FRAME:
            rows, columns = (int.from_bytes(data[at + i : at + i + 2]) for i in (5, 7))
            return rows, columns, data[at + 9]
        elif marker == 0xDE:  # a hierarchical image: several sizes
            return None
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return None


def _render(
    values: npt.NDArray[np.int64], stored: npt.NDArray[np.int32], header: Header
) -> npt.NDArray[np.uint8]:
    """Returns the grey of each stored value in `values`, uint8 [N]: rescale, window, inversion."""
    real = values * header.slope + header.intercept
    if header.window is None:
        seen = stored if header.padding is None else stored[stored != header.padding]
        low, high = sorted(
            np.percentile(seen if seen.size else stored, PERCENTILES) * header.slope + header.intercept
        )
        window = ((low + high) / 2, high - low, "LINEAR_EXACT")
    else:
        window = header.window
    share = _windowed(real, *window)
    grey = np.floor(share * 255 + 0.5).astype(np.uint8)
    return 255 - grey if header.inverted else grey


def _windowed(
    values: npt.NDArray[np.floating], center: float, width: float, function: str
) -> npt.NDArray[np.floating]:
    """Returns where values lie in a window, 0 to 1: DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3."""
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    if math.isclose(width, 0, abs_tol=1e-12):
        return (values > center).astype(np.float64)
    return np.clip((values - center) / width + 0.5, 0, 1)
