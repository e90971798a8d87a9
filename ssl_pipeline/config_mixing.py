"""The config's sections for mixing faces within a batch; what each does, `faces.mixing` says."""

from typing import Annotated, Literal

from pydantic import Field

from ssl_pipeline.config_base import Section


class MixingBase(Section):
    """What every mixing has: how often a batch is mixed."""

    probability: Annotated[float, Field(gt=0, le=1)] = 1.0


class MixUp(MixingBase):
    """Blend faces (arXiv:1710.09412)."""

    type: Literal["mixup"]
    alpha: float = Field(default=0.2, gt=0)


class CutMix(MixingBase):
    """Paste a rectangle of another face (arXiv:1905.04899)."""

    type: Literal["cutmix"]
    alpha: float = Field(default=1.0, gt=0)


class VerticalHalves(MixingBase):
    """Take the right half from another face."""

    type: Literal["vertical_halves"]


Mixing = Annotated[MixUp | CutMix | VerticalHalves, Field(discriminator="type")]
