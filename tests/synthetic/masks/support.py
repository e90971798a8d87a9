"""Shared by the tests of masks: drawn bare faces with their landmarks, and small sources of them."""

from dataclasses import replace

import numpy as np

from ssl_pipeline.config.masking import MaskingConfig
from ssl_pipeline.synthetic.masks.head_pose import Landmarks
from ssl_pipeline.synthetic.masks.parameters import MaskParameters
from ssl_pipeline.synthetic.people.canvas import Canvas
from ssl_pipeline.synthetic.people.face import draw_face
from ssl_pipeline.synthetic.people.parameters import Pose, sample_faces, sample_people

SIZE = 128
POINTS = [(-0.315, -0.08), (0.315, -0.08), (0.0, 0.26), (-0.225, 0.56), (0.225, 0.56)]
PLAIN = MaskParameters(
    kind="surgical", way="right", color=(150, 200, 226), print="none", print_colors=(), size=1.0, height=0.0, sag=0.4,
    folds=0.5, rotation_degrees=0.0, shift=0.0, loop_color=(238, 239, 240), loop_width=0.03, valve=False, seed=5,
)  # fmt: skip


def bare_face(*, roll=0.0, number=0):
    """A picture of a bare face, its landmarks, and the transform from its head frame to pixels."""
    people = sample_people(number + 1, population="home", seed=1)
    face = sample_faces(people, images_per_person=1, seed=1, mask_shares={"normal": 1})[number]
    face = replace(face, pose=Pose(roll, 0.0, 0.0, 0.0, 1.2), occlusion="none", eyewear="none", noise=1.0, blur=0.0)
    canvas = Canvas(face, SIZE)

    def to_pixels(*points):
        return np.array(canvas.to_pixels(points)).reshape(-1, 2) * SIZE / canvas.side

    return draw_face(face, size=SIZE), Landmarks(to_pixels(*POINTS)), to_pixels


def put_sources(root, *, people=3, images=2):
    """Write a CSV source with a landmark file: bare drawn faces of a few people, a masked face, a broken file."""
    folder = root / "bare"
    folder.mkdir(parents=True)
    rows, points = ["image_path,person_id,mask,gender,age_years,origin"], []
    for number in range(people * images):
        picture, landmarks, _ = bare_face(number=number)
        picture.save(folder / f"{number}.png")
        rows.append(f"{number}.png,p{number // images},,{'male' if number % 2 else 'female'},{20 + number},home")
        points.append(f"{number}.png," + ",".join(f"{value:.3f}" for value in landmarks.points.ravel()))
    picture.save(folder / "masked.png")
    (folder / "broken.png").write_bytes(b"no picture")
    picture.save(folder / "unknown.png")
    rows += ["masked.png,pm,wear,male,30,home", "broken.png,pb,,male,30,home", "unknown.png,pu,normal,male,30,home"]
    (folder / "bare.csv").write_text("\n".join(rows) + "\n")
    (root / "points.csv").write_text("\n".join(["image,x y", *points]) + "\n")


def config_of(root, **changes):
    section = {
        "root": root,
        "sources": [{"type": "csv", "name": "bare", "path": "bare", "table": "bare.csv"}],
        "out": root / "out",
        "seed": 3,
        "landmarks": {"type": "file", "path": "points.csv"},
        "per_person": {"wear": 2, "incorrect": 1, "normal": 1},
        "processes": 1,
    }
    return MaskingConfig.model_validate(section | changes)
