"""Deep prompts in families of encoders beside the plain Vision Transformer: rotary and relative positions, and windows.

All are cut to about the size of ViT-Ti/16, so that rows can be compared; random weights, which cost what others do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

import vpt
from benchmarks.image import CLASSES, case
from benchmarks.measure import Case, Setting

METHODS = ("vpt-deep", "vpt-shallow")
PROMPTS = 50

NARROW = {"embed_dim": 192, "num_heads": 3, "image_size": 224}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("timm/vit_tiny_patch16_224", NARROW),
    "eva-02": ("timm/eva02_tiny_patch14_224", NARROW),
    "dinov3": ("timm/vit_small_patch16_dinov3", NARROW),
    "beit": ("timm/beit_base_patch16_224", NARROW),
    "swin": ("timm/swin_tiny_patch4_window7_224", {"embed_dim": 48, "num_heads": (2, 4, 8, 16)}),
}


def cases(setting: Setting) -> Iterator[Case]:
    """Each family with deep prompts: a training step and an evaluation, fast and plain."""
    batch = setting.batch or (1 if setting.quick else 8 if setting.device == "cpu" else 64)
    for family in setting.families or FAMILIES:
        name, options = FAMILIES[family]
        if setting.quick:
            # As few patches as those of 14 and 16 pixels divide alike.
            options = options | {"image_size": 112} | ({"depths": (1, 1, 1, 1)} if family == "swin" else {"depth": 2})
        # One method unless another is asked for: the families are compared here, not the methods.
        for method in setting.methods or METHODS[:1]:
            for prompts in setting.prompts or (PROMPTS,):
                torch.manual_seed(0)
                model = vpt.create(
                    name,
                    method,
                    num_tokens=prompts,
                    num_classes=CLASSES,
                    pretrained=False,
                    backbone_options=options,
                )
                facts = {"family": family, "model": name, "method": method, "prompts": prompts}
                yield case(model.to(setting.device), batch, setting, facts)
