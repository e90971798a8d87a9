"""Parameters of drawn people and of their pictures, and how they are sampled.

`face` draws them. Every person and every picture has its own seed, so neither depends on the number of others or on the
order of drawing.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ssl_pipeline.synthetic.sampling import Rgb, choose, jitter

Population = Literal["home", "elsewhere"]
MaskWearing = Literal["wear", "incorrect", "normal"]
Gender = Literal["male", "female"]
HairStyle = Literal["bald", "buzz", "short", "swept", "curly", "bob", "long", "bun"]
Beard = Literal["none", "stubble", "full"]
MaskFit = Literal["nose_out", "mouth_out", "chin_out"]
MaskStyle = Literal["surgical", "three_panel", "cloth"]
Eyewear = Literal["none", "glasses", "sunglasses"]
Occlusion = Literal["none", "strand", "hat", "hand"]


@dataclass(frozen=True)
class FaceShape:
    """Differences of a face from the mean of its gender, in standard deviations per trait."""

    width: float
    jaw: float
    brow: float
    eyes: float
    nose: float
    lips: float


@dataclass(frozen=True)
class DrawnPerson:
    """A person: what all of their pictures share.

    Attributes:
        age_years: 18 to 80.
        shape: individual traits; `anatomy` adds the effects of gender and age.
        looks_older_years: apparent minus true age; negative if the face looks younger.
        wrinkling: depth of the wrinkles relative to the mean at that age.
        graying_age_years: age at which half of the hair is gray.
        balding: recession of a man's hairline by old age, 0 (none) to 1 (bald); a quarter of it for women.
        makeup: 0 (none) to 1.
        seed: of random details that stay with the person, e.g. wrinkles.
    """

    person_id: str
    gender: Gender
    age_years: int
    population: Population
    skin: Rgb
    hair_style: HairStyle
    hair_color: Rgb
    eye_color: Rgb
    beard: Beard
    shape: FaceShape
    looks_older_years: float
    wrinkling: float
    graying_age_years: float
    balding: float
    makeup: float
    earrings: bool
    wears_glasses: bool
    seed: int


@dataclass(frozen=True)
class Pose:
    """Pose of the head: roll and yaw in degrees, shifts as shares of the picture's side, scale relative to the mean."""

    roll_degrees: float
    yaw_degrees: float
    shift_x: float
    shift_y: float
    scale: float


@dataclass(frozen=True)
class Light:
    """Direction (x right, y down, each about -1 to 1), share of ambient light (0 to 1), gain (mean 1), warmth of color."""

    x: float
    y: float
    ambient: float
    gain: float
    warmth: float


@dataclass(frozen=True)
class DrawnFace:
    """One picture of one person.

    Attributes:
        mask_fit: what an incorrectly worn mask leaves uncovered; otherwise without effect.
        smile: -1 (corners of the mouth down) to 1.
        blur: standard deviation, as a share of the picture's side.
        noise: standard deviation of the sensor noise, in gray levels of 255.
        background: the background's colors, two or more.
        seed: of all random details of this picture.
    """

    person: DrawnPerson
    mask: MaskWearing
    mask_fit: MaskFit
    mask_style: MaskStyle
    mask_color: Rgb
    pose: Pose
    light: Light
    smile: float
    eyewear: Eyewear
    occlusion: Occlusion
    clothes_color: Rgb
    background: tuple[Rgb, ...]
    blur: float
    noise: float
    seed: int


@dataclass(frozen=True)
class _Distribution:
    """Distribution of a population's parameters. Shares sum to 1; spreads are standard deviations."""

    age_shares: tuple[float, float, float]
    skin_tone_range: tuple[float, float]
    hair_colors: Mapping[Rgb, float]
    backgrounds: Sequence[Rgb]
    roll_spread: float
    yaw_spread: float
    shift_spread: float
    scale_spread: float
    ambient_range: tuple[float, float]
    gain_range: tuple[float, float]
    warmth_range: tuple[float, float]
    blur_max: float
    noise_max: float
    occluded_share: float


_AGE_RANGES = ((18, 30), (30, 60), (60, 81))
_SKIN_TONES: Sequence[Rgb] = (
    (250, 222, 202), (240, 200, 172), (224, 176, 142), (198, 146, 108), (158, 108, 76), (116, 76, 54), (84, 56, 44),
)  # fmt: skip
_HOME = _Distribution(
    age_shares=(0.40, 0.35, 0.25),
    skin_tone_range=(0.05, 0.6),
    hair_colors={(38, 28, 24): 0.35, (74, 48, 32): 0.35, (118, 80, 48): 0.17, (188, 148, 88): 0.13},
    backgrounds=((212, 214, 216), (190, 200, 208), (222, 214, 200), (140, 152, 160), (232, 230, 226), (120, 112, 102)),
    roll_spread=4.0, yaw_spread=7.0, shift_spread=0.02, scale_spread=0.05,
    ambient_range=(0.45, 0.75), gain_range=(0.88, 1.12), warmth_range=(-0.04, 0.06),
    blur_max=0.007, noise_max=6.0, occluded_share=0.12,
)  # fmt: skip
_ELSEWHERE = _Distribution(
    age_shares=(0.27, 0.38, 0.35),
    skin_tone_range=(0.0, 0.95),
    hair_colors={(24, 20, 22): 0.5, (62, 40, 30): 0.24, (140, 72, 36): 0.1, (206, 172, 112): 0.1, (176, 64, 96): 0.06},
    backgrounds=((78, 100, 72), (128, 146, 108), (122, 94, 78), (104, 126, 156), (84, 84, 92), (184, 162, 128),
                 (138, 84, 72), (60, 84, 90)),
    roll_spread=6.0, yaw_spread=10.0, shift_spread=0.028, scale_spread=0.07,
    ambient_range=(0.35, 0.72), gain_range=(0.78, 1.18), warmth_range=(-0.06, 0.14),
    blur_max=0.01, noise_max=10.0, occluded_share=0.18,
)  # fmt: skip
_POPULATIONS: Mapping[Population, _Distribution] = {"home": _HOME, "elsewhere": _ELSEWHERE}

# The genders overlap on purpose: hair must hint at the gender, not reveal it.
_HAIR_STYLES: Mapping[Gender, Mapping[HairStyle, float]] = {
    "male": {"bald": 0.05, "buzz": 0.19, "short": 0.3, "swept": 0.2, "curly": 0.12, "bob": 0.06, "long": 0.08},
    "female": {"buzz": 0.03, "short": 0.14, "swept": 0.11, "curly": 0.14, "bob": 0.2, "long": 0.27, "bun": 0.11},
}  # fmt: skip
_BEARDS: Mapping[Beard, float] = {"none": 0.55, "stubble": 0.25, "full": 0.2}
_EYE_COLORS: Sequence[Rgb] = ((50, 34, 26), (74, 46, 28), (96, 62, 34), (70, 96, 120), (86, 104, 66))
_MASK_STYLES: Mapping[MaskStyle, float] = {"surgical": 0.5, "three_panel": 0.2, "cloth": 0.3}
_MASK_COLORS: Mapping[MaskStyle, Sequence[Rgb]] = {
    "surgical": ((150, 200, 224), (150, 210, 196), (232, 236, 238), (236, 190, 202)),
    "three_panel": ((240, 240, 238), (44, 44, 48), (200, 204, 206)),
    "cloth": ((40, 42, 50), (60, 82, 122), (150, 58, 62), (206, 176, 142), (112, 132, 96), (150, 112, 92)),
}
_CLOTHES: Sequence[Rgb] = ((52, 60, 78), (150, 52, 54), (228, 224, 216), (70, 104, 88), (40, 40, 44), (176, 150, 110))
_MASK_SHARES: Mapping[MaskWearing, float] = {"wear": 0.4, "incorrect": 0.25, "normal": 0.35}


def sample_people(num_people: int, *, population: Population, seed: int) -> list[DrawnPerson]:
    """Sample people of a population; person i does not depend on the number of people.

    Args:
        num_people: 1 or more.
        population: `home` is narrow; `elsewhere` is older, and broader in skin, hair, light and pose.
        seed: 0 or more.

    Returns:
        The people, ``person_id`` being ``{population}{seed}-{number}``. Both genders are equally likely; ages 18 to 80.

    Raises:
        ValueError: if num_people is below 1, the seed negative or the population unknown.
    """
    if num_people < 1:
        raise ValueError(f"num_people must be 1 or more, got {num_people}")
    if population not in _POPULATIONS:
        raise ValueError(f"population must be one of {', '.join(_POPULATIONS)}, got {population!r}")
    position = list(_POPULATIONS).index(population)
    return [
        _sample_person(np.random.default_rng([seed, position, number]), f"{population}{seed}-{number:05d}", population)
        for number in range(num_people)
    ]


def sample_faces(
    people: Sequence[DrawnPerson],
    *,
    images_per_person: int,
    seed: int,
    mask_shares: Mapping[MaskWearing, float] | None = None,
) -> list[DrawnFace]:
    """Sample pictures of people; a picture depends on the seed, the person and its number alone.

    Args:
        people: the people.
        images_per_person: 1 or more.
        seed: 0 or more.
        mask_shares: probability of each value of `mask`; they sum to 1, a missing value has 0. By default 0.4 `wear`,
            0.25 `incorrect`, 0.35 `normal`.

    Returns:
        len(people) × images_per_person pictures, grouped by person.

    Raises:
        ValueError: if images_per_person is below 1, the seed negative, or mask_shares are no shares of known values.
    """
    if images_per_person < 1:
        raise ValueError(f"images_per_person must be 1 or more, got {images_per_person}")
    shares = _MASK_SHARES if mask_shares is None else mask_shares
    unknown = sorted(set(shares) - set(_MASK_SHARES))
    if unknown:
        raise ValueError(f"mask_shares: expected only {', '.join(_MASK_SHARES)}, got {', '.join(unknown)}")
    if not all(share >= 0 for share in shares.values()) or not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
        raise ValueError(f"mask_shares must be 0 or more and sum to 1, got {dict(shares)}")
    # A fixed order, so that the order of the mapping's keys does not matter.
    ordered = {wearing: shares.get(wearing, 0.0) for wearing in _MASK_SHARES}
    return [
        _sample_face(person, np.random.default_rng([seed, zlib.crc32(person.person_id.encode()), number]), ordered)
        for person in people
        for number in range(images_per_person)
    ]


def _sample_color(rng: np.random.Generator, colors: Sequence[Rgb], spread: float = 10.0) -> Rgb:
    return _jitter(rng, colors[int(rng.integers(len(colors)))], spread)


def _jitter(rng: np.random.Generator, color: Sequence[float], spread: float) -> Rgb:
    return jitter(rng, color, spread=spread, channel_spread=spread / 3)


def _sample_skin(rng: np.random.Generator, tone_range: tuple[float, float]) -> Rgb:
    """Interpolate between neighboring skin tones."""
    tones = np.asarray(_SKIN_TONES, dtype=float)
    position = rng.uniform(*tone_range) * (len(tones) - 1)
    low = min(int(position), len(tones) - 2)
    return _jitter(rng, tones[low] + (position - low) * (tones[low + 1] - tones[low]), 5)


def _sample_person(rng: np.random.Generator, person_id: str, population: Population) -> DrawnPerson:
    distribution = _POPULATIONS[population]
    gender: Gender = "male" if rng.random() < 0.5 else "female"
    age_years = int(rng.integers(*_AGE_RANGES[int(rng.choice(3, p=distribution.age_shares))]))
    colors = list(distribution.hair_colors)
    color = colors[int(rng.choice(len(colors), p=list(distribution.hair_colors.values())))]
    skin = _sample_skin(rng, distribution.skin_tone_range)
    return DrawnPerson(
        person_id=person_id,
        gender=gender,
        age_years=age_years,
        population=population,
        skin=skin,
        hair_style=choose(rng, _HAIR_STYLES[gender]),
        hair_color=_jitter(rng, color, 6),
        # Blue and green only with light skin.
        eye_color=_sample_color(rng, _EYE_COLORS if skin[0] > 200 else _EYE_COLORS[:2], 8),
        beard=choose(rng, _BEARDS) if gender == "male" else "none",
        shape=FaceShape(*(float(trait) for trait in rng.normal(0, 1, 6))),
        looks_older_years=float(rng.normal(0, 3)),
        wrinkling=float(rng.uniform(0.6, 1.4)),
        # Some people color their hair, which then turns gray late or never.
        graying_age_years=float(rng.normal(53, 6.5) + (30 if rng.random() < 0.15 else 0)),
        balding=float(rng.beta(1.1, 1.3)),
        makeup=float(rng.uniform(0, 1)) if gender == "female" else 0.0,
        earrings=bool(rng.random() < (0.4 if gender == "female" else 0.06)),
        wears_glasses=bool(rng.random() < 0.12 + 0.003 * age_years),
        seed=int(rng.integers(2**32)),
    )


def _sample_face(person: DrawnPerson, rng: np.random.Generator, mask_shares: Mapping[MaskWearing, float]) -> DrawnFace:
    distribution = _POPULATIONS[person.population]
    mask_style = choose(rng, _MASK_STYLES)
    occluded = rng.random() < distribution.occluded_share
    eyewear: Eyewear = "glasses" if person.wears_glasses and rng.random() < 0.8 else "none"
    return DrawnFace(
        person=person,
        mask=choose(rng, mask_shares),
        mask_fit=choose(rng, {"nose_out": 0.5, "mouth_out": 0.3, "chin_out": 0.2}),
        mask_style=mask_style,
        mask_color=_sample_color(rng, _MASK_COLORS[mask_style], 7),
        pose=Pose(
            roll_degrees=float(rng.normal(0, distribution.roll_spread)),
            yaw_degrees=float(np.clip(rng.normal(0, distribution.yaw_spread), -28, 28)),
            shift_x=float(rng.normal(0, distribution.shift_spread)),
            shift_y=float(rng.normal(0, distribution.shift_spread)),
            scale=float(np.clip(rng.normal(1, distribution.scale_spread), 0.75, 1.25)),
        ),
        light=Light(
            x=float(rng.uniform(-1, 1)),
            y=float(rng.uniform(-0.9, 0.2)),
            ambient=float(rng.uniform(*distribution.ambient_range)),
            gain=float(rng.uniform(*distribution.gain_range)),
            warmth=float(rng.uniform(*distribution.warmth_range)),
        ),
        smile=float(rng.uniform(-0.4, 1)),
        eyewear="sunglasses" if occluded and rng.random() < 0.3 else eyewear,
        occlusion=choose(rng, {"strand": 0.45, "hat": 0.35, "hand": 0.2}) if occluded else "none",
        clothes_color=_sample_color(rng, _CLOTHES),
        background=tuple(_sample_color(rng, distribution.backgrounds, 12) for _ in range(3)),
        blur=float(rng.uniform(0, distribution.blur_max)),
        noise=float(rng.uniform(1, distribution.noise_max)),
        seed=int(rng.integers(2**32)),
    )
