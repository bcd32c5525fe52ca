"""Makes the augmented copies of an image: a warp, a loss of sharpness, noise, and a change of tones.

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
from tfrecords.splitmix64 import stateless_bits, uniforms

_UNIFORMS: Final = 16  # uniform numbers that one copy needs; a new strength adds one at the end
_MID_GREY: Final = 127.5
NOISE_SALT: Final = 0x6E6F6973  # makes the noise independent of other uses of the same key
# The least standard deviation of a blur, in pixels: the weight of a neighbour is below exp(-500), so none.
LEAST_SIGMA: Final = 0.03
_ROUNDING: Final = 1e-9  # a form that is closer to a square than this is one
LATER: Final = ("gamma", "stretch", "shear", "blur", "noise", "rescale")  # left out of plans where they are 0


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
        stretch: the ratio by which width and height are enlarged differently is drawn log-uniformly from
            1 / (1 + stretch) to 1 + stretch; the area stays.
        shear: largest angle in degrees by which upright lines lean to either side.
        blur: largest standard deviation of a Gaussian, as a share of the shorter side.
        noise: largest standard deviation of the noise, as a share of the full range.
        rescale: largest share of the size that is lost: the image is made smaller, then enlarged again.
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
    stretch: float = 0.0
    shear: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    rescale: float = 0.0
    fill: str = "reflect"

    def __post_init__(self) -> None:
        limits = {"rotation": 180.0, "flip": 1.0, "gamma": 3.0, "stretch": 3.0, "shear": 45.0, "blur": 0.1}
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
        return {name: value for name, value in asdict(self).items() if value != 0 or name not in LATER}


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
    "robust": Augmentation(  # radiograph, with the differences between devices and hospitals
        flip=0.0, gamma=0.5, stretch=0.1, shear=5.0, blur=0.01, noise=0.03, rescale=0.5
    ),
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
        blur: standard deviation of the Gaussian, pixels.
        spacing: pixels of the copy for each pixel of the smaller image that it is enlarged from; 1: none.
        noise: standard deviation, grey levels of 255.
        noise_key: from which the noise of each pixel follows; int64.
    """

    matrix: npt.NDArray[np.float64]
    gain: float
    bias: float
    exponent: float = 1.0
    blur: float = 0.0
    spacing: float = 1.0
    noise: float = 0.0
    noise_key: int = 0


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
    angle_back = np.deg2rad(angle)
    cosine, sine = np.cos(angle_back), np.sin(angle_back)
    (wide, lean), (_, high) = np.array([[cosine, -sine], [sine, cosine]]) @ upright
    form = f"stretched {high / wide:.3f} times in width, " if abs(high / wide - 1) > _ROUNDING else ""
    if abs(lean / high) > _ROUNDING:
        form += f"sheared by {-np.degrees(np.arctan(lean / high)):+.1f} degrees, "
    curve = f"exponent {transform.exponent:.3f}, " if transform.exponent != 1 else ""
    curve = _softness(transform) + curve
    rows = "; ".join(" ".join(f"{value:.4f}" for value in row) for row in transform.matrix)
    return (
        f"turned by {angle:+.1f} degrees{' and then flipped' * bool(flipped)}, enlarged {1 / scale:.3f} "
        f"times, {form}shifted by {right:+.1f} to the right and {down:+.1f} down; "
        f"{curve}contrast x {transform.gain:.3f}, brightness {transform.bias:+.1f} of 255; matrix [{rows}]"
    )


def _softness(transform: Transform) -> str:
    """Returns blur, rescaling and noise in words, as far as there are any."""
    found = [
        (transform.blur, f"blurred by {transform.blur:.2f} pixels, "),
        (transform.spacing - 1, f"enlarged from {1 / transform.spacing:.3f} of the size, "),
        (transform.noise, f"noise of {transform.noise:.1f} of 255, "),
    ]
    return "".join(words for strength, words in found if strength)


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
    if spec.stretch or spec.shear:
        wide, lean = (1 + spec.stretch) ** (signed[11] / 2), np.tan(np.deg2rad(spec.shear * signed[12]))
        turn = turn @ np.array([[wide, lean / wide], [0, 1 / wide]])
    if uniform[0] < spec.flip:
        turn[:, 0] = -turn[:, 0]
    size = np.array([width, height])
    shift = size * (signed[4:6] * (1 - kept) / 2 + signed[6:8] * spec.translation)
    matrix = np.column_stack([turn, size / 2 + shift - turn @ (size / 2)])
    gain, bias = 1 + spec.contrast * signed[9], 255 * spec.brightness * signed[8]
    return Transform(
        matrix,
        float(gain),
        float(bias),
        float((1 + spec.gamma) ** signed[10]),
        blur=float(spec.blur * min(height, width) * uniform[13]),
        spacing=float(1 / (1 - spec.rescale * uniform[14])),
        noise=float(255 * spec.noise * uniform[15]),
        noise_key=int.from_bytes(digest, "little", signed=True),
    )


def apply_transform(
    image: npt.NDArray[np.uint8], transform: Transform, fill: str = "reflect"
) -> npt.NDArray[np.uint8]:
    """Returns the copy, uint8 [H, W, C]: one bilinear warp, softness and noise, then one table of tones."""
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
    pixels = _softened(np.asarray(plane).reshape(image.shape), transform)
    levels = np.arange(256) if transform.exponent == 1 else 255 * (np.arange(256) / 255) ** transform.exponent
    tones = (levels - _MID_GREY) * transform.gain + _MID_GREY + transform.bias
    return np.clip(np.rint(tones), 0, 255).astype(np.uint8)[pixels]


def _softened(image: npt.NDArray[np.uint8], transform: Transform) -> npt.NDArray[np.uint8]:
    """Returns the image blurred, then made smaller and enlarged again, then with noise.

    A step along one axis is a product with a matrix, which has the border in it: no pixel lies outside.
    """
    if not (transform.blur or transform.spacing > 1 or transform.noise):
        return image
    planes = image.astype(np.float64).transpose(2, 0, 1)
    if transform.blur:
        down, across = (gaussian(size, transform.blur) for size in image.shape[:2])
        planes = down @ planes @ across.T
    if transform.spacing > 1:
        down, across = (rescaling(size, transform.spacing) for size in image.shape[:2])
        planes = down @ planes @ across.T
    level = planes.transpose(1, 2, 0)
    if transform.noise:
        level = level + transform.noise * standard_noise(transform.noise_key, image.shape)
    return np.clip(np.rint(level), 0, 255).astype(np.uint8)


def gaussian(size: int, sigma: float) -> npt.NDArray[np.float64]:
    """Returns the blur of one axis, [size, size]: row i has the weights of the pixels for pixel i.

    The weights of a row have the sum 1, next to the border too.

    Args:
        size: pixels.
        sigma: standard deviation, pixels.
    """
    places = np.arange(size)
    weights = np.exp(-(((places[:, None] - places) / max(sigma, LEAST_SIGMA)) ** 2) / 2)
    return np.asarray(weights / weights.sum(1, keepdims=True))


def rescaling(size: int, spacing: float) -> npt.NDArray[np.float64]:
    """Returns the rescaling of one axis, [size, size]: down by a triangle filter, up by linear interpolation.

    Both are as in Pillow's BILINEAR, but the smaller image may end within one of its pixels, so that the
    scale is exact.

    Args:
        size: pixels.
        spacing: pixels of the image for each pixel of the smaller one, 1 or more.
    """
    place = np.clip((np.arange(size) + 0.5) / spacing - 0.5, 0, max(0.0, size / spacing - 1))
    lower = np.floor(place)
    share = (place - lower)[:, None]

    def shrunk(pixel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        centres = (pixel[:, None] + 0.5) * spacing
        weights = np.maximum(0, 1 - np.abs(np.arange(size) + 0.5 - centres) / spacing)
        # The sum may be 0 for a pixel outside the smaller image, whose share is 0.
        return np.asarray(weights / np.maximum(weights.sum(1, keepdims=True), 1e-6))

    return np.asarray((1 - share) * shrunk(lower) + share * shrunk(lower + 1))


def standard_noise(key: int, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Returns noise of mean 0 and standard deviation 1, each number from (key, its place) alone.

    A number is the sum of the four 16-bit parts of a hash, which is nearly normal (Irwin-Hall distribution):
    no number is beyond 3.47, and the kurtosis is 2.7 instead of 3.
    """
    places = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    return np.asarray((_sum_of_parts(stateless_bits(key, NOISE_SALT, places)) / 65536 - 2) * np.sqrt(3))


def _sum_of_parts(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """Returns the sum of the four 16-bit parts, each plus a half."""
    parts = [(bits >> np.uint64(shift) & np.uint64(0xFFFF)).astype(np.float64) for shift in (0, 16, 32, 48)]
    return np.asarray(sum(parts) + 2.0)


def _beyond(distance: float) -> int:
    """Returns the width of the border to add, in pixels; bilinear sampling needs one pixel more."""
    return max(0, int(np.ceil(distance)) + 1)


def _inside(index: npt.NDArray[np.int64], size: int, fill: str) -> npt.NDArray[np.int64]:
    if fill == "edge" or size == 1:
        return np.clip(index, 0, size - 1)
    period = 2 * (size - 1)
    return size - 1 - np.abs(index % period - (size - 1))
