"""Where the parts of transformers' image models are; they differ in names, prefix tokens, positions and pooling."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from vpt.towers.picking import first_token


@dataclass(frozen=True)
class Family:
    """Where the parts of one family of models are.

    Attributes:
        layers: the blocks.
        embed: images to tokens before block 0.
        readout: tokens after the last block to features.
        norm: name of the final norm.
        prefix: tokens before the patches.
        read: tokens that the readout looks at, from the first on; None for all.
        any_size: positions are resampled to images of any size.
        keeps_pooler: the model's pooler is part of the readout.
        told: what all blocks are told of where patches stand beside the tokens, given images: rotary sines and cosines
            of patches, or biases that all blocks share; None of models whose positions are in the tokens.
    """

    layers: Callable[[Any], nn.ModuleList]
    embed: Callable[[Any, Tensor], Tensor]
    readout: Callable[[Any, Tensor], Tensor]
    norm: str = "layernorm"
    prefix: Callable[[Any], int] = lambda model: 1
    read: Callable[[Any], int | None] = lambda model: 1
    any_size: bool = False
    keeps_pooler: bool = False
    told: Callable[[Any, Tensor], Any] | None = None


def blocks_of(encoder: Any) -> nn.ModuleList:
    """The blocks of an encoder, which transformers calls `layers` or `layer`."""
    found: nn.ModuleList = encoder.layers if hasattr(encoder, "layers") else encoder.layer
    return found


def _of_vit(model: Any, images: Tensor) -> Tensor:
    found: Tensor = model.embeddings(images)
    return found


VIT = Family(layers=blocks_of, embed=_of_vit, readout=lambda m, x: first_token(m.layernorm(x)))
DINOV2 = replace(VIT, layers=lambda m: blocks_of(m.encoder), any_size=True)
CLIP = Family(
    layers=lambda m: blocks_of(m.encoder),
    embed=lambda m, images: m.pre_layrnorm(m.embeddings(images)),
    readout=lambda m, x: m.post_layernorm(first_token(x)),
    norm="post_layernorm",
)
SIGLIP = Family(
    layers=lambda m: blocks_of(m.encoder),
    embed=_of_vit,
    readout=lambda m, x: m.head(m.post_layernorm(x)),
    norm="post_layernorm",
    prefix=lambda m: 0,
    read=lambda m: None,
)


def _mae(model: Any, images: Tensor) -> Tensor:
    """Its encoder without masking: every patch, in its order."""
    parts = model.embeddings
    patches = parts.patch_embeddings(images) + parts.position_embeddings[:, 1:]
    token = parts.cls_token + parts.position_embeddings[:, :1]
    return torch.cat((token.expand(len(patches), -1, -1), patches), dim=1)


def _siglip2(model: Any, images: Tensor) -> Tensor:
    """Patches one after another, rows of pixels with their channels last, as its image processor cuts them."""
    parts = model.embeddings
    side = parts.patch_size
    rows, columns = images.shape[-2] // side, images.shape[-1] // side
    cut = images.unflatten(-1, (columns, side)).unflatten(-3, (rows, side))
    patches = parts.patch_embedding(cut.permute(0, 2, 4, 3, 5, 1).flatten(1, 2).flatten(2))
    table = parts.position_embedding.weight.unflatten(0, (parts.position_embedding_size,) * 2)
    # Of one image, as all of a batch have the same size.
    shape = torch.tensor([[rows, columns]])
    return patches + parts.resize_positional_embeddings(table, shape, max_length=rows * columns)


def _beit_pooled(model: Any, x: Tensor) -> Tensor:
    x = model.layernorm(x)
    if not model.config.use_mean_pooling:
        return first_token(x)
    return x[:, 1:].mean(1) if model.pooler is None else model.pooler(x)


def _beit_shared(model: Any, images: Tensor) -> Tensor | None:
    """Relative positions that all blocks share, (heads, n, n), where they do."""
    table = getattr(model, "shared_position_bias", None)
    if table is None:
        table = getattr(getattr(model, "encoder", None), "relative_position_bias", None)
    return None if table is None else table(table.window_size)[0]


BEIT = Family(
    layers=blocks_of,
    embed=_of_vit,
    readout=_beit_pooled,
    norm="layernorm",
    read=lambda m: None if m.config.use_mean_pooling else 1,
    keeps_pooler=True,
    told=_beit_shared,
)

FAMILIES = {
    "ViTModel": VIT,
    "DeiTModel": replace(VIT, prefix=lambda m: 2),
    "ViTMAEModel": replace(VIT, embed=_mae),
    "ViTMSNModel": VIT,
    # Its classifier reads the mean of all patches.
    "IJepaModel": replace(VIT, readout=lambda m, x: m.layernorm(x).mean(1), prefix=lambda m: 0, read=lambda m: None),
    "BeitModel": BEIT,
    "Data2VecVisionModel": replace(BEIT, layers=lambda m: blocks_of(m.encoder), embed=lambda m, x: m.embeddings(x)[0]),
    "Dinov2Model": DINOV2,
    "Dinov2WithRegistersModel": replace(DINOV2, prefix=lambda m: 1 + m.config.num_register_tokens),
    "DINOv3ViTModel": Family(
        layers=lambda m: blocks_of(m.model),
        embed=_of_vit,
        readout=lambda m, x: first_token(m.norm(x)),
        norm="norm",
        prefix=lambda m: 1 + m.config.num_register_tokens,
        any_size=True,
        told=lambda m, images: m.rope_embeddings(images),
    ),
    "CLIPVisionModel": CLIP,
    "MetaClip2VisionModel": CLIP,
    "ChineseCLIPVisionModel": CLIP,
    "AltCLIPVisionModel": CLIP,
    "BlipVisionModel": replace(
        CLIP, embed=_of_vit, readout=lambda m, x: m.post_layernorm(m.post_layernorm(first_token(x)))
    ),
    "SiglipVisionModel": SIGLIP,
    "Siglip2VisionModel": replace(SIGLIP, embed=_siglip2, any_size=True),
}


def image_size(config: Any) -> tuple[int, int]:
    """Height and width that a model was made for, in pixels; SigLIP 2 tells its number of patches."""
    if not hasattr(config, "image_size"):
        side = math.isqrt(config.num_patches) * config.patch_size
        return side, side
    return sides(config.image_size)


def sides(size: Any) -> tuple[int, int]:
    """Height and width, of a number or of both."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width
