"""Decodes mutated images in a process of its own, with its memory limited, and prints what became of them.

    python mutants.py FIRST COUNT

Mutant N follows from N alone. A crash shows its stack and, as a hang, the mutant's number.
"""

import faulthandler
import io
import json
import re
import resource
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dicom_files import SYNTAXES, dicom, item, lookup_table, without_meta, without_preamble

from tfrecords.images.decode import check_header, decode
from tfrecords.images.kinds import HEAD_BYTES, DecodeError, check_kind

ROOM = 2 << 30  # bytes that decoding may add to the process
KINDS = (
    "DICOM",
    "TIFF",
    "WebP",
    "BMP",
    "MPO",
    "PNG",
    "GIF",
    "AVIF",
    "HEIC",
    "J2K",
    "JPEG",
)  # a name is of the first that is in it
SECONDS = 20  # for one image; a hundred times what any takes


def originals():
    """Returns {name: bytes}: every kind of image in small."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[0:36, 0:40]
    smooth = (5 * rows + 6 * columns) % 256
    grey = (smooth * 0.8 + random.integers(0, 50, (36, 40))).astype(np.uint8)
    colour = np.stack([grey, grey[::-1], 255 - grey], axis=-1)
    wide = Image.fromarray(grey.astype(np.uint16) * 257)
    alpha = Image.fromarray(np.dstack([colour, grey]))
    plain, rgb = Image.fromarray(grey), Image.fromarray(colour)
    cmyk, palette, bits = rgb.convert("CMYK"), rgb.convert("P"), plain.convert("1")
    exif = Image.Exif()
    exif[0x0112] = 6
    made = {
        "JPEG": saved(plain, "JPEG"),
        "colour JPEG": saved(rgb, "JPEG", exif=exif),
        "progressive JPEG": saved(rgb, "JPEG", progressive=True),
        "CMYK JPEG": saved(cmyk, "JPEG"),
        "MPO": saved(rgb, "MPO", save_all=True, append_images=[rgb]),
        "PNG": saved(plain, "PNG"),
        "colour PNG": saved(rgb, "PNG"),
        "16-bit PNG": saved(wide, "PNG"),
        "palette PNG": saved(palette, "PNG", transparency=3),
        "RGBA PNG": saved(alpha, "PNG"),
        "1-bit PNG": saved(bits, "PNG"),
        "animated PNG": saved(plain, "PNG", save_all=True, append_images=[plain.rotate(90)]),
        "BMP": saved(rgb, "BMP"),
        "palette BMP": saved(palette, "BMP"),
        "WebP": saved(rgb, "WEBP"),
        "lossless WebP": saved(alpha, "WEBP", lossless=True),
        "animated WebP": saved(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(90)]),
        "TIFF": saved(rgb, "TIFF"),
        "16-bit TIFF": saved(wide, "TIFF"),
        "TIFF pages": saved(plain, "TIFF", save_all=True, append_images=[plain]),
        "TIFF with a thumbnail": saved(plain, "TIFF", save_all=True, append_images=[plain.resize((9, 8))]),
        "GIF": saved(palette, "GIF", transparency=3),
        "animated GIF": saved(rgb, "GIF", save_all=True, append_images=[rgb.rotate(90)]),
        "AVIF": saved(alpha, "AVIF", speed=10),
        "J2K": saved(rgb, "JPEG2000"),
        "J2K codestream": saved(plain, "JPEG2000", no_jp2=True, tile_size=(16, 16)),
        "16-bit J2K": saved(wide, "JPEG2000"),
    }
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        pass
    else:
        register_heif_opener()
        made["HEIC"] = saved(rgb, "HEIF")
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        made[f"TIFF {compression}"] = saved(rgb, "TIFF", compression=compression)
    made["TIFF group4"] = saved(bits, "TIFF", compression="group4")
    stored = (grey.astype(np.int16) * 16 - 2048).astype(np.int16)
    for syntax in SYNTAXES:
        if syntax == "JPEG baseline":
            made[f"DICOM {syntax}"] = dicom(grey, syntax)
        else:
            made[f"DICOM {syntax}"] = dicom(stored, syntax, bits=12, RescaleSlope=2, RescaleIntercept=-5)
    made |= odd_dicom(stored, colour)
    from pydicom.data import get_testdata_file

    for name in ("MR_small_jpeg_ls_lossless.dcm", "JPEGLSNearLossless_08.dcm", "JPGExtended.dcm"):
        made[f"DICOM {name}"] = Path(get_testdata_file(name, download=False)).read_bytes()
    return made


def odd_dicom(stored, colour):
    """Returns DICOM files in colour, with lookup tables and functional groups, and without a preamble."""
    tables = {"ModalityLUTSequence": [lookup_table(range(400))], "VOILUTSequence": [lookup_table(range(400))]}
    window = item(FrameVOILUTSequence=[item(WindowCenter=5, WindowWidth=900)])
    palette = {
        f"{name}PaletteColorLookupTable{part}": value
        for name in ("Red", "Green", "Blue")
        for part, value in (("Descriptor", [256, 0, 8]), ("Data", bytes(range(256))))
    }
    return {
        "DICOM RGB": dicom(colour),
        "DICOM RGB RLE": dicom(colour, "RLE"),
        "DICOM YBR JPEG baseline": dicom(colour, "JPEG baseline", PhotometricInterpretation="YBR_FULL_422"),
        "DICOM YBR": dicom(colour, PhotometricInterpretation="YBR_FULL"),
        "DICOM palette": dicom(colour[..., 0], PhotometricInterpretation="PALETTE COLOR", **palette),
        "DICOM tables": dicom(stored, "implicit", **tables),
        "DICOM groups": dicom(stored, "big endian", PerFrameFunctionalGroupsSequence=[window]),
        "DICOM without preamble": without_preamble(dicom(stored, "implicit")),
        "DICOM without meta": without_meta(dicom(stored)),
    }


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def mutant(number, images):
    """Returns (name of the original, bytes)."""
    random = np.random.default_rng(number)
    names = sorted(images)
    name = names[number % len(names)]
    data = bytearray(images[name])
    other = images[names[random.integers(len(names))]]
    way = random.integers(6)
    at = int(random.integers(len(data)))
    if way == 0:  # bytes changed anywhere
        for place in random.integers(0, len(data), random.integers(1, 9)):
            data[place] = random.integers(256)
    elif way == 1:  # bytes changed where sizes stand
        head = min(len(data), int(random.choice([64, 200, 1000])))
        for place in random.integers(0, head, random.integers(1, 5)):
            data[place] = random.choice([0, 1, 0x7F, 0x80, 0xFE, 0xFF])
    elif way == 2:  # cut
        del data[at:]
    elif way == 3:  # another's header
        head = int(random.choice([4, 8, 16, 32, 132, 200]))
        data[:head] = other[:head]
    elif way == 4:  # a piece repeated, or lost
        size = int(random.integers(1, 64))
        data[at:at] = data[at : at + size] if random.integers(2) else b""
        del data[at : at + size * int(random.integers(2))]
    else:  # another's end
        data[at:] = other[int(random.integers(len(other))) :]
    return name, bytes(data)


def main(first, count):
    faulthandler.enable()
    images = originals()
    for name, data in images.items():  # also loads every decoder, before memory is limited
        try:
            decode(data, height=16, width=16, channels=3)
        except DecodeError as error:
            if not any(word in name for word in ("animated", "pages")):
                raise AssertionError(f"{name}: {error}") from None
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
    accepted, refused, reasons = Counter(), Counter(), Counter()
    for number in range(first, first + count):
        name, data = mutant(number, images)
        kind = next(kind for kind in KINDS if kind in name)
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
        channels = 1 + number // len(images) % 2 * 2
        try:
            found = decode(data, height=16, width=16, channels=channels)
        except DecodeError as error:
            refused[kind] += 1
            reasons[re.sub(r"\d+", "N", str(error).partition(": it starts with")[0])] += 1
        else:
            assert (found.shape, found.dtype) == ((16, 16, channels), np.uint8)
            check_kind(data[:HEAD_BYTES])
            check_header(io.BytesIO(data))  # what is decoded, its header is good
            accepted[kind] += 1
        faulthandler.cancel_dump_traceback_later()
    # Not ru_maxrss, which begins with what the process that started this one had.
    status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) << 10
    print(json.dumps({"accepted": accepted, "refused": refused, "reasons": reasons, "peak": peak}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
