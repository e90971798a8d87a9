"""Full disks: one message for every writer, and no partial files."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.errors import RunError
from ssl_pipeline.faces.pixels import decode_into
from ssl_pipeline.learning.checkpoint import save_training_state
from ssl_pipeline.runs.files import atomic_path, read_json, write_json, write_text
from ssl_pipeline.stages.open import open_run
from tests.cycle_config import write_tiny_config

NUM_BYTES = 4 << 20


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = tmp_path / "full"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"needs root, to mount a tmpfs: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def parquet(path: Path) -> None:
    with atomic_path(path) as temporary:
        pd.DataFrame({"x": np.random.default_rng(0).random(NUM_BYTES // 8)}).to_parquet(temporary)


def safetensors(path: Path) -> None:
    with atomic_path(path) as temporary:
        save_file({"x": torch.rand(NUM_BYTES // 4)}, temporary)


def picture(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (1200, 1200, 3), dtype=np.uint8)
    with atomic_path(path) as temporary:
        Image.fromarray(noise).save(temporary, format="png")


def csv(path: Path) -> None:
    with atomic_path(path) as temporary:
        pd.DataFrame({"x": np.random.default_rng(0).random(NUM_BYTES // 8)}).to_csv(temporary)


WRITERS = {
    "text": lambda path: write_text(path, "x" * NUM_BYTES),
    "torch": lambda path: save_training_state(path, {"x": torch.rand(NUM_BYTES // 4)}),
    "pixels": lambda path: decode_into(
        path, ["/absent.png"] * 2000, size=32
    ),  # memory-mapped: SIGBUS if it were not preallocated
    "parquet": parquet,
    "safetensors": safetensors,
    "picture": picture,
    "csv": csv,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_gives_one_message_and_keeps_only_the_old_file(full: Path, writer: str) -> None:
    write_text(full / "out", "old")
    with pytest.raises(RunError, match=r"full: disk full: out cannot be written, .* MB are free there; make room"):
        WRITERS[writer](full / "out")
    assert (full / "out").read_text() == "old"
    assert [path.name for path in full.iterdir()] == ["out"]


def test_an_error_of_another_kind_is_not_changed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="something else"), atomic_path(tmp_path / "x"):
        raise RuntimeError("something else")
    with pytest.raises(IsADirectoryError), atomic_path(tmp_path / "x") as temporary:
        temporary.mkdir()
        temporary.write_text("x")


def test_an_exceeded_quota_counts_as_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="disk full"), atomic_path(tmp_path / "x"):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


def test_a_run_on_a_full_disk_is_recorded_as_failed_if_there_is_room_for_that(full: Path, tmp_path: Path) -> None:
    config = load_config(write_tiny_config(tmp_path, runs_root=str(full)))
    with pytest.raises(RunError, match="disk full: big"), open_run(config) as run:
        write_text(run.root / "big", "x" * NUM_BYTES)
    assert read_json(run.root / "run.json")["status"] == "failed"

    with pytest.raises(RunError, match="disk full: more"), open_run(config) as run:
        with open(run.root / "filling", "wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(b"x" * 1024)
        write_json(run.root / "more", {"x": "y" * 8192})
    assert (
        read_json(run.root / "run.json")["status"] == "running"
    )  # no room for the new status; the lock shows that it ended
