"""Decodes a DICOM file to uint8 [Rows, Columns] or [Rows, Columns, 3]; dicom_header.py reads its header.

| what               | policy                                                                                |
|--------------------|---------------------------------------------------------------------------------------|
| told by            | `DICM` at byte 128; without a preamble by the first elements, each checked            |
| no transfer syntax | told by the first elements: implicit or explicit little endian, big endian            |
| no number          | PixelRepresentation 0, NumberOfFrames 1 (also for 0), SamplesPerPixel 1, of colours 3 |
| no bits            | BitsStored: all that are allocated; HighBit: the highest stored one                   |
| else missing       | refused, and what is missing is named                                                 |
| photometric        | MONOCHROME2; MONOCHROME1 is inverted, so that more is brighter                        |
| colours            | RGB, YBR_FULL, YBR_FULL_422, YBR_RCT, YBR_ICT of 8 bits, by pixel or plane: as RGB    |
| colours in a JPEG  | RGB or YBR by its JFIF or Adobe marker or component names, else by the header         |
| palette            | expanded to its colours, of 16 bits the upper 8; in segments: refused                 |
| stored values      | 8 to 16 bits in 8 or 16, signed or not; bits beside them are cleared                  |
| other numbers      | 1 or 32 bits, floating-point, colours of 16 bits: refused                             |
| rescale            | value * slope + intercept, or the Modality LUT in their place; slope 0: refused       |
| window             | the first VOI window, LINEAR, LINEAR_EXACT or SIGMOID; one whose width is 0 is none   |
| VOI LUT            | the first one, where there is no window                                               |
| neither            | linear between the 1st and the 99th percentile, pixel padding left out                |
| functional groups  | of one frame: rescale and window there go before those of the file itself             |
| several frames     | refused, which one is meant is not known; so are pixels of several frames             |
| compression        | none, RLE, JPEG (baseline, extended, lossless), JPEG-LS, JPEG 2000; deflated: refused |
| no image           | a report, a PDF file, a DICOMDIR: refused as what it is                               |
| length of pixels   | less than Rows x Columns: refused; more: the rest is padding                          |
| Rows x Columns     | checked, as is the compressed image's own header, before anything is decoded          |
| burned in          | refused if the header says that the pixels show annotation                            |
| not applied        | overlays, the aspect ratio, PresentationLUTShape (it says what photometric says)      |

This module gives away only pixels, the patient's id, and reasons that quote nothing of the file.
"""

import io
import math
import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from tfrecords.images.dicom_bytes import codestream_size, jpeg_is_ybr
from tfrecords.images.dicom_file import open_dataset
from tfrecords.images.dicom_header import Header, check_header, read_header, several_frames
from tfrecords.images.dicom_tables import to_colours, ybr_to_rgb
from tfrecords.images.kinds import DecodeError

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["PACKAGES", "PERCENTILES", "decode_dicom", "read_header"]

PACKAGES: Final = ("pydicom", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg")
PERCENTILES: Final = (1, 99)  # ends of the window where the header has none

_JPEG: Final = tuple(f"1.2.840.10008.1.2.4.{end}" for end in (50, 51, 57, 70))
_STARTS: Final = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")  # of a JPEG and a JPEG 2000 image


def decode_dicom(data: bytes) -> npt.NDArray[np.uint8]:
    """Returns the picture in a DICOM file: uint8 [Rows, Columns], or RGB [Rows, Columns, 3].

    Raises:
        DecodeError: the bytes are no DICOM file, are damaged or cut, or break a policy above.
        InputError: pydicom is not installed.
    """
    dataset = open_dataset(io.BytesIO(data))
    header = check_header(dataset)
    values, is_ybr = _values(dataset, header)
    if header.samples == 3:
        return ybr_to_rgb(values) if is_ybr else np.ascontiguousarray(values)
    mask = (1 << header.bits) - 1
    if header.palette:
        return to_colours(values & np.asarray(mask, values.dtype), header.palette)
    stored = values.astype(np.int32) & mask
    if header.signed:
        stored -= stored >> header.bits - 1 << header.bits
    lowest = -(1 << header.bits - 1) if header.signed else 0
    table = _render(np.arange(lowest, lowest + (1 << header.bits)), stored, header)
    return table[stored - lowest]


def _values(dataset: "Dataset", header: Header) -> tuple[npt.NDArray[Any], bool]:
    """Returns the decoded samples, [Rows, Columns] or [Rows, Columns, 3], and whether they are YBR."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.utils import pixel_array

    syntax = dataset.file_meta.TransferSyntaxUID
    if header.decoder and header.decoder not in get_decoder(syntax).available_plugins:
        raise DecodeError(
            f"a DICOM file in {syntax.name}, whose decoder is not installed; install it with python -m pip "
            f"install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
        )
    is_ybr = header.photometric in ("YBR_FULL", "YBR_FULL_422")
    shape = (header.rows, header.columns, 3)[: 3 if header.samples == 3 else 2]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            options: dict[str, Any] = {
                "number_of_frames": 1,
                "samples_per_pixel": header.samples,
                "photometric_interpretation": header.photometric,
                "planar_configuration": int(header.planar),
                "pixel_representation": int(header.signed),
                "bits_allocated": header.allocated,
                "bits_stored": header.bits,
                "allow_excess_frames": False,
            }
            if not header.decoder:
                _check_one_frame(dataset.PixelData, header.size)
            else:
                stream = _stream(dataset.PixelData)
                if header.decoder == "pylibjpeg":
                    bits = _check_stream(stream, header)
                    if syntax in _JPEG and bits <= 8:  # however many are allocated
                        options |= {"bits_allocated": 8, "bits_stored": 8}
                    marked = jpeg_is_ybr(stream) if syntax in _JPEG else None
                    is_ybr = is_ybr if marked is None else marked
            values = pixel_array(dataset, raw=True, decoding_plugin=header.decoder, **options)
    except DecodeError:
        raise
    except Exception:
        raise DecodeError("a DICOM file whose pixel data is damaged or cut") from None
    if values.shape != shape:
        raise DecodeError("a DICOM file whose pixel data does not match its Rows and Columns")
    return values, is_ybr


def _check_one_frame(data: bytes, size: int) -> None:
    """Refuses pixel data of more than one frame; zeros after the first frame are padding."""
    if len(data) >= 2 * size and data[size:].strip(b"\0"):
        raise several_frames(len(data) // size)


def _stream(data: bytes) -> bytes:
    """Returns the compressed image in encapsulated pixel data: PS3.5, A.4."""
    from pydicom.encaps import generate_fragments, get_frame, parse_basic_offsets

    frames = len(parse_basic_offsets(data))
    if frames < 2:
        frames = sum(fragment.startswith(_STARTS) for fragment in generate_fragments(data))
    if frames > 1:
        raise several_frames(frames)
    return get_frame(data, 0, number_of_frames=1)


def _check_stream(stream: bytes, header: Header) -> int:
    """Returns the bits of a compressed image's samples; refuses one that does not match the header."""
    found = codestream_size(stream)
    if found is None or found[:3] != (header.rows, header.columns, header.samples):
        raise DecodeError("a DICOM file whose compressed image does not match its Rows and Columns")
    if found[3] > header.allocated:
        raise DecodeError(
            f"a DICOM file whose compressed image has {found[3]} bits; BitsAllocated is {header.allocated}"
        )
    return found[3]


def _render(
    values: npt.NDArray[np.int64], stored: npt.NDArray[np.int32], header: Header
) -> npt.NDArray[np.uint8]:
    """Returns the grey level of each stored value in `values`, uint8 [N]: rescales, windows, inverts."""
    real: npt.NDArray[Any] = (
        header.modality(values) if header.modality else values * header.slope + header.intercept
    )
    if header.voi:
        share: npt.NDArray[np.floating[Any]] = header.voi.share(real)
    else:
        share = _windowed(real, *(header.window or _window_of(stored, header)))
    grey = np.floor(share * 255 + 0.5).astype(np.uint8)
    return 255 - grey if header.photometric == "MONOCHROME1" else grey


def _window_of(stored: npt.NDArray[np.int32], header: Header) -> tuple[float, float, str]:
    """Returns the window between the 1st and the 99th percentile of the values, without pixel padding."""
    used = stored
    if header.padding:
        inside = stored[(stored < header.padding[0]) | (stored > header.padding[1])]
        used = inside if inside.size else stored
    if header.modality:
        low, high = map(float, np.percentile(header.modality(used), PERCENTILES))
    else:
        low, high = sorted(np.percentile(used, PERCENTILES) * header.slope + header.intercept)
    return (low + high) / 2, high - low, "LINEAR_EXACT"


def _windowed(
    values: npt.NDArray[np.floating], center: float, width: float, function: str
) -> npt.NDArray[np.floating]:
    """Returns the position of values in a window, from 0 to 1: DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3."""
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    if math.isclose(width, 0, abs_tol=1e-12):
        return (values > center).astype(np.float64)
    return np.clip((values - center) / width + 0.5, 0, 1)
