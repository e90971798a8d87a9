"""The config's sections for cropping faces out of pictures; what they do stands in docs/cropping.md."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ssl_pipeline.config.base import Section

MIN_SCORE = 0.3
"""The least sure detection that can be asked for."""


class FaceSettings(Section):
    """Which face of a picture is cropped, how wide, and what becomes of a picture without one."""

    margin: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Share of the crop's side that is added on each of its four sides; 0 frames a face as UTKFace's chips do."""
    which: Literal["largest", "most_central", "surest"] = "largest"
    min_score: Annotated[float, Field(ge=MIN_SCORE, lt=1)] = 0.5
    min_face_pixels: int = Field(default=10, ge=1)
    """The smallest face that counts: shorter side of its box, in pixels of the picture."""
    fallback: Literal["reject", "center_square", "whole"] = "reject"
    """For a picture without such a face: rejected; or its centered square; or all of it, on a square whose rest
    repeats the picture's edges."""


class CroppingConfig(FaceSettings):
    """Crop every picture to its face, upright and in one geometry. The model is a file of the user's."""

    model: Path
    """YuNet's ONNX file, relative to where the command is run."""
    detection_sides: tuple[Annotated[int, Field(ge=32, le=4096)], ...] = Field(default=(192, 640), min_length=1)
    """The longest sides, in pixels, at which a picture is searched; only the smallest of them enlarges a picture."""
    cache: Path = Path("data/cache")
    """Folder of the faces found so far, by the pictures' content; another run does not look for them again."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.detection_sides)) != len(self.detection_sides):
            raise ValueError(f"detection_sides must differ from each other, got {list(self.detection_sides)}")
        return self


class FaceCrop(FaceSettings):
    """A source's own settings, in place of those of faces.cropping; what is not named has its default."""

    type: Literal["face"]


class NoCrop(Section):
    """A source whose pictures are faces already: their centered square is taken as it is."""

    type: Literal["none"]


SourceCropping = Annotated[FaceCrop | NoCrop, Field(discriminator="type")]
