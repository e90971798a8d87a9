"""A mask as parameters: what it is and how it is worn, all of it drawn from one seed per picture."""

import hashlib
from collections.abc import Mapping
from colorsys import hsv_to_rgb
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

MaskKind = Literal["surgical", "three_panel", "cloth"]
Way = Literal["right", "nose_out", "chin_out", "on_chin"]
Print = Literal["none", "dots", "stripes", "checks", "flowers", "camouflage", "lettering"]
Tone = Literal["white", "black", "blue", "other", "print"]
Rgb = tuple[int, int, int]

KINDS: tuple[MaskKind, ...] = ("surgical", "three_panel", "cloth")
WAYS: tuple[Way, ...] = ("right", "nose_out", "chin_out", "on_chin")
WRONG_WAYS: tuple[Way, ...] = WAYS[1:]

_Choice = TypeVar("_Choice", bound=str)

DEFAULT_KIND_SHARES: Mapping[MaskKind, float] = {"surgical": 0.5, "three_panel": 0.25, "cloth": 0.25}
DEFAULT_COLOR_SHARES: Mapping[Tone, float] = {"white": 0.5, "black": 0.25, "blue": 0.12, "other": 0.06, "print": 0.07}
# How much oftener than others a kind has a color; with the default shares the kinds together come to these shares.
_USUAL: Mapping[MaskKind, Mapping[Tone, float]] = {
    "surgical": {"white": 1.0, "black": 0.5, "blue": 2.0, "other": 1.3, "print": 0.3},
    "three_panel": {"white": 1.4, "black": 0.9, "blue": 0.2, "other": 1.0, "print": 0.2},
    "cloth": {"white": 0.4, "black": 1.7, "blue": 0.7, "other": 2.0, "print": 2.9},
}
_COLORS: Mapping[str, tuple[Rgb, ...]] = {
    "white": ((244, 245, 246), (236, 239, 243), (247, 245, 240)),
    "black": ((38, 38, 42), (50, 50, 54), (30, 31, 36), (66, 67, 72)),
    "blue": ((152, 198, 226), (132, 184, 220), (120, 196, 214), (172, 214, 232), (46, 62, 104)),
    "other": ((150, 154, 160), (232, 186, 198), (222, 200, 172), (150, 200, 172), (198, 182, 214), (148, 52, 60),
              (224, 124, 152), (232, 212, 136)),
    "print": ((238, 236, 232), (36, 38, 52), (170, 44, 56), (60, 92, 142), (226, 196, 168), (86, 98, 74)),
}  # fmt: skip
_LIGHT_BLUES = 4  # the first of the blues; navy is for cloth
_ANY_HUE = 0.5  # share of colors other than those listed above
_PRINTS: tuple[Print, ...] = ("dots", "stripes", "checks", "flowers", "camouflage", "lettering")


@dataclass(frozen=True)
class MaskParameters:
    """One mask on one picture.

    Attributes:
        way: `right` covers nose, mouth and chin; the others leave out what their name says, `on_chin` nose and mouth.
        color: of the cloth, as in even white light.
        print_colors: of the print's layers, one or two; none where nothing is printed.
        size: 1 is the usual; width and height alike.
        height: where the upper edge lies inside what its way of wearing allows, -1 (highest) to 1 (lowest).
        sag: how far the cloth hangs away from the face, 0 (taut) to 1.
        folds: how deep creases and pleats are, 0 to 1.
        rotation_degrees: the mask against the head, positive clockwise.
        shift: of the mask sideways, in distances between the eyes.
        loop_color: of the ear loops.
        loop_width: in distances between the eyes.
        valve: whether it has a breathing valve.
        seed: of creases, print and noise.
    """

    kind: MaskKind
    way: Way
    color: Rgb
    print: Print
    print_colors: tuple[Rgb, ...]
    size: float
    height: float
    sag: float
    folds: float
    rotation_degrees: float
    shift: float
    loop_color: Rgb
    loop_width: float
    valve: bool
    seed: int

    @property
    def mask(self) -> Literal["wear", "incorrect"]:
        """The value of the attribute mask, known by construction."""
        return "wear" if self.way == "right" else "incorrect"


def picture_rng(set_seed: int, image_id: str, number: int) -> np.random.Generator:
    """Give the generator of one picture: it depends on the set's seed, the face and the picture's number alone.

    >>> picture_rng(0, "a.jpg", 1).integers(9) == picture_rng(0, "a.jpg", 1).integers(9)
    np.True_
    """
    words = np.frombuffer(hashlib.sha256(image_id.encode()).digest()[:16], dtype="<u4").tolist()
    return np.random.default_rng(np.random.SeedSequence([set_seed, number, *words]))


def draw_parameters(
    rng: np.random.Generator,
    *,
    ways: Mapping[Way, float],
    kinds: Mapping[MaskKind, float] = DEFAULT_KIND_SHARES,
    colors: Mapping[Tone, float] = DEFAULT_COLOR_SHARES,
) -> MaskParameters:
    """Draw a mask.

    Args:
        rng: see `picture_rng`.
        ways: {way of wearing: share}, shares of any sum above 0.
        kinds: the same for the kinds.
        colors: the same for the colors; a kind has those oftener that are usual for it.
    """
    way, kind = _choose(rng, ways), _choose(rng, kinds)
    tone = _choose(rng, {tone: share * _USUAL[kind][tone] for tone, share in colors.items()})
    color = _color(rng, kind, tone)
    return MaskParameters(
        kind=kind,
        way=way,
        color=color,
        print=_PRINTS[int(rng.integers(len(_PRINTS)))] if tone == "print" else "none",
        print_colors=tuple(_contrasting(rng, color) for _ in range(rng.integers(1, 3))) if tone == "print" else (),
        size=float(np.clip(rng.normal(1, 0.045), 0.9, 1.1)),
        height=float(rng.uniform(-1, 1)),
        sag=float(rng.beta(1.5, 2.5)),
        folds=float(rng.beta(2, 2)),
        rotation_degrees=float(np.clip(rng.normal(0, 2), -6, 6)),
        shift=float(np.clip(rng.normal(0, 0.02), -0.06, 0.06)),
        loop_color=color if tone == "black" or kind == "cloth" else (238, 239, 240),
        loop_width=float(rng.uniform(0.024, 0.042) * (1.5 if kind == "cloth" else 1)),
        valve=bool(kind != "surgical" and rng.random() < 0.08),
        seed=int(rng.integers(2**32)),
    )


def _color(rng: np.random.Generator, kind: MaskKind, tone: Tone) -> Rgb:
    if tone in ("other", "print") and rng.random() < _ANY_HUE:
        return _any_hue(rng)
    colors = _COLORS[tone][:_LIGHT_BLUES] if (kind, tone) == ("surgical", "blue") else _COLORS[tone]
    return _jittered(rng, colors[int(rng.integers(len(colors)))])


def _any_hue(rng: np.random.Generator) -> Rgb:
    hue, saturation, value = rng.random(), rng.uniform(0.15, 0.85), rng.uniform(0.45, 0.97)
    red, green, blue = (round(255 * part) for part in hsv_to_rgb(hue, saturation, value))
    return red, green, blue


def _contrasting(rng: np.random.Generator, color: Rgb) -> Rgb:
    """Draw the color of a print: of three, the one farthest from the ground."""
    others = [_color(rng, "cloth", "print") for _ in range(3)]
    return max(others, key=lambda other: sum(abs(one - two) for one, two in zip(other, color, strict=True)))


def _choose(rng: np.random.Generator, shares: Mapping[_Choice, float]) -> _Choice:
    """Choose one key by its share; in sorted order, so that the order of a config's keys does not matter."""
    names = sorted(shares)
    edges = np.cumsum([shares[name] for name in names])
    return names[int(np.searchsorted(edges, rng.uniform(0, edges[-1]), side="right"))]


def _jittered(rng: np.random.Generator, color: tuple[int, ...]) -> Rgb:
    """Shift a color as a whole and, less, channel by channel."""
    red, green, blue = np.clip(np.asarray(color) + rng.normal(0, 6) + rng.normal(0, 3, 3), 4, 253).astype(int).tolist()
    return red, green, blue
