"""Reads from the header of a DICOM file what its pixels mean, or says why they cannot be read.

Only the attributes in `ALLOWED` are read. A reason quotes no text of the file: it names attributes, and shows
only whole numbers and the standard's own terms. Errors and warnings of pydicom quote the file, so they do not
leave this module.
"""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from tfrecords.images.dicom_bytes import BIG_ENDIAN
from tfrecords.images.dicom_file import DECODERS, PALETTE, open_dataset
from tfrecords.images.dicom_tables import Table, read_table, words
from tfrecords.images.dicom_values import has, items, places, real, tag_of, text, values_of, whole
from tfrecords.images.kinds import MAX_PIXELS, DecodeError

if TYPE_CHECKING:
    from pydicom import Dataset

_GREY: Final = ("MONOCHROME1", "MONOCHROME2")
_COLOUR: Final = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
_JPEG_2000_ALONE: Final = ("YBR_RCT", "YBR_ICT")
_UNREAD: Final = ("YBR_PARTIAL_422", "YBR_PARTIAL_420", "HSV", "ARGB", "CMYK", "XYB")
_DEFERRED: Final = 1024  # bytes; a check of the header reads no longer value, so no pixels
_UNDEFINED: Final = 0xFFFFFFFF  # the length of pixel data in fragments


@dataclass(frozen=True, slots=True)
class Header:
    """What the pixels of a DICOM file mean; see `ALLOWED`.

    Attributes:
        rows: height, pixels.
        columns: width, pixels.
        photometric: the PhotometricInterpretation.
        samples: samples of a pixel: 3 for colours, 1 for grey and for palette indices.
        planar: whether the samples are stored by colour plane, not by pixel.
        allocated: bits that a sample takes, used or not.
        bits: bits of a stored value.
        signed: whether stored values are in two's complement.
        slope: slope of the rescale.
        intercept: intercept of the rescale.
        modality: the table that replaces the rescale, or None.
        window: (center, width, function), or None.
        voi: the table that replaces the window, or None.
        palette: the tables for red, green and blue, or None.
        padding: the lowest and highest stored value of pixels outside the image, or None.
        size: bytes of the pixels, uncompressed.
        decoder: pydicom's name of the decoder; "" where the pixels are not compressed.
        patient: the PatientID; "" if there is none. It is never stored or shown.
    """

    rows: int
    columns: int
    photometric: str
    samples: int
    planar: bool
    allocated: int
    bits: int
    signed: bool
    slope: float
    intercept: float
    modality: Table | None
    window: tuple[float, float, str] | None
    voi: Table | None
    palette: tuple[Table, Table, Table] | None
    padding: tuple[int, int] | None
    size: int
    decoder: str
    patient: str


def read_header(file: BinaryIO) -> Header:
    """Checks all that can be checked without decoding, and returns the header.

    Raises:
        DecodeError: the file is no DICOM file, or breaks a policy of dicom.py.
        InputError: pydicom is not installed.
    """
    return check_header(open_dataset(file, _DEFERRED))


def check_header(dataset: "Dataset") -> Header:
    """Returns the header; raises DecodeError if it breaks a policy of dicom.py."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _checked(dataset)
    except DecodeError:
        raise
    except Exception:
        raise DecodeError("a DICOM file whose header holds values that cannot be read") from None


def _checked(dataset: "Dataset") -> Header:
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    little, decoder = syntax != BIG_ENDIAN, DECODERS[syntax]
    _check_what_it_is(dataset)
    photometric, samples = _photometric(dataset, syntax)
    if text(dataset, "BurnedInAnnotation") == "YES":
        raise DecodeError(
            "a DICOM file whose pixels show annotation (BurnedInAnnotation is YES), perhaps a name; black "
            "it out and set BurnedInAnnotation to NO, or remove the file"
        )
    rows, columns = whole(dataset, "Rows"), whole(dataset, "Columns")
    if not 0 < rows * columns <= MAX_PIXELS:
        raise DecodeError(f"its header says {columns}x{rows} pixels; at most {MAX_PIXELS} are read")
    allocated, bits = _bits(dataset, samples)
    grey = photometric in _GREY
    signed = whole(dataset, "PixelRepresentation", 0)
    if signed not in (0, 1):
        raise DecodeError(f"a DICOM file with PixelRepresentation {signed}; 0 and 1 are known")
    slope, intercept = _rescale(dataset) if grey else (1.0, 0.0)
    modality = None
    for item in items(dataset, "ModalityLUTSequence")[: int(grey)]:
        modality = read_table(item, "LUT", little=little, kind="Modality LUT")
    window, voi = _window(dataset, little=little) if grey else (None, None)
    size = rows * columns * samples * allocated // 8
    if photometric == "YBR_FULL_422":
        if columns % 2 and not decoder:
            raise DecodeError(f"a DICOM file in YBR_FULL_422, of pixels in pairs, of {columns} Columns")
        size = size // 3 * 2
    _check_size(dataset, photometric, size, decoder)
    return Header(
        rows=rows,
        columns=columns,
        photometric=photometric,
        samples=samples,
        planar=_planar(dataset, samples, photometric, decoder),
        allocated=allocated,
        bits=bits,
        signed=bool(signed) and grey,
        slope=slope,
        intercept=intercept,
        modality=modality,
        window=window,
        voi=voi,
        palette=_palette(dataset, little=little) if photometric == "PALETTE COLOR" else None,
        padding=_padding(dataset, bits, little=little, signed=bool(signed)),
        size=size,
        decoder=decoder,
        patient=text(dataset, "PatientID"),
    )


def _check_what_it_is(dataset: "Dataset") -> None:
    """Refuses a file with no image, or with several."""
    for name in ("FloatPixelData", "DoubleFloatPixelData"):
        if has(dataset, name):
            raise DecodeError(
                f"a DICOM file whose pixels are floating-point numbers ({name}): their range is not known; "
                f"store them as PixelData of 8 to 16 bits"
            )
    if not has(dataset, "PixelData"):
        from pydicom.uid import UID

        kind = UID(dataset.file_meta.get("MediaStorageSOPClassUID") or text(dataset, "SOPClassUID"))
        name = kind.name if kind.name != kind else ""  # "" if the standard does not list it
        if name and "Image" not in name:
            raise DecodeError(f"a DICOM file without an image ({name.removesuffix(' Storage')}); remove it")
        raise DecodeError("a DICOM file without pixel data, or cut before them; remove it")
    frames = whole(dataset, "NumberOfFrames", 1) or 1
    if frames == 1:
        frames = len(items(dataset, "PerFrameFunctionalGroupsSequence")) or 1
    if frames != 1:
        raise several_frames(frames)


def several_frames(frames: int) -> DecodeError:
    """Returns the error for a file of that many frames."""
    return DecodeError(f"a DICOM file of {frames} frames; save the frame that you need as a file of its own")


def _photometric(dataset: "Dataset", syntax: str) -> tuple[str, int]:
    """Returns the photometric interpretation and the samples of a pixel."""
    found = text(dataset, "PhotometricInterpretation")
    if not found:
        raise DecodeError(
            "a DICOM file whose PhotometricInterpretation is missing: whether high values are bright is not "
            "known; add it"
        )
    if found not in (*_GREY, *_COLOUR, "PALETTE COLOR"):
        shown = found if found in _UNREAD else "that is unknown"
        raise DecodeError(
            f"a DICOM file with a PhotometricInterpretation {shown}; read are "
            f"{', '.join((*_GREY, 'PALETTE COLOR', *_COLOUR))}"
        )
    if found in _JPEG_2000_ALONE and not syntax.startswith("1.2.840.10008.1.2.4.9"):
        raise DecodeError(f"a DICOM file in {found}, which only JPEG 2000 has, but it is not JPEG 2000")
    expected = 3 if found in _COLOUR else 1
    if (samples := whole(dataset, "SamplesPerPixel", expected)) != expected:
        raise DecodeError(
            f"a DICOM file with SamplesPerPixel {samples}; it must be {expected} where "
            f"PhotometricInterpretation is {found}"
        )
    return found, expected


def _bits(dataset: "Dataset", samples: int) -> tuple[int, int]:
    """Returns bits allocated and stored."""
    allocated = whole(dataset, "BitsAllocated")
    bits = whole(dataset, "BitsStored", allocated) or allocated
    lowest = whole(dataset, "HighBit", bits - 1) == bits - 1
    if samples == 3:
        if (allocated, bits) != (8, 8):
            raise DecodeError(f"a DICOM file in colour, of {bits} bits in {allocated}; 8 in 8 are read")
    elif allocated not in (8, 16) or not 8 <= bits <= allocated or not lowest:
        raise DecodeError(
            f"a DICOM file of {bits} bits in {allocated}; 8 to 16 are read, in 8 or 16, the lowest ones"
        )
    return allocated, bits


def _planar(dataset: "Dataset", samples: int, photometric: str, decoder: str) -> bool:
    """Returns whether the samples are stored by colour plane; a compressed image says so itself."""
    if samples == 1 or decoder or photometric == "YBR_FULL_422":
        return False
    planar = whole(dataset, "PlanarConfiguration")
    if planar not in (0, 1):
        raise DecodeError(f"a DICOM file with PlanarConfiguration {planar}; 0 and 1 are known")
    return bool(planar)


def _check_size(dataset: "Dataset", photometric: str, size: int, decoder: str) -> None:
    length = getattr(dataset.get_item(tag_of("PixelData"), keep_deferred=True), "length", size)
    if (length == _UNDEFINED) != bool(decoder):
        fragments, compression = ("in", "no") if length == _UNDEFINED else ("not in", "a")
        raise DecodeError(
            f"a DICOM file whose PixelData is {fragments} fragments, in a transfer syntax of {compression} "
            f"compression: TransferSyntaxUID is wrong or missing"
        )
    if not decoder and length < size:
        raise DecodeError(
            f"a DICOM file whose PixelData is of {length} bytes; Rows, Columns, BitsAllocated and "
            f"SamplesPerPixel need {size}"
        )
    if not decoder and photometric == "YBR_FULL_422" and length >= size // 2 * 3:
        raise DecodeError(
            f"a DICOM file whose PixelData is of {length} bytes; YBR_FULL_422 needs {size}: "
            f"PhotometricInterpretation may have to be RGB or YBR_FULL"
        )


def _rescale(dataset: "Dataset") -> tuple[float, float]:
    for place in places(dataset, "PixelValueTransformationSequence"):
        slope, intercept = (values_of(place, name)[:1] for name in ("RescaleSlope", "RescaleIntercept"))
        if slope or intercept:
            factor = real(slope[0], "RescaleSlope") if slope else 1.0
            if factor == 0:
                raise DecodeError("a DICOM file with a rescale slope of 0: all pixels would be equal")
            return factor, real(intercept[0], "RescaleIntercept") if intercept else 0.0
    return 1.0, 0.0


def _window(dataset: "Dataset", *, little: bool) -> tuple[tuple[float, float, str] | None, Table | None]:
    """Returns the first window and no table, or no window and the first table, or neither."""
    for place in places(dataset, "FrameVOILUTSequence"):
        centers, widths = (values_of(place, name) for name in ("WindowCenter", "WindowWidth"))
        for center, width in zip(centers, widths, strict=False):
            if found := _one_window(place, center, width):
                return found, None
        for item in items(place, "VOILUTSequence"):
            return None, read_table(item, "LUT", little=little, kind="VOI LUT")
    return None, None


def _one_window(place: "Dataset", center: Any, width: Any) -> tuple[float, float, str] | None:
    """Returns (center, width, function); None where they are empty or the width is 0, so not set."""
    if center in (None, "") or width in (None, ""):
        return None
    center, width = real(center, "WindowCenter"), real(width, "WindowWidth")
    if width == 0:
        return None
    function = text(place, "VOILUTFunction") or "LINEAR"
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise DecodeError("a DICOM file with an unknown VOI LUT function")
    if width < 1 if function == "LINEAR" else width <= 0:
        raise DecodeError(f"a DICOM file whose {function} window is too narrow")
    return center, width, function


def _palette(dataset: "Dataset", *, little: bool) -> tuple[Table, Table, Table]:
    if any(has(dataset, f"Segmented{name}Data") for name in PALETTE):
        raise DecodeError("a DICOM file whose palette is in segments; store it as RGB")
    red, green, blue = (read_table(dataset, name, little=little, kind="palette") for name in PALETTE)
    return red, green, blue


def _padding(dataset: "Dataset", bits: int, *, little: bool, signed: bool) -> tuple[int, int] | None:
    """Returns the range of stored values that are padding: PS3.3, C.7.5.1.1.2."""
    value = words(dataset, "PixelPaddingValue", little=little)
    if value is None:
        return None
    limit = words(dataset, "PixelPaddingRangeLimit", little=little)
    ends = [int(end[0]) & (1 << bits) - 1 for end in (value, value if limit is None else limit)]
    if signed:
        ends = [end - (end >> bits - 1 << bits) for end in ends]
    return min(ends), max(ends)
