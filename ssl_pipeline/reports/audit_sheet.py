"""Pages of numbered faces with their pseudo-labels, for the person who says which are right."""

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ssl_pipeline.faces.decoding import read_picture
from ssl_pipeline.reports.contact_sheet import contact_sheet
from ssl_pipeline.runs.files import atomic_path

FACES_PER_PAGE, COLUMNS, SIDE = 100, 10, 128


def render_audit_sheets(
    directory: Path, image_paths: Sequence[str], captions: Sequence[str], *, title: str
) -> tuple[list[Path], dict[int, str]]:
    """Draw ``audit-01.png`` and so on, a hundred faces each.

    Args:
        directory: where to write.
        image_paths: of N faces; their numbers are 1 to N.
        captions: N, what is said of each.
        title: stands above every page.

    Returns:
        The files, and why pictures cannot be opened, by number; such a face has a gray square that says so.
    """
    paths: list[Path] = []
    unreadable: dict[int, str] = {}
    for page in range(math.ceil(len(image_paths) / FACES_PER_PAGE)):
        images, texts = [], []
        for place in range(page * FACES_PER_PAGE, min((page + 1) * FACES_PER_PAGE, len(image_paths))):
            picture, number = read_picture(image_paths[place]), place + 1
            if isinstance(picture, str):
                unreadable[number] = picture
                texts.append(f"{number}. {captions[place]}\ncannot be opened: {picture}")
                picture = Image.new("RGB", (SIDE, SIDE), "lightgray")
            else:
                picture.thumbnail((SIDE, SIDE))  # a hundred photographs would not fit into memory
                texts.append(f"{number}. {captions[place]}")
            images.append(picture)
        paths.append(directory / f"audit-{page + 1:02d}.png")
        with atomic_path(paths[-1]) as beside:
            contact_sheet(images, texts, columns=COLUMNS, title=title, side=SIDE).save(beside, format="PNG")
    return paths, unreadable
