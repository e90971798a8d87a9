"""Contact sheets: every image in its cell with its aspect ratio, its caption below, no overlaps."""

import numpy as np
import pytest
from PIL import Image

from ssl_pipeline.reports.contact_sheet import GAP, MARGIN, contact_sheet, stack_sheets

RED, BLUE = (255, 0, 0), (0, 0, 255)


def bounds(sheet: Image.Image, color: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """The bounding box (left, top, right, bottom) of the pixels of a color."""
    rows, columns = np.nonzero((np.asarray(sheet) == color).all(axis=2))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def num_dark_pixels(sheet: Image.Image, box: tuple[int, int, int, int]) -> int:
    return int((np.asarray(sheet.crop(box).convert("L")) < 128).sum())


def test_images_are_placed_in_rows_and_small_ones_are_enlarged() -> None:
    images = [Image.new("RGB", (size, size), color) for size, color in ((10, RED), (300, "green"), (50, BLUE))]
    sheet = contact_sheet(images, ["a", "b", "c"], columns=2, title="three", side=64)
    left, top, right, bottom = bounds(sheet, RED)
    assert (left, right - left, bottom - top) == (MARGIN, 64, 64)
    assert bounds(sheet, BLUE)[0] == MARGIN and bounds(sheet, BLUE)[1] > bottom
    assert sheet.width == 2 * MARGIN + 2 * 64 + GAP


def test_a_wide_image_keeps_its_aspect_ratio() -> None:
    sheet = contact_sheet([Image.new("RGB", (200, 100), RED)], [""], columns=1, title="wide", side=64)
    left, top, right, bottom = bounds(sheet, RED)
    assert (right - left, bottom - top) == (64, 32)


def test_a_long_caption_is_wrapped_inside_its_cell_and_pushes_the_next_row_down() -> None:
    images = [Image.new("RGB", (8, 8), RED), Image.new("RGB", (8, 8), BLUE)]
    captions = ["a caption of many words " * 3 + "and_a_word_that_is_longer_than_a_whole_cell", "b"]
    sheet = contact_sheet(images, captions, columns=1, title="", side=80)
    red, blue = bounds(sheet, RED), bounds(sheet, BLUE)
    between = (MARGIN, red[3], MARGIN + 80, blue[1])
    assert blue[1] - red[3] > 5 * 12  # at least five lines lie between the images
    assert num_dark_pixels(sheet, between) > 200
    assert num_dark_pixels(sheet, (MARGIN + 80, 0, sheet.width, sheet.height)) == 0  # nothing outside the cell


def test_a_sheet_of_no_images_holds_its_title() -> None:
    sheet = contact_sheet([], [], columns=3, title="nothing found", side=64)
    assert num_dark_pixels(sheet, (0, 0, *sheet.size)) > 50


@pytest.mark.parametrize(("captions", "columns"), [([], 1), (["a"], 0)])
def test_missing_captions_or_columns_are_refused(captions: list[str], columns: int) -> None:
    with pytest.raises(ValueError, match=r"caption|at least 1"):
        contact_sheet([Image.new("RGB", (8, 8))], captions, columns=columns, title="")


def test_sheets_are_stacked_in_order() -> None:
    stack = stack_sheets([Image.new("RGB", (10, 20), RED), Image.new("RGB", (30, 5), BLUE)])
    assert stack.size == (30, 25)
    assert bounds(stack, RED) == (0, 0, 10, 20) and bounds(stack, BLUE) == (0, 20, 30, 25)
