"""Image towers of transformers: ViT, DINOv2, CLIP and SigLIP (https://github.com/huggingface/transformers)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import transformers
from torch import Tensor, nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel
from transformers.models.clip.modeling_clip import CLIPAttention, CLIPEncoderLayer
from transformers.models.dinov2.modeling_dinov2 import Dinov2Attention, Dinov2Layer
from transformers.models.siglip.modeling_siglip import SiglipAttention, SiglipEncoderLayer
from transformers.models.vit.modeling_vit import ViTAttention, ViTLayer

from vpt.errors import VptError
from vpt.preprocessing import Preprocessing
from vpt.towers.backbone import Backbone
from vpt.towers.base import ImageTower, Opened, check_size, heads_of, why_hooked, without

if int(transformers.__version__.partition(".")[0]) < 5:
    raise VptError(f"transformers {transformers.__version__} is too old for vpt: install transformers>=5.")


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
    """

    layers: Callable[[Any], nn.ModuleList]
    embed: Callable[[Any, Tensor], Tensor]
    readout: Callable[[Any, Tensor], Tensor]
    norm: str
    prefix: int
    read: int | None


FAMILIES = {
    "ViTModel": Family(
        layers=lambda m: m.layers,
        embed=lambda m, images: m.embeddings(images),
        readout=lambda m, x: m.layernorm(x)[:, 0],
        norm="layernorm",
        prefix=1,
        read=1,
    ),
    "Dinov2Model": Family(
        layers=lambda m: m.encoder.layer,
        embed=lambda m, images: m.embeddings(images),
        readout=lambda m, x: m.layernorm(x)[:, 0],
        norm="layernorm",
        prefix=1,
        read=1,
    ),
    "CLIPVisionModel": Family(
        layers=lambda m: m.encoder.layers,
        embed=lambda m, images: m.pre_layrnorm(m.embeddings(images)),
        readout=lambda m, x: m.post_layernorm(x[:, 0]),
        norm="post_layernorm",
        prefix=1,
        read=1,
    ),
    "SiglipVisionModel": Family(
        layers=lambda m: m.encoder.layers,
        embed=lambda m, images: m.embeddings(images),
        readout=lambda m, x: m.head(m.post_layernorm(x)),
        norm="post_layernorm",
        prefix=0,
        read=None,
    ),
}


class Names(NamedTuple):
    """What the parts of a layer are called; None for a part that it lacks."""

    kind: type
    attention: str
    output: str
    norm1: str
    norm2: str
    dropout: str
    drop: str | None = None
    scale1: str | None = None
    scale2: str | None = None


LAYERS: dict[type, Names] = {
    ViTLayer: Names(
        kind=ViTAttention,
        attention="attention",
        output="o_proj",
        norm1="layernorm_before",
        norm2="layernorm_after",
        dropout="attention_probs_dropout_prob",
        drop="dropout",
    ),
    Dinov2Layer: Names(
        kind=Dinov2Attention,
        attention="attention",
        output="o_proj",
        norm1="norm1",
        norm2="norm2",
        dropout="attention_probs_dropout_prob",
        drop="drop_path",
        scale1="layer_scale1",
        scale2="layer_scale2",
    ),
    CLIPEncoderLayer: Names(
        kind=CLIPAttention,
        attention="self_attn",
        output="out_proj",
        norm1="layer_norm1",
        norm2="layer_norm2",
        dropout="attention_dropout",
    ),
    SiglipEncoderLayer: Names(
        kind=SiglipAttention,
        attention="self_attn",
        output="out_proj",
        norm1="layer_norm1",
        norm2="layer_norm2",
        dropout="attention_dropout",
    ),
}


class HfTower(ImageTower):
    """An image model of transformers, and the projection to CLIP's shared space where there is one.

    Args:
        model: a model of one of `FAMILIES`.
        projection: applied to its features.
    """

    def __init__(self, model: Any, projection: nn.Module | None = None) -> None:
        super().__init__()
        self.model = without(model, "pooler")
        self.projection = projection if projection is not None else nn.Identity()
        self.family = FAMILIES[type(model).__name__]
        config = model.config
        self.width = config.hidden_size
        self.depth = len(self.family.layers(model))
        self.num_features = projection.out_features if isinstance(projection, nn.Linear) else self.width
        self.prefix = self.family.prefix
        self.read = self.family.read
        self.patch_size = _side(config.patch_size)
        self.image_size = (_side(config.image_size),) * 2

    def embed(self, images: Tensor) -> Tensor:
        """Patches, class token, positions, and CLIP's norm before block 0."""
        check_size(images, self.image_size)
        return self.family.embed(self.model, images)

    def block(self, layer: int) -> nn.Module:
        """transformers' layer."""
        return self.family.layers(self.model)[layer]

    def run(self, layer: int, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """transformers' layer, which takes masks with a place for batch and heads."""
        if mask is not None:
            mask = mask[None, None] if mask.ndim == 2 else mask[:, None]
        return self.block(layer)(x, attention_mask=mask)

    def readout(self, x: Tensor) -> Tensor:
        """Norm, pooling and projection."""
        return self.projection(self.family.readout(self.model, x))

    def final_norm(self) -> nn.Module:
        """The norm before pooling, or in CLIP after it."""
        return self.model.get_submodule(self.family.norm)

    def pre_norm(self, tokens: Tensor) -> Tensor:
        """CLIP's `pre_layrnorm`."""
        return self.model.pre_layrnorm(tokens) if hasattr(self.model, "pre_layrnorm") else tokens

    def why_whole(self, layer: int) -> str | None:
        """A block that is not known, or one with hooks."""
        block: Any = self.block(layer)
        if type(block) not in LAYERS:
            return f"{type(block).__name__} is not a layer of ViT, DINOv2, CLIP or SigLIP"
        names = LAYERS[type(block)]
        attn: nn.Module = getattr(block, names.attention)
        if type(attn) is not names.kind:
            return f"{type(attn).__name__} is not transformers' {names.kind.__name__}"
        return why_hooked(block, attn)

    def open(self, layer: int) -> Opened:
        """The parts of transformers' pre-norm layers, which differ in names, layer scale and dropout."""
        block: Any = self.block(layer)
        names = LAYERS[type(block)]
        attn = getattr(block, names.attention)
        norm1, norm2, drop, scale1, scale2 = (
            getattr(block, name) if name else nn.Identity()
            for name in (names.norm1, names.norm2, names.drop, names.scale1, names.scale2)
        )
        output, num_heads = getattr(attn, names.output), attn.config.num_attention_heads

        def key_value(y: Tensor) -> tuple[Tensor, Tensor]:
            return heads_of(attn.k_proj(y), num_heads), heads_of(attn.v_proj(y), num_heads)

        return Opened(
            norm=norm1,
            query_key_value=lambda y: (heads_of(attn.q_proj(y), num_heads), *key_value(y)),
            key_value=key_value,
            out=lambda o, y: drop(scale1(output(o))),
            feed=lambda x: drop(scale2(block.mlp(norm2(x)))),
            dropout=getattr(attn.config, names.dropout) if attn.training else 0.0,
        )


def load(name: str, *, pretrained: bool = True, image_size: int | None = None) -> Backbone:
    """The image tower of a model by its name on the Hugging Face hub, or in a local folder.

    Args:
        name: e.g. "google/vit-base-patch16-224-in21k", "facebook/dinov2-base", "openai/clip-vit-base-patch32".
        pretrained: load weights; otherwise only the model's config is needed.
        image_size: transformers resizes positions only inside its own forward pass, so only the model's own.

    Raises:
        VptError: no such model, a model of another family, or one that cannot be had.
    """
    try:
        config = AutoConfig.from_pretrained(name)
        model = AutoModel.from_pretrained(name, config=config) if pretrained else AutoModel.from_config(config)
    except (OSError, ValueError) as error:
        raise VptError(
            f"hf/{name} could not be had ({str(error).strip().splitlines()[0]}): check the name and the network."
        ) from error
    found = wrap(model)
    if found is None:
        raise VptError(f"hf/{name} is a {type(model).__name__}; ViT, DINOv2, CLIP and SigLIP can be prompted.")
    if image_size is not None and (image_size, image_size) != found.preprocessing.size:
        side = found.preprocessing.size[0]
        raise VptError(f"hf/{name} takes images of {side} pixels, not {image_size}: leave image_size out.")
    options = {} if pretrained else {"pretrained": False}
    return Backbone(
        found.tower, _processed(name, found.preprocessing), f"hf/{name}", options, getattr(config, "_commit_hash", None)
    )


def wrap(model: nn.Module) -> Backbone | None:
    """The image tower of a live model of transformers; None for a model of another library or family."""
    inner, projection = _image_model(model)
    if type(inner).__name__ not in FAMILIES or not isinstance(inner, transformers.PreTrainedModel):
        return None
    side = _side(inner.config.image_size)
    mean, std = _CLIP if "CLIP" in type(inner).__name__ else _IMAGENET if "Dino" in type(inner).__name__ else _HALF
    preprocessing = Preprocessing(size=(side, side), mean=mean, std=std)
    return Backbone(HfTower(inner, projection), preprocessing, None, {})


_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def _image_model(model: Any) -> tuple[Any, nn.Module | None]:
    """The model of `FAMILIES` inside `model`, and CLIP's projection."""
    for name in ("vit", "dinov2", "vision_model"):
        inner = getattr(model, name, None)
        if isinstance(inner, nn.Module):
            return inner, getattr(model, "visual_projection", None)
    return model, None


def _processed(name: str, preprocessing: Preprocessing) -> Preprocessing:
    """What the model's own image processor says."""
    try:
        processor = AutoImageProcessor.from_pretrained(name)
    except OSError:
        return preprocessing
    side = preprocessing.size[0]
    cropped = bool(getattr(processor, "do_center_crop", False))
    resized = processor.size.get("shortest_edge") if cropped else None
    return Preprocessing(
        size=preprocessing.size,
        crop=side / (resized or side),
        crop_mode="center" if cropped else "squash",
        interpolation={2: "bilinear", 3: "bicubic"}.get(int(processor.resample), "bicubic"),
        mean=tuple(processor.image_mean),
        std=tuple(processor.image_std),
    )


def _side(size: Any) -> int:
    return size if isinstance(size, int) else max(size)


def names() -> list[str]:
    """A few of the hub's models that are often used; any of the four families can be named."""
    return [
        "google/vit-base-patch16-224-in21k",
        "facebook/dinov2-small",
        "facebook/dinov2-base",
        "openai/clip-vit-base-patch32",
        "openai/clip-vit-base-patch16",
        "google/siglip-base-patch16-224",
    ]
