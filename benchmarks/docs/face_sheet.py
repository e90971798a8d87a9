"""The README's contact sheet of drawn people: the labeled population above, the external pool below.

python -m benchmarks.docs.face_sheet docs/drawn-faces.png
"""

from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from ssl_pipeline.synthetic.people.face import draw_face
from ssl_pipeline.synthetic.people.parameters import Population, sample_faces, sample_people

COLUMNS, ROWS, SIZE, GAP = 10, 2, 96, 12
POPULATIONS: tuple[Population, ...] = ("home", "elsewhere")


def main(out: Annotated[Path, typer.Argument()]) -> None:
    """Draw both populations."""
    sheet = Image.new("RGB", (COLUMNS * SIZE, 2 * ROWS * SIZE + GAP), "white")
    for block, population in enumerate(POPULATIONS):
        people = sample_people(COLUMNS * ROWS, population=population, seed=7)
        for number, face in enumerate(sample_faces(people, images_per_person=1, seed=7)):
            row, column = divmod(number, COLUMNS)
            top = block * (ROWS * SIZE + GAP) + row * SIZE
            sheet.paste(draw_face(face, size=SIZE), (column * SIZE, top))
    sheet.save(out, optimize=True)


if __name__ == "__main__":
    typer.run(main)
