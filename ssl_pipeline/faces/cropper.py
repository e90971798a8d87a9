"""Croppers: the square of a picture that models see, per source: its face, its centered square or all of it."""

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

Detect = Callable[[Image.Image, str], list[DetectedFace]]
"""Returns the faces of a picture, highest score first, from its pixels and its content hash."""


@dataclass(frozen=True)
class Crop:
    """Location of the square in a picture.

    Attributes:
        kind: ``face``, ``center_square`` or ``whole``.
        face: the face that the crop shows; None for the other crops.
        num_faces: number of faces detected, of any size and score.
        reason: why the crop shows no face; None for ``face``.
    """

    kind: str
    face: DetectedFace | None = None
    num_faces: int = 0
    reason: str | None = None


@dataclass(frozen=True)
class Cropper:
    """Crops pictures to their faces according to the settings. Thread-safe."""

    detect: Detect
    settings: FaceSettings

    def locate(self, image: Image.Image, content_hash: str) -> Crop:
        """Locate the square.

        Raises:
            NoFace: if no face is accepted and the fallback is ``reject``.
        """
        faces = self.detect(image, content_hash)
        try:
            face = choose_face(faces, width=image.width, height=image.height, settings=self.settings)
        except NoFace as error:
            if self.settings.fallback == "reject":
                raise
            return Crop(self.settings.fallback, None, len(faces), str(error))
        return Crop("face", face, len(faces))

    def cut(self, image: Image.Image, crop: Crop, *, size: int) -> npt.NDArray[np.uint8]:
        """Cut out the square, uint8 [size, size, 3]."""
        if crop.face is not None:
            return crop_face(image, crop.face.points, size=size, margin=self.settings.margin)
        return crop_whole(image, size=size) if crop.kind == "whole" else square_pixels(image, size=size)


def detector_identity(config: CroppingConfig | None) -> dict[str, Any] | None:
    """Return what detections depend on besides the picture, e.g. the content of the model file; None without cropping.

    Raises:
        FaceTableError: if the detector cannot be loaded.
    """
    return None if config is None else _load_detector(config).identity


def uncached_cropper(config: CroppingConfig) -> Cropper:
    """Return a cropper that detects the faces of every picture.

    Raises:
        FaceTableError: if the detector cannot be loaded.
    """
    detector = _load_detector(config)
    return Cropper(lambda image, _: detector.detect(np.asarray(image)), config)


@contextmanager
def open_croppers(config: CroppingConfig | None) -> Iterator[Callable[[Source], Cropper | None]]:
    """Open the detection cache and yield a function from a source to its cropper, None if it is not cropped.

    Raises:
        FaceTableError: if the detector or the cache cannot be used.
    """
    if config is None:
        yield lambda source: None
        return
    detector = _load_detector(config)
    with open_cache(config.cache, identity=detector.identity) as cache:

        def detect(image: Image.Image, content_hash: str) -> list[DetectedFace]:
            return cache.faces(content_hash, lambda: np.asarray(image), detector.detect)

        def cropper(source: Source) -> Cropper | None:
            settings = source.cropping or config
            return None if isinstance(settings, NoCrop) else Cropper(detect, settings)

        yield cropper


def _load_detector(config: CroppingConfig) -> FaceDetector:
    return FaceDetector(config.model, longest_sides=config.detection_sides)
