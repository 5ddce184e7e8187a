"""torchvision's Vision Transformers (https://github.com/pytorch/vision)."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.swin_transformer import SwinTransformer, SwinTransformerBlock, SwinTransformerBlockV2
from torchvision.models.vision_transformer import EncoderBlock, VisionTransformer

from vpt.errors import VptError
from vpt.options import annotated
from vpt.preprocessing import Preprocessing
from vpt.towers import sizes
from vpt.towers.backbone import Backbone
from vpt.towers.base import ImageTower, why_hooked, without
from vpt.towers.opened import Opened, multihead_projections
from vpt.towers.picking import first_token
from vpt.towers.stages import Out, mlp_of
from vpt.towers.swin_torchvision import TorchvisionSwin
from vpt.towers.weights import UNREADABLE, fitted, read_weights, reason_of, without_prefix
from vpt.towers.whole import with_classifier
from vpt.towers.whole_models import CLASSIFIERS, whole_torchvision, without_heads

SWIN_BLOCKS = {SwinTransformerBlock, SwinTransformerBlockV2}


class TorchvisionTower(ImageTower):
    """torchvision's `VisionTransformer`, without its classifier."""

    multihead = True

    def __init__(self, model: VisionTransformer) -> None:
        super().__init__()
        self.channels = sizes.channels_of(model)
        self.model = without(model, "heads")
        self.width = self.num_features = model.hidden_dim
        self.depth = len(model.encoder.layers)
        self.prefix = 1
        self.read = 1
        self.patch_size = model.patch_size
        self.image_size = (model.image_size, model.image_size)

    def embed(self, images: Tensor) -> Tensor:
        """Patches, class token, positions and dropout."""
        images = sizes.fitted(images, self)
        patches = self.model._process_input(images)
        x = torch.cat([self.model.class_token.expand(patches.shape[0], -1, -1), patches], dim=1)
        return self.model.encoder.dropout(x + self.model.encoder.pos_embedding)

    def block(self, layer: int) -> nn.Module:
        """torchvision's block."""
        return self.model.encoder.layers[layer]

    def readout(self, x: Tensor) -> Tensor:
        """Norm and class token."""
        return first_token(self.model.encoder.ln(x))

    def final_norm(self) -> nn.Module:
        """`encoder.ln`."""
        return self.model.encoder.ln

    def why_whole(self, layer: int) -> str | None:
        """A block other than torchvision's own, or one with hooks."""
        block: Any = self.block(layer)
        if type(block) is not EncoderBlock:
            return f"{type(block).__name__} is not torchvision's EncoderBlock"
        return why_hooked(block, block.self_attention)

    def open(self, layer: int) -> Opened:
        """The parts of `EncoderBlock`."""
        block: Any = self.block(layer)
        attn = block.self_attention
        query_key_value, key_value = multihead_projections(attn)
        return Opened(
            norm=block.ln_1,
            query_key_value=query_key_value,
            key_value=key_value,
            out=Out(attn.out_proj, block.dropout),
            feed=mlp_of(block.mlp, block.ln_2),
            dropout=attn.dropout if attn.training else 0.0,
        )


def load(
    name: str, *, pretrained: bool = True, weights: str | None = None, image_size: int | None = None, **options: Any
) -> Backbone:
    """A tower by torchvision's names for model and weights, e.g. "vit_b_16" or "vit_b_16/IMAGENET1K_V1".

    Args:
        name: model, and weights after a slash where not the default ones.
        pretrained: load weights, from torchvision's server where `weights` does not name a file.
        weights: a local file with a state dict.
        image_size: side in pixels; positions are not resampled, so only with pretrained=False.
        options: further arguments of the model's constructor.

    Raises:
        VptError: no such model or weights, or weights that cannot be had.
    """
    model_name, _, weights_name = name.partition("/")
    known = models.list_models(models)
    if model_name not in known:
        near = get_close_matches(model_name, known, n=1, cutoff=0.3)
        raise VptError(f"torchvision has no model {model_name!r}: did you mean {(near or ['vit_b_16'])[0]}?")
    choices = models.get_model_weights(model_name)
    if weights_name and weights_name not in choices.__members__:
        raise VptError(
            f"torchvision/{model_name} has no weights {weights_name!r}: say {', '.join(choices.__members__)}."
        )
    options = annotated(VisionTransformer, options, "backbone")
    state = read_weights(Path(weights)) if weights else {}
    chosen = choices[weights_name] if weights_name else choices.DEFAULT
    size = {"image_size": image_size} if image_size is not None and model_name.startswith("vit_") else {}
    try:
        model = models.get_model(model_name, weights=chosen if pretrained and not weights else None, **size, **options)
    except (ArithmeticError, AssertionError, KeyError, TypeError, *UNREADABLE) as error:
        raise VptError(
            f"torchvision/{name} could not be had ({reason_of(error)}): check its options and the network, name a "
            "local file with weights=…, or ask for pretrained=False."
        ) from error
    if weights:
        where = f"{weights} does not hold weights for torchvision/{name}"
        own = model.state_dict()
        state = without_prefix(state, own, weights)
        model.load_state_dict(fitted(state, own, where, spare=classifiers_of(model)), strict=False)
    given = {"image_size": image_size} | options | ({} if pretrained else {"pretrained": False})
    kept = {key: value for key, value in given.items() if value is not None}
    read = _preprocessing(chosen, getattr(model, "image_size", image_size))
    return Backbone(tower_of(model, read.size), read, f"torchvision/{name}", kept)


def tower_of(model: nn.Module, size: tuple[int, int]) -> ImageTower:
    """A model opened, or whole where it cannot be; `size` of its images in pixels."""
    tower: ImageTower
    if isinstance(model, VisionTransformer):
        tower = TorchvisionTower(model)
    elif type(model) is SwinTransformer and _has_swin_blocks(model):
        tower = TorchvisionSwin(model)
    else:
        tower = whole_torchvision(model, f"{type(model).__name__} is no Vision Transformer of torchvision", size)
    return with_classifier(tower, next((getattr(model, name) for name in CLASSIFIERS if hasattr(model, name)), None))


def _has_swin_blocks(model: Any) -> bool:
    return {type(block) for part in list(model.features)[1::2] for block in part} <= SWIN_BLOCKS


def classifiers_of(model: nn.Module) -> tuple[str, ...]:
    """Beginnings of the names of what is left out of a model as an encoder."""
    if isinstance(model, VisionTransformer):
        return ("heads.",)
    kept = without_heads(model).state_dict()
    return tuple(name for name in model.state_dict() if name not in kept)


def wrap(model: nn.Module) -> Backbone | None:
    """A tower around a live model of torchvision; None for a model of another library."""
    if not any(isinstance(getattr(model, name, None), nn.Module) for name in CLASSIFIERS):
        return None
    taken = Preprocessing((getattr(model, "image_size", 224),) * 2, interpolation="bilinear")
    doubt = (
        f"models of torchvision do not say what images they were trained on: whole images, mean {taken.mean} and "
        f"deviation {taken.std} are taken; say otherwise by preprocessing=…, or make it by name."
    )
    return Backbone(tower_of(model, taken.size), taken, None, {}, doubt=doubt)


def _preprocessing(weights: Any, side: int | None) -> Preprocessing:
    """What the weights' own transform says, at `side` pixels where not at its own."""
    transform = weights.transforms()
    side = side or transform.crop_size[0]
    return Preprocessing(
        size=(side, side),
        crop=transform.crop_size[0] / transform.resize_size[0],
        interpolation=transform.interpolation.value,
        mean=tuple(transform.mean),
        std=tuple(transform.std),
    )


def names() -> list[str]:
    """Models and weights, the default ones first."""
    found = []
    for model in sorted(models.list_models(models), key=lambda name: (not name.startswith("vit_"), name)):
        found += [model, *(f"{model}/{weights}" for weights in models.get_model_weights(model).__members__)]
    return found
