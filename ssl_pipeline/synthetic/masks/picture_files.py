"""Draw the pictures of one person or face and write them as JPEG files; finished files are kept."""

import hashlib
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from ssl_pipeline.config.masking import MaskingConfig
from ssl_pipeline.faces.archives import read_bytes
from ssl_pipeline.faces.decoding import UnreadableFace, decode_rgb, square_pixels
from ssl_pipeline.runs.files import atomic_path, digest_of
from ssl_pipeline.synthetic.masks.head_pose import Landmarks
from ssl_pipeline.synthetic.masks.landmarks import LandmarkFinder, NoLandmarks, validate_landmarks
from ssl_pipeline.synthetic.masks.parameters import MaskParameters, picture_rng, sample_mask
from ssl_pipeline.synthetic.masks.rendering import NoMask, render_mask

DRAWING_VERSION = 2
"""To be raised whenever the same parameters give other pixels; older pictures are then drawn again."""


@dataclass(frozen=True)
class HostFace:
    """A bare face to draw masks on.

    Attributes:
        image_id: unique over all sources.
        path: of its file.
        path_in_source: path relative to the source's folder, the key of landmark files.
    """

    image_id: str
    path: str
    path_in_source: str


@dataclass(frozen=True)
class HostGroup:
    """The faces of one person, or a single face, and the folder of their pictures inside the set."""

    folder: str
    hosts: tuple[HostFace, ...]


@dataclass(frozen=True)
class MaskedPicture:
    """A picture of the set, with a mask or bare.

    Attributes:
        file: relative to the set's folder.
        image_id: of the host face.
        mask: value of the attribute.
        parameters: of the mask; None for a bare face.
        digest: of everything that determines the file's bytes.
    """

    file: str
    image_id: str
    mask: str
    parameters: MaskParameters | None
    digest: str


@dataclass(frozen=True)
class GroupResult:
    """Pictures of a group, {image_id: reason} of the rejected faces, unused faces, and the number of kept files."""

    pictures: list[MaskedPicture]
    rejected: dict[str, str]
    unused: list[str]
    num_kept: int


@dataclass(frozen=True)
class _DecodedFace:
    host: HostFace
    image: Image.Image
    landmarks: Landmarks
    digest: str


def draw_pictures(group: HostGroup, config: MaskingConfig, finder: LandmarkFinder) -> GroupResult:
    """Draw the missing pictures of a group, cycling through its usable faces in order.

    A face on which one of its masks would not be visible is rejected; the others take its pictures.
    """
    decoded: list[_DecodedFace] = []
    rejected: dict[str, str] = {}
    values = [value for value in ("wear", "incorrect", "normal") for _ in range(getattr(config.pictures, value))]
    unused = []
    for host in group.hosts:
        if len(decoded) == len(values):
            unused.append(host.image_id)
            continue
        try:
            decoded.append(_decode(host, config, finder))
        except (UnreadableFace, NoLandmarks, OSError) as error:
            rejected[host.image_id] = getattr(error, "strerror", None) or str(error)
    pictures: list[MaskedPicture] = []
    num_kept = 0
    for number, value in enumerate(values if decoded else []):
        name = f"{group.folder}/{'mask' if value == 'wear' else value}{values[:number].count(value) + 1}.jpg"
        face = decoded[number % len(decoded)]
        try:
            picture, kept = _draw_picture(face, value, number, name, config)
        except NoMask as error:
            for drawn in pictures:
                (config.folder / drawn.file).unlink()
            others = tuple(host for host in group.hosts if host != face.host)
            result = draw_pictures(replace(group, hosts=others), config, finder)
            return replace(result, rejected={**result.rejected, face.host.image_id: str(error)})
        pictures.append(picture)
        num_kept += kept
    return GroupResult(pictures, rejected, unused, num_kept)


def _decode(host: HostFace, config: MaskingConfig, finder: LandmarkFinder) -> _DecodedFace:
    """Decode a face and find its landmarks, both scaled to the set's picture size."""
    content = read_bytes(host.path)
    image = decode_rgb(content)
    landmarks = finder.find(image, host.path_in_source)
    if config.size is not None:
        side = min(image.size)
        corner = ((image.width - side) // 2, (image.height - side) // 2)
        scale = config.size / side
        chin = None if landmarks.chin is None else (landmarks.chin - corner) * scale
        landmarks = Landmarks((landmarks.points - corner) * scale, chin)
        landmarks = validate_landmarks(landmarks, (config.size, config.size))  # the square may have lost the face
        image = Image.fromarray(square_pixels(image, size=config.size))
    return _DecodedFace(host, image, landmarks, hashlib.sha256(content).hexdigest())


def _draw_picture(
    face: _DecodedFace, value: str, number: int, file: str, config: MaskingConfig
) -> tuple[MaskedPicture, bool]:
    """Draw one picture unless its file carries the same digest; return the picture and whether the file was kept."""
    parameters = _sample_parameters(face.host.image_id, value, number, config)
    mask_fields = None if parameters is None else asdict(parameters)
    points = [part.tolist() for part in (face.landmarks.points, face.landmarks.chin) if part is not None]
    digest = digest_of([DRAWING_VERSION, face.digest, points, mask_fields, config.size, config.jpeg_quality])
    picture = MaskedPicture(file, face.host.image_id, value, parameters, digest)
    path = config.folder / file
    if _read_digest(path) == digest:
        return picture, True
    image = face.image if parameters is None else render_mask(face.image, face.landmarks, parameters)
    with atomic_path(path) as temporary:
        temporary.write_bytes(_encode_jpeg(image, quality=config.jpeg_quality, comment=digest))
    return picture, False


def _sample_parameters(image_id: str, value: str, number: int, config: MaskingConfig) -> MaskParameters | None:
    if value == "normal":
        return None
    ways: dict[Any, float] = {"right": 1.0} if value == "wear" else config.wrong_ways.model_dump()
    kinds: dict[Any, float] = config.kinds.model_dump()
    colors: dict[Any, float] = config.colors.model_dump()
    return sample_mask(picture_rng(config.seed, image_id, number), ways=ways, kinds=kinds, colors=colors)


def _encode_jpeg(image: Image.Image, *, quality: int, comment: str) -> bytes:
    stream = BytesIO()
    image.save(stream, format="JPEG", quality=quality, subsampling="4:2:0", optimize=False, comment=comment.encode())
    return stream.getvalue()


def _read_digest(path: Path) -> str | None:
    """Read the digest from the JPEG comment of a finished picture; None if there is no such picture."""
    try:
        with Image.open(path, formats=("JPEG",)) as image:
            comment = image.info.get("comment", b"")
    except (OSError, SyntaxError):
        return None
    return comment.decode("ascii", errors="replace") if isinstance(comment, bytes) else str(comment)


def group_folder(identity: str) -> str:
    """Name the folder of a person or face: readable, valid on any file system, unique by its digest.

    >>> group_folder("utk:../1_0.jpg")
    'images/utk-1_0.jpg-5a6161c8'
    """
    safe = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in identity)
    words = "-".join(word for word in safe.split("-") if word.strip("."))
    return f"images/{words[-48:].lstrip('.-')}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
