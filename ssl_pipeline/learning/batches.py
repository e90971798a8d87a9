"""Batches of faces on a device: read ahead by a thread, or kept there whole where they fit.

Shapes: N faces, B batch, S image side, M rows of the pixel array.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ssl_pipeline.labels import IntArray
from ssl_pipeline.learning.dataset import TrainingSet, UnlabeledSet
from ssl_pipeline.runs.profile import part_of_stage

_RESIDENT_SHARE = 0.3
"""Of a GPU's free memory, that the pixels may take."""


class Batch(NamedTuple):
    """Faces of a step."""

    pixels: Tensor
    """uint8 [B, 3, S, S] on the device, channels last in memory."""
    faces: Tensor
    """int [B], their indices in the set."""
    positions: IntArray
    """int [B], their places in the epoch, over all processes."""


class FaceReader:
    """Reads the faces of a set as batches on a device."""

    def __init__(self, faces: TrainingSet | UnlabeledSet, device: torch.device) -> None:
        self._pixels, self._rows, self._device = faces.pixels, faces.pixel_rows, device
        size = len(self._rows) * int(np.prod(self._pixels.shape[1:]))
        self._resident: Tensor | None = None
        if device.type == "cuda" and size < _RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
            self._resident = torch.from_numpy(self._pixels[self._rows]).to(device)

    def batches(
        self,
        batches: Sequence[IntArray],
        *,
        start: int = 0,
        shard_indices: Callable[[IntArray], IntArray] = lambda positions: positions,
    ) -> Iterator[Batch]:
        """Yield an epoch's batches, given as face indices, in order, from `start`.

        `shard_indices` selects this process's part of the positions of a batch.
        """
        ends, indices = np.cumsum([len(batch) for batch in batches]), np.concatenate(batches)
        places = [shard_indices(np.arange(end - len(batch), end)) for end, batch in zip(ends, batches, strict=True)][
            start:
        ]
        with ThreadPoolExecutor(1) as reader:  # one ahead: reading takes no longer than a step
            ahead = reader.submit(self._read, indices[places[0]]) if places else None
            for number, positions in enumerate(places):
                assert ahead is not None
                with part_of_stage("wait"):
                    pixels = ahead.result()
                if number + 1 < len(places):
                    ahead = reader.submit(self._read, indices[places[number + 1]])
                with part_of_stage("transfer"):
                    on_device = pixels.to(self._device, non_blocking=True).permute(0, 3, 1, 2)
                yield Batch(on_device, torch.from_numpy(indices[positions]), positions)

    def _read(self, faces: IntArray) -> Tensor:
        """Return faces, uint8 [B, S, S, 3]."""
        if self._resident is not None:
            return self._resident[torch.from_numpy(faces).to(self._device)]
        pixels = torch.from_numpy(self._pixels[self._rows[faces]])
        return pixels.pin_memory() if self._device.type == "cuda" else pixels
