"""Batches of faces: in order, from any step, in parts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.learning.batches import FaceReader
from tests.conftest import make_faces

CPU = torch.device("cpu")


def test_batches_hold_the_faces_of_their_indices_in_order(tmp_path: Path) -> None:
    train = make_faces(12).train
    np.save(tmp_path / "pixels.npy", train.pixels)
    mapped = replace(train, pixels=open_pixels(tmp_path / "pixels.npy"), pixel_rows=train.pixel_rows[::-1].copy())
    batches = [np.array([3, 1]), np.array([2]), np.array([0, 5, 4])]
    loaded = list(FaceReader(mapped, CPU).batches(batches))
    assert [batch.faces.tolist() for batch in loaded] == [[3, 1], [2], [0, 5, 4]]
    assert [batch.positions.tolist() for batch in loaded] == [[0, 1], [2], [3, 4, 5]]
    for batch in loaded:
        assert batch.pixels.is_contiguous(memory_format=torch.channels_last)
        wanted = train.pixels[mapped.pixel_rows[batch.faces.numpy()]]
        assert (batch.pixels.permute(0, 2, 3, 1).numpy() == wanted).all()


def test_a_later_start_and_parts_keep_the_positions() -> None:
    reader, batches = FaceReader(make_faces(12).train, CPU), np.split(np.arange(12)[::-1], 3)
    whole = list(reader.batches(batches))
    for batch, wanted in zip(reader.batches(batches, start=1), whole[1:], strict=True):
        assert torch.equal(batch.pixels, wanted.pixels) and (batch.positions == wanted.positions).all()
    halves = [
        list(reader.batches(batches, shard_indices=lambda all_, rank=rank: np.array_split(all_, 2)[rank]))
        for rank in (0, 1)
    ]
    for one, other, wanted in zip(*halves, whole, strict=True):
        assert torch.equal(torch.cat([one.pixels, other.pixels]), wanted.pixels)
        assert np.array_equal(np.concatenate([one.positions, other.positions]), wanted.positions)


def test_no_batch_is_no_error() -> None:
    reader = FaceReader(make_faces(12).train, CPU)
    assert list(reader.batches([np.array([1])], start=1)) == []
