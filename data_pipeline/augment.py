"""On-line augmentation: the changes of `tfrecords.augment`, drawn anew each epoch by the train step.

A whole batch gets one affine warp, one loss of sharpness, noise and one change of tones in TensorFlow ops, on
the device that trains. The change of a record follows from its key alone, and the key from (seed, epoch, id,
copy): never from the batch, the number of workers, or the step from which a run resumes.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import tensorflow as tf

from data_pipeline.splitmix64 import stateless_bits, uniforms
from tfrecords.augment import LEAST_SIGMA, NOISE_SALT, PRESETS, Augmentation

_SALT: Final = 0x6175676D  # makes these numbers independent of other uses of the same seed
_UNIFORMS: Final = 10  # uniform numbers that a record needs; gamma needs one more
_ALL_UNIFORMS: Final = 16  # with the strengths that came after gamma
_MID_GREY: Final = 127.5


class Transforms(NamedTuple):
    """The drawn change of each image of a batch; see `tfrecords.augment.Transform`.

    Attributes:
        matrix: float64 [B, 2, 3].
        gain: float64 [B].
        bias: float64 [B].
        exponent: float64 [B]; None where gamma is 0, so that it costs no op. The same holds for what follows.
        blur: float64 [B].
        spacing: float64 [B].
        noise: float64 [B].
        noise_key: int64 [B].
    """

    matrix: Any
    gain: Any
    bias: Any
    exponent: Any = None
    blur: Any = None
    spacing: Any = None
    noise: Any = None
    noise_key: Any = None


def id_hashes(ids: Any) -> Any:
    """Returns a hash of each record id, int64 [N]: FarmHash, the same for all versions and machines."""
    return tf.strings.to_hash_bucket_fast(ids, np.iinfo(np.int64).max)


def record_keys(hashes: Any, copies: Any, *, seed: int, epoch: Any, repeat: Any = None) -> Any:
    """Returns the key of each record, from which its change follows.

    Args:
        hashes: int64 [N], of `id_hashes`.
        copies: int64 [N], the field `copy` of the records.
        seed: seed of the run.
        epoch: int64 scalar, or [N].
        repeat: int64 [N], how many times the epoch has drawn the record before, so that it is changed anew
            each time; None: never.

    Returns:
        int64 [N].
    """
    keys = tf.bitcast(stateless_bits(_SALT, seed, epoch, hashes, copies), tf.int64)
    if repeat is None:
        return keys
    return tf.where(repeat > 0, tf.bitcast(stateless_bits(_SALT, keys, repeat), tf.int64), keys)


def augmenter(preset: str, *, picture: bool = True, tones: bool = True) -> Callable[[Any, Any], Any] | None:
    """Returns the function (image uint8 [B, H, W, C], key int64 [B]) -> image of a preset; None for "none".

    One function for the picture (warp, sharpness, noise) and then another one for the tones give what one
    function for both gives: levels are whole in between. What comes between sees the tones of the original.

    On a CPU, XLA compiles it to one loop, which is several times faster than single ops. A GPU runs the
    single ops; this has not been tried on one.
    """
    spec = PRESETS[preset]
    if preset == "none":
        return None

    def augment(image: Any, key: Any) -> Any:
        height, width = image.shape[1:3]
        drawn = draw_transforms(spec, key, height=height, width=width)
        level = changed_picture(image, drawn, spec.fill) if picture else tf.cast(image, tf.float32)
        return changed_tones(level, drawn) if tones else tf.cast(level, tf.uint8)

    compiled = not tf.config.list_logical_devices("GPU")
    return tf.function(augment, jit_compile=compiled, reduce_retracing=True)


def draw_transforms(spec: Augmentation, key: Any, *, height: int, width: int) -> Transforms:
    """Draws one transform for each key, as `tfrecords.augment.draw_transform` does for one.

    Args:
        spec: the strengths.
        key: int64 [B].
        height: height of the images, pixels.
        width: width of the images, pixels.
    """
    form = spec.stretch or spec.shear
    later = form or spec.blur or spec.noise or spec.rescale
    uniform = uniforms(key, _ALL_UNIFORMS if later else _UNIFORMS + 1 if spec.gamma else _UNIFORMS)
    signed = 2 * uniform - 1
    kept = 1 - spec.crop * uniform[3]
    scale = kept / (1 + spec.zoom * signed[2])
    angle = np.deg2rad(spec.rotation) * signed[1]
    mirror = tf.where(uniform[0] < spec.flip, tf.constant(-1.0, tf.float64), 1.0)
    cosine, sine = scale * tf.cos(angle), scale * tf.sin(angle)
    if form:
        wide, lean = (1 + spec.stretch) ** (signed[11] / 2), tf.tan(np.deg2rad(spec.shear) * signed[12])
        first = cosine * wide, (cosine * lean - sine) / wide
        second = sine * wide, (sine * lean + cosine) / wide
    else:
        first, second = (cosine, -sine), (sine, cosine)
    rows = []
    for size, (column, down), (window, shift) in ((width, first, (4, 6)), (height, second, (5, 7))):
        across = mirror * column
        moved = size * (signed[window] * (1 - kept) / 2 + signed[shift] * spec.translation)
        rows.append([across, down, size / 2 + moved - across * (width / 2) - down * (height / 2)])
    matrix = tf.stack([tf.stack(row, -1) for row in rows], 1)
    exponent = (1 + spec.gamma) ** signed[10] if spec.gamma else None
    return Transforms(
        matrix,
        1 + spec.contrast * signed[9],
        255 * spec.brightness * signed[8],
        exponent,
        blur=spec.blur * min(height, width) * uniform[13] if spec.blur else None,
        spacing=1 / (1 - spec.rescale * uniform[14]) if spec.rescale else None,
        noise=255 * spec.noise * uniform[15] if spec.noise else None,
        noise_key=key if spec.noise else None,
    )


def apply_transforms(image: Any, transforms: Transforms, fill: str) -> Any:
    """Applies its transform to each image, as `tfrecords.augment.apply_transform` does to one.

    It is `changed_tones` of `changed_picture`. Float32 beside Pillow's float64: here and there a grey level
    differs by 1, or by 2 where contrast is raised. Where the tone curve brightens the darkest levels it can
    be more: preset exposure gives 3 levels in one of 6 million pixels of X-rays.

    Args:
        image: uint8 [B, H, W, C].
        transforms: of `draw_transforms`.
        fill: pixels outside the image, "reflect" or "edge".

    Returns:
        uint8 [B, H, W, C].
    """
    return changed_tones(changed_picture(image, transforms, fill), transforms)


def changed_picture(image: Any, transforms: Transforms, fill: str) -> Any:
    """Returns the images warped, blurred, rescaled and with noise: whole levels, float32 [B, H, W, C]."""
    size, (height, width, channels) = tf.shape(image)[0], image.shape[1:]
    matrix = tf.cast(transforms.matrix, tf.float32)
    # Pixel centres lie at halves: the centre of the first is (0.5, 0.5).
    columns, rows = (
        tf.range(width, dtype=tf.float32) + 0.5,
        (tf.range(height, dtype=tf.float32) + 0.5)[:, None],
    )
    x, y = [
        matrix[:, axis, 0, None, None] * columns
        + (matrix[:, axis, 1, None, None] * rows + (matrix[:, axis, 2, None, None] - 0.5))
        for axis in (0, 1)
    ]
    x, y = _inside(x, width, fill), _inside(y, height, fill)
    left, top = tf.floor(x), tf.floor(y)
    x, y = (x - left)[..., None], (y - top)[..., None]
    pixels = tf.reshape(image, [size * height * width, channels])
    first = tf.range(size)[:, None, None] * (height * width)
    first += tf.cast(top, tf.int32) * width + tf.cast(left, tf.int32)
    right, below = tf.cast(x[..., 0] > 0, tf.int32), tf.cast(y[..., 0] > 0, tf.int32) * width

    def at(index: Any) -> Any:
        return tf.cast(tf.gather(pixels, index), tf.float32)

    upper, lower = at(first), at(first + below)
    upper += (at(first + right) - upper) * x
    lower += (at(first + right + below) - lower) * x
    # Pillow drops fractions, and its look-up of tones takes whole grey levels.
    return _softened(tf.floor(upper + (lower - upper) * y), transforms)


def changed_tones(level: Any, transforms: Transforms) -> Any:
    """Returns the images with other tones, uint8 [B, H, W, C], from whole grey levels, float32."""
    gain, bias = [tf.cast(value, tf.float32) for value in (transforms.gain, transforms.bias)]
    if transforms.exponent is not None:
        exponent = tf.cast(transforms.exponent, tf.float32)[:, None, None, None]
        level = 255 * (level / 255) ** exponent
    tones = (level - _MID_GREY) * gain[:, None, None, None] + (_MID_GREY + bias)[:, None, None, None]
    return tf.cast(tf.clip_by_value(tf.round(tones), 0, 255), tf.uint8)


def _inside(place: Any, size: int, fill: str) -> Any:
    """Returns the positions, from 0 to size - 1, whose pixels stand for positions outside the image."""
    if fill == "edge" or size == 1:
        return tf.clip_by_value(place, 0, size - 1)
    period = 2.0 * (size - 1)
    place = tf.abs(place)
    place -= period * tf.floor(place / period)
    return tf.minimum(place, period - place)


def _softened(level: Any, transforms: Transforms) -> Any:
    """Returns the images blurred, then made smaller and enlarged again, then with noise; whole levels."""
    if transforms.blur is transforms.spacing is transforms.noise is None:
        return level
    for drawn, weights in ((transforms.blur, gaussian), (transforms.spacing, rescaling)):
        if drawn is not None:
            down, across = (weights(size, tf.cast(drawn, tf.float32)) for size in level.shape[1:3])
            level = tf.einsum("byh,bhwc->bywc", down, level)
            level = tf.einsum("bxw,bywc->byxc", across, level)
    if transforms.noise is not None:
        deviation = tf.cast(transforms.noise, tf.float32)[:, None, None, None]
        level += deviation * standard_noise(transforms.noise_key, level.shape[1:])
    return tf.clip_by_value(tf.round(level), 0, 255)


def gaussian(size: int, sigma: Any) -> Any:
    """Returns the blur of one axis for each image, float32 [B, size, size]; see `tfrecords.augment.gaussian`.

    Args:
        size: pixels.
        sigma: float32 [B], pixels.
    """
    places = tf.range(size, dtype=tf.float32)
    apart = (places[:, None] - places) / tf.maximum(sigma, LEAST_SIGMA)[:, None, None]
    weights = tf.exp(-(apart**2) / 2)
    return weights / tf.reduce_sum(weights, 2, keepdims=True)


def rescaling(size: int, spacing: Any) -> Any:
    """Returns the rescaling of one axis, float32 [B, size, size]; see `tfrecords.augment.rescaling`.

    Args:
        size: pixels.
        spacing: float32 [B], pixels of the image for each pixel of the smaller one.
    """
    spacing, centres = spacing[:, None], tf.range(size, dtype=tf.float32) + 0.5
    place = tf.clip_by_value(centres / spacing - 0.5, 0, tf.maximum(0.0, size / spacing - 1))
    lower = tf.floor(place)
    share = (place - lower)[..., None]

    def shrunk(pixel: Any) -> Any:
        apart = (centres - ((pixel + 0.5) * spacing)[..., None]) / spacing[..., None]
        weights = tf.maximum(0.0, 1 - tf.abs(apart))
        return weights / tf.maximum(tf.reduce_sum(weights, 2, keepdims=True), 1e-6)

    return (1 - share) * shrunk(lower) + share * shrunk(lower + 1)


def standard_noise(key: Any, shape: Sequence[int]) -> Any:
    """Returns noise of mean 0 and standard deviation 1 for each key; see `tfrecords.augment.standard_noise`.

    Args:
        key: int64 [B].
        shape: of one image.

    Returns:
        float32 [B, *shape].
    """
    places = tf.range(math.prod(shape), dtype=tf.int64)
    bits = stateless_bits(key[:, None], NOISE_SALT, places)
    parts = [tf.bitwise.right_shift(bits, tf.constant(shift, tf.uint64)) for shift in (0, 16, 32, 48)]
    low = tf.constant(0xFFFF, tf.uint64)
    whole = sum(tf.cast(tf.bitwise.bitwise_and(part, low), tf.int32) for part in parts)
    numbers = (tf.cast(whole, tf.float32) / 65536 + 2 / 65536 - 2) * math.sqrt(3)
    return tf.reshape(numbers, [-1, *shape])
