"""Parameters of a mask and of the way it is worn, sampled from one seed per picture."""

import hashlib
from collections.abc import Mapping
from colorsys import hsv_to_rgb
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ssl_pipeline.synthetic.sampling import ChoiceT, Rgb, choose, jitter

MaskKind = Literal["surgical", "three_panel", "cloth"]
Way = Literal["right", "nose_out", "chin_out", "on_chin"]
Print = Literal["none", "dots", "stripes", "checks", "flowers", "camouflage", "lettering"]
Tone = Literal["white", "black", "blue", "other", "print"]

KINDS: tuple[MaskKind, ...] = ("surgical", "three_panel", "cloth")
WAYS: tuple[Way, ...] = ("right", "nose_out", "chin_out", "on_chin")

DEFAULT_KIND_SHARES: Mapping[MaskKind, float] = {"surgical": 0.5, "three_panel": 0.25, "cloth": 0.25}
DEFAULT_COLOR_SHARES: Mapping[Tone, float] = {"white": 0.5, "black": 0.25, "blue": 0.12, "other": 0.06, "print": 0.07}
# Relative frequency of a color per kind; with the default shares, all kinds together have the default color shares.
_COLOR_FACTORS: Mapping[MaskKind, Mapping[Tone, float]] = {
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
_NUM_LIGHT_BLUES = 4  # of the first blues; surgical masks are never navy
_ANY_HUE_SHARE = 0.5  # share of colors that are not listed above
_PRINTS: tuple[Print, ...] = ("dots", "stripes", "checks", "flowers", "camouflage", "lettering")


@dataclass(frozen=True)
class MaskParameters:
    """A mask on one picture.

    Renaming a field changes the digests of drawn pictures.

    Attributes:
        way: `right` covers nose, mouth and chin; the others uncover what they name, `on_chin` nose and mouth.
        color: of the cloth in even white light.
        print_colors: one or two, of the print's layers; empty without a print.
        size: width and height relative to the mean.
        height: position of the upper edge within the range of its way of wearing, -1 (highest) to 1 (lowest).
        sag: distance of the cloth from the face, 0 (taut) to 1.
        folds: depth of creases and pleats, 0 to 1.
        rotation_degrees: of the mask relative to the head, positive clockwise.
        shift: of the mask sideways, in eye distances.
        loop_color: of the ear loops.
        loop_width: in eye distances.
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
    """Return the generator of one picture; it depends on the set's seed, the face and the picture's number alone.

    >>> picture_rng(0, "a.jpg", 1).integers(9) == picture_rng(0, "a.jpg", 1).integers(9)
    np.True_
    """
    words = np.frombuffer(hashlib.sha256(image_id.encode()).digest()[:16], dtype="<u4").tolist()
    return np.random.default_rng(np.random.SeedSequence([set_seed, number, *words]))


def sample_mask(
    rng: np.random.Generator,
    *,
    ways: Mapping[Way, float],
    kinds: Mapping[MaskKind, float] = DEFAULT_KIND_SHARES,
    colors: Mapping[Tone, float] = DEFAULT_COLOR_SHARES,
) -> MaskParameters:
    """Sample a mask.

    Args:
        rng: see `picture_rng`.
        ways: {way of wearing: share}, shares of any sum above 0.
        kinds: {kind: share}.
        colors: {color: share} over all kinds; each kind has its typical colors more often.
    """
    way, kind = _choose(rng, ways), _choose(rng, kinds)
    tone = _choose(rng, {tone: share * _COLOR_FACTORS[kind][tone] for tone, share in colors.items()})
    color = _sample_color(rng, kind, tone)
    return MaskParameters(
        kind=kind,
        way=way,
        color=color,
        print=_PRINTS[int(rng.integers(len(_PRINTS)))] if tone == "print" else "none",
        print_colors=tuple(_sample_print_color(rng, color) for _ in range(rng.integers(1, 3)))
        if tone == "print"
        else (),
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


def _sample_color(rng: np.random.Generator, kind: MaskKind, tone: Tone) -> Rgb:
    if tone in ("other", "print") and rng.random() < _ANY_HUE_SHARE:
        return _sample_any_hue(rng)
    colors = _COLORS[tone][:_NUM_LIGHT_BLUES] if (kind, tone) == ("surgical", "blue") else _COLORS[tone]
    color = colors[int(rng.integers(len(colors)))]
    return jitter(rng, color, spread=6, channel_spread=3, limits=(4, 253))


def _sample_any_hue(rng: np.random.Generator) -> Rgb:
    hue, saturation, value = rng.random(), rng.uniform(0.15, 0.85), rng.uniform(0.45, 0.97)
    red, green, blue = (round(255 * part) for part in hsv_to_rgb(hue, saturation, value))
    return red, green, blue


def _sample_print_color(rng: np.random.Generator, color: Rgb) -> Rgb:
    """Sample three colors; return the one farthest from the cloth's color."""
    candidates = [_sample_color(rng, "cloth", "print") for _ in range(3)]
    return max(candidates, key=lambda candidate: sum(abs(a - b) for a, b in zip(candidate, color, strict=True)))


def _choose(rng: np.random.Generator, shares: Mapping[ChoiceT, float]) -> ChoiceT:
    """Choose one key by its share, in sorted order, so that the order of a config's keys does not matter."""
    return choose(rng, dict(sorted(shares.items())))
