import io

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="the dicom extra is not installed")

from dicom_files import ALL, COLOURS, NOISE, RAMP, bundled, dicom, item, lookup_table, window
from pydicom.dataset import Dataset

from tfrecords.images.decode import check_header, decode
from tfrecords.images.dicom import decode_dicom, read_header
from tfrecords.images.kinds import HEAD_BYTES, MAX_PIXELS, DecodeError, check_kind


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big endian"])
@pytest.mark.parametrize(
    "missing",
    [
        {"PixelRepresentation"},
        {"SamplesPerPixel"},
        {"BitsStored"},
        {"HighBit"},
        {"BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"},
    ],
)
def test_what_is_missing_has_the_standards_default(syntax, missing):
    stored = np.uint16([[100, 200, 40000, 40000], [50000, 40000, 65535, 40000]])
    whole = dicom(stored, syntax, PixelPaddingValue=40000)
    expected = decode_dicom(whole)
    assert expected[0, 0] == 0
    np.testing.assert_array_equal(
        decode_dicom(dicom(stored, syntax, PixelPaddingValue=40000, drop=missing)), expected
    )
    empty = dicom(stored, syntax, PixelPaddingValue=40000, **dict.fromkeys(missing))
    np.testing.assert_array_equal(decode_dicom(empty), expected)


@pytest.mark.parametrize("frames", [0, None, 1])
def test_no_number_of_frames_is_one(frames):
    assert decode_dicom(dicom(RAMP, NumberOfFrames=frames, **ALL)).tolist() == [[0, 62, 125, 187, 249]]


def test_colours_without_their_number_have_three():
    np.testing.assert_array_equal(decode_dicom(dicom(COLOURS, drop=["SamplesPerPixel"])), COLOURS)


def groups(**attributes):
    """Returns an item of a Functional Groups Sequence."""
    window = {name: value for name, value in attributes.items() if not name.startswith("Rescale")}
    rescale = {name: value for name, value in attributes.items() if name.startswith("Rescale")}
    return item(
        **({"FrameVOILUTSequence": [item(**window)]} if window else {}),
        **({"PixelValueTransformationSequence": [item(**rescale)]} if rescale else {}),
    )


RESCALED = window(3000, 8001, RescaleSlope=2, RescaleIntercept=-1000)


@pytest.mark.parametrize("syntax", ["explicit", "implicit"])
@pytest.mark.parametrize(
    "attributes",
    [
        {"SharedFunctionalGroupsSequence": [groups(**RESCALED)]},
        {"PerFrameFunctionalGroupsSequence": [groups(**RESCALED)]},
        {
            "SharedFunctionalGroupsSequence": [
                groups(RescaleSlope=2, RescaleIntercept=-1000, **window(1, 7))
            ],
            "PerFrameFunctionalGroupsSequence": [groups(**window(3000, 8001))],
            "WindowCenter": 7,
            "WindowWidth": 70,
            "RescaleSlope": 50,
            "NumberOfFrames": 1,
        },
        {"SharedFunctionalGroupsSequence": [groups()], "PerFrameFunctionalGroupsSequence": [], **RESCALED},
    ],
)
def test_functional_groups_of_one_frame(syntax, attributes):
    assert decode_dicom(dicom(RAMP, syntax, **attributes)).tolist() == [[0, 64, 128, 191, 255]]


def test_a_table_of_values_of_interest_in_a_functional_group():
    data = dicom(
        RAMP, SharedFunctionalGroupsSequence=[groups(VOILUTSequence=[lookup_table([1, 2, 3], bits=2)])]
    )
    assert decode_dicom(data).tolist() == [[85, 255, 255, 255, 255]]


@pytest.mark.parametrize(
    ("kind", "called"),
    [
        ("1.2.840.10008.5.1.4.1.1.104.1", "Encapsulated PDF"),
        ("1.2.840.10008.5.1.4.1.1.88.59", "Key Object Selection Document"),
        ("1.2.840.10008.5.1.4.1.1.88.11", "Basic Text SR"),
        ("1.2.840.10008.5.1.4.1.1.11.1", "Grayscale Softcopy Presentation State"),
        ("1.2.840.10008.1.3.10", "Media Storage Directory"),
    ],
)
def test_what_is_no_image_is_called_what_it_is(kind, called):
    data = dicom(RAMP, drop=["PixelData"], SOPClassUID=kind)
    for read in (decode_dicom, lambda data: read_header(io.BytesIO(data))):
        with pytest.raises(DecodeError) as caught:
            read(data)
        assert str(caught.value) == f"a DICOM file without an image ({called}); remove it"


PHOTOMETRIC = "MONOCHROME1, MONOCHROME2, PALETTE COLOR, RGB, YBR_FULL, YBR_FULL_422, YBR_RCT, YBR_ICT"


OTHERS_READ = (
    "uncompressed, RLE, JPEG, JPEG-LS and JPEG 2000 ones are read: store it "
    "uncompressed, with dcmdjpeg or gdcmconv --raw"
)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (
            dicom(RAMP, NumberOfFrames=2),
            "a DICOM file of 2 frames; save the frame that you need as a file of its own",
        ),
        (dicom(RAMP, drop=["PixelData"]), "a DICOM file without pixel data, or cut before them; remove it"),
        (
            dicom(RAMP, PhotometricInterpretation="RGB"),
            "a DICOM file with SamplesPerPixel 1; it must be 3 where PhotometricInterpretation is RGB",
        ),
        (
            dicom(RAMP, SamplesPerPixel=3),
            "a DICOM file with SamplesPerPixel 3; it must be 1 where PhotometricInterpretation is "
            "MONOCHROME2",
        ),
        (
            dicom(RAMP, PhotometricInterpretation="HSV"),
            f"a DICOM file with a PhotometricInterpretation HSV; read are {PHOTOMETRIC}",
        ),
        (
            dicom(RAMP, PhotometricInterpretation="DOE^JOHN"),
            f"a DICOM file with a PhotometricInterpretation that is unknown; read are {PHOTOMETRIC}",
        ),
        (
            dicom(COLOURS, PhotometricInterpretation="YBR_RCT"),
            "a DICOM file in YBR_RCT, which only JPEG 2000 has, but it is not JPEG 2000",
        ),
        (
            dicom(COLOURS.astype(np.uint16)),
            "a DICOM file in colour, of 16 bits in 16; 8 in 8 are read",
        ),
        (
            dicom(COLOURS, PlanarConfiguration=7),
            "a DICOM file with PlanarConfiguration 7; 0 and 1 are known",
        ),
        (
            dicom(COLOURS, PhotometricInterpretation="YBR_FULL_422"),
            "a DICOM file whose PixelData is of 24 bytes; YBR_FULL_422 needs 16: PhotometricInterpretation "
            "may have to be RGB or YBR_FULL",
        ),
        (
            dicom(COLOURS[:, :3], PhotometricInterpretation="YBR_FULL_422"),
            "a DICOM file in YBR_FULL_422, of pixels in pairs, of 3 Columns",
        ),
        *(
            (dicom(stored, drop=[name]), f"a DICOM file whose {name} is missing{rest}")
            for stored, name, rest in (
                (RAMP, "PhotometricInterpretation", ": whether high values are bright is not known; add it"),
                (RAMP, "Columns", ""),
                (RAMP, "BitsAllocated", ""),
                (COLOURS, "PlanarConfiguration", ""),
            )
        ),
        *(
            (
                dicom(RAMP, drop=["PixelData"], **{name: b"\0" * 40}),
                f"a DICOM file whose pixels are floating-point numbers ({name}): their range is not known; "
                f"store them as PixelData of 8 to 16 bits",
            )
            for name in ("FloatPixelData", "DoubleFloatPixelData")
        ),
        (
            dicom(RAMP, Rows=2),
            "a DICOM file whose PixelData is of 10 bytes; Rows, Columns, BitsAllocated and SamplesPerPixel "
            "need 20",
        ),
        (
            dicom(RAMP, BitsAllocated=1, BitsStored=1, HighBit=0),
            "a DICOM file of 1 bits in 1; 8 to 16 are read, in 8 or 16, the lowest ones",
        ),
        (
            dicom(NOISE, "JPEG lossless").replace(b"1.2.840.10008.1.2.4.70", b"1.2.840.10008.1.2.1\0\0\0"),
            "a DICOM file whose PixelData is in fragments, in a transfer syntax of no compression: "
            "TransferSyntaxUID is wrong or missing",
        ),
        (
            dicom(RAMP).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"),
            "a DICOM file whose PixelData is not in fragments, in a transfer syntax of a compression: "
            "TransferSyntaxUID is wrong or missing",
        ),
        (
            dicom(RAMP, **window(7777, 1)).replace(b"7777", b"DOE^"),
            "a DICOM file whose WindowCenter is not a number",
        ),
        (
            dicom(RAMP, NumberOfFrames=7777).replace(b"7777", b"DOE^"),
            "a DICOM file whose NumberOfFrames is not a whole number",
        ),
        (
            dicom(RAMP, BurnedInAnnotation="YES"),
            "a DICOM file whose pixels show annotation (BurnedInAnnotation is YES), perhaps a name; black it "
            "out and set BurnedInAnnotation to NO, or remove the file",
        ),
        (
            dicom(RAMP, ModalityLUTSequence=[Dataset()]),
            "a DICOM file whose Modality LUT has no LUTDescriptor",
        ),
        (
            dicom(RAMP, VOILUTSequence=[lookup_table([], count=4)]),
            "a DICOM file whose VOI LUT has no LUTData",
        ),
        (
            dicom(RAMP, VOILUTSequence=[lookup_table([1], count=4)]),
            "a DICOM file whose VOI LUT has 2 bytes for 4 entries",
        ),
        (
            dicom(RAMP, VOILUTSequence=[lookup_table([1, 2], bits=17)]),
            "a DICOM file whose VOI LUT has entries of 17 bits; 1 to 16 are read",
        ),
        (
            dicom(RAMP, VOILUTSequence=[lookup_table([1, 1024], bits=10)]),
            "a DICOM file whose VOI LUT has an entry of 1024, which needs more than 10 bits",
        ),
        (
            dicom(np.uint8([[0, 1]]), PhotometricInterpretation="PALETTE COLOR"),
            "a DICOM file whose palette has no RedPaletteColorLookupTableDescriptor",
        ),
        (
            dicom(
                np.uint8([[0, 1]]),
                PhotometricInterpretation="PALETTE COLOR",
                SegmentedRedPaletteColorLookupTableData=b"\0\0",
            ),
            "a DICOM file whose palette is in segments; store it as RGB",
        ),
        (
            dicom(RAMP, Rows=60_000, Columns=50_000),
            f"its header says 50000x60000 pixels; at most {MAX_PIXELS} are read",
        ),
        (dicom(RAMP, Rows=0), f"its header says 5x0 pixels; at most {MAX_PIXELS} are read"),
        (dicom(RAMP, drop=["Rows"]), "a DICOM file whose Rows is missing"),
        (
            dicom(RAMP, BitsAllocated=32, BitsStored=32, HighBit=31),
            "a DICOM file of 32 bits in 32; 8 to 16 are read, in 8 or 16, the lowest ones",
        ),
        (
            dicom(RAMP, BitsStored=7, HighBit=6),
            "a DICOM file of 7 bits in 16; 8 to 16 are read, in 8 or 16, the lowest ones",
        ),
        (
            dicom(RAMP, BitsStored=12, HighBit=15),
            "a DICOM file of 12 bits in 16; 8 to 16 are read, in 8 or 16, the lowest ones",
        ),
        (dicom(RAMP, PixelRepresentation=2), "a DICOM file with PixelRepresentation 2; 0 and 1 are known"),
        (
            dicom(RAMP, RescaleSlope=0),
            "a DICOM file with a rescale slope of 0: all pixels would be equal",
        ),
        (
            dicom(RAMP, RescaleSlope="1e300"),
            "a DICOM file whose RescaleSlope is out of range",
        ),
        (dicom(RAMP, **window(5, 0.5)), "a DICOM file whose LINEAR window is too narrow"),
        (dicom(RAMP, **window(5, -1, "SIGMOID")), "a DICOM file whose SIGMOID window is too narrow"),
        (dicom(RAMP, **window(5, 5, "MYSTERY")), "a DICOM file with an unknown VOI LUT function"),
        (dicom(RAMP)[:-4], "a DICOM file whose pixel data is damaged or cut"),
        (dicom(RAMP)[:140], f"a DICOM file in an unknown transfer syntax; {OTHERS_READ}"),
        (
            dicom(NOISE, "JPEG lossless", Rows=41, Columns=36),
            "a DICOM file whose compressed image does not match its Rows and Columns",
        ),
        (bundled("image_dfl.dcm"), f"a DICOM file in Deflated Explicit VR Little Endian; {OTHERS_READ}"),
        (
            dicom(RAMP).replace(b"1.2.840.10008.1.2.1\0", b"DOE^JOHN\0\0\0\0\0\0\0\0\0\0\0\0"),
            f"a DICOM file in an unknown transfer syntax; {OTHERS_READ}",
        ),
    ],
)
def test_what_is_refused(data, reason):
    assert check_kind(data[:HEAD_BYTES]) == "DICOM"
    with pytest.raises(DecodeError) as caught:
        decode(data, height=4, width=4, channels=1)
    assert str(caught.value) == reason
    if "pixel data is damaged" not in reason and "compressed image" not in reason:
        with pytest.raises(DecodeError) as caught:
            check_header(io.BytesIO(data))
        assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("given", "patient"), [("P-1", "P-1"), ("  P-1 ", "P-1"), ("", ""), (None, ""), ("Ü^7", "Ü^7")]
)
def test_the_patient(given, patient):
    data = dicom(RAMP, PatientID=given, SpecificCharacterSet="ISO_IR 192")
    assert read_header(io.BytesIO(data)).patient == patient
    assert check_header(io.BytesIO(data)) == patient
    assert read_header(io.BytesIO(dicom(RAMP, drop=["PatientID"]))).patient == ""


def test_a_header_is_checked_without_reading_the_pixels():
    class Counted(io.BytesIO):
        most = 0

        def read(self, size=-1):
            found = super().read(size)
            self.most = max(self.most, len(found))
            return found

    file = Counted(dicom(np.zeros((600, 600), np.uint16)))
    assert read_header(file).rows == 600
    assert file.most <= 1 << 16
