"""Mutated images through the decoder: see mutants.py, which works in processes of its own."""

import json
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("pydicom", reason="the dicom extra is not installed")

PROCESSES, EACH = 3, 800
LARGEST = 1 << 30  # bytes; a mutant may announce an image as large as any that is read
KINDS = {"JPEG", "MPO", "PNG", "BMP", "WebP", "TIFF", "GIF", "AVIF", "J2K", "DICOM"}


@pytest.mark.slow
def test_every_mutant_is_decoded_or_refused_with_a_reason(start, tmp_path):
    script = Path(__file__).with_name("mutants.py")
    children = []
    for number in range(PROCESSES):
        with (tmp_path / f"{number}.out").open("w") as out, (tmp_path / f"{number}.err").open("w") as err:
            children.append(start(script, number * EACH, EACH, stdout=out, stderr=err))
    codes = [child.wait() for child in children]
    accepted, refused, reasons, peaks = Counter(), Counter(), Counter(), []
    for number, code in enumerate(codes):
        lines = (tmp_path / f"{number}.out").read_text().splitlines()
        assert code == 0, f"mutant {lines[-1:]}: {(tmp_path / f'{number}.err').read_text()[-3000:]}"
        found = json.loads(lines[-1])
        accepted.update(found["accepted"])
        refused.update(found["refused"])
        reasons.update(found["reasons"])
        peaks.append(found["peak"])
    print(f"{accepted.total()} decoded {dict(accepted)}, {refused.total()} refused {dict(refused)}")
    print(f"peaks {[f'{peak / 1e6:.0f} MB' for peak in peaks]}, reasons:")
    print("\n".join(f"{count:6} {reason}" for reason, count in reasons.most_common()))
    assert accepted.total() + refused.total() == PROCESSES * EACH
    kinds = KINDS | ({"HEIC"} if find_spec("pillow_heif") else set())
    assert refused.keys() == kinds
    assert accepted.keys() == kinds
    assert all(reason.strip() and len(reason) < 300 for reason in reasons)
    assert max(peaks) < LARGEST
