"""Masks drawn per second on one core, compared with decoding the same pictures.

python -m benchmarks.mask_speed [--faces FOLDER --model face_detection_yunet.onnx]

Without a folder, drawn faces stand in for photographs. The ratio to decoding holds on other machines, too.
"""

import time
import timeit
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from ssl_pipeline.config.masking import CanonicalLandmarks, YuNetLandmarks
from ssl_pipeline.faces.decoding import decode_rgb
from ssl_pipeline.synthetic.masks.landmarks import NoLandmarks, landmark_finder
from ssl_pipeline.synthetic.masks.parameters import Way, picture_rng, sample_mask
from ssl_pipeline.synthetic.masks.rendering import render_mask
from ssl_pipeline.synthetic.people.face import draw_face
from ssl_pipeline.synthetic.people.parameters import sample_faces, sample_people

NUM_FACES, SIZE, REPEATS = 100, 200, 3
WAY_SHARES: dict[Way, float] = {"right": 5.0, "nose_out": 0.4, "chin_out": 0.3, "on_chin": 0.3}
CANONICAL = CanonicalLandmarks(type="canonical")


def pictures_per_second(work: Callable[[], object]) -> float:
    """Return the best of several repeats, after one to warm up; seconds are processor time."""
    work()
    return NUM_FACES / min(timeit.repeat(work, number=1, repeat=REPEATS, timer=time.process_time))


def main(
    faces: Annotated[Path | None, typer.Option(help="A folder of aligned faces.")] = None,
    model: Annotated[Path | None, typer.Option(help="YuNet's ONNX file; else canonical landmarks.")] = None,
) -> None:
    """Print a table."""
    contents = [path.read_bytes() for path in _sample_evenly(faces)] if faces else _drawn_faces()
    images = [decode_rgb(content) for content in contents]
    finder = landmark_finder(YuNetLandmarks(type="yunet", model=model) if model else CANONICAL, root=Path())
    landmarks = []
    for image in images:
        try:
            landmarks.append(finder.find(image, ""))
        except NoLandmarks:
            landmarks.append(landmark_finder(CANONICAL, root=Path()).find(image, ""))
    masks = [sample_mask(picture_rng(0, "speed", number), ways=WAY_SHARES) for number in range(NUM_FACES)]

    def decode() -> None:
        for content in contents:
            decode_rgb(content)

    def draw() -> None:
        for image, points, mask in zip(images, landmarks, masks, strict=True):
            render_mask(image, points, mask)

    def encode() -> None:
        for image in images:
            image.save(BytesIO(), format="JPEG", quality=92)

    side = round(float(np.mean([min(image.size) for image in images])))
    decoded, drawn, encoded = pictures_per_second(decode), pictures_per_second(draw), pictures_per_second(encode)
    all_steps = 1 / (1 / decoded + 1 / drawn + 1 / encoded)
    print(f"{NUM_FACES} pictures, short side {side} px on average, one core")
    print(f"{'decode':>10} {'mask':>8} {'encode':>8} {'all':>8} {'decode : mask':>14}     (pictures per second)")
    print(f"{decoded:10.0f} {drawn:8.0f} {encoded:8.0f} {all_steps:8.0f} {decoded / drawn:14.1f}")


def _sample_evenly(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.iterdir() if path.suffix == ".jpg")
    return paths[:: len(paths) // NUM_FACES][:NUM_FACES]


def _drawn_faces() -> list[bytes]:
    """Draw faces without masks; return them as JPEG."""
    people = sample_people(NUM_FACES, population="elsewhere", seed=0)
    contents = []
    for face in sample_faces(people, images_per_person=1, seed=0, mask_shares={"normal": 1}):
        stream = BytesIO()
        draw_face(face, size=SIZE).save(stream, format="JPEG", quality=92)
        contents.append(stream.getvalue())
    return contents


if __name__ == "__main__":
    typer.run(main)
