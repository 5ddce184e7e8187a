"""A small random image-text model with CLIP's own tokenizer, for tests that read real words."""

import torch
from torch import nn

CLASSES = ["dog", "red car", "tree"]


def image_text_model(seed: int = 0, *, context_length: int = 20, logit_bias: float | None = None) -> nn.Module:
    """open_clip's `CLIP` on images of 16 × 16, every parameter away from its initial value."""
    from open_clip.model import CLIP

    torch.manual_seed(seed)
    model = CLIP(
        embed_dim=12,
        vision_cfg={"layers": 3, "width": 24, "head_width": 8, "patch_size": 8, "image_size": 16, "mlp_ratio": 2.0},
        text_cfg={"context_length": context_length, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 3},
        init_logit_bias=logit_bias,
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("logit_"):
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()
