"""The scanned digits that come with scikit-learn: 1,797 images of 8 × 8 pixels.

Alpaydin & Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
"""

from __future__ import annotations

import numpy as np

from vpt.data.base import Arrays, DataSet

NAMES = ("digits",)


def load(name: str) -> DataSet:
    """All images as one split, to be split by the caller; grey levels 0 to 16 become 0 to 255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = (digits.images * 255 / 16).round().astype(np.uint8)
    images = np.repeat(grey[..., None], 3, axis=-1)
    classes = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return DataSet(name, classes, Arrays(images, digits.target.tolist(), name), templates=("the digit {}.",))
