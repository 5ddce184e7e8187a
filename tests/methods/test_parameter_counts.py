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
    # A frame of 30 pixels around 224: 3 · (224² - 164²).
    ("pixel", {}, VIT_S, 69_840),
    ("pixel", {"kind": "fixed-patch", "size": 50}, VIT_S, 7_500),
    ("pixel", {"kind": "random-patch", "size": 50}, VIT_S, 7_500),
    ("pixel", {"kind": "low-rank"}, VIT_S, 3 * 4 * (224 + 224)),
    ("pixel", {"mapping": "random"}, VIT_S, 69_840),
    ("pixel", {}, VIT_B, 69_840),
    # Two matrices of 8 rows for q and v of 12 blocks; the last as in OSU's table of visual adapters.
    ("lora", {}, VIT_S, 12 * 2 * 2 * 8 * 384),
    ("lora", {"stages": ["q", "k", "v"], "shared": True}, VIT_B, 294_912),
    ("vpt-deep", {"num_tokens": 10}, VIT_S, 46_080),
    ("vpt-deep", {"num_tokens": 10}, VIT_B, 92_160),
    ("vpt-deep", {"num_tokens": 100}, VIT_B, 921_600),
    ("vpt-deep", {"num_tokens": 10, "shared": True}, VIT_B, 7_680),
    ("vpt-deep", {"num_tokens": 10, "first": 3}, VIT_B, 23_040),
    ("vpt-deep", {"num_tokens": 10, "last": 5}, VIT_B, 38_400),
    ("vpt-deep", {"num_tokens": 10, "project": 64}, VIT_B, 12 * 10 * 64 + 64 * 768 + 768),
    ("lora", {}, VIT_B, 294_912),
    ("adaptformer", {}, VIT_S, 12 * (2 * 64 * 384 + 64 + 384)),
    ("adaptformer", {}, VIT_B, 1_189_632),
    ("adaptformer", {"rank": 8}, VIT_B, 156_768),
    ("adapter", {}, VIT_S, 24 * (2 * 8 * 384 + 8 + 384)),
    ("adapter", {}, VIT_B, 313_536),
    ("adapter", {"kind": "pfeiffer"}, VIT_B, 156_768),
    ("adapter+", {}, VIT_S, 12 * (2 * 8 * 384 + 8 + 384 + 384)),
    ("adapter+", {}, VIT_B, 165_984),
    ("ssf", {}, VIT_S, 102_912),
    ("ssf", {}, VIT_B, 205_824),
    ("repadapter", {}, VIT_S, 24 * (8 * 384 + 8 + 4 * 384 + 384)),
    ("repadapter", {}, VIT_B, 239_808),
    ("convpass", {}, VIT_S, 24 * (2 * 8 * 384 + 8 + 384 + 9 * 64 + 8)),
    # The paper says 0.33 million.
    ("convpass", {}, VIT_B, 327_552),
    ("fact", {}, VIT_S, 2 * 384 * 16 + 144 * 256),
    ("fact", {}, VIT_B, 61_440),
    ("fact", {"form": "tk", "rank": 32}, VIT_B, 86_528),
    ("norm", {}, VIT_S, 19_200),
    ("norm", {}, VIT_B, 38_400),
    ("prefix", {}, VIT_S, 92_160),
    ("prefix", {}, VIT_B, 184_320),
    # Keys and values, 46,080 on ViT-B, and prompts.
    ("e2vpt", {}, VIT_S, 23_040 + 46_080),
    ("e2vpt", {}, VIT_B, 46_080 + 92_160),
    ("vfpt", {}, VIT_S, 46_080),
    ("vfpt", {}, VIT_B, 92_160),
    # Prompts, eleven gates and twelve temperatures.
    ("gate-vpt", {}, VIT_S, 38_400 + 11 + 12),
    ("gate-vpt", {}, VIT_B, 76_800 + 11 + 12),
    ("spt", {}, VIT_S, 92_160),
    ("spt", {}, VIT_B, 184_320),
    # Of eleven blocks norms, 2 × 2 kernels, sums over 13 × 13 places; ten prompts, and two layers for all blocks.
    ("vapt", {}, VIT_S, 10 * 384 + 11 * (2 * 384 + 4 + 10 * 170) + 2 * 16 * 384),
    ("vapt", {}, VIT_B, 10 * 768 + 11 * (2 * 768 + 4 + 10 * 170) + 2 * 16 * 768),
    ("lst", {}, VIT_S, 598_332),
    # 2.38 million, as tables of other papers have it.
    ("lst", {}, VIT_B, 2_376_300),
]

# method, options, open_clip's model, tuned parameters with four class names as classifier
CLIP_COUNTS = [
    # Two layers of 512 and 128 numbers, without biases.
    ("clip-adapter", {}, "ViT-B-16", 131_072),
    ("clip-adapter", {"reduction": 8}, "ViT-B-16", 65_536),
    ("tip-adapter", {}, "ViT-B-16", 0),
    # In 12 blocks of 768 and 12 of 512, three pairs of matrices of rank 2.
    ("clip-lora", {}, "ViT-B-16", 12 * 3 * 2 * 2 * (768 + 512)),
    ("clip-lora", {"encoder": "image", "projections": "qv"}, "ViT-B-16", 12 * 2 * 2 * 2 * 768),
    # What these learn has the size of the training images and classes, of which none are known yet.
    *((method, {}, "ViT-B-16", 0) for method in ("tip-adapter-f", "linear-text", "taskres", "clap", "cross-modal")),
    *((method, {}, "ViT-B-16", 0) for method in ("lp++", "gda")),
    ("prolip", {}, "ViT-B-16", 393_216),
    # 26 norms of 768, 25 of 512, and a row of each of four classes.
    ("2sfs", {}, "ViT-B-16", 65_536 + 4 * 512),
    # Three times two tokens.
    ("atprompt", {}, "ViT-B-16", 6 * 512),
    # The context, and 512 to 128 to four tokens with biases.
    ("tcp", {}, "ViT-B-16", 331_904),
    # Five tokens, a layer for each of seven blocks of both encoders, and a projection.
    ("mmrl", {}, "ViT-B-16", 4_992_256),
    # Scales and shifts of both features, and the head of four classes.
    ("dept", {}, "ViT-B-16", 4 * 512 + 4 * 513),
    # In each of eight pairs of blocks 33,312 of texts, 49,952 of images and 1,056 of both.
    ("mma", {}, "ViT-B-16", 674_560),
    ("zero-shot", {}, "ViT-B-16", 0),
    ("coop", {}, "ViT-B-16", 16 * 512),
    ("coop", {"init": "a photo of a"}, "ViT-B-16", 2_048),
    ("coop", {"csc": True}, "ViT-B-16", 4 * 16 * 512),
    # The context, and 512 to 32 to 512 with biases.
    ("cocoop", {}, "ViT-B-16", 4 * 512 + 33_312),
    ("kgcoop", {}, "ViT-B-16", 2_048),
    ("prograd", {}, "ViT-B-16", 2_048),
    ("prograd", {"num_tokens": 16}, "ViT-B-16", 8_192),
    ("vpt-shallow", {"num_tokens": 8, "head": "text"}, "ViT-B-16", 6_144),
    ("vpt-deep", {"num_tokens": 8, "head": "text"}, "ViT-B-16", 73_728),
    ("ivlp", {}, "ViT-B-16", 12 * 2 * (512 + 768)),
    ("ivlp", {"num_tokens": 4, "num_context": 4, "depth": 9}, "ViT-B-16", 46_080),
    ("maple", {}, "ViT-B-16", 3_555_072),
    ("maple", {}, "ViT-L-14", 9 * 2 * 768 + 9 * (768 * 1024 + 1024)),
    # MaPLe's, and twice 512 to 128 to 512 without biases.
    ("coprompt", {}, "ViT-B-16", 3_555_072 + 2 * 2 * 512 * 128),
    # The network is made when it is known how wide the teacher's features are.
    ("promptkd", {}, "ViT-B-16", 9 * 4 * 768),
    ("promptsrc", {}, "ViT-B-16", 46_080),
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


@pytest.mark.parametrize(("method", "options", "backbone", "count"), CLIP_COUNTS)
def test_tuned_parameters_of_an_image_text_model(
    method: str, options: dict[str, object], backbone: str, count: int
) -> None:
    with torch.device("meta"):
        model = vpt.attach(open_clip.create_model(backbone, device="meta"), method, classes=list("abcd"), **options)
    assert model.num_tuned() == count


def test_count_that_the_papers_own_demo_prints() -> None:
    """KMnP/vpt's demo: ViT-B/16, 100 deep prompts, 6 classes."""
    assert prompted("vpt-deep", {"num_tokens": 100}, VIT_B, 6).num_tuned() == 926_214
