"""The contact sheet of masks in docs/masking.md: each kind and way of wearing on drawn faces, straight and turned.

python -m benchmarks.docs.mask_sheet docs/masks.png
"""

from dataclasses import replace
from math import radians, sin
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from ssl_pipeline.synthetic.masks.head_pose import Landmarks
from ssl_pipeline.synthetic.masks.parameters import KINDS, WAYS, picture_rng, sample_mask
from ssl_pipeline.synthetic.masks.rendering import render_mask
from ssl_pipeline.synthetic.people.canvas import Canvas
from ssl_pipeline.synthetic.people.face import draw_face
from ssl_pipeline.synthetic.people.parameters import DrawnFace, Pose, sample_faces, sample_people

SIZE, YAWS = 120, (0.0, 24.0)
NOSE_DEPTH = 0.26  # of the tip of the nose in front of eyes and mouth, in the drawn head's frame


def main(out: Annotated[Path, typer.Argument()], seed: int = 3) -> None:
    """Draw a row per kind and pose: the bare face, then two of each way of wearing."""
    people = sample_people(len(KINDS) * len(YAWS) * (2 * len(WAYS) + 1), population="home", seed=seed)
    faces = sample_faces(people, images_per_person=1, seed=seed, mask_shares={"normal": 1})
    columns, rows = 2 * len(WAYS) + 1, [(kind, yaw) for kind in KINDS for yaw in YAWS]
    sheet = Image.new("RGB", (columns * SIZE, len(rows) * SIZE), "white")
    for row, (kind, yaw) in enumerate(rows):
        for column in range(columns):
            number = row * columns + column
            side = 1 if number % 2 else -1
            pose = Pose(faces[number].pose.roll_degrees, side * yaw, 0.0, -0.03, 1.2)
            face = replace(faces[number], pose=pose, occlusion="none", noise=0.0, blur=0.0)
            picture = draw_face(face, size=SIZE)
            if column:
                way = WAYS[(column - 1) // 2]
                mask = sample_mask(picture_rng(seed, kind, number), ways={way: 1}, kinds={kind: 1})
                picture = render_mask(picture, drawn_landmarks(face, SIZE), mask)
            sheet.paste(picture, (column * SIZE, row * SIZE))
    sheet.save(out, optimize=True)


def drawn_landmarks(face: DrawnFace, size: int) -> Landmarks:
    """Return the landmarks of a drawn face; its nose is drawn flat, so the depth of a nose is added for the yaw."""
    canvas = Canvas(face, size)
    nose = (NOSE_DEPTH * sin(radians(face.pose.yaw_degrees)), 0.26)
    points = [(-0.315, -0.08), (0.315, -0.08), nose, (-0.225, 0.56), (0.225, 0.56)]
    pixels = np.array(canvas.to_pixels(points)).reshape(-1, 2) * size / canvas.side
    chin = np.array(canvas.to_pixels([(0.0, 0.98)])) * size / canvas.side
    return Landmarks(pixels, chin)


if __name__ == "__main__":
    typer.run(main)
