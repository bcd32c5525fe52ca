"""Drawn image files, of kinds that Pillow does not write too: `from image_files import saved, png, tiff`."""

import io
import struct
import zlib

from PIL import Image

from tfrecords.images.decode import decode


def saved(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width, height, depth, colour, rows=b"", *, extra=b"", interlaced=False):
    """Builds a PNG from its raw rows: for what Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tiff(width, height, strip, *, bits=(8,), photometric=1, order="<", **more):
    """Builds an uncompressed TIFF of one strip: for what Pillow does not write. TIFF 6.0, section 2."""
    tags = {
        256: ("I", (width,)),
        257: ("I", (height,)),
        258: ("H", bits),
        259: ("H", (1,)),
        262: ("H", (photometric,)),
        273: ("I", (8,)),
        277: ("H", (len(bits),)),
        278: ("I", (height,)),
        279: ("I", (len(strip),)),
        **{int(tag[1:]): ("H", values) for tag, values in more.items()},
    }
    entries, extra = b"", b""
    start = 8 + len(strip) + 2 + 12 * len(tags) + 4
    for tag, (kind, values) in sorted(tags.items()):
        data = struct.pack(f"{order}{len(values)}{kind}", *values)
        if len(data) > 4:
            data, extra = struct.pack(f"{order}I", start + len(extra)), extra + data
        entries += struct.pack(f"{order}HHI", tag, {"H": 3, "I": 4}[kind], len(values)) + data.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(strip))
    return head + strip + struct.pack(f"{order}H", len(tags)) + entries + b"\0" * 4 + extra


def tiff_pages(*pages):
    """Builds a TIFF of grey pages, each (width, height, grey, {tag: value}) and of one colour."""
    data = b"II" + struct.pack("<HI", 42, 0)
    link = 4  # where the position of the next page is written
    for width, height, grey, more in pages:
        strip = len(data)
        data += bytes([grey]) * (width * height + width * height % 2)
        data = data[:link] + struct.pack("<I", len(data)) + data[link + 4 :]
        tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: strip, 277: 1, 278: height}
        tags |= {279: width * height, **more}
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
        data += struct.pack("<H", len(tags)) + entries
        link = len(data)
        data += b"\0" * 4
    return data


def pixels(data, channels, *, height=1, width=4):
    return decode(data, height=height, width=width, channels=channels)


def flat(mode, colour):
    return Image.new(mode, (16, 16), colour)
