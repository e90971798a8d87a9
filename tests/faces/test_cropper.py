"""Cropping of a run's faces: counts, equal bytes, the detection cache."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError

from ssl_pipeline.config.cropping import CroppingConfig, CropRules
from ssl_pipeline.config.faces import FacesConfig
from ssl_pipeline.config.labels import LabelsConfig
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.errors import ConfigError, FaceTableError
from ssl_pipeline.faces import cropper
from ssl_pipeline.faces.cropper import open_croppers
from ssl_pipeline.faces.cropping import CANONICAL_POINTS, crop_face, crop_whole
from ssl_pipeline.faces.decoding import square_pixels
from ssl_pipeline.faces.detection import DetectedFace
from ssl_pipeline.faces.detection_cache import open_cache
from ssl_pipeline.faces.pixels import decode_into, open_pixels
from ssl_pipeline.faces.preparation import OUTPUT_NAMES, prepare_faces
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.learning.dataset import TrainingFaces
from ssl_pipeline.stages.check import check
from tests.cycle_config import write_tiny_config

LABELS = LabelsConfig.model_validate({"attributes": [{"name": "gender", "values": ["male", "female"]}]})
POINTS = CANONICAL_POINTS * 31.7 + (9.1, 3.3)


class FakeDetector:
    """Detects one face at a fixed position in every picture with a red first pixel."""

    num_calls = 0
    model = "one"

    def __init__(self, model: Path, *, longest_sides: Sequence[int]) -> None:
        self.identity = {"model": FakeDetector.model, "longest_sides": list(longest_sides)}

    def detect(self, pixels: np.ndarray) -> list[DetectedFace]:
        FakeDetector.num_calls += 1
        if pixels[0, 0].tolist() != [255, 0, 0]:
            return []
        return [DetectedFace((9.1, 3.3, 31.7, 31.7), 0.7310585786300049, POINTS)]


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cropper, "FaceDetector", FakeDetector)
    monkeypatch.setattr(FakeDetector, "num_calls", 0)
    monkeypatch.setattr(FakeDetector, "model", "one")


def picture(path: Path, number: int, *, with_face: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 255, size=(44, 60, 3), dtype=np.uint8)
    pixels[0, 0] = (255, 0, 0) if with_face else (0, 0, 255)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Labeled: twelve per gender, two without a face. Pool: five, one without a face, one unreadable."""
    for number in range(24):
        gender = ("male", "female")[number % 2]
        picture(tmp_path / f"raw/ours/{gender}/{number:02d}.png", number, with_face=number not in (3, 4))
    for number in range(5):
        picture(tmp_path / f"raw/pool/{number}.png", 100 + number, with_face=number != 2)
    (tmp_path / "raw/pool/4.png").write_bytes(b"broken")
    return tmp_path


def config(root: Path, *, pool: dict[str, Any] | None = None, size: int = 24, **cropping: Any) -> FacesConfig:
    ours = {"type": "folder", "name": "ours", "path": "ours", "levels": ["gender"]}
    return FacesConfig.model_validate(
        {
            "root": str(root / "raw"),
            "image_size": size,
            "cropping": {"model": "yunet.onnx", "cache": str(root / "cache"), **cropping},
            "labeled": {"sources": [ours], "test_fraction": 0.3},
            "unlabeled": {"sources": [{"type": "folder", "name": "pool", "path": "pool", **(pool or {})}]},
        }
    )


def prepare(root: Path, name: str = "faces", **settings: Any) -> dict[str, Any]:
    (root / name).mkdir()
    return prepare_faces(config(root, **settings), LABELS, seed=0, directory=root / name)


def test_found_equals_used_plus_rejected_with_a_reason_for_each_picture_without_a_face(root: Path) -> None:
    counts = prepare(root)
    ours, pool = counts["sources"]["ours"], counts["sources"]["pool"]
    assert (ours["found"], ours["used"], ours["rejected"], ours["cropped"]) == (24, 22, 2, {"face": 22})
    assert (pool["found"], pool["used"], pool["rejected"], pool["cropped"]) == (5, 3, 2, {"face": 3})
    rejected = pd.read_parquet(root / "faces/rejected.parquet").set_index("image_id")["reason"]
    assert rejected["pool:2.png"] == "no face found (min_score 0.5)"
    assert "JPEG" in rejected["pool:4.png"]
    crops = pd.read_parquet(root / "faces/crops.parquet")
    assert len(crops) == 25
    assert crops[["right_eye_x", "left_mouth_corner_y"]].to_numpy(float)[0].tolist() == [POINTS[0, 0], POINTS[4, 1]]


def test_the_pixels_show_the_face_and_not_the_center_of_the_picture(root: Path) -> None:
    prepare(root, margin=0.1)
    faces = read_faces(root / "faces/unlabeled.parquet")
    pixels = open_pixels(root / "faces/pixels.npy")
    for row in faces.itertuples():
        image = Image.open(row.image_path)
        assert (pixels[row.pixel_row] == crop_face(image, POINTS, size=24, margin=0.1)).all()
    assert TrainingFaces.from_directory(root / "faces", labels=LABELS).cropping == CropRules(
        margin=0.1, detection_sides=(192, 640)
    )


@pytest.mark.parametrize(("fallback", "expected"), [("center_square", square_pixels), ("whole", crop_whole)])
def test_a_fallback_is_used_counted_and_listed(root: Path, fallback: str, expected: Any) -> None:
    counts = prepare(root, fallback=fallback)
    assert counts["sources"]["ours"]["cropped"] == {"face": 22, fallback: 2}
    assert counts["sources"]["pool"]["cropped"] == {"face": 3, fallback: 1}
    assert counts["sources"]["pool"]["used"] == 4
    crops = pd.read_parquet(root / "faces/crops.parquet")
    listed = crops[crops["crop"] == fallback]
    assert listed["image_id"].tolist() == ["ours:female/03.png", "ours:male/04.png", "pool:2.png"]
    assert set(listed["reason"]) == {"no face found (min_score 0.5)"}
    assert listed["score"].isna().all()
    pixels = open_pixels(root / "faces/pixels.npy")
    face = read_faces(root / "faces/unlabeled.parquet").set_index("image_id").loc["pool:2.png"]
    assert (pixels[face["pixel_row"]] == expected(Image.open(face["image_path"]), size=24)).all()


def test_a_source_may_turn_cropping_off_or_have_its_own_settings(root: Path) -> None:
    counts = prepare(root, pool={"cropping": {"type": "none"}}, name="a")
    assert "cropped" not in counts["sources"]["pool"]
    assert counts["sources"]["pool"]["used"] == 4
    own = {"cropping": {"type": "face", "fallback": "whole"}}
    counts = prepare(root, pool=own, name="b")
    assert counts["sources"]["pool"]["cropped"] == {"face": 3, "whole": 1}
    assert counts["sources"]["ours"]["rejected"] == 2


def test_cached_detections_are_reused_and_give_the_same_bytes(root: Path) -> None:
    prepare(root, "first")
    assert FakeDetector.num_calls == 28  # the broken file is never searched
    prepare(root, "second")
    prepare(root, "larger", size=32, margin=0.2, min_score=0.4, which="surest")
    assert FakeDetector.num_calls == 28
    for output in OUTPUT_NAMES:
        assert (root / "first" / output).read_bytes() == (root / "second" / output).read_bytes(), output


def test_another_model_or_other_sides_detect_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(root, "first")
    prepare(root, "second", detection_sides=[320])
    assert FakeDetector.num_calls == 56
    monkeypatch.setattr(FakeDetector, "model", "two")
    prepare(root, "third")
    assert FakeDetector.num_calls == 84


def test_a_source_without_a_single_face_is_reported_with_the_cure(root: Path) -> None:
    for number in range(5):
        picture(root / f"raw/pool/{number}.png", number, with_face=False)
    with pytest.raises(FaceTableError) as error:
        prepare(root)
    assert str(error.value) == (
        "none of the 5 faces in 'pool' can be used: 5 × no face found (min_score 0.5); the first is "
        f"{root}/raw/pool/0.png; correct the source's path, lower min_score or set a fallback in faces.cropping"
    )


def test_a_missing_model_is_refused_before_any_work(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real detector
    path = write_tiny_config(root)
    with pytest.raises(ConfigError, match=r"'faces.cropping': nowhere.onnx: no such face detection model"):
        check(load_config(path, overrides=["faces.cropping.model=nowhere.onnx"]))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("faces.cropping.fallback=drop", "'faces.cropping.fallback': expected 'reject', 'center_square' or 'whole'"),
        ("faces.cropping.min_scor=1", "unknown key 'faces.cropping.min_scor'; did you mean 'min_score'?"),
        ("faces.labeled.sources.0.cropping.type=no", "'faces.labeled.sources.0.cropping.type': expected one of"),
        ("faces.labeled.sources.0.cropping.margin=1", "'faces.labeled.sources.0.cropping': missing 'type'"),
    ],
)
def test_a_fault_in_the_section_has_a_readable_message(root: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(write_tiny_config(root), overrides=["faces.cropping.model=yunet.onnx", override])
    assert message in str(error.value)


def test_detections_are_stored_even_if_the_work_is_interrupted(root: Path) -> None:
    settings = CroppingConfig(model=Path("yunet.onnx"), cache=root / "cache")
    source = config(root).all_sources[0]
    paths = [str(path) for path in sorted((root / "raw/ours").rglob("*.png"))]
    with pytest.raises(KeyboardInterrupt), open_croppers(settings) as cropper_of:
        decode_into(root / "pixels.npy", paths, size=24, croppers=[cropper_of(source)] * len(paths))
        raise KeyboardInterrupt
    prepare(root)
    assert FakeDetector.num_calls == 28


def test_the_cache_returns_exactly_the_stored_floats(tmp_path: Path) -> None:
    found = DetectedFace((1 / 3, 2 / 7, 10.1, 5e-9), 0.1 + 0.2, POINTS / 3)
    pixels = np.zeros((1, 1, 3), np.uint8)
    with open_cache(tmp_path, identity={}) as cache:
        cache.faces("hash", lambda: pixels, lambda _: [found])
    with open_cache(tmp_path, identity={}) as cache:
        (read,) = cache.faces("hash", lambda: pixels, lambda _: [])
    assert (read.box, read.score) == (found.box, found.score)
    assert (read.points == found.points).all()


def test_a_damaged_cache_is_reported(root: Path) -> None:
    (root / "cache").mkdir()
    (root / "cache/detections.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(FaceTableError, match=r"detections.sqlite: cannot be used as the cache of detected faces"):
        prepare(root)


def test_an_error_of_the_work_is_not_attributed_to_the_cache(root: Path) -> None:
    settings = CroppingConfig(model=Path("yunet.onnx"), cache=root / "cache")
    with pytest.raises(PermissionError), open_croppers(settings):
        raise PermissionError


def test_invalid_settings_are_refused(root: Path) -> None:
    data = config(root, pool={"cropping": {"type": "face"}}).model_dump()
    with pytest.raises(ValidationError, match="source 'pool' sets cropping, which needs the model of faces"):
        FacesConfig.model_validate(data | {"cropping": None})
    with pytest.raises(ValidationError, match="detection_sides must differ from each other"):
        CroppingConfig(model=Path("x"), detection_sides=(192, 192))
    for key, value in (("min_score", 0.2), ("margin", -0.1), ("min_face_pixels", 0), ("fallback", "drop")):
        with pytest.raises(ValidationError):
            CroppingConfig.model_validate({"model": "x", key: value})
