"""The array of decoded faces: rows, threads, no partial files."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_pipeline.faces import pixels as pixels_module
from ssl_pipeline.faces.decoding import decode_rgb, square_pixels
from ssl_pipeline.faces.pixels import decode_into, open_pixels


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Eleven pictures of different sizes, every fourth of them truncated, a folder, and a missing file."""
    for number in range(11):
        noise = np.random.default_rng(number).integers(0, 255, size=(20 + 7 * number, 30, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{number:02d}.png")
        if number % 4 == 0:
            content = (tmp_path / f"{number:02d}.png").read_bytes()
            (tmp_path / f"{number:02d}.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "folder.png").mkdir()
    return [str(tmp_path / name) for name in (*(f"{number:02d}.png" for number in range(11)), "folder.png", "no.png")]


def test_every_image_is_in_its_own_row_for_any_chunk_size(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels_module, "_CHUNK", 3)
    decoded = decode_into(tmp_path / "pixels.npy", paths, size=16)
    pixels = open_pixels(tmp_path / "pixels.npy")
    assert pixels.shape == (13, 16, 16, 3)
    assert pixels.dtype == np.uint8
    for row, path in enumerate(paths[:11]):
        content = Path(path).read_bytes()
        assert decoded.content_hash[row] == hashlib.sha256(content).hexdigest()
        expected = np.zeros((16, 16, 3)) if row % 4 == 0 else square_pixels(decode_rgb(content), size=16)
        assert (pixels[row] == expected).all()
    assert [row for row, reason in enumerate(decoded.reason) if reason is None] == [1, 2, 3, 5, 6, 7, 9, 10]
    assert decoded.reason[0] == "truncated"
    assert decoded.reason[11:] == ["Is a directory", "No such file or directory"]
    assert decoded.content_hash[11:] == [None, None]


def test_the_number_of_threads_does_not_change_the_result(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for threads in (1, 7):
        monkeypatch.setattr("os.cpu_count", lambda threads=threads: threads)
        decode_into(tmp_path / f"{threads}.npy", paths, size=16)
    assert (tmp_path / "1.npy").read_bytes() == (tmp_path / "7.npy").read_bytes()


def test_a_program_error_keeps_the_previous_file_and_leaves_no_partial_one(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode_into(tmp_path / "out/pixels.npy", paths, size=16)
    before = (tmp_path / "out/pixels.npy").read_bytes()
    monkeypatch.setattr(pixels_module, "square_pixels", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        decode_into(tmp_path / "out/pixels.npy", paths, size=32)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["pixels.npy"]
    assert (tmp_path / "out/pixels.npy").read_bytes() == before


def test_the_array_is_read_only_and_may_be_empty(paths: list[str], tmp_path: Path) -> None:
    decode_into(tmp_path / "pixels.npy", paths, size=16)
    with pytest.raises(ValueError, match="read-only"):
        open_pixels(tmp_path / "pixels.npy")[0] = 1
    decode_into(tmp_path / "none.npy", [], size=16)
    assert open_pixels(tmp_path / "none.npy").shape == (0, 16, 16, 3)


def test_no_progress_bar_is_drawn_without_a_terminal(
    paths: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    decode_into(tmp_path / "pixels.npy", paths, size=16)
    assert capfd.readouterr() == ("", "")
