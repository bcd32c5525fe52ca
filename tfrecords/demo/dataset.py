"""Makes the demo data set, the default of `--data`: drawn radiographs, converted once and kept.

The images are drawings (see `tfrecords.demo.phantom`), written as an image folder and converted by the same
code as all other data. Whatever shows this data set calls it demo data.
"""

import shutil
import sys
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from tfrecords.convert.conversion import convert_images
from tfrecords.convert.options import ConvertOptions
from tfrecords.demo.phantom import Anatomy, draw
from tfrecords.errors import InputError
from tfrecords.files.cache import user_cache
from tfrecords.files.locks import file_lock
from tfrecords.manifest import Manifest

DEMO_NAME: Final = "demo_phantoms"

PATIENTS = 350  # about 1,050 images: enough to train a CNN, drawn in under ten seconds
IMAGES_PER_PATIENT = (2, 4)  # least, most; several, so that a split by image would leak as with real data
NORMAL_OF_FIVE = 2  # normal ones of every five patients: unbalanced, so that class weights matter

_VERSION: Final = 2  # raise it when the drawings or their conversion change
_SIZE: Final = (128, 128)  # pixels; half the work of the default size, so that a first run is short

# glibc returns the end of the heap to the system when a temporary array is freed, and has to map it again for
# the next one, which takes half of the time of an image. Freeing one unused block of this size raises glibc's
# threshold for the process. Other allocators are not affected.
_HEAP_KEPT = 1 << 24


def demo_data() -> Path:
    """Returns the folder of the converted demo data; draws and converts them the first time.

    The folder is below `$XDG_CACHE_HOME`, or `~/.cache`. Processes that start together make the data only
    once.

    Raises:
        InputError: the cache folder cannot be written.
    """
    home = user_cache() / f"demo-{_VERSION}"
    images, out = home / "images", home / "tfrecords"
    try:
        home.mkdir(parents=True, exist_ok=True)
        with file_lock(home / "lock"):
            if _is_whole(out):
                return out
            print(f"no --data given: making demo data, only this once, in {home}", file=sys.stderr)
            if not images.exists():
                temporary = home / ".images.tmp"
                shutil.rmtree(temporary, ignore_errors=True)
                write_images(temporary)
                temporary.rename(images)
            convert_images(ConvertOptions(images, out, name=DEMO_NAME, size=_SIZE, overwrite=True))
    except OSError as error:
        raise InputError(
            f"{home}: the demo data cannot be written: {error.strerror}; set XDG_CACHE_HOME to another "
            f"folder, or give your own data with --data"
        ) from None
    return out


def _is_whole(out: Path) -> bool:
    try:
        Manifest.load(out)
    except InputError:  # not made yet, or partly deleted: it is made again
        return False
    return True


def write_images(directory: Path, *, seed: int = 0, patients: int | None = None) -> int:
    """Writes the images as class folders of PNG files, and returns their number.

    The names follow the chest X-ray data, `NORMAL/IM-0012-0003.png` and `PNEUMONIA/person14_bacteria_3.png`:
    the part before the last number is the patient. A patient looks the same for any number of patients.

    Raises:
        InputError: the seed is negative, there are too few patients for two classes, or the directory is a
            file or is not empty.
    """
    if seed < 0:
        raise InputError(f"seed={seed}: must be 0 or more")
    patients = PATIENTS if patients is None else patients
    if patients <= NORMAL_OF_FIVE:
        raise InputError(
            f"patients={patients}: must be {NORMAL_OF_FIVE + 1} or more, so that both classes have one"
        )
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise InputError(
            f"{directory}: is a file or a folder that is not empty; name a new or an empty folder"
        )
    for name in ("NORMAL", "PNEUMONIA"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    np.empty(_HEAP_KEPT, np.uint8)
    images = 0
    for patient in range(patients):
        rng = np.random.default_rng([seed, patient])
        anatomy = Anatomy.draw(rng)
        sick = patient % 5 >= NORMAL_OF_FIVE
        count = int(rng.integers(*IMAGES_PER_PATIENT, endpoint=True))
        for number in range(1, count + 1):
            name = (
                f"PNEUMONIA/person{patient + 1}_bacteria_{number}.png"
                if sick
                else f"NORMAL/IM-{patient + 1:04d}-{number:04d}.png"
            )
            Image.fromarray(draw(rng, anatomy, opacities=sick)).save(directory / name)
        images += count
    return images
