"""Every kind of image file is read as upright 8-bit RGB, or named."""

import contextlib
import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps

import vpt
from vpt import VptError
from vpt.data.given import picture_of
from vpt.images import decode, find_images, limit_pixels, open_image, picture, to_rgb
from vpt.predict import as_picture

RED, WHITE = (255, 0, 0), (255, 255, 255)


def written(kind: str, mode: str = "RGB") -> bytes:
    """A small image as a file of this format."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


WHOLE_FILES = [written(kind) for kind in ("AVIF", "BMP", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")]
WHOLE_FILES += [written("GIF", "P"), written("PNG", "I;16"), written("TIFF", "F"), written("PNG", "LA")]


def pixel(image: Image.Image, at: tuple[int, int] = (0, 0)) -> tuple[int, ...]:
    assert image.mode == "RGB"
    return image.getpixel(at)


def test_a_photo_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20), RED)
    image.paste((0, 0, 255), (20, 0, 40, 20))
    exif = image.getexif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    upright = open_image(tmp_path / "turned.jpg")
    assert upright.size == (20, 40)
    assert pixel(upright, (10, 5))[0] > 200
    assert pixel(upright, (10, 35))[2] > 200


def quarter_turned(*, sized: bool) -> Image.Image:
    """A picture (40, 20) in memory, red on the left, which EXIF still turns and, if `sized`, gives a size."""
    image = Image.new("RGB", (40, 20), (0, 0, 255))
    image.paste(RED, (0, 0, 20, 20))
    exif = image.getexif()
    exif[ExifTags.Base.Orientation] = 6
    if sized:
        of_camera = exif.get_ifd(ExifTags.IFD.Exif)
        of_camera[ExifTags.Base.ExifImageWidth], of_camera[ExifTags.Base.ExifImageHeight] = image.size
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    return Image.open(file).convert("RGB")


@pytest.mark.parametrize("made", [to_rgb, picture, as_picture, lambda image: picture_of(image, "item 0")])
@pytest.mark.parametrize("sized", [True, False])
def test_a_picture_in_memory_is_turned_as_its_file_is(made: Callable[[Image.Image], Image.Image], sized: bool) -> None:
    upright = made(quarter_turned(sized=sized))
    assert upright.size == (20, 40)
    assert (pixel(upright, (10, 5)), pixel(upright, (10, 35))) == (RED, (0, 0, 255))


@pytest.mark.parametrize("how", [Image.Transpose.ROTATE_270, Image.Transpose.ROTATE_90, Image.Transpose.TRANSPOSE])
def test_a_picture_that_somebody_has_turned_is_not_turned_again(how: Image.Transpose) -> None:
    by_hand = quarter_turned(sized=True).transpose(how)
    assert ExifTags.Base.Orientation in by_hand.getexif()
    for image in (by_hand, by_hand.resize((10, 20)), ImageOps.exif_transpose(quarter_turned(sized=False))):
        assert picture(image).tobytes() == image.tobytes()


def test_that_pictures_in_memory_are_turned_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    vpt.images._tell_turning.cache_clear()
    picture(Image.new("RGB", (4, 2)))
    picture(quarter_turned(sized=True).rotate(90, expand=True))
    assert capsys.readouterr().err == ""
    for _ in range(2):
        picture(quarter_turned(sized=False))
    assert capsys.readouterr().err.count("turned as their EXIF says") == 1


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (2, 2), 77), (77, 77, 77)),
        (Image.new("1", (2, 2), 1), WHITE),
        (Image.new("LA", (2, 2), (77, 255)), (77, 77, 77)),
        (Image.new("LA", (2, 2), (77, 0)), WHITE),
        (Image.new("RGBA", (2, 2), (*RED, 255)), RED),
        (Image.new("RGBA", (2, 2), (*RED, 0)), WHITE),
        (Image.new("CMYK", (2, 2), (0, 255, 255, 0)), RED),
        (Image.new("RGB", (2, 2), RED).convert("P"), RED),
        (Image.fromarray(np.full((2, 2), 65535, np.uint16)), WHITE),
        (Image.fromarray(np.full((2, 2), 257 * 100, np.uint16)), (100, 100, 100)),
        (Image.fromarray(np.full((2, 2), 257 * 100, np.int32)), (100, 100, 100)),
        (Image.fromarray(np.array([[0.0, 1.0]], np.float32)), (0, 0, 0)),
        (Image.fromarray(np.array([[1.0, 0.0, np.nan, np.inf]], np.float32)), WHITE),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else str(value),
)
def test_every_mode_becomes_rgb(image: Image.Image, expected: tuple[int, ...]) -> None:
    assert pixel(to_rgb(image)) == expected


def test_sixteen_bits_from_a_file_are_scaled(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257 * 40], [257 * 200, 65535]], np.uint16)).save(tmp_path / "deep.png")
    read = np.asarray(open_image(tmp_path / "deep.png"))
    assert read[..., 0].tolist() == [[0, 40], [200, 255]]


def test_a_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, *RED])
    image.save(tmp_path / "clear.gif", transparency=1)
    assert pixel(open_image(tmp_path / "clear.gif")) == WHITE


def test_a_colour_photo_with_a_transparent_colour(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2), RED).save(tmp_path / "clear.png", transparency=RED)
    assert pixel(open_image(tmp_path / "clear.png")) == WHITE


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("not an image")
    Image.new("RGB", (64, 64), RED).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:400])
    with pytest.raises(VptError, match=r"there is no image .*none.jpg"):
        open_image(tmp_path / "none.jpg")
    with pytest.raises(VptError, match=r"text.jpg is no image that can be read"):
        open_image(tmp_path / "text.jpg")
    with pytest.raises(VptError, match=r"cut.jpg cannot be decoded"):
        open_image(tmp_path / "cut.jpg")


def test_images_are_found_in_order_and_hidden_files_passed_over(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "deep/c.webp", ".hidden.png", ".cache/d.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in find_images(tmp_path)] == ["a.jpg", "b.PNG", "c.webp"]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_of_which_a_sensor_uses_some_are_from_black_to_white(
    bits: int, channels: int, suffix: str, tmp_path: Path
) -> None:
    import cv2

    ramp = np.linspace(0, 2**bits - 1, 64).round().astype(np.uint16)
    pixels = np.tile(ramp[None, :, None], (8, 1, channels))
    pixels[..., 3:] = 65535
    cv2.imwrite(str(tmp_path / f"x{suffix}"), pixels)
    read = np.asarray(open_image(tmp_path / f"x{suffix}"))
    assert read.shape == (8, 64, 3)
    assert np.abs(read[0, :, 0] - np.linspace(0, 255, 64)).max() < 1


def png(values: np.ndarray, bits: int, clear: int | tuple[int, ...] | None = None, turned: int = 1) -> io.BytesIO:
    """A PNG of grey (H, W) or colour (H, W, 3) of so many bits, with a transparent colour and a turning in EXIF."""
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 2 * (values.ndim - 2), 0, 0, 0)
    colours = [clear] if isinstance(clear, int) else list(clear or ())
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turned
    rows = [np.unpackbits(row.astype(">u2").view(np.uint8)).reshape(-1, 16)[:, -bits:] for row in values]
    chunks = [
        (b"IHDR", head),
        *([(b"tRNS", struct.pack(f">{len(colours)}H", *colours))] if colours else []),
        (b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")),
        (b"IDAT", zlib.compress(b"".join(b"\0" + np.packbits(row).tobytes() for row in rows))),
        (b"IEND", b""),
    ]
    whole = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + whole)


@pytest.mark.parametrize("largest", [1023, 65535])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_turned_and_laid_over_white_as_eight_are(channels: int, largest: int) -> None:
    # The transparent colour and its neighbour differ in the lower byte alone, or in the upper one.
    grey = np.array([[300, 301, 300 + 256], [0, largest, 0]], np.uint16)
    values = grey if channels == 1 else np.repeat(grey[..., None], 3, -1)
    clear = 300 if channels == 1 else (300, 300, 300)
    seen = np.asarray(decode(png(values, 16, clear, turned=6), "x.png"))[..., 0].astype(int)
    expected = np.where(grey == 300, 255, grey / largest * 255)
    assert seen.shape == (3, 2)
    assert np.abs(seen - np.rot90(expected, -1)).max() <= 1
    plain = np.asarray(decode(png(values, 16, turned=3), "x.png"))[..., 0]
    assert np.abs(plain - np.rot90(grey / largest * 255, 2)).max() <= 1


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_transparent_grey_of_few_bits_is_laid_over_white(bits: int) -> None:
    values = np.arange(8 // bits)[None] % 2
    seen = np.asarray(decode(png(values, bits, 1), "x.png"))[0, :, 0]
    assert seen.tolist() == (255 * values[0]).tolist()


def test_what_would_take_too_much_memory_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)
    said = {}
    for name, size in {"small": (200, 200), "square": (201, 200), "huge": (400, 400), "strip": (10_000, 1)}.items():
        Image.new("1", size).save(tmp_path / f"{name}.png")
        try:
            said[name] = f"read as {open_image(tmp_path / f'{name}.png').size}"
        except VptError as error:
            said[name] = str(error)
    assert said["small"] == "read as (200, 200)"
    assert "40,200 pixels, and no image of more than 40,000 is decoded" in said["square"]
    assert "160,000 pixels, and no image of more than 40,000 is decoded" in said["huge"]
    assert "which become 2,621,440,000 where the short side is made 512" in said["strip"]
    limit_pixels(160_000)
    assert open_image(tmp_path / "huge.png").size == (400, 400)
    with pytest.raises(VptError, match="max_pixels=0 is no number of pixels: give 1 or more"):
        limit_pixels(0)


@pytest.mark.parametrize(
    "content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"%PDF-1.4\n", b"\x0a\x05\x01\x08"]
)
def test_formats_that_would_start_a_program_or_are_not_on_the_list_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(content + b"\0" * 200)
    with pytest.raises(VptError, match=r"photo.png is no image that can be read"):
        open_image(tmp_path / "photo.png")


def test_what_is_no_file_is_told_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(VptError, match="which is no file"):
        open_image(tmp_path / "pipe.png")
    os.symlink("/nowhere", tmp_path / "link.png")
    with pytest.raises(VptError, match="it is a link that leads nowhere"):
        open_image(tmp_path / "link.png")


@settings(deadline=None)
@given(st.data())
def test_a_file_that_was_changed_anywhere_is_read_or_refused_in_a_sentence(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(WHOLE_FILES)))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(VptError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert decode(io.BytesIO(bytes(content)), "x").mode == "RGB"
