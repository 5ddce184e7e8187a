"""Models of transformers: their image towers, and what is to be had by name (https://github.com/huggingface/transformers)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import transformers
from torch import Tensor, nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel

from vpt.errors import VptError
from vpt.preprocessing import Preprocessing
from vpt.towers.backbone import Backbone
from vpt.towers.base import ImageTower, Opened, check_size, without
from vpt.towers.hf_block import open_layer, run_layer, why_not_layer
from vpt.towers.hf_text import pair_of
from vpt.towers.hf_tokenizer import adapted, by_name
from vpt.towers.text import Tokenizer


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

INSTEAD_OF_WEIGHTS = "name the folder that holds them together with their config.json, as hf/FOLDER"

TEXT_ALONE = ("CLIPTextModel", "CLIPTextModelWithProjection", "SiglipTextModel")


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
        """transformers' layer."""
        return run_layer(self.block(layer), x, mask)

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
        return why_not_layer(self.block(layer))

    def open(self, layer: int) -> Opened:
        """The parts of transformers' pre-norm layers."""
        return open_layer(self.block(layer))


def load(name: str, *, pretrained: bool = True, image_size: int | None = None) -> Backbone:
    """The towers of a model by its name on the Hugging Face hub, or in a local folder.

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
    found = wrap(model, by_name(name))
    if found is None:
        raise VptError(f"hf/{name} is a {type(model).__name__}; ViT, DINOv2, CLIP and SigLIP can be prompted.")
    if image_size is not None and (image_size, image_size) != found.preprocessing.size:
        side = found.preprocessing.size[0]
        raise VptError(f"hf/{name} takes images of {side} pixels, not {image_size}: leave image_size out.")
    options: dict[str, Any] = {} if pretrained else {"pretrained": False}
    return replace(
        found,
        preprocessing=_processed(name, found.preprocessing),
        name=f"hf/{name}",
        options=options,
        revision=getattr(config, "_commit_hash", None),
    )


def wrap(model: nn.Module, tokenizer: Tokenizer | None = None) -> Backbone | None:
    """The towers of a live model of transformers; None for a model of another library or family.

    Args:
        model: with an image tower of one of `FAMILIES`.
        tokenizer: of its text tower, one of transformers or called as open_clip's are; by default that of the name
            which the model was loaded by, if any.

    Raises:
        VptError: a text model alone.
    """
    if type(model).__name__ in TEXT_ALONE:
        whole = "SiglipModel" if "Siglip" in type(model).__name__ else "CLIPModel"
        raise VptError(f"a {type(model).__name__} is a text encoder without images: give the whole {whole}.")
    inner, projection = _image_model(model)
    if type(inner).__name__ not in FAMILIES or not isinstance(inner, transformers.PreTrainedModel):
        return None
    side = _side(inner.config.image_size)
    mean, std = _CLIP if "CLIP" in type(inner).__name__ else _IMAGENET if "Dino" in type(inner).__name__ else _HALF
    preprocessing = Preprocessing(size=(side, side), mean=mean, std=std)
    found = Backbone(HfTower(inner, projection), preprocessing, None, {})
    name = getattr(model, "name_or_path", None)
    if tokenizer is None and name:
        tokenizer = by_name(str(name))
    pair = pair_of(model, adapted(tokenizer) if tokenizer is not None else None)
    return found if pair is None else replace(found, pair=pair)


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
