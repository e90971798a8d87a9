"""The sheet of labeled faces shows drawn ones alone, from the surest on, and says of each what was decided."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.pseudo_labels.manifest import write_manifest
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.stages import label_sheet
from ssl_pipeline.stages.label_sheet import render_label_sheet
from tests.cycle_config import TINY, write_tiny_config
from tests.pseudo_labels.test_manifest import build


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "runs/tiny")
    run.pseudo_labels(2).mkdir(parents=True)
    write_manifest(run.pseudo_labels(2) / "manifest.parquet", build())
    return run


def test_the_surest_come_first_and_what_was_not_accepted_stands_in_brackets(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []

    def sheet(images: list[Any], captions: list[str], **about: Any) -> Image.Image:
        shown.extend(captions)
        assert len(images) == len(captions)
        return Image.new("RGB", (9, 9))

    monkeypatch.setattr(label_sheet, "contact_sheet", sheet)
    monkeypatch.setattr(label_sheet, "NUM_FACES", 3)
    path = render_label_sheet(load_config(write_tiny_config(tmp_path)), run, 2)
    assert path == run.pseudo_labels(2) / "drawn_faces.png" and path.is_file()
    # six faces, both ends and the middle one of them; the two unreadable ones are no faces to show
    assert len(shown) == 3
    assert shown[0].startswith("female ") and "(" not in shown[0]
    assert shown[-1] == "(male 0.50)\n(<30 0.50)"


def test_no_face_of_a_person_is_put_on_a_sheet(run: RunDir, tmp_path: Path) -> None:
    crawled = {"type": "folder", "name": "crawled", "path": "crawled"}
    unlabeled = TINY["faces"]["unlabeled"] | {"sources": [*TINY["faces"]["unlabeled"]["sources"], crawled]}
    config = load_config(write_tiny_config(tmp_path, faces=TINY["faces"] | {"unlabeled": unlabeled}))
    assert render_label_sheet(config, run, 2) is None
    assert not (run.pseudo_labels(2) / "drawn_faces.png").exists()


def test_pictures_that_are_gone_leave_gray_squares(run: RunDir, tmp_path: Path) -> None:
    path = render_label_sheet(load_config(write_tiny_config(tmp_path)), run, 2)
    assert path is not None
    with Image.open(path) as picture:
        assert picture.width > 3 * label_sheet.SIDE
        assert picture.convert("RGB").getpixel((label_sheet.SIDE // 2, 60)) == (211, 211, 211)
