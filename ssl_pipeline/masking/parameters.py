"""A mask as parameters: what it is and how it is worn, all of it drawn from one seed per picture."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

MaskKind = Literal["surgical", "three_panel", "cloth"]
Way = Literal["right", "nose_out", "chin_out", "on_chin"]
Print = Literal["none", "dots", "stripes", "checks", "flowers", "camouflage"]
Rgb = tuple[int, int, int]

KINDS: tuple[MaskKind, ...] = ("surgical", "three_panel", "cloth")
WAYS: tuple[Way, ...] = ("right", "nose_out", "chin_out", "on_chin")
WRONG_WAYS: tuple[Way, ...] = WAYS[1:]

_Choice = TypeVar("_Choice", bound=str)

# How often a kind of mask has which color. With the default shares of kinds about half of all masks are white, a
# quarter black, the rest blue, of another color or printed.
_COLOR_SHARES: Mapping[MaskKind, Mapping[str, float]] = {
    "surgical": {"white": 0.5, "black": 0.14, "blue": 0.28, "other": 0.08},
    "three_panel": {"white": 0.72, "black": 0.22, "other": 0.06},
    "cloth": {"white": 0.18, "black": 0.42, "blue": 0.08, "other": 0.12, "print": 0.2},
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
_PRINTS: tuple[Print, ...] = ("dots", "stripes", "checks", "flowers", "camouflage")
DEFAULT_KIND_SHARES: Mapping[MaskKind, float] = {"surgical": 0.5, "three_panel": 0.25, "cloth": 0.25}
DEFAULT_WAY_SHARES: Mapping[Way, float] = {"nose_out": 0.45, "chin_out": 0.2, "on_chin": 0.35}


@dataclass(frozen=True)
class MaskParameters:
    """One mask on one picture.

    Attributes:
        way: `right` covers nose, mouth and chin; the others leave out what their name says, `on_chin` nose and mouth.
        color: of the cloth, as in even white light.
        print_color: of the print, if there is one.
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
    print_color: Rgb
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
    rng: np.random.Generator, *, ways: Mapping[Way, float], kinds: Mapping[MaskKind, float] = DEFAULT_KIND_SHARES
) -> MaskParameters:
    """Draw a mask.

    Args:
        rng: see `picture_rng`.
        ways: {way of wearing: share}, shares of any sum above 0.
        kinds: the same for the kinds.
    """
    way, kind = _choose(rng, ways), _choose(rng, kinds)
    tone = _choose(rng, _COLOR_SHARES[kind])
    colors = _COLORS[tone][:_LIGHT_BLUES] if (kind, tone) == ("surgical", "blue") else _COLORS[tone]
    color = _jittered(rng, colors[int(rng.integers(len(colors)))])
    others = rng.permutation(np.array([*_COLORS["print"], *_COLORS["other"]]))[:3]
    contrast = np.abs(others - color).sum(axis=1)
    return MaskParameters(
        kind=kind,
        way=way,
        color=color,
        print=_PRINTS[int(rng.integers(len(_PRINTS)))] if tone == "print" else "none",
        print_color=_jittered(rng, tuple(others[int(contrast.argmax())].tolist())),
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


def _choose(rng: np.random.Generator, shares: Mapping[_Choice, float]) -> _Choice:
    """Choose one key by its share; in sorted order, so that the order of a config's keys does not matter."""
    names = sorted(shares)
    edges = np.cumsum([shares[name] for name in names])
    return names[int(np.searchsorted(edges, rng.uniform(0, edges[-1]), side="right"))]


def _jittered(rng: np.random.Generator, color: tuple[int, ...]) -> Rgb:
    """Shift a color as a whole and, less, channel by channel."""
    red, green, blue = np.clip(np.asarray(color) + rng.normal(0, 6) + rng.normal(0, 3, 3), 4, 253).astype(int).tolist()
    return red, green, blue
