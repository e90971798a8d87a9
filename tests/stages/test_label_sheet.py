"""The label sheet shows drawn faces only, by falling confidence, with the status of each label."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.pseudo_labels.manifest_writing import write_manifest
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.stages import label_sheet
from ssl_pipeline.stages.label_sheet import render_label_sheet
from tests.cycle_config import TINY, write_tiny_config
from tests.pseudo_labels.test_manifest import build


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "runs/tiny")
    run.pseudo_labels(2).mkdir(parents=True)
    write_manifest(run.pseudo_labels(2) / "manifest.parquet", [build()])
    return run


def test_the_most_confident_come_first_and_labels_not_accepted_are_in_brackets(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []

    def sheet(images: list[Any], captions: list[str], **options: Any) -> Image.Image:
        shown.extend(captions)
        assert len(images) == len(captions)
        return Image.new("RGB", (9, 9))

    monkeypatch.setattr(label_sheet, "contact_sheet", sheet)
    monkeypatch.setattr(label_sheet, "NUM_FACES", 3)
    path = render_label_sheet(load_config(write_tiny_config(tmp_path)), run, 2)
    assert path == run.pseudo_labels(2) / "drawn_faces.png" and path.is_file()
    # first, middle and last of six faces; the two unreadable ones are left out
    assert len(shown) == 3
    assert shown[0].startswith("female ") and "(" not in shown[0]
    assert shown[-1] == "(male 0.50)\n(<30 0.50)"


def test_a_pool_with_real_faces_has_no_sheet(run: RunDir, tmp_path: Path) -> None:
    crawled = {"type": "folder", "name": "crawled", "path": "crawled"}
    unlabeled = TINY["faces"]["unlabeled"] | {"sources": [*TINY["faces"]["unlabeled"]["sources"], crawled]}
    config = load_config(write_tiny_config(tmp_path, faces=TINY["faces"] | {"unlabeled": unlabeled}))
    assert render_label_sheet(config, run, 2) is None
    assert not (run.pseudo_labels(2) / "drawn_faces.png").exists()


def test_missing_pictures_leave_gray_squares(run: RunDir, tmp_path: Path) -> None:
    path = render_label_sheet(load_config(write_tiny_config(tmp_path)), run, 2)
    assert path is not None
    with Image.open(path) as picture:
        assert picture.width > 3 * label_sheet.SIDE
        assert picture.convert("RGB").getpixel((label_sheet.SIDE // 2, 60)) == (211, 211, 211)
