"""A contact sheet shows every image in its place, in proportion, its caption beneath and nothing over anything."""

import numpy as np
import pytest
from PIL import Image

from ssl_pipeline.reports.contact_sheet import GAP, MARGIN, contact_sheet, stacked

RED, BLUE = (255, 0, 0), (0, 0, 255)


def where(sheet: Image.Image, color: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) of the pixels of a color."""
    rows, columns = np.nonzero((np.asarray(sheet) == color).all(axis=2))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def ink(sheet: Image.Image, box: tuple[int, int, int, int]) -> int:
    return int((np.asarray(sheet.crop(box).convert("L")) < 128).sum())


def test_images_stand_in_rows_and_small_ones_are_enlarged() -> None:
    images = [Image.new("RGB", (size, size), color) for size, color in ((10, RED), (300, "green"), (50, BLUE))]
    sheet = contact_sheet(images, ["a", "b", "c"], columns=2, title="three", side=64)
    left, top, right, bottom = where(sheet, RED)
    assert (left, right - left, bottom - top) == (MARGIN, 64, 64)
    assert where(sheet, BLUE)[0] == MARGIN and where(sheet, BLUE)[1] > bottom
    assert sheet.width == 2 * MARGIN + 2 * 64 + GAP


def test_a_wide_image_keeps_its_proportions_in_the_middle_of_its_square() -> None:
    sheet = contact_sheet([Image.new("RGB", (200, 100), RED)], [""], columns=1, title="wide", side=64)
    left, top, right, bottom = where(sheet, RED)
    assert (right - left, bottom - top) == (64, 32)


def test_a_long_caption_is_wrapped_inside_its_cell_and_pushes_the_next_row_down() -> None:
    images = [Image.new("RGB", (8, 8), RED), Image.new("RGB", (8, 8), BLUE)]
    captions = ["a caption of many words " * 3 + "and_a_word_that_is_longer_than_a_whole_cell", "b"]
    sheet = contact_sheet(images, captions, columns=1, title="", side=80)
    red, blue = where(sheet, RED), where(sheet, BLUE)
    between = (MARGIN, red[3], MARGIN + 80, blue[1])
    assert blue[1] - red[3] > 5 * 12  # at least five lines lie between the images
    assert ink(sheet, between) > 200
    assert ink(sheet, (MARGIN + 80, 0, sheet.width, sheet.height)) == 0  # nothing sticks out


def test_a_sheet_of_no_images_holds_its_title() -> None:
    sheet = contact_sheet([], [], columns=3, title="nothing found", side=64)
    assert ink(sheet, (0, 0, *sheet.size)) > 50


@pytest.mark.parametrize(("captions", "columns"), [([], 1), (["a"], 0)])
def test_what_cannot_be_laid_out_is_refused(captions: list[str], columns: int) -> None:
    with pytest.raises(ValueError, match=r"caption|at least 1"):
        contact_sheet([Image.new("RGB", (8, 8))], captions, columns=columns, title="")


def test_sheets_are_stacked_in_order() -> None:
    whole = stacked([Image.new("RGB", (10, 20), RED), Image.new("RGB", (30, 5), BLUE)])
    assert whole.size == (30, 25)
    assert where(whole, RED) == (0, 0, 10, 20) and where(whole, BLUE) == (0, 20, 30, 25)
