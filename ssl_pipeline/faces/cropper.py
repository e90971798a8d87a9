"""How a picture becomes the square that models see: cropped to its face, or its centered square, or not at all."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ssl_pipeline.config.cropping import CroppingConfig, FaceSettings, NoCrop
from ssl_pipeline.config.sources import Source
from ssl_pipeline.faces.cropping import NoFace, choose_face, crop_face, crop_whole
from ssl_pipeline.faces.decoding import square_pixels
from ssl_pipeline.faces.detection import DetectedFace, FaceDetector
from ssl_pipeline.faces.detection_cache import open_cache

Find = Callable[[Image.Image, str], list[DetectedFace]]
"""Gives the faces of a picture, the surest first, from its pixels and its content hash."""


@dataclass(frozen=True)
class Crop:
    """Where a picture's square lies.

    Attributes:
        crop: ``face``, ``center_square`` or ``whole``.
        face: the face it is cropped to; None with another crop.
        num_faces: of all sizes and scores, found in the picture.
        reason: why it is not cropped to a face; None where it is.
    """

    crop: str
    face: DetectedFace | None = None
    num_faces: int = 0
    reason: str | None = None


@dataclass(frozen=True)
class Cropper:
    """Crops pictures to their faces, as the settings say. May be called from several threads at once."""

    find: Find
    settings: FaceSettings

    def locate(self, image: Image.Image, content_hash: str) -> Crop:
        """Find out where the square lies.

        Raises:
            NoFace: if no face counts and the fallback is to reject the picture.
        """
        faces = self.find(image, content_hash)
        try:
            face = choose_face(faces, width=image.width, height=image.height, settings=self.settings)
        except NoFace as error:
            if self.settings.fallback == "reject":
                raise
            return Crop(self.settings.fallback, None, len(faces), str(error))
        return Crop("face", face, len(faces))

    def cut(self, image: Image.Image, framing: Crop, *, size: int) -> npt.NDArray[np.uint8]:
        """Cut the square out, uint8 [size, size, 3]."""
        if framing.face is not None:
            return crop_face(image, framing.face.points, size=size, margin=self.settings.margin)
        return crop_whole(image, size=size) if framing.crop == "whole" else square_pixels(image, size=size)


def open_detector(config: CroppingConfig) -> FaceDetector:
    """Load the detector that the config names.

    Raises:
        FaceTableError: if it cannot be used.
    """
    return FaceDetector(config.model, longest_sides=config.detection_sides)


def detector_identity(config: CroppingConfig | None) -> dict[str, Any] | None:
    """Tell what the faces found depend on besides the pictures: another model under the same name finds other faces.

    Raises:
        FaceTableError: if the detector cannot be used.
    """
    return None if config is None else open_detector(config).identity


def uncached_cropper(config: CroppingConfig) -> Cropper:
    """Give a framer that looks for each picture's faces anew.

    Raises:
        FaceTableError: if the detector cannot be used.
    """
    detector = open_detector(config)
    return Cropper(lambda image, _: detector.detect(np.asarray(image)), config)


@contextmanager
def open_croppers(config: CroppingConfig | None) -> Iterator[Callable[[Source], Cropper | None]]:
    """Give what tells each source's framer; None for a source whose pictures are not cropped.

    Raises:
        FaceTableError: if the detector or the cache cannot be used.
    """
    if config is None:
        yield lambda source: None
        return
    detector = open_detector(config)
    with open_cache(config.cache, identity=detector.identity) as cache:

        def find(image: Image.Image, content_hash: str) -> list[DetectedFace]:
            return cache.faces(content_hash, lambda: np.asarray(image), detector.detect)

        def framer(source: Source) -> Cropper | None:
            settings = source.cropping or config
            return None if isinstance(settings, NoCrop) else Cropper(find, settings)

        yield framer
