"""Every kind of image file is read as upright 8-bit RGB, or named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vpt import VptError
from vpt.images import find_images, open_image, to_rgb

RED, WHITE = (255, 0, 0), (255, 255, 255)


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
