"""Drawn people as a source: drawn once, resumed after an interruption, never drawn over other files."""

import types
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.sources.reading import fingerprint
from ssl_pipeline.synthetic.people import drawing
from tests.faces.sources_support import read, source_of


@dataclass(frozen=True)
class StandInPerson:
    person_id: str
    gender: str
    age_years: int
    population: str


@dataclass(frozen=True)
class StandInFace:
    person: StandInPerson
    mask: str


@pytest.fixture
def stand_in(monkeypatch):
    """Replace the drawing: `draw_face` counts its calls and returns plain squares."""
    counter = types.SimpleNamespace(num_drawn=0)

    def sample_people(num_people, *, population, seed):
        return [
            StandInPerson(f"p{number}", "male" if (number + seed) % 2 else "female", 20 + number, population)
            for number in range(num_people)
        ]

    def sample_faces(people, *, images_per_person, seed, mask_shares=None):
        return [StandInFace(person, "normal") for person in people for _ in range(images_per_person)]

    def draw_face(face, *, size):
        counter.num_drawn += 1
        return Image.new("RGB", (size, size), (face.person.age_years, 0, 0))

    for replacement in (sample_people, sample_faces, draw_face):
        monkeypatch.setattr(drawing, replacement.__name__, replacement)
    return counter


def draw_and_read(root, **section):
    drawing.draw_people(source_of(**section), root=root)
    return read(root, **section)


DRAWN = {"type": "drawn", "path": "drawn", "num_people": 3, "images_per_person": 2, "size_pixels": 16}


def test_drawn_faces_have_all_labels(tmp_path, stand_in):
    source = draw_and_read(tmp_path, **DRAWN, population="elsewhere")
    assert source.num_found == len(source.faces) == 6
    assert source.faces["person_id"].nunique() == 3
    assert set(source.faces["origin"]) == {"elsewhere"}
    assert source.faces[["mask", "gender", "age", "age_years"]].notna().all().all()
    for path in source.faces["image_path"]:
        assert Image.open(path).size == (16, 16)


def test_drawn_faces_are_drawn_once(tmp_path, stand_in):
    first = draw_and_read(tmp_path, **DRAWN).faces
    assert stand_in.num_drawn == 6
    pd.testing.assert_frame_equal(draw_and_read(tmp_path, **DRAWN).faces, first)
    assert stand_in.num_drawn == 6


def test_an_interrupted_drawing_is_resumed(tmp_path, stand_in, monkeypatch):
    original = drawing.draw_face

    def fails_at_the_fourth(face, *, size):
        if stand_in.num_drawn == 3:
            raise KeyboardInterrupt
        return original(face, size=size)

    monkeypatch.setattr(drawing, "draw_face", fails_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        draw_and_read(tmp_path, **DRAWN)
    with pytest.raises(FaceTableError, match="was not drawn with these parameters"):
        draw_and_read(tmp_path, **{**DRAWN, "num_people": 4})
    monkeypatch.setattr(drawing, "draw_face", original)
    assert len(draw_and_read(tmp_path, **DRAWN).faces) == 6


@pytest.mark.parametrize(
    "other", [{"drawing_seed": 1}, {"num_people": 4}, {"population": "elsewhere"}, {"size_pixels": 17}]
)
def test_faces_of_other_parameters_are_never_drawn_over(tmp_path, stand_in, other):
    before = {path: path.read_bytes() for path in map(Path, draw_and_read(tmp_path, **DRAWN).faces["image_path"])}
    with pytest.raises(FaceTableError, match=r"drawn: was not drawn with these parameters .*delete it"):
        draw_and_read(tmp_path, **{**DRAWN, **other})
    assert {path: path.read_bytes() for path in before} == before


def test_nothing_is_drawn_into_a_folder_with_other_files(tmp_path, stand_in):
    (tmp_path / "drawn").mkdir()
    (tmp_path / "drawn" / ".DS_Store").write_text("")
    (tmp_path / "drawn" / "thesis.txt").write_text("mine")
    with pytest.raises(FaceTableError, match="name another path or delete it"):
        draw_and_read(tmp_path, **DRAWN)
    assert stand_in.num_drawn == 0
    (tmp_path / "drawn" / "thesis.txt").unlink()
    assert len(draw_and_read(tmp_path, **DRAWN).faces) == 6


def test_a_missing_drawn_file_is_rejected(tmp_path, stand_in):
    Path(draw_and_read(tmp_path, **DRAWN).faces["image_path"].iloc[0]).unlink()
    source = draw_and_read(tmp_path, **DRAWN)
    assert len(source.faces) == 5
    assert "no such file" in source.rejected["reason"].item()


def test_the_fingerprint_of_drawn_faces_needs_no_files_and_changes_with_the_parameters(tmp_path):
    first = fingerprint(source_of(**DRAWN), root=tmp_path)
    assert first == fingerprint(source_of(**DRAWN, name="other"), root=tmp_path / "gone")
    assert first != fingerprint(source_of(**{**DRAWN, "drawing_seed": 1}), root=tmp_path)


def test_the_same_parameters_give_the_same_bytes_in_one_process_and_in_several(tmp_path, monkeypatch):
    one = draw_and_read(tmp_path / "one", **DRAWN)
    monkeypatch.setattr(drawing, "MAX_FACES_IN_ONE_PROCESS", 1)
    several = draw_and_read(tmp_path / "several", **DRAWN)
    assert one.faces["image_id"].tolist() == several.faces["image_id"].tolist()
    for alone, together in zip(one.faces["image_path"], several.faces["image_path"], strict=True):
        assert Path(alone).read_bytes() == Path(together).read_bytes()
