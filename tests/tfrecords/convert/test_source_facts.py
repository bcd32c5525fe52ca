"""What a file's header tells: quality and kind of JPEG, its size; nothing of its text."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tfrecords.convert.source_facts import FACTS, facts_of


def file(kind="JPEG", **options):
    noise = np.random.default_rng(0).integers(0, 256, (24, 40), np.uint8)
    target = BytesIO()
    Image.fromarray(noise).save(target, kind, **options)
    return target.getvalue()


@pytest.mark.parametrize("quality", [1, 10, 30, 49, 50, 75, 90, 99, 100])
@pytest.mark.parametrize("progressive", [False, True])
def test_the_quality_of_a_jpeg_is_told_from_its_tables(quality, progressive):
    data = file(quality=quality, progressive=progressive)
    facts = dict(zip(FACTS, facts_of(data, (24, 40)), strict=True))
    assert facts == {
        "height": 24,
        "width": 40,
        "bytes": len(data),
        "format": "JPEG",
        "jpeg_quality": quality,
        "jpeg_progressive": int(progressive),
    }


def test_other_kinds_have_no_quality():
    data = file("PNG")
    assert facts_of(data, (24, 40)) == (24, 40, len(data), "PNG", -1, -1)


def test_comments_and_tables_of_another_maker_are_passed():
    data = file(quality=80, comment=b"a name \xff\xc2", exif=b"Exif\0\0" + bytes(40))
    assert facts_of(data, (24, 40))[3:] == ("JPEG", 80, 0)
    own = [3] * 64
    assert 90 < facts_of(file(qtables=[own]), (24, 40))[4] < 100
