from fractions import Fraction

import numpy as np
import pytest

from tfrecords.images.dicom_tables import Table, ybr_to_rgb


def test_every_luma_and_chroma_is_rounded_as_fractions_are():
    """ITU-T T.871, 7, with exact arithmetic, at the edges of rounding and beyond the range."""
    random = np.random.default_rng(0)
    ybr = random.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    ybr[0, :4] = [[0, 253, 3], [255, 253, 3], [128, 3, 253], [0, 0, 255]]  # 1.772 * 125 is 221.5
    found = ybr_to_rgb(ybr)
    for (y, cb, cr), colour in zip(ybr.reshape(-1, 3).tolist(), found.reshape(-1, 3).tolist(), strict=True):
        red = y + Fraction(1402, 1000) * (cr - 128)
        blue = y + Fraction(1772, 1000) * (cb - 128)
        green = (y - Fraction(299, 1000) * red - Fraction(114, 1000) * blue) / Fraction(587, 1000)
        exact = [min(max(int((value + Fraction(1, 2)) // 1), 0), 255) for value in (red, green, blue)]
        assert colour == exact


@pytest.mark.parametrize(
    ("first", "values", "entries"),
    [
        (0, [0, 1, 2, 3, 9], [5, 6, 7, 7, 7]),
        (2, [0, 1, 2, 3, 9], [5, 5, 5, 6, 7]),
        (65534, [-9, -2, -1, 0, 9], [5, 5, 6, 7, 7]),  # -2, for values with a sign
        (65534, [9, 65534, 65535, 70000], [5, 5, 6, 7]),
        (0, [0.49, 0.5, 1.5], [5, 6, 7]),
    ],
)
def test_what_lies_beside_a_table_has_its_ends(first, values, entries):
    table = Table(first, 3, np.array([5, 6, 7]))
    assert table(np.array(values)).tolist() == entries
    np.testing.assert_array_equal(table.share(np.array(values)), np.array(entries) / 7)
