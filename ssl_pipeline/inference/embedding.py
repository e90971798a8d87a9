"""Features of image files by an embedder, in the order of the files."""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from ssl_pipeline.inference.files import ImageFile
from ssl_pipeline.inference.stream import decode_ahead
from ssl_pipeline.learning.device import Compute
from ssl_pipeline.learning.embedders import Embedder, embed_faces
from ssl_pipeline.runs.progress import ProgressBar


def embed_files(
    embedder: Embedder, files: Sequence[ImageFile], *, compute: Compute, batch_size: int
) -> Iterator[tuple[list[str], npt.NDArray[np.float32], list[tuple[str, str]]]]:
    """Embed the centered squares of images, batch by batch.

    Yields:
        Names of B images, their features, float32 [B, D], and the name and reason of each image that cannot be read.
    """
    size = round(embedder.image_size / embedder.settings.center_crop)  # the crop is what the network sees
    decoded = decode_ahead(files, (size,), batch_size=batch_size, framer=None)
    try:
        with ProgressBar("features", len(files), unit="images") as bar:
            while batch := list(islice(decoded, batch_size)):
                readable = [image for image in batch if image.reason is None]
                if readable:
                    pixels = np.stack([image.pixels[size] for image in readable])
                    rows = np.arange(len(pixels))
                    features = embed_faces(embedder, pixels, rows, compute=compute, batch_size=batch_size)
                else:
                    features = np.zeros((0, 0), np.float32)
                failures = [(image.name, image.reason) for image in batch if image.reason is not None]
                yield [image.name for image in readable], features, failures
                bar.advance(len(batch))
    finally:
        decoded.close()
