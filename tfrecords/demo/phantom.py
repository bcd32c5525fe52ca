"""Draws chest radiograph phantoms from a seed, the images of the demo data.

They are drawings. They contain no patient's data, and no radiograph was traced or sampled for them. A model
learns nothing about disease from them: they exist so that conversion, training and the report can run before
there is data. A patient has one `Anatomy`; each image of that patient has its own pose, exposure, blur and
noise. The lungs of both classes hold patches where air is lost, of varying size, place and strength, some
almost hidden behind the heart: those of a PNEUMONIA image, its opacities, are drawn out sideways, those of a
NORMAL image, its folds, downwards. Everything else is drawn the same way for both classes, including
soft-tissue shadows that look like an opacity. So the classes differ in shapes alone: whole-image numbers such
as exposure, sharpness and coarse brightness hardly tell them apart, and a model cannot take that shortcut.

The picture is the logarithm of the light that passes through a body: a sum of tissue minus the air of the
lungs, followed by the response of the film. Lengths are in half image sides: x grows to the right of the
image (the patient's left) and y downwards, both from -1 to 1 over the image before the pose.

All arithmetic is float64 in NumPy: processors differ in the last bits of `exp`, but in float64 this does not
change a rounded pixel.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SIDE = 144  # pixels; more than the 128 of many small models, few enough to draw an image in milliseconds

SPINE = 0.075  # half width of the vertebral column
VERTEBRA = 0.105  # from disc to disc
HAZE_KNOTS = 6  # on a side; lungs aerate unevenly over a third of their height, sick or not

# These set the difficulty. They were chosen by training and by `tfrecords.show --audit` (split by group,
# 128x128): the small CNN reaches a test accuracy of 0.94, whole-image numbers an AUROC of 0.53 [0.48, 0.57].
# Longer patches are easier, but those that lie sideways then leave the narrow lungs: coarse brightness tells
# them (0.64 at a length of 2.2 and a radius up to 0.15).
OPACITIES = (2, 6)  # least, most in an image
OPACITY_RADIUS = (0.07, 0.11)
OPACITY_STRENGTH = (0.75, 1.0)  # share of the air that is lost where the patches are densest
LENGTH = 1.4  # half the length of a patch, as a share of its radius
TILT = 0.25  # deviation of its direction, radians
WAVE = 0.08  # deviation of its discs from a straight line, as a share of its radius
PATCHES = 9  # soft discs in one opacity; fewer look like balls, more like a cloud
PATCH_RADIUS = (0.30, 0.50)  # as a share of the radius of the opacity
PATCH_DENSITY = 1.5  # optical depth in the middle of a disc; above 1, overlapping discs merge
FOLD = 0.05  # largest density of a shadow, in both classes, that looks like a faint opacity

MARKER = ("11110", "10001", "10001", "11110", "10100", "10010", "10001")  # the letter R


@dataclass(frozen=True)
class Anatomy:
    """What all images of one patient share; lengths in half image sides."""

    chest_width: float  # midline to the lung's outer edge, at the base
    lung_top: float  # y of the apex
    lung_base: float  # y of the outer end of the diaphragm
    dome: float  # rise of the diaphragm above lung_base
    mediastinum: float  # half width
    heart: float  # mean radius
    heart_tilt: float  # radians, clockwise
    knob: float  # radius of the aortic arch
    rib_spacing: float
    rib_drop: float  # from spine to the outer edge
    rib_density: float
    clavicle_rise: float  # towards the shoulder
    spine_bend: float  # sideways, at mid-height
    flesh: float  # thickness of the soft tissue around the cage
    breast: float  # density of the shadows over the lower lungs
    gas: float  # size of the gastric bubble, 0 for none
    vessels: tuple[tuple[float, float], ...]  # periods by which the vascular tree's layers are turned

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """Returns the anatomy of a new patient."""
        return cls(
            chest_width=rng.uniform(0.66, 0.80),
            lung_top=rng.uniform(-0.86, -0.76),
            lung_base=rng.uniform(0.66, 0.82),
            dome=rng.uniform(0.15, 0.24),
            mediastinum=rng.uniform(0.10, 0.15),
            heart=rng.uniform(0.27, 0.37),
            heart_tilt=rng.uniform(0.5, 0.95),
            knob=rng.uniform(0.07, 0.11),
            rib_spacing=rng.uniform(0.145, 0.185),
            rib_drop=rng.uniform(0.18, 0.34),
            rib_density=rng.uniform(0.065, 0.115),
            clavicle_rise=rng.uniform(0.04, 0.22),
            spine_bend=rng.normal(0.0, 0.015),
            flesh=rng.uniform(0.08, 0.20),
            breast=max(0.0, rng.uniform(-0.10, 0.16)),
            gas=max(0.0, rng.uniform(-0.06, 0.10)),
            vessels=tuple((rng.random(), rng.random()) for _ in range(3)),
        )

    def outer(self, y: Floats) -> Floats:
        """Returns the x of the lung's outer edge at height y."""
        depth = np.clip((y - self.lung_top) / (self.lung_base - self.lung_top), 0.0, 1.2)
        return self.chest_width * depth**0.38 * (1.22 - 0.22 * depth)

    def diaphragm(self, x: Floats) -> Floats:
        """Returns the y of the diaphragm at x; the liver lifts the image's left."""
        lift = self.dome + np.where(x < 0.0, 0.04, 0.0)
        away = (np.abs(x) - 0.45 * self.chest_width) / (0.55 * self.chest_width)
        return self.lung_base - lift * (1.0 - away * away)


@dataclass(frozen=True)
class Pose:
    """How the patient stands before the film."""

    angle: float  # radians
    zoom: float
    shift_x: float
    shift_y: float
    turn: float  # sideways move of heart and spine against the cage, in half image sides
    breath: float  # move of the diaphragm; down is a deep breath

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """Returns the pose of a new image."""
        return cls(
            angle=rng.normal(0.0, 0.04),
            zoom=rng.uniform(0.91, 1.07),
            shift_x=rng.normal(0.0, 0.035),
            shift_y=rng.normal(0.0, 0.04),
            turn=rng.normal(0.0, 0.025),
            breath=rng.uniform(-0.10, 0.06),
        )

    def to_body(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Returns where points of the image lie in the body's own, upright frame."""
        x, y = (x - self.shift_x) / self.zoom, (y - self.shift_y) / self.zoom
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return cos * x + sin * y, cos * y - sin * x

    def to_image(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Returns where points of the body lie in the image: the inverse of `to_body`."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        x, y = cos * x - sin * y, cos * y + sin * x
        return x * self.zoom + self.shift_x, y * self.zoom + self.shift_y


def draw(rng: np.random.Generator, anatomy: Anatomy, *, opacities: bool) -> npt.NDArray[np.uint8]:
    """Returns one image of a patient, uint8 [SIDE, SIDE].

    Pose, film and opacities have streams of their own, spawned from rng: for generators of the same
    seed, an image with opacities and one with folds differ by the direction of these alone.
    """
    pose_rng, film_rng, opacity_rng = rng.spawn(3)
    pose = Pose.draw(pose_rng)
    x, y = pose.to_body(*_grid())
    middle = x - pose.turn - anatomy.spine_bend * (1.0 - y * y)
    heart = _heart(anatomy, middle, y)
    air = _air(anatomy, pose, x, y, middle) * (1.0 - 0.8 * heart)
    air *= 1.0 - 0.16 * _haze(pose_rng)
    air *= 1.0 - _lost(opacity_rng, anatomy, pose, sideways=opacities)
    tissue = _body(anatomy, x, y) + _bones(anatomy, x, y, middle) + 0.27 * heart
    tissue += _vessels(anatomy, middle, y) * air + _soft_shadows(anatomy, pose_rng, x, y)
    below = _edge(y - anatomy.diaphragm(x) - pose.breath, 0.05)
    tissue += 0.16 * below * _edge(anatomy.outer(y) + 0.03 - np.abs(x), 0.10)
    tissue -= 0.12 * _edge(0.035 - np.abs(middle), 0.04) * _edge(-0.25 - y, 0.1)
    return _expose(film_rng, tissue - 0.60 * air)


@lru_cache(maxsize=1)
def _grid() -> tuple[Floats, Floats]:
    """Returns x and y of the pixels' centres, [SIDE, SIDE] each."""
    line = (np.arange(SIDE) + 0.5) * (2.0 / SIDE) - 1.0
    x, y = np.meshgrid(line, line)
    x.flags.writeable = y.flags.writeable = False
    return x, y


def _edge(distance: Floats, width: float) -> Floats:
    """Returns 0 outside, 1 inside and a smooth step of the width where the distance changes sign."""
    t = distance * (1.0 / width)
    t += 0.5
    np.clip(t, 0.0, 1.0, out=t)
    rest = 3.0 - 2.0 * t
    t *= t
    t *= rest
    return t


def _disc(x: Floats, y: Floats, radius_x: float, radius_y: float, soft: float) -> Floats:
    """Returns a filled ellipse at the origin, with an edge that is soft by a share of its radius."""
    squared = (x * (1.0 / radius_x)) ** 2
    squared += (y * (1.0 / radius_y)) ** 2
    return _edge(1.0 - np.sqrt(squared), soft)


@lru_cache(maxsize=1)
def _spread() -> Floats:
    """Returns the cubic B-spline weights that carry HAZE_KNOTS values to pixels, [SIDE, knots]."""
    place = (np.arange(SIDE) + 0.5) * ((HAZE_KNOTS - 3) / SIDE) + 1.0
    away = np.abs(place[:, None] - np.arange(HAZE_KNOTS))
    near = 2.0 / 3.0 - away * away * (1.0 - away / 2.0)
    weights = np.where(away < 1.0, near, np.clip(2.0 - away, 0.0, None) ** 3 / 6.0)
    weights.flags.writeable = False
    return weights


def _haze(rng: np.random.Generator) -> Floats:
    """Returns smooth noise of mean 0 and a deviation near 1, cut at its tails, [SIDE, SIDE]."""
    noise = 2.0 * _spread() @ rng.standard_normal((HAZE_KNOTS, HAZE_KNOTS)) @ _spread().T
    return np.clip(noise, -1.0, 2.5)


def _blur(image: Floats, sigma: float) -> Floats:
    """Returns the image under a Gaussian of at most 1 pixel, without darkening its border."""
    taps = np.exp(-0.5 * (np.arange(-3, 4) / sigma) ** 2)
    taps /= taps.sum()
    for _ in range(2):
        padded = np.pad(image, ((3, 3), (0, 0)), mode="edge")
        image = sum(tap * padded[start : start + SIDE] for start, tap in enumerate(taps)).T
    return image


def _body(anatomy: Anatomy, x: Floats, y: Floats) -> Floats:
    """Returns the soft tissue of trunk, neck, shoulders and arms."""
    side = np.abs(x)
    trunk = anatomy.chest_width + anatomy.flesh + 0.05 * y
    shoulder = anatomy.lung_top - 0.10 + 0.34 * np.clip(side - 0.28, 0.0, None)
    round_off = np.sqrt(np.clip(1.0 - (side / trunk) ** 2, 0.0, 1.0))
    thickness = 0.42 + 0.28 * round_off + 0.06 * y
    chest = thickness * _edge(trunk - side, 0.06) * _edge(y - shoulder, 0.10)
    neck = 0.55 * _edge(0.29 - side, 0.16) * _edge(shoulder - y, 0.10)
    arm_inside = trunk + 0.03 + 0.10 * np.clip(y + 0.3, 0.0, None)
    arm = 0.36 * _edge(side - arm_inside, 0.06) * _edge(y - shoulder - 0.02, 0.12)
    joint = 0.34 * _edge(side - trunk + 0.10, 0.2) * _edge(y - shoulder, 0.1) * _edge(-0.25 - y, 0.3)
    return np.maximum(chest, np.maximum(arm, joint)) + neck


def _air(anatomy: Anatomy, pose: Pose, x: Floats, y: Floats, middle: Floats) -> Floats:
    """Returns the air of both lungs, about 1 where they are deep."""
    outside = anatomy.outer(y) - np.abs(x)
    inside = np.abs(middle) - anatomy.mediastinum * (1.0 + 0.25 * y * y)
    above = anatomy.diaphragm(x) + pose.breath - y
    depth = 0.66 + 0.34 * np.clip(outside / 0.3, 0.0, 1.0)
    tip = _edge(np.abs(x) - 0.9 * anatomy.mediastinum - 0.6 * (anatomy.lung_top + 0.12 - y), 0.12)
    return depth * tip * _edge(outside, 0.05) * _edge(inside, 0.07) * _edge(above, 0.04)


def _heart(anatomy: Anatomy, x: Floats, y: Floats) -> Floats:
    """Returns the silhouette of heart, aortic arch and great vessels, at most 1."""
    size = anatomy.heart
    cos, sin = np.cos(anatomy.heart_tilt), np.sin(anatomy.heart_tilt)
    from_x, from_y = x - 0.42 * size, y - 0.34
    along, across = cos * from_x + sin * from_y, cos * from_y - sin * from_x
    left = _disc(along, across, 1.32 * size, 0.88 * size, 0.18)
    right = _disc(x + 0.20 * size, y - 0.32, 0.62 * size, 1.05 * size, 0.22)
    knob = _disc(x - 0.10, y + 0.30, anatomy.knob, 1.2 * anatomy.knob, 0.35)
    trunk = _disc(x - 0.07, y + 0.02, 0.19, 0.36, 0.40)
    empty = (1.0 - left) * (1.0 - 0.85 * right) * (1.0 - 0.7 * knob) * (1.0 - 0.7 * trunk)
    return 1.0 - empty


def _bones(anatomy: Anatomy, x: Floats, y: Floats, middle: Floats) -> Floats:
    """Returns ribs, clavicles, shoulder blades and spine."""
    side = np.abs(x)
    outer = np.maximum(anatomy.outer(y), 0.12)
    out = side / outer
    cage = _edge(1.06 - out, 0.07) * _edge(y - anatomy.lung_top, 0.1)
    back = y - anatomy.rib_drop * out * (1.15 * out * out - 0.45)
    front = y - anatomy.rib_drop * (0.70 + (1.8 - out) * np.clip(1.02 - out, 0.0, None))
    ribs = _rib(back / anatomy.rib_spacing, 0.21) * _edge(side - SPINE, 0.06)
    ribs += 0.55 * _rib(front / anatomy.rib_spacing + 0.3, 0.27) * _edge(out - 0.48, 0.30)
    ribs += 0.7 * np.exp(-(((out - 1.01) / 0.035) ** 2))
    bones = anatomy.rib_density * cage * ribs * _edge(0.75 - y, 0.5)

    reach = side / (0.95 * anatomy.chest_width)
    collar = anatomy.lung_top + 0.24 - anatomy.clavicle_rise * reach - 0.14 * reach * (1.0 - reach)
    bar = _edge(0.040 - 0.06 * reach * (1.0 - reach) - np.abs(y - collar), 0.025)
    bones += 0.20 * bar * _edge(side - 0.06, 0.03) * _edge(1.05 - reach, 0.12)

    blade_x, blade_y = side - anatomy.chest_width - 0.05 + 0.12 * (y + 0.3), y + 0.34
    bones += 0.08 * _disc(blade_x, blade_y, 0.18, 0.32, 0.6)
    bones += 0.11 * _disc(side - anatomy.chest_width - 0.21, y + 0.56, 0.13, 0.14, 0.7)

    disc = np.cos(2.0 * np.pi / VERTEBRA * y)
    column = _edge(SPINE + 0.006 * disc - np.abs(middle), 0.03)
    return bones + column * (0.15 + 0.025 * disc)


def _rib(phase: Floats, half: float) -> Floats:
    """Returns bands of period 1, denser at both edges like cortical bone."""
    off = np.abs(phase - np.round(phase))
    return _edge(half - off, 0.16) * (0.75 + 0.35 * np.minimum(off / half, 1.0) ** 2)


def _vessels(anatomy: Anatomy, x: Floats, y: Floats) -> Floats:
    """Returns the vascular tree of both lungs: ridges that fan out from the hila and fade."""
    side = np.abs(x) - 0.15
    far = np.sqrt(side * side + (y + 0.02) ** 2)
    turn = np.arctan2(y + 0.02, side) / np.pi
    mirror = np.copysign(1.0, x)
    tree = np.zeros_like(x)
    for (phase, apart), branches, bend in zip(
        anatomy.vessels, (3.5, 6.0, 9.5), (0.9, -1.6, 2.5), strict=True
    ):
        ridge = branches * turn + bend * far + (phase + apart * mirror)
        ridge -= np.rint(ridge)
        ridge *= ridge
        ridge = 1.0 - 4.0 * ridge
        ridge *= ridge
        tree += ridge * ridge
    tree *= np.exp(-far / 0.24) * _edge(far - 0.07, 0.12)
    return 0.15 * tree + 0.18 * np.exp(-far * far / 0.014)


def _soft_shadows(anatomy: Anatomy, rng: np.random.Generator, x: Floats, y: Floats) -> Floats:
    """Returns shadows that are not in the lungs but lie over them: breasts, folds, stomach gas."""
    breasts = _disc(np.abs(x) - 0.42, y - 0.34, 0.30, 0.26, 0.5)
    fold_x, fold_y, radius = rng.uniform(-0.6, 0.6), rng.uniform(-0.4, 0.4), rng.uniform(0.1, 0.3)
    fold = rng.uniform(0.0, FOLD) * np.exp(-((x - fold_x) ** 2 + (y - fold_y) ** 2) / radius**2)
    shadow = anatomy.breast * breasts + fold
    if anatomy.gas > 0.0:
        low = anatomy.lung_base + 0.04
        shadow -= 0.22 * _disc(x - 0.34, y - low, 0.10 + anatomy.gas, 0.05 + anatomy.gas, 0.4)
    return shadow


def _lost(rng: np.random.Generator, anatomy: Anatomy, pose: Pose, *, sideways: bool) -> Floats:
    """Returns the share of the air that is lost at each pixel, below 1.

    A patch is a row of soft discs, sideways in an opacity and downwards in a fold. Discs are round in the
    image, so each is the product of a row and a column, and a patch is one matrix product.
    """
    kept = np.ones((SIDE, SIDE))
    line = _grid()[0][0]
    for _ in range(rng.integers(*OPACITIES, endpoint=True)):
        y = rng.uniform(-0.40, anatomy.lung_base - 0.6 * anatomy.dome)
        x = rng.uniform(0.22, max(0.30, float(anatomy.outer(np.asarray(y))) - 0.08))
        x *= rng.choice((-1.0, 1.0))
        radius = rng.uniform(*OPACITY_RADIUS)
        along = np.linspace(-LENGTH, LENGTH, PATCHES)[:, None] * radius
        angle = rng.normal(0.0, TILT) + (0.0 if sideways else np.pi / 2)
        spots = rng.normal((x, y), WAVE * radius, size=(PATCHES, 2)) + along * (np.cos(angle), np.sin(angle))
        sizes = radius * rng.uniform(*PATCH_RADIUS, size=(PATCHES, 1))
        to_x, to_y = pose.to_image(spots[:, :1], spots[:, 1:])
        rows = np.exp(-(((line - to_y) / sizes) ** 2))
        columns = np.exp(-(((line - to_x) / sizes) ** 2))
        cluster = 1.0 - np.exp(-PATCH_DENSITY * rows.T @ columns)
        kept *= 1.0 - rng.uniform(*OPACITY_STRENGTH) * cluster
    return 1.0 - kept


def _expose(rng: np.random.Generator, density: Floats) -> npt.NDArray[np.uint8]:
    """Returns the film: blur, quantum noise, response, vignette and a marker, [SIDE, SIDE]."""
    x, y = _grid()
    density = _blur(density, rng.uniform(0.45, 1.0))
    grain = rng.standard_normal((SIDE, SIDE))
    grain = grain + 1.5 * _blur(grain, 0.8)
    density = density + rng.uniform(0.004, 0.016) * grain * np.exp(0.5 * density)
    middle, contrast = rng.normal(0.42, 0.055), rng.uniform(3.2, 5.2)
    light = 1.0 / (1.0 + np.exp(-contrast * (density - middle)))
    floor = 1.0 / (1.0 + np.exp(contrast * middle))
    light = np.clip((light - floor) / (1.0 - floor), 0.0, None) ** rng.uniform(0.8, 1.2)
    off_x, off_y = rng.normal(0.0, 0.15, size=2)
    light *= 1.0 - rng.uniform(0.05, 0.20) * ((x - off_x) ** 2 + (y - off_y) ** 2)
    pixels = 255.0 * (rng.uniform(0.0, 0.05) + rng.uniform(0.82, 0.97) * light)
    if rng.random() < 0.6:
        letter = np.array([[int(dot) for dot in row] for row in MARKER], np.float64)
        top, left = rng.integers(4, 30), rng.integers(4, 14)
        patch = pixels[top : top + 7, left : left + 5]
        patch += (235.0 - patch) * letter * 0.85
    return np.clip(np.rint(pixels), 0.0, 255.0).astype(np.uint8)
