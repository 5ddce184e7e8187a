"""Exact numbers of tuned parameters on the backbones of the papers; every method needs its rows here."""

import open_clip
import pytest
import timm
import torch

import vpt
from vpt.methods import available

VIT_S, VIT_B = "vit_small_patch16_224", "vit_base_patch16_224"

# method, options, backbone, tuned parameters without the head
COUNTS = [
    ("linear", {}, VIT_S, 0),
    ("linear", {}, VIT_B, 0),
    ("full", {}, VIT_S, 21_665_664),
    ("full", {}, VIT_B, 85_798_656),
    ("bias", {}, VIT_S, 51_456),
    ("bias", {}, VIT_B, 102_912),
    ("partial-k", {"k": 1}, VIT_S, 1_775_232),
    ("partial-k", {"k": 1}, VIT_B, 7_089_408),
    ("partial-k", {"k": 4}, VIT_B, 28_353_024),
    ("vpt-shallow", {"num_tokens": 50}, VIT_S, 19_200),
    ("vpt-shallow", {"num_tokens": 50}, VIT_B, 38_400),
    ("vpt-shallow", {"num_tokens": 50, "project": 64}, VIT_B, 50 * 64 + 64 * 768 + 768),
    ("vpt-deep", {"num_tokens": 10}, VIT_S, 46_080),
    ("vpt-deep", {"num_tokens": 10}, VIT_B, 92_160),
    ("vpt-deep", {"num_tokens": 100}, VIT_B, 921_600),
    ("vpt-deep", {"num_tokens": 10, "shared": True}, VIT_B, 7_680),
    ("vpt-deep", {"num_tokens": 10, "first": 3}, VIT_B, 23_040),
    ("vpt-deep", {"num_tokens": 10, "last": 5}, VIT_B, 38_400),
    ("vpt-deep", {"num_tokens": 10, "project": 64}, VIT_B, 12 * 10 * 64 + 64 * 768 + 768),
]

# method, options, tuned parameters on CLIP ViT-B/16 with four classes
CLIP_COUNTS = [
    # Two layers of 512 and 128 numbers, without biases.
    ("clip-adapter", {}, 131_072),
    ("clip-adapter", {"reduction": 8}, 65_536),
    ("tip-adapter", {}, 0),
    # In 12 blocks of 768 and 12 of 512, three pairs of matrices of rank 2.
    ("clip-lora", {}, 12 * 3 * 2 * 2 * (768 + 512)),
    ("clip-lora", {"encoder": "image", "projections": "qv"}, 12 * 2 * 2 * 2 * 768),
    # What these two learn has the size of the training images and classes, of which none are known yet.
    ("tip-adapter-f", {}, 0),
    ("linear-text", {}, 0),
    ("zero-shot", {}, 0),
    ("coop", {}, 16 * 512),
    ("coop", {"init": "a photo of a"}, 2_048),
    ("coop", {"csc": True}, 4 * 16 * 512),
    # The context, and 512 to 32 to 512 with biases.
    ("cocoop", {}, 4 * 512 + 33_312),
    ("kgcoop", {}, 2_048),
    ("prograd", {}, 2_048),
    ("prograd", {"num_tokens": 16}, 8_192),
]


def prompted(method: str, options: dict[str, object], backbone: str, num_classes: int) -> vpt.Prompted:
    with torch.device("meta"):
        return vpt.attach(timm.create_model(backbone), method, num_classes=num_classes, **options)


@pytest.mark.parametrize(("method", "options", "backbone", "count"), COUNTS)
def test_tuned_parameters(method: str, options: dict[str, object], backbone: str, count: int) -> None:
    assert prompted(method, options, backbone, 10).num_tuned(head=False) == count


@pytest.mark.parametrize("backbone", [VIT_S, VIT_B])
def test_every_method_has_a_row(backbone: str) -> None:
    listed = {method for method, _, name, _ in COUNTS if name == backbone}
    assert set(available()) == listed | {method for method, *_ in CLIP_COUNTS}


@pytest.mark.parametrize(("method", "options", "count"), CLIP_COUNTS)
def test_tuned_parameters_of_an_image_text_model(method: str, options: dict[str, object], count: int) -> None:
    with torch.device("meta"):
        clip = open_clip.create_model("ViT-B-16", device="meta")
        model = vpt.attach(clip, method, classes=["ant", "bee", "cat", "dog"], **options)
    assert model.num_tuned() == count


def test_count_that_the_papers_own_demo_prints() -> None:
    """KMnP/vpt's demo: ViT-B/16, 100 deep prompts, 6 classes."""
    assert prompted("vpt-deep", {"num_tokens": 100}, VIT_B, 6).num_tuned() == 926_214
