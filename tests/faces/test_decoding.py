"""Decoding of images that Pillow encodes from one gradient, compared pixel by pixel."""

import struct
import warnings
import zlib
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from ssl_pipeline.faces import decoding
from ssl_pipeline.faces.decoding import (
    UnreadableFace,
    decode_rgb,
    has_image_signature,
    short_side_pixels,
    square_pixels,
)

WIDTH, HEIGHT = 48, 32
PHOTO = np.stack(
    [
        np.tile(np.linspace(0, 255, WIDTH), (HEIGHT, 1)),
        np.tile(np.linspace(255, 0, HEIGHT)[:, None], (1, WIDTH)),
        np.full((HEIGHT, WIDTH), 90.0),
    ],
    axis=2,
).astype(np.uint8)
GRAY = PHOTO[:, :, 0]


def encoded(image, format_name, **options):
    stream = BytesIO()
    image.save(stream, format=format_name, **options)
    return stream.getvalue()


def photo():
    return Image.fromarray(PHOTO)


def assert_close(image, expected, tolerance=0):
    assert image.mode == "RGB"
    pixels = np.asarray(image).astype(int)
    assert pixels.shape == expected.shape
    assert np.abs(pixels - expected.astype(int)).max() <= tolerance


def as_rgb(gray):
    return np.repeat(gray[:, :, None], 3, axis=2)


@pytest.mark.parametrize(
    ("format_name", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 95}, 16),
        ("JPEG", {"quality": 95, "subsampling": 0}, 8),
        ("JPEG", {"quality": 95, "subsampling": 0, "progressive": True}, 8),
        ("AVIF", {"quality": 95, "subsampling": "4:4:4"}, 8),
        ("JPEG2000", {"irreversible": False}, 0),
        ("PPM", {}, 0),
        ("MPO", {"quality": 95, "subsampling": 0, "save_all": True, "append_images": [Image.new("RGB", (40, 40))]}, 8),
    ],
)
def test_every_format_decodes_to_the_encoded_pixels(format_name, options, tolerance):
    assert_close(decode_rgb(encoded(photo(), format_name, **options)), PHOTO, tolerance)


@pytest.mark.parametrize("format_name", ["WEBP", "PNG"])
def test_the_format_follows_from_the_content_not_the_name(tmp_path, format_name):
    misnamed = tmp_path / "face.jpg"
    photo().save(misnamed, format=format_name, **({"lossless": True} if format_name == "WEBP" else {}))
    assert_close(decode_rgb(misnamed.read_bytes()), PHOTO)


TURNED_BACK = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("orientation", sorted(TURNED_BACK))
@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_exif_orientation_is_applied(orientation, format_name):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 98, "subsampling": 0}, "WEBP": {"lossless": True}}.get(format_name, {})
    content = encoded(photo(), format_name, exif=exif, **options)
    assert_close(decode_rgb(content), TURNED_BACK[orientation](PHOTO), tolerance=6 if format_name == "JPEG" else 0)


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_invalid_orientation_is_ignored(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert_close(decode_rgb(encoded(photo(), "PNG", exif=exif)), PHOTO)


def test_damaged_exif_is_ignored():
    content = encoded(photo(), "JPEG", quality=98, subsampling=0, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage")
    assert_close(decode_rgb(content), PHOTO, tolerance=6)


def test_transparency_is_composited_on_white():
    alpha = np.tile(np.linspace(0, 255, WIDTH).round(), (HEIGHT, 1))
    image = Image.fromarray(np.dstack([PHOTO, alpha]).astype(np.uint8))
    share = alpha[:, :, None] / 255
    expected = PHOTO * share + 255 * (1 - share)
    for format_name, options in [("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})]:
        assert_close(decode_rgb(encoded(image, format_name, **options)), expected, tolerance=1)


def test_transparent_gray_becomes_white():
    image = Image.fromarray(GRAY).convert("LA")
    image.putalpha(Image.fromarray(np.where(GRAY < 128, 0, 255).astype(np.uint8)))
    assert_close(decode_rgb(encoded(image, "PNG")), as_rgb(np.where(GRAY < 128, 255, GRAY)))


@pytest.mark.parametrize("as_bytes", [False, True])
def test_a_transparent_palette_color_becomes_white(as_bytes):
    image = photo().quantize(16)
    colors = np.asarray(image.convert("RGB"))
    transparency = bytes([0] + [255] * 15) if as_bytes else 0
    expected = np.where((np.asarray(image) == 0)[:, :, None], 255, colors)
    assert_close(decode_rgb(encoded(image, "PNG", transparency=transparency)), expected)


def test_a_transparent_key_color_becomes_white():
    pixels = PHOTO.copy()
    pixels[:4] = (1, 2, 3)
    expected = pixels.copy()
    expected[:4] = 255
    assert_close(decode_rgb(encoded(Image.fromarray(pixels), "PNG", transparency=(1, 2, 3))), expected)


def test_an_opaque_palette_keeps_its_colors():
    image = photo().quantize(64)
    assert_close(decode_rgb(encoded(image, "PNG")), np.asarray(image.convert("RGB")))


def test_gray_becomes_three_equal_channels():
    assert_close(decode_rgb(encoded(Image.fromarray(GRAY), "PNG")), as_rgb(GRAY))


@pytest.mark.parametrize("format_name", ["PNG", "TIFF"])
def test_sixteen_bit_gray_is_scaled_and_not_clipped(format_name):
    deep = GRAY.astype(np.uint16) * 257
    assert_close(decode_rgb(encoded(Image.fromarray(deep), format_name)), as_rgb(GRAY))


def test_thirty_two_bit_pixels_of_unknown_range_are_refused():
    for deep in (GRAY.astype(np.int32), GRAY.astype(np.float32)):
        with pytest.raises(UnreadableFace, match="32-bit"):
            decode_rgb(encoded(Image.fromarray(deep), "TIFF"))


def test_one_bit_becomes_black_and_white():
    bits = Image.fromarray(GRAY).convert("1", dither=Image.Dither.NONE)
    assert_close(decode_rgb(encoded(bits, "PNG")), as_rgb(np.asarray(bits) * np.uint8(255)))


def test_cmyk_becomes_rgb():
    cmyk = photo().convert("CMYK")
    assert_close(decode_rgb(encoded(cmyk, "TIFF")), PHOTO, tolerance=2)
    assert_close(decode_rgb(encoded(cmyk, "JPEG", quality=98, subsampling=0)), PHOTO, tolerance=10)


@pytest.mark.parametrize("format_name", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(format_name):
    first, second = Image.new("RGB", (40, 40), (200, 30, 40)), Image.new("RGB", (40, 40), (10, 220, 90))
    options = {"lossless": True} if format_name == "WEBP" else {}
    content = encoded(first, format_name, save_all=True, append_images=[second], duration=50, **options)
    assert Image.open(BytesIO(content)).n_frames == 2
    assert_close(decode_rgb(content), np.asarray(first))


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_image_is_unreadable(format_name, share):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    content = encoded(noise, format_name)
    with pytest.raises(UnreadableFace) as caught:
        decode_rgb(content[: int(len(content) * share)])
    assert str(caught.value)
    assert "BytesIO" not in str(caught.value)


def test_damaged_bytes_raise_only_unreadable_face_and_never_warn():
    random = np.random.default_rng(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for format_name in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM"):
            content = np.frombuffer(encoded(photo(), format_name), dtype=np.uint8)
            for _ in range(80):
                damaged = content.copy()
                places = random.integers(0, min(len(damaged), 400), size=8)
                damaged[places] = random.integers(0, 256, size=8)
                try:
                    assert decode_rgb(damaged.tobytes()).mode == "RGB"
                except UnreadableFace as error:
                    assert 0 < len(str(error)) < 120
    assert [str(warning.message) for warning in caught] == []


def test_an_empty_file_is_reported_as_empty():
    with pytest.raises(UnreadableFace, match="empty"):
        decode_rgb(b"")


@pytest.mark.parametrize("content", [b"<html>404 not found</html>", b"\x00\x05\x16\x07 Mac OS X", b"%!PS-Adobe-3.0"])
def test_a_file_of_another_format_is_reported(content):
    with pytest.raises(UnreadableFace, match="not an image"):
        decode_rgb(content)


@pytest.mark.parametrize(("size", "readable"), [((8, 8), True), ((7, 300), False), ((300, 7), False), ((1, 1), False)])
def test_a_side_below_eight_pixels_is_unreadable(size, readable):
    content = encoded(Image.new("RGB", size), "PNG")
    if readable:
        assert decode_rgb(content).size == size
    else:
        with pytest.raises(UnreadableFace, match="shorter than 8 px"):
            decode_rgb(content)


def chunk(kind, data, *, checksum=None):
    checksum = zlib.crc32(kind + data) if checksum is None else checksum
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


MEGABYTES = zlib.compress(b"x" * 3_000_000)
BESIDE_THE_PIXELS = {
    "a profile of 3 MB": chunk(b"iCCP", b"p\0\0" + MEGABYTES),
    "a text of 3 MB": chunk(b"zTXt", b"k\0\0" + MEGABYTES),
    "texts of 90 MB": chunk(b"zTXt", b"k\0\0" + zlib.compress(b"x" * 15_000_000)) * 6,
    "a text of 20 MB": chunk(b"zTXt", b"k\0\0" + zlib.compress(b"x" * 20_000_000)),
    "a comment with a wrong checksum": chunk(b"tEXt", b"k\0hello", checksum=1),
    "EXIF with a wrong checksum": chunk(b"eXIf", b"MM", checksum=1),
    "a short color chunk": chunk(b"cHRM", b"short"),
}


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("name", BESIDE_THE_PIXELS)
def test_what_lies_beside_the_pixels_of_a_png_does_not_reject_it(tmp_path, name, where):
    content = encoded(photo(), "PNG")
    place = 33 if where == "before" else len(content) - 12  # after the header chunk, or before the last chunk
    content = content[:place] + BESIDE_THE_PIXELS[name] + content[place:]
    assert_close(decode_rgb(content), PHOTO)
    (tmp_path / "face.png").write_bytes(content)
    assert short_side_pixels(tmp_path / "face.png") == HEIGHT


def test_damaged_pixels_reject_a_png_although_its_comment_is_damaged_too():
    header, rest = encoded(photo(), "PNG")[:33], chunk(b"IEND", b"")
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * (3 * WIDTH + 1) * HEIGHT)[:-8] + b"damaged!")
    with pytest.raises(UnreadableFace):
        decode_rgb(header + BESIDE_THE_PIXELS["a comment with a wrong checksum"] + pixels + rest)


def test_the_orientation_of_a_png_is_kept_when_its_comment_is_dropped():
    exif = Image.Exif()
    exif[0x0112] = 3
    content = encoded(photo(), "PNG", exif=exif)
    content = content[:33] + BESIDE_THE_PIXELS["a comment with a wrong checksum"] + content[33:]
    assert_close(decode_rgb(content), PHOTO[::-1, ::-1])


def test_heic_is_read_with_the_extra():
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs the extra [heif]")
    stream = BytesIO()
    pillow_heif.from_pillow(photo()).save(stream, quality=95)
    assert_close(decode_rgb(stream.getvalue()), PHOTO, tolerance=40)


def test_heic_without_the_extra_is_rejected_with_the_cure(monkeypatch):
    monkeypatch.setattr(decoding, "FORMATS", tuple(name for name in decoding.FORMATS if name != "HEIF"))
    monkeypatch.setattr(decoding, "_HEIF", ())
    with pytest.raises(UnreadableFace, match=r"a HEIC image; install the extra: pip install 'ssl-pipeline\[heif\]'"):
        decode_rgb(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))


@pytest.mark.parametrize(
    ("content", "is_image"),
    [
        (b"", False),
        (b"P1 of 3 people\n", False),
        (b"BMI;age\n", False),
        (b"path,gender\n", False),
        (b"\xff\xd8\xff\xe0 broken", True),
        (b"\0\0\0\x18ftypheic", True),
        (b"\0\0\0\x18ftypisom", False),
        *((encoded(photo(), name), True) for name in ("BMP", "PPM", "AVIF", "JPEG2000", "GIF", "WEBP", "TIFF")),
    ],
)
def test_an_image_is_recognized_by_its_first_bytes(tmp_path, content, is_image):
    (tmp_path / "file").write_bytes(content)
    assert has_image_signature(tmp_path / "file") == is_image


def test_a_deep_ppm_is_scaled_and_not_refused():
    deep = (GRAY.astype(np.uint16) * 257).astype(">u2").tobytes()
    assert_close(decode_rgb(b"P5\n%d %d\n65535\n" % (WIDTH, HEIGHT) + deep), as_rgb(GRAY), tolerance=1)


def png_that_announces(width, height):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_001, 12_000, 60_000])
def test_more_than_a_hundred_megapixels_are_refused_by_the_header(side):
    with pytest.raises(UnreadableFace, match="100 megapixels"):
        decode_rgb(png_that_announces(side, side))


def test_decoding_emits_no_warning():
    palette = photo().quantize(16)
    contents = [
        encoded(palette, "PNG", transparency=bytes([0] + [255] * 15)),
        png_that_announces(9_900, 9_900),
        encoded(photo(), "TIFF")[:-30],
        encoded(photo(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage"),
    ]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for content in contents:
            with suppress(UnreadableFace):
                decode_rgb(content)
    assert [str(warning.message) for warning in caught] == []


def test_the_short_side_is_read_without_decoding(tmp_path):
    (tmp_path / "half.png").write_bytes(png_that_announces(640, 480))
    assert short_side_pixels(tmp_path / "half.png") == 480
    with pytest.raises(UnreadableFace, match="cannot be read"):
        short_side_pixels(tmp_path / "absent.png")


def test_a_square_of_the_same_size_keeps_its_pixels():
    assert (square_pixels(Image.fromarray(PHOTO[:, :32]), size=32) == PHOTO[:, :32]).all()


def test_the_center_of_a_long_image_is_kept():
    wide = square_pixels(photo(), size=32)
    assert wide.dtype == np.uint8
    assert (wide == PHOTO[:, 8:40]).all()
    tall = square_pixels(Image.fromarray(PHOTO.transpose(1, 0, 2).copy()), size=32)
    assert (tall == PHOTO.transpose(1, 0, 2)[8:40]).all()


def test_shrinking_averages_instead_of_skipping():
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    small = square_pixels(Image.fromarray(stripes), size=16)
    assert small.shape == (16, 16, 3)
    assert np.abs(small[:, 2:-2].astype(int) - 127).max() < 25


def test_a_small_face_is_enlarged():
    assert square_pixels(photo(), size=100).shape == (100, 100, 3)


def large_photo():
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(coarse).resize((1024, 768), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_large_jpeg_is_decoded_at_a_part_of_its_size(mode):
    image = large_photo().convert(mode)
    content = encoded(image, "JPEG", quality=95)
    assert decode_rgb(content).size == (1024, 768)
    assert decode_rgb(content, min_side=96).size == (256, 192)
    assert decode_rgb(content, min_side=97).size == (512, 384)  # never below twice the side
    assert decode_rgb(content, min_side=400).size == (1024, 768)
    whole, part = (square_pixels(decode_rgb(content, min_side=side), size=96).astype(int) for side in (None, 96))
    assert np.abs(whole - part).mean() < 1


def test_a_large_jpeg_of_a_camera_is_upright_and_a_truncated_one_is_refused():
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(large_photo(), "JPEG", exif=exif)
    assert decode_rgb(content, min_side=96).size == (192, 256)
    with pytest.raises(UnreadableFace, match="truncated"):
        decode_rgb(content[: len(content) // 2], min_side=96)
