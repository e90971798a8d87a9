"""`Predictor`: a trained model, ready for images; exported as ``ssl_pipeline.Predictor``."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from ssl_pipeline.config.run import Device, EngineName, PredictionConfig
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.inference.files import ImageFile, ImageInMemory, find_images
from ssl_pipeline.inference.framing import cropper_of
from ssl_pipeline.inference.stream import predict_stream
from ssl_pipeline.inference.table import to_table
from ssl_pipeline.inference.voting import SoftVote
from ssl_pipeline.runs.directory import model_of
from ssl_pipeline.runs.storage.remote import local_copy

ImageLike = str | Path | Image.Image | npt.NDArray[np.uint8]
"""A file, a picture, or an array uint8 [H, W, 3] (RGB) or [H, W] (gray)."""


class Predictor:
    """A trained model, or several that vote, with calibrated probabilities.

    >>> predictor = Predictor("data/runs/mine")                      # doctest: +SKIP
    >>> predictor.predict(["a.jpg", picture, array])                  # doctest: +SKIP
    >>> for frame in predictor.predict_batches(many): frame.to_csv()  # doctest: +SKIP
    """

    def __init__(
        self,
        *models: str | Path,
        device: Device = "auto",
        batch_size: int = 256,
        horizontal_flip: bool = True,
        engine: EngineName = "torch",
        detector: Path | None = None,
        crop: bool = True,
    ) -> None:
        """Load the models.

        Args:
            models: a finished run's folder stands for the model that it promoted; or a ``best.safetensors``, or its URL.
                With several, the mean of their probabilities.
            device: where to compute.
            batch_size: images per batch.
            horizontal_flip: average with the mirrored image.
            engine: ``openvino``, of the extra ``[openvino]``, is faster on a CPU.
            detector: YuNet's ONNX file, needed by models that were trained on cropped faces.
            crop: False for images that are cropped already.

        Raises:
            CheckpointError: if there is no model, or several that do not fit together.
            ConfigError: if a detector is needed, or the engine cannot predict here.
        """
        config = PredictionConfig(batch_size=batch_size, horizontal_flip=horizontal_flip, engine=engine)
        self._vote = SoftVote.load([model_of(local_copy(str(model))) for model in models], config, device=device)
        self._cropper = cropper_of(self._vote.checkpoints, detector=detector, crop=crop)

    @property
    def labels(self) -> dict[str, Sequence[str]]:
        """{attribute: its values}."""
        return dict(self._vote.labels.to_dict())

    def predict(self, images: ImageLike | Iterable[ImageLike]) -> pd.DataFrame:
        """Predict images, or all images below a folder; one row each, in order.

        Returns:
            Columns: ``image_path`` (of an image in memory, its position); each attribute's most probable value and its
            probability, e.g. ``gender`` and ``gender_probability``; ``class_id``, ``class_name``, ``class_probability``;
            every probability, e.g. ``gender=male`` and ``class=male/<30``; ``unreadable``, the reason why there are none,
            else missing.

        Raises:
            FaceTableError: if a folder holds no image, or an array is not uint8 [H, W, 3] or [H, W].
        """
        frames = list(self.predict_batches(images))
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def predict_batches(self, images: ImageLike | Iterable[ImageLike]) -> Iterator[pd.DataFrame]:
        """Predict a stream of images of any length in bounded memory: one frame per batch, as `predict` returns it."""
        for batch in predict_stream(self._vote, _files(images), framer=self._cropper):
            yield to_table(batch, self._vote.labels).to_pandas()


def _files(images: ImageLike | Iterable[ImageLike]) -> Iterable[ImageFile | ImageInMemory]:
    if isinstance(images, str | Path):
        return find_images(Path(images)).files
    if isinstance(images, Image.Image | np.ndarray):
        return [_file(0, images)]
    return (_file(position, image) for position, image in enumerate(images))


def _file(position: int, image: Any) -> ImageFile | ImageInMemory:
    if isinstance(image, str | Path):
        return ImageFile(str(image), str(image))
    if isinstance(image, Image.Image):
        return ImageInMemory(str(position), image)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or not _is_picture(image.shape):
        got = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise FaceTableError(
            f"image {position}: expected a path, a PIL image or an array uint8 [H, W, 3] (RGB) or [H, W], got {got}"
        )
    return ImageInMemory(str(position), Image.fromarray(image))


def _is_picture(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)
