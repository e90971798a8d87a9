"""Features that a run keeps: of all its faces, a row per row of ``pixels.npy``, found by their digest.

Shapes: M rows of the pixel array, D features.
"""

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from ssl_pipeline.faces.pixels import mapped_file
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.records import RECORD, StageRecord, finished_stage

FEATURES = "features.npy"


def stored_features(pixels: npt.NDArray[np.uint8], digests: Collection[str]) -> dict[str, npt.NDArray[np.float32]]:
    """Return those of the features with these digests that the run of a pixel array keeps, float32 [M, D] each.

    Args:
        pixels: uint8 [M, S, S, 3]; of an array that is not the whole ``pixels.npy`` of a run, nothing is kept.
        digests: of embedders or tables, see `FeatureHead`.

    Raises:
        RunError: if features were changed since they were computed.
    """
    file = mapped_file(pixels)
    if file is None or not digests or not (file.parent / RECORD).is_file():
        return {}
    digest = StageRecord.read(file.parent).outputs.get(file.name)
    run, found = RunDir(file.parent.parent), {}
    for directory in sorted(path.parent for path in run.features.glob(f"*/{RECORD}")):
        inputs = StageRecord.read(directory).inputs
        if inputs["embedding"] in digests and inputs["pixels"] == digest:
            finished_stage(directory, cure=f"compute the features again: {run.command}")
            found[str(inputs["embedding"])] = np.load(directory / FEATURES, mmap_mode="r", allow_pickle=False)
    return found
