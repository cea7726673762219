"""Every file becomes pixels or a documented reason; nothing else comes out, or is printed."""

from __future__ import annotations

import io
import os
import socket
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

import shards.colour
from shards.decode import Decoded, Limits, decode, decode_file, read_file
from shards.errors import ErrorKind, ImageError
from tests.shards.encoded import (
    chunk,
    encode,
    exif,
    photo,
    png,
    png_header,
    retagged,
    with_app1,
)
from tests.shards.test_transform import Values

LIMITS = Limits()


def identity(width: int, height: int, alpha: str = "drop") -> Values:
    """A transform that leaves an image of this size as it is."""
    return Values(
        height=height,
        width=width,
        resize="exact",
        resize_height=height,
        resize_width=width,
        alpha=alpha,
    )


def pixels_of(data: bytes, width: int, height: int, alpha: str = "drop") -> NDArray[np.uint8]:
    out = np.full((height, width, 3), 77, dtype=np.uint8)
    assert decode(data, out, identity(width, height, alpha), LIMITS) == Decoded(width, height)
    return out


def rgb(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image.convert("RGB"))


def failure(data: bytes, limits: Limits = LIMITS) -> ImageError:
    with pytest.raises(ImageError) as error:
        decode(data, np.empty((8, 8, 3), dtype=np.uint8), Values(), limits)
    message = str(error.value)
    assert message.isprintable()
    assert 0 < len(message) <= 300
    return error.value


def attempt(data: bytes) -> bytes | ImageError:
    out = np.zeros((8, 8, 3), dtype=np.uint8)
    try:
        decode(data, out, Values(), LIMITS)
    except ImageError as error:
        return error
    return out.tobytes()


def describe(outcome: bytes | ImageError) -> object:
    return outcome if isinstance(outcome, bytes) else (outcome.kind, str(outcome))


@pytest.fixture(autouse=True)
def nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> object:
    """Neither Python nor a C library writes a word, whatever is decoded."""
    yield
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


# Damaged, foreign and hostile content.

JPEG = encode(photo(), "JPEG", quality=90)
PNG = encode(photo(), "PNG")
TIFF = encode(photo(), "TIFF")
LZW = encode(photo(), "TIFF", compression="tiff_lzw")
GIF = encode(photo().quantize(64), "GIF")
WEBP = encode(photo(), "WEBP")
ANIMATED_WEBP = encode(photo(), "WEBP", save_all=True, append_images=[photo().rotate(180)])
BMP = encode(photo(), "BMP")
PPM = encode(photo(), "PPM")

TRUNCATED = {
    f"{name} {how}": data[:length]
    for name, data in {
        "jpeg": JPEG,
        "progressive jpeg": encode(photo(), "JPEG", progressive=True),
        "png": PNG,
        "tiff": TIFF,
        "lzw tiff": LZW,
        "gif": GIF,
        "webp": WEBP,
        "bmp": BMP,
        "ppm": PPM,
    }.items()
    for how, length in {"at 20 bytes": 20, "at half": len(data) // 2}.items()
} | {"jpeg without its last 2 bytes": JPEG[:-2], "jpeg's first 4 bytes": JPEG[:4]}


@pytest.mark.parametrize("name", TRUNCATED)
def test_a_file_that_ends_too_early_is_truncated(name: str) -> None:
    assert failure(TRUNCATED[name]).kind is ErrorKind.TRUNCATED


NOT_IMAGES = {
    "html": b"<!DOCTYPE html>\n<html><body>404</body></html>",
    "json": b'{"error": "not found"}',
    "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
    "pdf": b"%PDF-1.7\n",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    "mp4": b"\0\0\0\x20ftypisom\0\0\0\0",
    "heic": b"\0\0\0\x20ftypheic\0\0\0\0",
    "avif": b"\0\0\0\x20ftypavif\0\0\0\0",
    "jpeg xl": b"\xff\x0a" + b"\0" * 50,
    "ico": encode(photo(32, 32), "ICO"),
    "a megabyte of zeros": b"\0" * (1 << 20),
    "garbage before a jpeg": b"\r\n\r\n" + JPEG,
    "text that begins with P": b"Parts list 2026\n",
    "control characters": b"\x1b[31m\n\x07",
}


@pytest.mark.parametrize("name", NOT_IMAGES)
def test_content_of_no_known_format_is_not_an_image(name: str) -> None:
    error = failure(NOT_IMAGES[name])
    assert error.kind is ErrorKind.NOT_AN_IMAGE
    assert "begins with" in str(error)


def test_no_content_is_empty() -> None:
    assert failure(b"").kind is ErrorKind.EMPTY


CORRUPT = {
    "png with a wrong checksum": PNG[:-20] + bytes([PNG[-20] ^ 1]) + PNG[-19:],
    "png with a wrong header checksum": PNG[:30] + b"\0" + PNG[31:],
    "png with zeroed pixels": PNG[:60] + b"\0" * 40 + PNG[100:],
    "png text bomb": png(chunk(b"zTXt", b"a\0\0" + zlib.compress(b"0" * 10**8))),
    "jpeg without quantisation": JPEG.replace(b"\xff\xdb", b"\xff\xee"),
    "webp with other chunks": WEBP[:12] + b"XXXX" + WEBP[16:],
    "gif with broken pixels": GIF[:-60] + b"\xff" * 59 + b";",
    "lzw tiff with broken pixels": LZW[:8] + b"\xff" * 300 + LZW[308:],
    "tiff with two widths": retagged(TIFF, 256, 3, 2, 48),
    "ppm with a word for a width": b"P6\nwide 10\n255\n" + b"\0" * 99,
}


@pytest.mark.parametrize("name", CORRUPT)
def test_content_that_contradicts_its_format_is_corrupt(name: str) -> None:
    assert failure(CORRUPT[name]).kind is ErrorKind.CORRUPT


UNSUPPORTED = {
    "float tiff": encode(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF"),
    "nan tiff": encode(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF"),
    "32-bit tiff": encode(Image.fromarray(np.ones((8, 8), np.int32)), "TIFF"),
    "float pfm": encode(Image.fromarray(np.ones((8, 8), np.float32)), "PPM"),
    "12-bit jpeg": JPEG.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"),
    "tiff of 40 samples": retagged(TIFF, 277, 3, 1, 40),
    "tiff of an unknown kind of colour": retagged(TIFF, 262, 3, 1, 9999),
    "bmp of 3 bits": BMP[:28] + b"\x03" + BMP[29:],
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_pixels_without_a_known_meaning_are_refused_not_guessed(name: str) -> None:
    assert failure(UNSUPPORTED[name]).kind is ErrorKind.UNSUPPORTED_PIXELS


BOMBS = {
    "png that claims 4 gigapixels": png_header(65_000, 65_000) + chunk(b"IDAT", b"") * 2,
    "gif with a huge screen": GIF[:6] + struct.pack("<HH", 65_535, 65_535) + GIF[10:],
    "bmp of a huge size": BMP[:18] + struct.pack("<ll", 60_000, 60_000) + BMP[26:],
    "tiff of a huge size": retagged(retagged(TIFF, 256, 4, 1, 100_000), 257, 4, 1, 100_000),
    "ppm of a huge size": b"P6\n99999 99999\n255\n",
    "webp of a huge canvas": ANIMATED_WEBP[:24] + b"\xff\x3e\x00" * 2 + ANIMATED_WEBP[30:],
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_size_beyond_the_limit_is_refused_before_memory_is_taken(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(self: Image.Image) -> None:
        raise AssertionError("pixels were asked for")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    assert failure(BOMBS[name]).kind is ErrorKind.TOO_LARGE


def test_the_limits_message_has_the_size_and_the_limit() -> None:
    error = failure(JPEG, Limits(max_pixels=48 * 32 - 1))
    assert error.kind is ErrorKind.TOO_LARGE
    assert "48x32 is 1536 pixels; the limit is 1535" in str(error)
    out = np.empty((8, 8, 3), dtype=np.uint8)
    assert decode(JPEG, out, Values(), Limits(max_pixels=48 * 32)) == Decoded(48, 32)


def test_missing_memory_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: Image.Image) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    error = failure(BMP)
    assert error.kind is ErrorKind.OUT_OF_MEMORY
    assert str(error) == "BMP: MemoryError"


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from([JPEG, PNG, TIFF, LZW, GIF, WEBP, BMP, PPM]),
    st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=8),
    st.integers(0, 400),
)
def test_no_damage_raises_anything_but_an_image_error(
    data: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    damaged = bytearray(data)
    for position, value in changes:
        damaged[position % len(damaged)] = value
    error = attempt(bytes(damaged[: len(damaged) - cut]))
    if isinstance(error, ImageError):
        assert str(error).isprintable()
        assert not isinstance(error.__cause__, Warning)


# Unusual content that is right.


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "really-a-png.jpg"
    path.write_bytes(PNG)
    out = np.empty((32, 48, 3), dtype=np.uint8)
    decode_file(os.fsencode(path), out, identity(48, 32), LIMITS)
    np.testing.assert_array_equal(out, rgb(photo()))


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (90, 1), (7, 3)])
@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "PPM"])
def test_tiny_images_come_out_as_they_are(size: tuple[int, int], file_format: str) -> None:
    image = photo(*size)
    np.testing.assert_array_equal(pixels_of(encode(image, file_format), *size), rgb(image))


def test_a_very_wide_image_is_classified(tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    path.write_bytes(encode(photo(20_000, 10), "PNG"))
    out = np.empty((8, 8, 3), dtype=np.uint8)
    assert decode_file(os.fsencode(path), out, Values(), LIMITS) == Decoded(20_000, 10)
    assert 120 < out[..., 0].mean() < 135  # The middle of the ramp.


MODES = {
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA"],
    "TIFF": ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB"],
    "JPEG": ["1", "L", "RGB", "RGBX", "CMYK", "YCbCr"],
    "BMP": ["1", "L", "P", "RGB", "RGBA"],
    "WEBP": ["L", "RGB", "RGBA"],
    "GIF": ["1", "L", "P", "RGB"],
    "PPM": ["1", "L", "RGB"],
}


@pytest.mark.parametrize(
    ("file_format", "mode"), [(name, mode) for name, modes in MODES.items() for mode in modes]
)
def test_every_mode_of_8_bits_becomes_what_pillow_makes_of_it(file_format: str, mode: str) -> None:
    data = encode(photo().convert(mode), file_format)
    np.testing.assert_array_equal(pixels_of(data, 48, 32), rgb(Image.open(io.BytesIO(data))))


def test_cmyk_and_ycck_photographs_have_their_colours() -> None:
    red = Image.new("RGB", (16, 16), (200, 30, 40)).convert("CMYK")
    data = encode(red, "JPEG", quality=95)
    assert np.abs(pixels_of(data, 16, 16).astype(int) - (200, 30, 40)).max() <= 6
    # YCCK is YCbCr of the inks beside the black; Pillow inverts what it stores, as Adobe does.
    inks = np.asarray(red)
    transformed = np.asarray(Image.fromarray(inks[..., :3].copy()).convert("YCbCr"))
    planes = [*np.moveaxis(255 - transformed, -1, 0), inks[..., 3]]
    image = Image.merge("CMYK", [Image.fromarray(np.ascontiguousarray(plane)) for plane in planes])
    data = encode(image, "JPEG", quality=95, subsampling=0)
    adobe = data.index(b"Adobe")
    ycck = data[: adobe + 11] + b"\x02" + data[adobe + 12 :]
    assert np.abs(pixels_of(ycck, 16, 16).astype(int) - (200, 30, 40)).max() <= 8


def test_lab_is_converted_with_its_meaning() -> None:
    image = photo()
    data = encode(image.convert("LAB"), "TIFF")
    assert np.abs(pixels_of(data, 48, 32).astype(int) - rgb(image)).mean() < 3


RAMP = np.linspace(0, 65_535, 48 * 32).astype(np.uint16).reshape(32, 48)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "PPM"])
@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_16_bits_are_scaled_and_not_clipped(file_format: str, order: str) -> None:
    image = Image.fromarray(RAMP.astype(order) if file_format == "TIFF" else RAMP)
    out = pixels_of(encode(image, file_format), 48, 32)
    np.testing.assert_array_equal(out, np.repeat((RAMP >> 8)[..., np.newaxis], 3, axis=2))
    assert 127 <= out.mean() <= 128


def test_16_bit_tiffs_where_zero_is_white_are_inverted() -> None:
    data = retagged(encode(Image.fromarray(RAMP), "TIFF"), 262, 3, 1, 0)
    np.testing.assert_array_equal(pixels_of(data, 48, 32)[..., 0], 255 - (RAMP >> 8))


def test_12_bit_tiffs_use_the_whole_range() -> None:
    values = np.array([[0, 2048, 4095, 1024]], dtype=np.uint16)
    packed = bytes([0x00, 0x08, 0x00, 0xFF, 0xF4, 0x00])
    data = encode(Image.fromarray(values), "TIFF")
    start = struct.unpack_from("<L", data, data.index(struct.pack("<HHL", 273, 4, 1)) + 8)[0]
    data = data[:start] + packed + data[start + len(packed) :]
    data = retagged(retagged(data, 258, 3, 1, 12), 279, 4, 1, len(packed))
    assert pixels_of(data, 4, 1)[0, :, 0].tolist() == [0, 128, 255, 64]


def half_transparent() -> Image.Image:
    image = Image.new("RGBA", (4, 2), (255, 0, 0, 0))
    image.paste((0, 255, 0, 255), (0, 0, 2, 2))
    return image


TRANSPARENT = {
    "png rgba": encode(half_transparent(), "PNG"),
    "webp rgba": encode(half_transparent(), "WEBP", lossless=True, exact=True),
    "tiff rgba": encode(half_transparent(), "TIFF"),
    "png palette with bytes": encode(half_transparent().quantize(2), "PNG"),
    "png rgb with a colour": encode(
        half_transparent().convert("RGB"), "PNG", transparency=(255, 0, 0)
    ),
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_transparency_is_dropped_or_put_on_white(name: str) -> None:
    dropped = pixels_of(TRANSPARENT[name], 4, 2)
    whitened = pixels_of(TRANSPARENT[name], 4, 2, alpha="white")
    assert dropped[0].tolist() == [[0, 255, 0]] * 2 + [[255, 0, 0]] * 2
    assert whitened[0].tolist() == [[0, 255, 0]] * 2 + [[255, 255, 255]] * 2


def test_a_palette_index_that_is_transparent_is_dropped_or_put_on_white() -> None:
    image = Image.new("P", (4, 2), 1)
    image.putpalette([0, 255, 0, 255, 0, 0])
    image.paste(0, (0, 0, 2, 2))
    for data in (encode(image, "GIF", transparency=1), encode(image, "PNG", transparency=1)):
        assert pixels_of(data, 4, 2)[0].tolist() == [[0, 255, 0]] * 2 + [[255, 0, 0]] * 2
        assert pixels_of(data, 4, 2, "white")[0, 3].tolist() == [255, 255, 255]


def test_grey_with_alpha_is_put_on_white() -> None:
    image = Image.new("LA", (2, 1), (0, 0))
    assert pixels_of(encode(image, "PNG"), 2, 1, "white").min() == 255
    assert pixels_of(encode(image, "PNG"), 2, 1).max() == 0


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_of_many_frames_the_first_is_taken(file_format: str) -> None:
    first, second = (Image.new("RGB", (16, 16), colour) for colour in ("blue", "red"))
    lossless = {"lossless": True} if file_format == "WEBP" else {}
    data = encode(first, file_format, save_all=True, append_images=[second], **lossless)
    assert np.abs(pixels_of(data, 16, 16).astype(int) - (0, 0, 255)).max() <= 2


INVALID_ANIMATIONS = {
    "no frames": png(chunk(b"acTL", struct.pack(">LL", 0, 0))),
    "two counts": png(*[chunk(b"acTL", struct.pack(">LL", 2, 0))] * 2),
    "a count cut short": png(chunk(b"acTL", b"\0\0")),
    "frames out of order": png(
        chunk(b"acTL", struct.pack(">LL", 2, 0)), chunk(b"fcTL", struct.pack(">L", 7) + b"\0" * 22)
    ),
}


@pytest.mark.parametrize("name", INVALID_ANIMATIONS)
def test_a_damaged_animation_does_not_harm_the_still_image(name: str) -> None:
    np.testing.assert_array_equal(pixels_of(INVALID_ANIMATIONS[name], 48, 32), rgb(photo()))


def test_progressive_and_baseline_jpegs_are_the_same_image() -> None:
    progressive = encode(photo(), "JPEG", quality=90, progressive=True)
    np.testing.assert_array_equal(pixels_of(progressive, 48, 32), pixels_of(JPEG, 48, 32))


def test_bytes_after_the_end_are_ignored() -> None:
    expected = pixels_of(JPEG, 48, 32)
    np.testing.assert_array_equal(pixels_of(JPEG + b"\0" * 999, 48, 32), expected)
    np.testing.assert_array_equal(pixels_of(JPEG + PNG, 48, 32), expected)


# Which way up.


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_images_are_turned_upright(orientation: int, file_format: str) -> None:
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = encode(photo(), file_format, exif=exif(orientation), **options)
    stored = Image.open(io.BytesIO(data))
    expected = rgb(ImageOps.exif_transpose(stored) if file_format != "TIFF" else stored)
    height, width = expected.shape[:2]
    assert (width, height) == ((32, 48) if orientation >= 5 else (48, 32))
    np.testing.assert_array_equal(pixels_of(data, width, height), expected)


def test_the_eight_orientations_show_one_scene() -> None:
    upright = rgb(photo())
    stored_as = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    for orientation, stored in stored_as.items():
        image = Image.fromarray(np.ascontiguousarray(stored))
        for file_format in ("PNG", "TIFF"):
            data = encode(image, file_format, exif=exif(orientation))
            np.testing.assert_array_equal(
                pixels_of(data, 48, 32), upright, err_msg=f"{file_format} {orientation}"
            )


EXIF_6 = exif(6).tobytes()
XMP_6 = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'

OTHER_SOURCES = {
    "big-endian EXIF": with_app1(
        JPEG, b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    ),
    "EXIF in a text chunk, as ImageMagick writes it": png(
        chunk(
            b"tEXt",
            b"Raw profile type exif\0\nexif\n" + b"%8d\n" % len(EXIF_6) + EXIF_6.hex().encode(),
        )
    ),
    "XMP in a JPEG": with_app1(JPEG, b"http://ns.adobe.com/xap/1.0/\0" + XMP_6),
    "XMP in a PNG": png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP_6)),
}


@pytest.mark.parametrize("name", OTHER_SOURCES)
def test_orientation_is_found_wherever_pillow_finds_it(name: str) -> None:
    data = OTHER_SOURCES[name]
    stored = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(pixels_of(data, 32, 48), rgb(ImageOps.exif_transpose(stored)))


DAMAGED_EXIF = {
    "nothing": b"Exif\0\0",
    "text": b"Exif\0\0this is not a TIFF directory",
    "a directory beyond the end": b"Exif\0\0II*\0\xff\xff\xff\x00",
    "a directory cut short": EXIF_6[:20],
    "values beyond the end": (
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x1a\x01\x05\0\x99\0\0\0\xff\xff\0\0\0\0\0\0"
    ),
    "orientation 99": exif(99).tobytes(),
    "orientation 0": exif(0).tobytes(),
    "orientation as text": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x02\0\0\0six\0\0\0\0\0",
}


@pytest.mark.parametrize("name", DAMAGED_EXIF)
def test_damaged_exif_means_upright(name: str) -> None:
    data = with_app1(JPEG, DAMAGED_EXIF[name])
    np.testing.assert_array_equal(pixels_of(data, 48, 32), pixels_of(JPEG, 48, 32))


def test_a_damaged_colour_profile_does_no_harm() -> None:
    data = encode(photo(), "PNG", icc_profile=b"not a profile")
    np.testing.assert_array_equal(pixels_of(data, 48, 32), rgb(photo()))


# Reading.


def read_failure(path: Path | bytes, limits: Limits = LIMITS) -> ErrorKind:
    with pytest.raises(ImageError) as error:
        read_file(path if isinstance(path, bytes) else os.fsencode(path), limits)
    assert str(error.value).isprintable()
    return error.value.kind


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xfe name\n.jpg"
    content = os.urandom(200_000)
    with open(path, "wb") as file:
        file.write(content)
    assert read_file(path, LIMITS) == content


def test_a_file_that_is_read_in_parts_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    whole_read = os.read
    with monkeypatch.context() as patch:
        patch.setattr(os, "read", lambda fd, count: whole_read(fd, min(count, 3)))
        data = read_file(os.fsencode(path), LIMITS)
    assert data == b"0123456789"


def test_a_file_that_shrank_is_what_is_left_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    whole_fstat = os.fstat

    def fstat(descriptor: int) -> os.stat_result:
        status = whole_fstat(descriptor)
        os.truncate(path, 4)
        return status

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fstat)
        data = read_file(os.fsencode(path), LIMITS)
    assert data == b"0123"


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    directory = tmp_path / "folder.jpg"
    directory.mkdir()
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    loop = tmp_path / "loop.jpg"
    loop.symlink_to(loop)
    device = tmp_path / "device.jpg"
    device.symlink_to("/dev/zero")
    for path in (directory, pipe, loop, device):
        assert read_failure(path) is ErrorKind.NOT_A_FILE


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # Names of sockets have 108 bytes at most.
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.jpg")
        assert read_failure(b"s.jpg") is ErrorKind.NOT_A_FILE


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    dangling = tmp_path / "link.jpg"
    dangling.symlink_to(tmp_path / "gone.jpg")
    file = tmp_path / "file"
    file.write_bytes(b"x")
    for path in (tmp_path / "no.jpg", dangling, file / "below.jpg"):
        assert read_failure(path) is ErrorKind.NOT_FOUND
    assert read_failure(b"zero\0byte.jpg") is ErrorKind.NOT_FOUND


def test_a_file_that_may_not_be_read_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret.jpg"
    path.write_bytes(JPEG)
    path.chmod(0)
    if os.geteuid() == 0:  # Root may read everything; the system call answers as for others.

        def refuse(*_: object) -> int:
            raise PermissionError(13, "Permission denied")

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", refuse)
            kind = read_failure(path)
    else:
        kind = read_failure(path)
    assert kind is ErrorKind.PERMISSION_DENIED


def test_every_other_failure_of_the_system_is_a_read_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(JPEG)

    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", fail)
        kind = read_failure(path)
    assert kind is ErrorKind.READ_ERROR


def test_an_empty_file_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "empty.jpg"
    path.touch()
    assert read_failure(path) is ErrorKind.EMPTY


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.jpg"
    with path.open("wb") as file:
        file.truncate(10 << 30)
    assert read_failure(path) is ErrorKind.TOO_LARGE
    path.write_bytes(b"12345")
    assert read_failure(path, Limits(max_file_bytes=4)) is ErrorKind.TOO_LARGE
    assert read_file(os.fsencode(path), Limits(max_file_bytes=5)) == b"12345"


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    good = tmp_path / "a.jpg"
    good.write_bytes(JPEG)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        read_file(os.fsencode(good), LIMITS)
        read_failure(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_limits_below_one_are_a_programmers_error() -> None:
    with pytest.raises(ValueError, match="max_pixels is 0"):
        Limits(max_pixels=0)
    with pytest.raises(ValueError, match="max_file_bytes is -1"):
        Limits(max_file_bytes=-1)


# Threads.


def test_threads_decode_good_and_bad_files_side_by_side() -> None:
    files = [JPEG, PNG, TRUNCATED["lzw tiff at half"], WEBP, NOT_IMAGES["html"], TIFF, GIF, BMP]
    expected = [describe(attempt(data)) for data in files]
    found: list[list[object]] = []

    def work() -> None:
        found.append([describe(attempt(data)) for _ in range(10) for data in files])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected * 10] * 8


# The end of the file, behind the pixels.


@pytest.mark.parametrize("missing", [1, 2, 8, 12])
def test_a_png_without_its_last_chunk_was_cut_off(missing: int) -> None:
    assert failure(PNG[:-missing]).kind is ErrorKind.TRUNCATED


def test_a_gif_without_its_trailer_was_cut_off() -> None:
    frames = encode(photo(), "GIF", save_all=True, append_images=[photo().rotate(90)])
    for data in (GIF[:-1], GIF[:-2], frames[:-1], frames[: -len(frames) // 4]):
        assert failure(data).kind is ErrorKind.TRUNCATED


@pytest.mark.parametrize("data", [PNG, GIF, JPEG, BMP], ids=["png", "gif", "jpeg", "bmp"])
@pytest.mark.parametrize("tail", [bytes(700), b"something else", b";" * 9 + b"x"])
def test_what_follows_the_end_does_no_harm(data: bytes, tail: bytes) -> None:
    assert attempt(data + tail) == attempt(data)


def test_a_large_transparent_image_is_put_on_white_piece_by_piece(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = photo().convert("RGBA")
    image.putalpha(photo().convert("L"))
    white = Image.new("RGBA", image.size, (255,) * 4)
    expected = np.asarray(Image.alpha_composite(white, image).convert("RGB"))
    for pixels in (1, 100, 1 << 22):
        monkeypatch.setattr(shards.colour, "_PIECE_PIXELS", pixels)
        found = np.asarray(shards.colour.to_rgb(image.copy(), "white"))
        np.testing.assert_array_equal(found, expected)
