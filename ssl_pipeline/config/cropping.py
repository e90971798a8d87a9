"""Config sections for cropping faces; docs/cropping.md explains them."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ssl_pipeline.config.base import Section

MIN_SCORE = 0.3
"""Lower bound of `min_score`: detections below it are never computed."""


class FaceSettings(Section):
    """Which face of a picture to crop, how wide, and what to do with a picture without a face."""

    margin: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Margin added on each of the four sides, as a share of the crop's side; 0 crops as tightly as UTKFace's chips."""
    which: Literal["largest", "most_central", "surest"] = "largest"
    """Which of several faces is cropped; `surest` has the highest detection score."""
    min_score: Annotated[float, Field(ge=MIN_SCORE, lt=1)] = 0.5
    min_face_pixels: int = Field(default=10, ge=1)
    """Smaller faces are ignored: shorter side of the detected box, in pixels of the picture."""
    fallback: Literal["reject", "center_square", "whole"] = "reject"
    """For a picture without a face: `reject` it, take its centered square, or take the whole picture, padded to a square
    by repeating its edges."""


class CropRules(FaceSettings):
    """How the faces of a trained model were cropped: all but the detector's file. A checkpoint carries them."""

    detector: Literal["yunet"] = "yunet"
    detection_sides: tuple[int, ...]

    def with_detector(self, model: Path) -> "CroppingConfig":
        """Return the same cropping with a detector's file."""
        return CroppingConfig.model_validate({**self.model_dump(exclude={"detector"}), "model": model})


class CroppingConfig(FaceSettings):
    """Crop every picture to its face, upright and in one geometry (YuNet)."""

    model: Path
    """YuNet's ONNX file, which the user provides; relative to the working directory."""
    detection_sides: tuple[Annotated[int, Field(ge=32, le=4096)], ...] = Field(default=(192, 640), min_length=1)
    """Longest sides, in pixels, to which a picture is resized for detection; only the smallest may enlarge a picture."""
    cache: Path = Path("data/cache")
    """Folder of detections, keyed by the pictures' content and shared by all runs."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.detection_sides)) != len(self.detection_sides):
            sides = list(dict.fromkeys(self.detection_sides))
            raise ValueError(
                f"detection_sides must differ from each other, got {list(self.detection_sides)}; "
                f"--set 'detection_sides={sides}'"
            )
        return self


class FaceCrop(FaceSettings):
    """Settings of one source, which replace those of faces.cropping; omitted keys take their default."""

    type: Literal["face"]


class NoCrop(Section):
    """For a source of pictures that are cropped already: take their centered square."""

    type: Literal["none"]


SourceCropping = Annotated[FaceCrop | NoCrop, Field(discriminator="type")]
