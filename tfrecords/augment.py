"""The baked-in copies: one fused geometric warp and one tone change, both drawn statelessly.

What a copy looks like follows from (seed, record id, copy) alone, never from the order of work.
"""

from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from tfrecords.errors import InputError
from tfrecords.splitmix64 import uniforms

_DRAWS: Final = 11  # uniform numbers a copy needs
_MID_GREY: Final = 127.5


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Strengths, each the largest change that is drawn; 0 turns a change off.

    Attributes:
        flip: probability of a left-right flip.
        rotation: degrees to either side.
        zoom: share of the size, in or out.
        crop: share of each side cut away at most; the rest is enlarged to the full size.
        translation: share of the size, in x and in y.
        brightness: share of the full range added or taken away.
        contrast: share of the distance from mid-grey added or taken away.
        gamma: the exponent of the tone curve is drawn from 1 / (1 + gamma) to 1 + gamma, by its logarithm.
        fill: what lies outside the image: "reflect" (mirrored) or "edge" (the border, repeated).
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
        """Returns what plans and manifests hold: those from before a field was there stay as they are."""
        later = {"gamma": 0.0}
        return {name: value for name, value in asdict(self).items() if later.get(name) != value}


PRESETS: Final = {
    "none": Augmentation(  # copies repeat the original
        flip=0.0, rotation=0.0, zoom=0.0, crop=0.0, translation=0.0, brightness=0.0, contrast=0.0
    ),
    "light": Augmentation(
        rotation=5.0, zoom=0.05, crop=0.05, translation=0.02, brightness=0.05, contrast=0.05
    ),
    "standard": Augmentation(),
    "radiograph": Augmentation(flip=0.0),  # a flip moves the heart to the other side
    "exposure": Augmentation(flip=0.0, gamma=0.3),  # radiograph, and the exposure varies
    "strong": Augmentation(rotation=20.0, zoom=0.2, crop=0.2, translation=0.1, brightness=0.2, contrast=0.3),
}


@dataclass(frozen=True)
class Transform:
    """One drawn copy: output pixel centre (x, y) shows input point `matrix @ (x, y, 1)`.

    Attributes:
        matrix: float64 [2, 3], pixels.
        gain: factor of the distance from mid-grey.
        bias: added grey levels, 0..255.
        exponent: of the tone curve 255 * (level / 255) ** exponent. The curve comes before gain and bias: it
            keeps levels from 0 to 255, so that they are clipped only once, at the end.
    """

    matrix: npt.NDArray[np.float64]
    gain: float
    bias: float
    exponent: float = 1.0


def describe(transform: Transform, *, height: int, width: int) -> str:
    """Returns a draw in words, with its matrix.

    The matrix leads from the copy to the original, so a copy is enlarged by one over its scale and turned
    by minus its angle. Degrees are clockwise, a shift is of the copy's content, in pixels.
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
    """Draws one copy of one image; a pure function of its arguments."""
    digest = blake2b(f"{seed}/{copy}/{record_id}".encode(), digest_size=8).digest()
    uniform = uniforms(int.from_bytes(digest, "little"), _DRAWS)
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
    """Returns the copy: one bilinear warp, one look-up of tones; uint8 [H, W, C] as the image."""
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
    """Returns the border to add, in pixels: bilinear sampling looks one further."""
    return max(0, int(np.ceil(distance)) + 1)


def _inside(index: npt.NDArray[np.int64], size: int, fill: str) -> npt.NDArray[np.int64]:
    if fill == "edge" or size == 1:
        return np.clip(index, 0, size - 1)
    period = 2 * (size - 1)
    return size - 1 - np.abs(index % period - (size - 1))
