"""Contact sheets: a grid of captioned images under a title."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont, ImageOps

MARGIN, GAP = 12, 10  # around the sheet, between cells
LINE_HEIGHT = 1.3  # of the font's size
CAPTION_SIZE, TITLE_SIZE = 12, 15
_INK, _PAPER = (40, 40, 40), (255, 255, 255)


def contact_sheet(
    images: Sequence[Image.Image], captions: Sequence[str], *, columns: int, title: str, side: int = 128
) -> Image.Image:
    """Lay images out in rows, left to right.

    Args:
        images: N images of any size and mode; each is scaled into its square with its aspect ratio kept.
        captions: N texts, may contain line breaks; lines too long for a cell are wrapped.
        columns: images per row, at least 1; the sheet's width does not depend on N.
        title: placed above, wrapped if too long.
        side: of an image's square in pixels, at least 1.

    Returns:
        The sheet, mode RGB; with no images, the title alone.

    Raises:
        ValueError: if the numbers of captions and images differ, or columns or side is below 1.
    """
    if len(images) != len(captions):
        raise ValueError(f"every image needs a caption: {len(images)} images, {len(captions)} captions")
    if columns < 1 or side < 1:
        raise ValueError(f"columns and side must be at least 1, got {columns} and {side}")
    width = 2 * MARGIN + columns * side + (columns - 1) * GAP
    heading = _wrap(title, _font(TITLE_SIZE), width=width - 2 * MARGIN)
    texts = [_wrap(caption, _font(CAPTION_SIZE), width=side) for caption in captions]
    rows = [range(start, min(start + columns, len(images))) for start in range(0, len(images), columns)]
    heights = [side + 4 + max(_height(texts[number], CAPTION_SIZE) for number in row) + GAP for row in rows]
    top = MARGIN + _height(heading, TITLE_SIZE) + GAP // 2
    sheet = Image.new("RGB", (width, top + sum(heights) + MARGIN // 2), _PAPER)
    _write(sheet, heading, (MARGIN, MARGIN), TITLE_SIZE)
    for row, height in zip(rows, heights, strict=True):
        for column, number in enumerate(row):
            left = MARGIN + column * (side + GAP)
            picture = ImageOps.contain(images[number].convert("RGB"), (side, side), Image.Resampling.BICUBIC)
            sheet.paste(picture, (left + (side - picture.width) // 2, top + (side - picture.height) // 2))
            _write(sheet, texts[number], (left, top + side + 4), CAPTION_SIZE)
        top += height
    return sheet


def stack_sheets(sheets: Sequence[Image.Image]) -> Image.Image:
    """Stack at least one sheet vertically, aligned left, on white."""
    stack = Image.new("RGB", (max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)), _PAPER)
    top = 0
    for sheet in sheets:
        stack.paste(sheet, (0, top))
        top += sheet.height
    return stack


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Load DejaVu Sans from matplotlib, so that every machine renders the same sheet."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)


def _wrap(text: str, font: ImageFont.FreeTypeFont, *, width: int) -> list[str]:
    """Break a text into lines of at most `width` pixels, between words or inside a word longer than a line."""
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            extended = f"{line} {word}" if line else word
            if font.getlength(extended) <= width:
                line = extended
                continue
            if line:
                lines.append(line)
            while font.getlength(word) > width and len(word) > 1:
                end = next(n for n in range(len(word) - 1, 0, -1) if n == 1 or font.getlength(word[:n]) <= width)
                lines.append(word[:end])
                word = word[end:]
            line = word
        lines.append(line)
    return lines


def _height(lines: Sequence[str], size: int) -> int:
    return round(len(lines) * size * LINE_HEIGHT)


def _write(sheet: Image.Image, lines: Sequence[str], at: tuple[int, int], size: int) -> None:
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        draw.text((at[0], at[1] + round(number * size * LINE_HEIGHT)), line, fill=_INK, font=_font(size))
