"""Every library's transforms as one callable, without the traps of albumentations."""

import random
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vpt import VptError
from vpt.data.transforms import AUGMENTATIONS, as_transform, augmentation
from vpt.preprocessing import Preprocessing

SMALL = Preprocessing(size=(24, 32), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


@pytest.fixture(scope="module")
def albumentations() -> object:
    import os

    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import albumentations

    return albumentations


def noise(width: int = 60, height: int = 50) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_augmentation_gives_a_normalised_tensor_of_the_backbones_size(name: str) -> None:
    torch.manual_seed(0)
    out = augmentation(name, SMALL)(noise())
    assert out.shape == (3, 24, 32)
    assert out.dtype == torch.float32
    assert out.min() >= -2.0001
    assert out.max() <= 2.0001


def test_none_is_the_evaluation_transform() -> None:
    assert torch.equal(augmentation("none", SMALL)(noise()), SMALL.transform()(noise()))


def test_resize_crop_keeps_the_proportions_of_the_image() -> None:
    square = Image.new("RGB", (80, 40))
    square.paste((255, 255, 255), (30, 10, 50, 30))
    areas = set()
    for seed in range(20):
        torch.manual_seed(seed)
        white = augmentation("resize-crop", Preprocessing(size=(35, 35)))(square)[0] > 0
        areas |= {(int(white.any(0).sum()), int(white.any(1).sum()))}
    assert (20, 20) in areas


def test_the_evaluation_transform_smooths_what_it_makes_smaller() -> None:
    stripes = Image.fromarray(np.tile(np.array([[0], [255]], np.uint8), (240, 640))[..., None].repeat(3, 2))
    assert SMALL.transform()(stripes).abs().max() < 0.1


def test_torchvision_timm_and_plain_functions_pass_as_they_are() -> None:
    from timm.data import create_transform
    from torchvision.transforms import v2

    normalise = v2.Normalize(SMALL.mean, SMALL.std)
    second = v2.Compose([v2.ToImage(), v2.Resize((24, 32)), v2.ToDtype(torch.float32, scale=True), normalise])
    timm = create_transform(input_size=(3, 24, 32))

    def own(image: Image.Image) -> Tensor:
        return torch.zeros(3, 24, 32)

    for transform in (second, timm, own):
        assert torch.equal(as_transform(transform, SMALL)(noise()), transform(noise()))


def test_what_a_transform_leaves_undone_is_done_or_asked_for() -> None:
    from torchvision import transforms as T
    from torchvision.transforms import v2

    whole = T.Compose([T.Resize((24, 32)), T.ToTensor(), T.Normalize(SMALL.mean, SMALL.std)])(noise())
    for ends in (T.Resize((24, 32)), v2.Compose([v2.Resize((24, 32)), v2.PILToTensor()])):
        torch.testing.assert_close(as_transform(ends, SMALL)(noise()), whole)
    for open_ended in (T.Compose([T.Resize((24, 32)), T.ToTensor()]), v2.ToDtype(torch.float32, scale=True)):
        with pytest.raises(VptError, match=r"from 0 to 1, .*: end it with Normalize\(\(0.5, 0.5, 0.5\)"):
            as_transform(open_ended, SMALL)
        assert as_transform(open_ended, Preprocessing(size=(24, 32), mean=(0.0,) * 3, std=(1.0,) * 3))
    for wrong, told in (
        (np.asarray, "gives a ndarray"),
        (lambda image: torch.zeros(24, 32), r"gives a tensor \(24, 32\)"),
        (lambda image: torch.zeros(3, 24, 32).int(), "gives torch.int32"),
    ):
        with pytest.raises(VptError, match=told):
            as_transform(wrong, SMALL)(noise())
    with pytest.raises(VptError, match=r"ToTensor is a class: give a transform made of it, ToTensor\(…\)"):
        as_transform(T.ToTensor, SMALL)


def test_open_clips_transform_passes_as_it_is() -> None:
    from open_clip import image_transform

    transform = image_transform(24, is_train=False)
    assert torch.equal(as_transform(transform, SMALL)(noise()), transform(noise()))


def test_albumentations_gives_what_its_own_normalisation_would(albumentations: object) -> None:
    A = albumentations
    bare = as_transform(A.Compose([A.Resize(24, 32)]), SMALL)
    normalised = as_transform(A.Compose([A.Resize(24, 32), A.Normalize(SMALL.mean, SMALL.std), A.ToTensorV2()]), SMALL)
    single = as_transform(A.Resize(24, 32), SMALL)
    torch.testing.assert_close(bare(noise()), normalised(noise()))
    torch.testing.assert_close(bare(noise()), single(noise()))


def test_albumentations_does_not_alias_large_images(albumentations: object) -> None:
    A = albumentations
    stripes = Image.fromarray(np.tile(np.array([[0], [255]], np.uint8), (240, 640))[..., None].repeat(3, 2))
    assert as_transform(A.Resize(24, 32), SMALL)(stripes).abs().max() < 0.2


def test_albumentations_of_another_size_is_told(albumentations: object) -> None:
    with pytest.raises(VptError, match="gives 3×16×16, and the backbone takes 3×24×32: let it end with a crop"):
        as_transform(albumentations.Resize(16, 16), SMALL)(noise())


def test_a_file_of_albumentations(albumentations: object, tmp_path: Path) -> None:
    A = albumentations
    A.save(A.Compose([A.HorizontalFlip(p=1.0), A.Resize(24, 32)]), tmp_path / "flip.json", data_format="json")
    flipped = augmentation(str(tmp_path / "flip.json"), SMALL)(noise())
    torch.testing.assert_close(flipped.flip(-1), as_transform(A.Resize(24, 32), SMALL)(noise()), atol=0.2, rtol=0)


def test_unknown_arguments_of_albumentations_are_errors(albumentations: object, tmp_path: Path) -> None:
    A = albumentations
    A.save(A.Compose([A.HorizontalFlip(p=1.0)]), tmp_path / "flip.json", data_format="json")
    text = (tmp_path / "flip.json").read_text().replace('"p": 1.0}', '"p": 1.0, "foo": 1}')
    assert "foo" in text
    (tmp_path / "flip.json").write_text(text)
    with pytest.raises(VptError, match=r"flip.json is no augmentation that albumentations can make: .*foo"):
        augmentation(str(tmp_path / "flip.json"), SMALL)


@pytest.mark.parametrize(
    ("transform", "sentence"),
    [("crpo", "there is no augmentation 'crpo': did you mean 'crop'"), ("none.yaml", "there is no augmentation file")],
)
def test_what_is_not_there(transform: str, sentence: str) -> None:
    with pytest.raises(VptError) as error:
        as_transform(transform, SMALL)
    assert sentence in str(error.value)


def test_what_cannot_be_called_is_no_transform() -> None:
    with pytest.raises(VptError, match="a int is no transform"):
        as_transform(3, SMALL)


def test_albumentations_is_not_imported_unless_it_is_used() -> None:
    assert "vpt.data.transforms" in sys.modules
    source = Path(sys.modules["vpt.data.transforms"].__file__ or "").read_text()
    assert "\nimport albumentations" not in source


@pytest.mark.parametrize(("name", "smallest"), [("crop", 0.08), ("large-crop", 0.5)])
def test_a_random_crop_takes_at_least_its_share_of_the_image(name: str, smallest: float) -> None:
    step = augmentation(name, Preprocessing(size=(24, 24))).transforms[0]
    image = Image.new("RGB", (100, 80))
    shares = []
    for seed in range(200):
        torch.manual_seed(seed)
        random.seed(seed)
        _, _, height, width = step.get_params(image, step.scale, step.ratio)
        shares.append(height * width / 8000)
    assert smallest - 0.01 <= min(shares) < smallest + 0.1
    assert max(shares) > 0.9
