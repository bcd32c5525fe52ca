"""Makes the augmented copies of an image: one affine warp and one change of tones for each copy.

The change follows from (seed, record id, copy) alone, never from the order of work. `data_pipeline.augment`
makes the same changes for a batch in TensorFlow.
"""

from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from tfrecords.errors import InputError
from tfrecords.splitmix64 import uniforms

_UNIFORMS: Final = 11  # uniform numbers that one copy needs; a new strength adds one at the end
_MID_GREY: Final = 127.5


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Strengths of the changes: each is the largest change that can be drawn, and 0 turns it off.

    Attributes:
        flip: probability of a left-right flip.
        rotation: largest angle in degrees, to either side.
        zoom: largest zoom in or out, as a share of the size.
        crop: largest share of each side that is cut away; the rest is enlarged to the full size.
        translation: largest shift in x and in y, as a share of the size.
        brightness: largest shift up or down, as a share of the full range.
        contrast: largest increase or decrease, as a share of the distance from mid-grey.
        gamma: the exponent of the tone curve is drawn log-uniformly from 1 / (1 + gamma) to 1 + gamma.
        fill: pixels outside the image: "reflect" mirrors the image, "edge" repeats its border.
    """

    flip: float = 0.5
    rotation: float = 10.0
    zoom: float = 0.1
    crop: float = 0.1
    translation: float = 0.05
    brightness: float = 0.1
    contrast: float = 0.15
    gamma: float = 0.0
    fill: str = "reflect"

    def __post_init__(self) -> None:
        limits = {"rotation": 180.0, "flip": 1.0, "gamma": 3.0}
        for field in fields(self):
            value = getattr(self, field.name)
            limit = limits.get(field.name, 0.9)
            if field.name != "fill" and not 0 <= value <= limit:
                raise InputError(f"--{field.name}={value}: must be from 0 to {limit:g}")
        if self.fill not in ("reflect", "edge"):
            raise InputError(f"--fill={self.fill}: must be reflect or edge")

    def strengths(self) -> list[tuple[str, float]]:
        """Returns (name, value) of each strength."""
        return [(field.name, getattr(self, field.name)) for field in fields(self) if field.name != "fill"]

    def to_json(self) -> dict[str, Any]:
        """Returns the content for plans and manifests; later fields are left out at their defaults."""
        later = {"gamma": 0.0}
        return {name: value for name, value in asdict(self).items() if later.get(name) != value}


PRESETS: Final = {
    "none": Augmentation(  # copies equal the original
        flip=0.0, rotation=0.0, zoom=0.0, crop=0.0, translation=0.0, brightness=0.0, contrast=0.0
    ),
    "light": Augmentation(
        rotation=5.0, zoom=0.05, crop=0.05, translation=0.02, brightness=0.05, contrast=0.05
    ),
    "standard": Augmentation(),
    "radiograph": Augmentation(flip=0.0),  # without the flip, which moves the heart to the other side
    "exposure": Augmentation(flip=0.0, gamma=0.3),  # radiograph, with varied exposure
    "strong": Augmentation(rotation=20.0, zoom=0.2, crop=0.2, translation=0.1, brightness=0.2, contrast=0.3),
}


@dataclass(frozen=True)
class Transform:
    """The drawn change of a copy: its pixel centre (x, y) shows point `matrix @ (x, y, 1)` of the image.

    Attributes:
        matrix: float64 [2, 3], in pixels.
        gain: factor of the distance from mid-grey.
        bias: grey levels that are added, of 255.
        exponent: exponent of the tone curve 255 * (level / 255) ** exponent. The curve comes before gain and
            bias: it keeps levels from 0 to 255, so that they are clipped only once, at the end.
    """

    matrix: npt.NDArray[np.float64]
    gain: float
    bias: float
    exponent: float = 1.0


def describe(transform: Transform, *, height: int, width: int) -> str:
    """Returns a transform in words, with its matrix.

    The matrix maps the copy to the original, so the copy is enlarged by one over the matrix's scale and
    turned by minus its angle. Degrees are clockwise; the shift is that of the content, in pixels.
    """
    turn = transform.matrix[:, :2]
    scale = float(np.sqrt(abs(np.linalg.det(turn))))
    flipped = np.linalg.det(turn) < 0
    upright = turn * np.array([-1 if flipped else 1, 1])
    angle = float(-np.degrees(np.arctan2(upright[1, 0], upright[0, 0])))
    centre = np.array([width / 2, height / 2])
    right, down = centre - np.linalg.solve(turn, transform.matrix[:, 2] + turn @ centre - centre) - centre
    curve = f"exponent {transform.exponent:.3f}, " if transform.exponent != 1 else ""
    rows = "; ".join(" ".join(f"{value:.4f}" for value in row) for row in transform.matrix)
    return (
        f"turned by {angle:+.1f} degrees{' and then flipped' * bool(flipped)}, enlarged {1 / scale:.3f} "
        f"times, shifted by {right:+.1f} to the right and {down:+.1f} down; "
        f"{curve}contrast x {transform.gain:.3f}, brightness {transform.bias:+.1f} of 255; matrix [{rows}]"
    )


def draw_transform(
    spec: Augmentation, *, seed: int, record_id: str, copy: int, height: int, width: int
) -> Transform:
    """Draws the transform of one copy; a pure function of its arguments."""
    digest = blake2b(f"{seed}/{copy}/{record_id}".encode(), digest_size=8).digest()
    uniform = uniforms(int.from_bytes(digest, "little"), _UNIFORMS)
    signed = 2 * uniform - 1
    kept = 1 - spec.crop * uniform[3]
    scale = kept / (1 + spec.zoom * signed[2])
    angle = np.deg2rad(spec.rotation * signed[1])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if uniform[0] < spec.flip:
        turn[:, 0] = -turn[:, 0]
    size = np.array([width, height])
    shift = size * (signed[4:6] * (1 - kept) / 2 + signed[6:8] * spec.translation)
    matrix = np.column_stack([turn, size / 2 + shift - turn @ (size / 2)])
    gain, bias = 1 + spec.contrast * signed[9], 255 * spec.brightness * signed[8]
    return Transform(matrix, float(gain), float(bias), float((1 + spec.gamma) ** signed[10]))


def apply_transform(
    image: npt.NDArray[np.uint8], transform: Transform, fill: str = "reflect"
) -> npt.NDArray[np.uint8]:
    """Returns the copy, uint8 [H, W, C]: one bilinear warp, then one look-up table for the tones."""
    height, width, channels = image.shape
    corners = np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])
    x, y = transform.matrix @ corners
    left, top = _beyond(-x.min()), _beyond(-y.min())
    right, bottom = _beyond(x.max() - width), _beyond(y.max() - height)
    columns, rows = np.arange(-left, width + right), np.arange(-top, height + bottom)
    padded = image[_inside(rows, height, fill)[:, None], _inside(columns, width, fill)]
    matrix = transform.matrix + np.array([[0, 0, left], [0, 0, top]])
    plane = Image.fromarray(padded[..., 0] if channels == 1 else padded).transform(
        (width, height),
        Image.Transform.AFFINE,
        tuple(matrix.ravel()),
        resample=Image.Resampling.BILINEAR,
    )
    levels = np.arange(256) if transform.exponent == 1 else 255 * (np.arange(256) / 255) ** transform.exponent
    tones = (levels - _MID_GREY) * transform.gain + _MID_GREY + transform.bias
    table = np.clip(np.rint(tones), 0, 255).astype(int).tolist()
    return np.asarray(plane.point(table * channels)).reshape(image.shape)


def _beyond(distance: float) -> int:
    """Returns the width of the border to add, in pixels; bilinear sampling needs one pixel more."""
    return max(0, int(np.ceil(distance)) + 1)


def _inside(index: npt.NDArray[np.int64], size: int, fill: str) -> npt.NDArray[np.int64]:
    if fill == "edge" or size == 1:
        return np.clip(index, 0, size - 1)
    period = 2 * (size - 1)
    return size - 1 - np.abs(index % period - (size - 1))
