"""A folder of images that a text is compared with: their features are computed once."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vpt.errors import VptError
from vpt.images import find_images, open_image
from vpt.normalised import normalised
from vpt.preprocessing import transformed
from vpt.report.notes import tell
from vpt.report.progress import Progress
from vpt.serving.bank import PromptBank

BATCH = 32
THUMBNAIL = 256


class Hit(NamedTuple):
    """An image that was found.

    Attributes:
        number: in the gallery.
        name: of its file, below the folder.
        similarity: cosine of its features and those of the text.
    """

    number: int
    name: str
    similarity: float


class Gallery:
    """Features of the images below a folder, by the frozen image encoder of a bank.

    Args:
        bank: of an image-text backbone.
        folder: of images; one that cannot be decoded is named and left out.

    Raises:
        VptError: the backbone has no text side, or there is no image.
    """

    def __init__(self, bank: PromptBank, folder: str | Path) -> None:
        self.bank = bank
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise VptError(f"there is no folder {str(folder)!r}: correct the path.")
        # Before images are decoded.
        bank.text_features(["a"])
        self.files: list[Path] = []
        found = []
        paths = find_images(self.folder)
        for start in Progress().bar(range(0, len(paths), BATCH), "images to search"):
            images = list(self._decoded(paths[start : start + BATCH]))
            if images:
                found.append(bank.image_features(torch.stack(images)).cpu())
        if not self.files:
            raise VptError(f"{folder} holds no image that can be searched: correct the path.")
        self.features = torch.cat(found)

    def _decoded(self, paths: list[Path]) -> Iterator[Tensor]:
        transform = self.bank.backbone.preprocessing.transform()
        for path in paths:
            try:
                image = transformed(transform, open_image(path), path.__str__)
            except VptError as error:
                tell(str(error))
                continue
            self.files.append(path)
            yield image

    def search(self, text: str, top: int = 10) -> list[Hit]:
        """The `top` images whose features are nearest to those of a text, the nearest first."""
        wanted = normalised(self.bank.text_features([text])).cpu()
        similarities = (normalised(self.features) @ wanted.T)[:, 0]
        values, numbers = similarities.float().topk(min(top, len(self.files)))
        return [
            Hit(number, str(self.files[number].relative_to(self.folder)), value)
            for value, number in zip(values.tolist(), numbers.tolist(), strict=True)
        ]

    def thumbnail(self, number: int) -> bytes:
        """A small JPEG of an image.

        Raises:
            VptError: there is no such image, or it is no longer there.
        """
        if not 0 <= number < len(self.files):
            raise VptError(f"there is no image {number}.")
        try:
            image = open_image(self.files[number])
        except VptError as error:
            # Who asks is not told where the service keeps its files.
            raise VptError(f"image {number} can no longer be read.") from error
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        out = io.BytesIO()
        image.save(out, "JPEG", quality=85)
        return out.getvalue()
