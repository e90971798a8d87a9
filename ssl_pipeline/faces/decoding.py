"""Image decoding: from a file's bytes to upright RGB pixels, or the reason for failure.

The format follows from the content, not from the file's name.
"""

import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image, JpegImagePlugin, PngImagePlugin, UnidentifiedImageError

from ssl_pipeline.faces.archives import open_binary, read_bytes

try:  # the extra [heif]
    from pillow_heif import register_heif_opener
except ImportError:
    _HEIF: tuple[str, ...] = ()
else:
    register_heif_opener()
    _HEIF = ("HEIF",)

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "JPEG2000", "PPM", *_HEIF)
"""Pillow's names; MPO, as cameras write it, is a JPEG. EPS is left out: Pillow would start Ghostscript."""
NOT_AN_IMAGE = "not an image (JPEG, PNG, WebP, AVIF, HEIC, GIF, TIFF, BMP, JPEG 2000 or PPM)"
MIN_SIDE_PIXELS = 8
MAX_PIXELS = 100_000_000

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WARNINGS_LOCK = threading.Lock()
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_PIXEL_CHUNKS = (b"tRNS", b"acTL", b"fcTL", b"fdAT")  # ancillary by their names, but pixels depend on them

# Editors write histories of some megabytes into text chunks, which Pillow refuses from one megabyte on.
PngImagePlugin.MAX_TEXT_CHUNK = 16 * 2**20


class UnreadableFace(Exception):  # noqa: N818 — a property of a file that callers count, not a program error
    """An image that cannot be decoded; the message is the reason (short, no path)."""


def decode_rgb(content: bytes, *, min_side: int | None = None) -> Image.Image:
    """Decode an image file.

    The EXIF orientation is applied. Transparency is composited on white. Gray, palette, 1-bit and CMYK become RGB;
    16-bit gray is scaled to 8 bits, not clipped. An animation gives its first frame.

    Args:
        content: the bytes of a file in one of `FORMATS`. Damage in a PNG beside its pixels, e.g. in a comment, is
            ignored.
        min_side: what the image is needed for, in pixels. A JPEG at least four times as large may be decoded at 1/2, 1/4 or
            1/8 of its size, which skips most of the work; its short side keeps at least twice `min_side`.

    Returns:
        The image, upright, mode RGB, fully loaded.

    Raises:
        UnreadableFace: if the bytes are not such an image, are truncated or damaged, if a side is shorter than 8 px,
            or if the header states more than 100 megapixels (checked before decoding).
    """
    try:
        return _decode(content, min_side)
    except UnreadableFace:
        if (pixels_only := _without_metadata(content)) == content:
            raise
        return _decode(pixels_only, min_side)


def _decode(content: bytes, min_side: int | None) -> Image.Image:
    image = _open(BytesIO(content))
    if min_side is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
        image.draft(image.mode, (2 * min_side, 2 * min_side))
    return upright_rgb(image)


def upright_rgb(image: Image.Image) -> Image.Image:
    """Turn an opened image into upright RGB pixels, as `decode_rgb` does.

    Raises:
        UnreadableFace: see `decode_rgb`.
    """
    _check_sides(image)
    try:
        _load(image)
        return _to_rgb(_upright(image))
    except UnreadableFace:
        raise
    except Exception as error:  # decoders raise many types for damaged files, from SyntaxError to struct.error
        raise UnreadableFace(_reason(error)) from None


def read_picture(path: str) -> Image.Image | str:
    """Read and decode an image file; return the reason if it cannot be read."""
    try:
        return decode_rgb(read_bytes(path))
    except OSError as error:
        return error.strerror or str(error)
    except UnreadableFace as error:
        return str(error)


def short_side_pixels(path: Path) -> int:
    """Read the length of an image's short side in pixels from its header, without decoding.

    Raises:
        UnreadableFace: if the header is unknown, or states too many or too few pixels.
    """
    try:
        with open_binary(path) as file:
            try:
                return min(_open(file).size)
            except UnreadableFace:
                file.seek(0)
                return min(_open(BytesIO(_without_metadata(file.read()))).size)
    except OSError as error:
        raise UnreadableFace(f"cannot be read ({error.strerror or type(error).__name__})") from None


def has_image_signature(path: Path) -> bool:
    """Return whether a file begins like an image of `FORMATS` or HEIC; False if it cannot be read."""
    try:
        header = read_bytes(path, 16)
    except OSError:
        return False
    name = _signature(header)
    # The signatures of these two are two letters, with which a text may begin.
    return name is not None and (name not in ("BMP", "PPM") or _is_identified(path))


def square_pixels(image: Image.Image, *, size: int) -> npt.NDArray[np.uint8]:
    """Crop the centered square of an image and resize it.

    Bicubic, antialiased if it shrinks. If the long side cannot be cropped evenly, the far end loses one pixel more. A
    square of the right size keeps its pixels.

    Args:
        image: mode RGB, any size.
        size: side of the square in pixels.

    Returns:
        uint8 [size, size, 3], RGB.
    """
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)
    square = image.crop(box) if side == size else image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.array(square, dtype=np.uint8)


def _open(stream: IO[bytes]) -> Image.Image:
    """Open an image by its header and check its stated size."""
    try:
        with _without_warnings():
            image = Image.open(stream, formats=FORMATS)
    except UnidentifiedImageError:
        stream.seek(0)
        raise UnreadableFace(_why_unidentified(stream.read(16))) from None
    except Image.DecompressionBombError:
        raise UnreadableFace(f"more than {MAX_PIXELS // 1_000_000} megapixels") from None
    except Exception as error:  # see decode_rgb
        raise UnreadableFace(_reason(error)) from None
    _check_sides(image)
    return image


def _check_sides(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UnreadableFace(f"more than {MAX_PIXELS // 1_000_000} megapixels ({width}×{height} px)")
    if min(width, height) < MIN_SIDE_PIXELS:
        raise UnreadableFace(f"a side is shorter than {MIN_SIDE_PIXELS} px ({width}×{height} px)")


def _is_identified(path: Path) -> bool:
    try:
        with open_binary(path) as file:
            _open(file)
    except (OSError, UnreadableFace):
        return False
    return True


def _signature(header: bytes) -> str | None:
    """Return the format whose signature the first 16 bytes of a file are; None if there is none."""
    Image.init()
    for name in FORMATS:
        accept = Image.OPEN[name][1]
        if accept is not None and accept(header):
            return name
    return "HEIF" if header[4:8] == b"ftyp" and header[8:12] in _HEIC_BRANDS else None


def _why_unidentified(header: bytes) -> str:
    if not header:
        return "the file is empty"
    name = _signature(header)
    if name == "HEIF" and not _HEIF:
        return "a HEIC image; install the extra: pip install 'ssl-pipeline[heif]', or save it as JPEG"
    return NOT_AN_IMAGE if name in (None, "BMP", "PPM") else "its header is damaged"


def _without_metadata(content: bytes) -> bytes:
    """Remove the chunks of a PNG on which no pixel depends, except a sound EXIF; other contents are returned as they are.

    A wrong checksum in a chunk with pixels is kept, and makes the image unreadable.
    """
    if not content.startswith(_PNG_SIGNATURE):
        return content
    parts, position = [_PNG_SIGNATURE], len(_PNG_SIGNATURE)
    while position + 12 <= len(content):
        end = position + 12 + int.from_bytes(content[position : position + 4])
        chunk, name = content[position:end], content[position + 4 : position + 8]
        is_sound = zlib.crc32(chunk[4:-4]).to_bytes(4) == chunk[-4:]
        if name[:1].isupper() or name in _PNG_PIXEL_CHUNKS or (name == b"eXIf" and is_sound):
            parts.append(chunk)
        position = end
    return b"".join([*parts, content[position:]])


def _load(image: Image.Image) -> None:
    """Decode the pixels; for TIFF without warnings, since Pillow also parses EXIF then."""
    with _without_warnings() if image.format == "TIFF" else nullcontext():
        image.load()


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation to a loaded image; an unreadable orientation is ignored."""
    try:
        with _without_warnings():
            orientation = image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # damaged EXIF does not affect the pixels
        return image
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _to_rgb(image: Image.Image) -> Image.Image:
    is_deep_ppm = image.format == "PPM" and image.mode == "I"  # Pillow scales it to 16 bits
    if image.mode in ("I", "F") and not is_deep_ppm:
        raise UnreadableFace("32-bit pixels of unknown range; save the image with 8 or 16 bits")
    if image.mode.startswith("I;16") or is_deep_ppm:
        gray = (np.asarray(image, dtype=np.uint32) + 128) // 257  # 65,535 → 255, rounded
        return Image.fromarray(gray.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        colored = image.convert("RGBA")
        canvas = Image.new("RGB", image.size, "white")
        canvas.paste(colored, mask=colored.getchannel("A"))
        return canvas
    return image.convert("RGB")


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    if isinstance(error, EOFError) or "truncated" in text.lower():
        return "truncated"
    return f"cannot be decoded ({text[:80]})"


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Suppress Pillow's warnings, which are harmless or reported as a reason.

    Warning filters are global to the process, so threads hold a lock; decoding, the slow part, mostly does not.
    """
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
