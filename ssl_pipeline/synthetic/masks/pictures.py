"""The pictures of one person, or of one face: drawn, written as JPEG, and recognized when they are there already."""

import hashlib
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from ssl_pipeline.config.masking import MaskingConfig
from ssl_pipeline.faces.decoding import UnreadableFace, decode_rgb, square_pixels
from ssl_pipeline.runs.files import atomic_path, digest_of
from ssl_pipeline.synthetic.masks.head import Landmarks
from ssl_pipeline.synthetic.masks.landmarks import LandmarkFinder, NoLandmarks
from ssl_pipeline.synthetic.masks.parameters import MaskParameters, draw_parameters, picture_rng
from ssl_pipeline.synthetic.masks.rendering import put_mask

DRAWING_VERSION = 1
"""Raised whenever other pixels would be drawn from the same parameters: older pictures are then drawn again."""


@dataclass(frozen=True)
class HostFace:
    """A bare face that masks are put on.

    Attributes:
        image_id: unique over all sources.
        path: of its file.
        path_in_source: the same, relative to the source's folder, by which landmark files know it.
    """

    image_id: str
    path: str
    path_in_source: str


@dataclass(frozen=True)
class Unit:
    """What is drawn together: the faces of one person, or one face, and the folder of its pictures inside the set."""

    folder: str
    hosts: tuple[HostFace, ...]


@dataclass(frozen=True)
class MadePicture:
    """A picture of the set.

    Attributes:
        file: relative to the set's folder.
        image_id: of the host face.
        mask: the attribute's value.
        parameters: of the mask; None on a bare face.
        digest: of everything that the file's bytes follow from.
    """

    file: str
    image_id: str
    mask: str
    parameters: MaskParameters | None
    digest: str


@dataclass(frozen=True)
class UnitResult:
    """What a unit came to: its pictures, {image_id: reason} of the faces left out, and how many were there before."""

    pictures: list[MadePicture]
    rejected: dict[str, str]
    unused: list[str]
    num_kept: int


@dataclass(frozen=True)
class _Opened:
    host: HostFace
    image: Image.Image
    landmarks: Landmarks
    digest: str


def make_pictures(unit: Unit, config: MaskingConfig, finder: LandmarkFinder) -> UnitResult:
    """Draw the pictures of a unit that are not there yet; the usable faces take turns, in their order."""
    opened: list[_Opened] = []
    rejected: dict[str, str] = {}
    values = [value for value in ("wear", "incorrect", "normal") for _ in range(getattr(config.pictures, value))]
    unused = []
    for host in unit.hosts:
        if len(opened) == len(values):
            unused.append(host.image_id)
            continue
        try:
            opened.append(_open(host, config, finder))
        except (UnreadableFace, NoLandmarks, OSError) as error:
            rejected[host.image_id] = getattr(error, "strerror", None) or str(error)
    pictures: list[MadePicture] = []
    num_kept = 0
    for number, value in enumerate(values if opened else []):
        picture, kept = _make(opened[number % len(opened)], value, number, values[:number].count(value), unit, config)
        pictures.append(picture)
        num_kept += kept
    return UnitResult(pictures, rejected, unused, num_kept)


def _open(host: HostFace, config: MaskingConfig, finder: LandmarkFinder) -> _Opened:
    """Decode a face and find its points, both at the size of the set."""
    content = Path(host.path).read_bytes()
    image = decode_rgb(content)
    landmarks = finder.find(image, host.path_in_source)
    if config.size is not None:
        side = min(image.size)
        corner = ((image.width - side) // 2, (image.height - side) // 2)
        scale = config.size / side
        chin = None if landmarks.chin is None else (landmarks.chin - corner) * scale
        landmarks = Landmarks((landmarks.points - corner) * scale, chin)
        image = Image.fromarray(square_pixels(image, size=config.size))
    return _Opened(host, image, landmarks, hashlib.sha256(content).hexdigest())


def _make(
    face: _Opened, value: str, number: int, number_of_value: int, unit: Unit, config: MaskingConfig
) -> tuple[MadePicture, bool]:
    """Make one picture, unless its file is there and says that it is the same; tell which."""
    parameters = _parameters(face.host.image_id, value, number, config)
    shown = None if parameters is None else asdict(parameters)
    points = [part.tolist() for part in (face.landmarks.points, face.landmarks.chin) if part is not None]
    digest = digest_of([DRAWING_VERSION, face.digest, points, shown, config.size, config.jpeg_quality])
    name = "mask" if value == "wear" else value
    file = f"{unit.folder}/{name}{number_of_value + 1}.jpg"
    picture = MadePicture(file, face.host.image_id, value, parameters, digest)
    path = config.folder / file
    if _digest_in(path) == digest:
        return picture, True
    image = face.image if parameters is None else put_mask(face.image, face.landmarks, parameters)
    with atomic_path(path) as beside:
        beside.write_bytes(_jpeg(image, quality=config.jpeg_quality, comment=digest))
    return picture, False


def _parameters(image_id: str, value: str, number: int, config: MaskingConfig) -> MaskParameters | None:
    if value == "normal":
        return None
    ways: dict[Any, float] = {"right": 1.0} if value == "wear" else config.wrong_ways.model_dump()
    kinds: dict[Any, float] = config.kinds.model_dump()
    colors: dict[Any, float] = config.colors.model_dump()
    return draw_parameters(picture_rng(config.seed, image_id, number), ways=ways, kinds=kinds, colors=colors)


def _jpeg(image: Image.Image, *, quality: int, comment: str) -> bytes:
    stream = BytesIO()
    image.save(stream, format="JPEG", quality=quality, subsampling="4:2:0", optimize=False, comment=comment.encode())
    return stream.getvalue()


def _digest_in(path: Path) -> str | None:
    """Read the digest that a finished picture carries in its header; None where there is no such picture."""
    try:
        with Image.open(path, formats=("JPEG",)) as image:
            comment = image.info.get("comment", b"")
    except (OSError, SyntaxError):
        return None
    return comment.decode("ascii", errors="replace") if isinstance(comment, bytes) else str(comment)


def unit_folder(identity: str) -> str:
    """Name the folder of a person or face: readable, safe on any file system, unique by the digest in it.

    >>> unit_folder("utk:../1_0.jpg")
    'images/utk-1_0.jpg-5a6161c8'
    """
    safe = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in identity)
    words = "-".join(word for word in safe.split("-") if word.strip("."))
    return f"images/{words[-48:].lstrip('.-')}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
