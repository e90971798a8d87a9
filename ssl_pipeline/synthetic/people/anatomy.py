"""Lengths and colors of a face, computed from the person's gender, age and individual shape."""

from dataclasses import dataclass

import numpy as np

from ssl_pipeline.synthetic.people.canvas import GRAY_HAIR, Color, FloatArray, mix, smooth
from ssl_pipeline.synthetic.people.parameters import DrawnPerson


@dataclass(frozen=True)
class Anatomy:
    """Measures of a face; lengths in the head frame of `canvas`.

    Attributes:
        old: apparent age, from 0 (about 22 years) to 1.1 (80 years).
        gray: share of gray hair, 0 to 1.
        recession: of the hairline, 0 to 1.
    """

    old: float
    width: float
    jaw: float
    chin: float
    brow: float
    brow_y: float
    eye: float
    nose: float
    lips: float
    gray: float
    recession: float
    wrinkles: float
    hair: Color

    @classmethod
    def of(cls, person: DrawnPerson) -> "Anatomy":
        """Compute the measures. The genders' means differ by 1 to 2.5 standard deviations."""
        male, shape = float(person.gender == "male"), person.shape
        age = person.age_years + person.looks_older_years
        old = float(np.clip((age - 22) / 52, 0, 1.1))
        gray = float(1 / (1 + np.exp((person.graying_age_years - age) / 4.5)))
        return cls(
            old=old,
            width=0.73 + 0.015 * male + 0.025 * shape.width,
            jaw=0.465 + 0.085 * male + 0.035 * shape.jaw + 0.03 * old,
            chin=0.15 + 0.05 * male + 0.025 * shape.jaw,
            brow=0.032 + 0.027 * male + 0.012 * shape.brow,
            brow_y=-0.315 + 0.035 * male + 0.015 * shape.brow + 0.02 * old,
            eye=0.125 - 0.008 * male + 0.008 * shape.eyes - 0.014 * old,
            nose=0.105 + 0.015 * male + 0.012 * shape.nose + 0.012 * old,
            lips=0.082 - 0.018 * male + 0.013 * shape.lips - 0.03 * old,
            gray=gray,
            recession=float(np.clip(person.balding * (age - 24) / 40, 0, 1)) * (1 if male else 0.25),
            wrinkles=float(np.clip((age - 27) / 45, 0, 1.2)) * person.wrinkling,
            hair=mix(person.hair_color, GRAY_HAIR, 0.85 * gray),
        )

    def outline(self) -> FloatArray:
        """Return the closed outline of the face; old age adds jowls."""
        jowl = 0.035 * self.old
        right = [
            (0.37, -0.95), (self.width - 0.1, -0.6), (self.width, -0.12), (self.width - 0.05, 0.32),
            (self.jaw + 0.02 + jowl, 0.68), (self.chin + 0.12 + jowl, 0.91), (self.chin, 1.0),
        ]  # fmt: skip
        left = [(-x, y) for x, y in reversed(right)]
        return smooth([(0, -1.04), *right, *left], closed=True)

    def right_edge(self) -> FloatArray:
        """Return the right half of the outline, from the crown down."""
        outline = self.outline()
        return outline[outline[:, 0] > 0]
