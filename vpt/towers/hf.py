"""Models of transformers: their image towers, and what is to be had by name (https://github.com/huggingface/transformers)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import transformers
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from vpt.errors import VptError
from vpt.towers import sizes
from vpt.towers.backbone import Backbone
from vpt.towers.base import ImageTower, Opened, without
from vpt.towers.hf_block import open_layer, run_layer, why_not_layer
from vpt.towers.hf_processor import converted, processor_of, published
from vpt.towers.hf_text import pair_of
from vpt.towers.hf_tokenizer import adapted, by_name
from vpt.towers.memory import check_memory
from vpt.towers.places import Places
from vpt.towers.swin_hf import HfSwin
from vpt.towers.text import Tokenizer
from vpt.towers.weights import UNREADABLE, reason_of
from vpt.towers.whole_models import whole_hf
from vpt.trust import remedy


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
        sizes.check_channels(model, f"this {type(model).__name__}")
        self.model = without(model, "pooler")
        self.projection = projection if projection is not None else nn.Identity()
        self.family = FAMILIES[type(model).__name__]
        config = model.config
        self.width = config.hidden_size
        self.depth = len(self.family.layers(model))
        self.num_features = projection.out_features if isinstance(projection, nn.Linear) else self.width
        self.prefix = self.family.prefix
        self.read = self.family.read
        self.patch_size = max(_sides(config.patch_size))
        # DINOv2 resamples its positions to any size.
        self.image_size = None if "Dinov2" in type(model).__name__ else _sides(config.image_size)

    def embed(self, images: Tensor) -> Tensor:
        """Patches, class token, positions, and CLIP's norm before block 0."""
        images = sizes.fitted(images, self)
        return self.family.embed(self.model, images)

    def block(self, layer: int) -> nn.Module:
        """transformers' layer."""
        return self.family.layers(self.model)[layer]

    def run(self, layer: int, x: Tensor, mask: Tensor | None = None, places: Places | None = None) -> Tensor:
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


def load(
    name: str, *, pretrained: bool = True, image_size: int | None = None, trust_remote_code: bool = False
) -> Backbone:
    """The towers of a model by its name on the Hugging Face hub, or in a local folder.

    Args:
        name: e.g. "google/vit-base-patch16-224-in21k", "facebook/dinov2-base", "openai/clip-vit-base-patch32".
        pretrained: load weights; otherwise only the model's config is needed.
        image_size: transformers resizes positions only inside its own forward pass, so only the model's own; DINOv2
            takes any that its patches divide.
        trust_remote_code: run Python code that a repository brings; nothing that is loaded here asks for it otherwise.

    Raises:
        VptError: no such model, a model of another family, or one that cannot be had.
    """
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
        check_memory(config.to_dict(), f"the config of hf/{name}")
        given = {"config": config, "trust_remote_code": trust_remote_code}
        model = AutoModel.from_pretrained(name, **given) if pretrained else AutoModel.from_config(**given)
        found = _towers(model, by_name(name, trust_remote_code))
    # A config with senseless numbers fails wherever they are first used.
    except (ArithmeticError, AttributeError, KeyError, TypeError, *UNREADABLE) as error:
        otherwise = remedy(error, "check the name and the network")
        raise VptError(f"hf/{name} could not be had ({reason_of(error)}): {otherwise}.") from error
    if found is None:
        raise VptError(f"hf/{name} is a {type(model).__name__}, which has no image encoder: name an image model.")
    found = _processed(found, name, trust_remote_code)
    if image_size is not None and (image_size, image_size) != found.preprocessing.size:
        found = _of_size(found, image_size, name)
    options: dict[str, Any] = {} if pretrained else {"pretrained": False}
    if image_size is not None:
        options["image_size"] = image_size
    return replace(found, name=f"hf/{name}", options=options, revision=getattr(config, "_commit_hash", None))


def wrap(model: nn.Module, tokenizer: Tokenizer | None = None) -> Backbone | None:
    """The towers of a live model of transformers; None for a model of another library or family.

    Args:
        model: with an image tower of one of `FAMILIES`.
        tokenizer: of its text tower, one of transformers or called as open_clip's are; by default that of the name
            which the model was loaded by, if any, as the image processor is.

    Raises:
        VptError: a text model alone.
    """
    name = str(getattr(model, "name_or_path", None) or "")
    if tokenizer is None and name:
        tokenizer = by_name(name)
    found = _towers(model, tokenizer)
    return None if found is None else _processed(found, name)


def _towers(model: nn.Module, tokenizer: Tokenizer | None) -> Backbone | None:
    """The towers alone, with what such models are published with."""
    if type(model).__name__ in TEXT_ALONE:
        whole = "SiglipModel" if "Siglip" in type(model).__name__ else "CLIPModel"
        raise VptError(f"a {type(model).__name__} is a text encoder without images: give the whole {whole}.")
    inner, projection = _image_model(model)
    if type(inner).__name__ not in FAMILIES or not isinstance(inner, transformers.PreTrainedModel):
        return _whole(model)
    preprocessing = published(type(inner).__name__, _sides(inner.config.image_size))
    found = Backbone(HfTower(inner, projection), preprocessing, None, {})
    pair = pair_of(model, adapted(tokenizer) if tokenizer is not None else None)
    return found if pair is None else replace(found, pair=pair)


def _whole(model: Any) -> Backbone | None:
    """An image model of another family, which is not opened; None of a model without images."""
    if not isinstance(model, transformers.PreTrainedModel):
        return None
    if getattr(model, "main_input_name", None) != "pixel_values" and not hasattr(model, "get_image_features"):
        return None
    config = getattr(model.config, "vision_config", model.config)
    preprocessing = published(type(model).__name__, _sides(getattr(config, "image_size", 224)))
    kind = type(model).__name__
    inner = next((getattr(model, name) for name in ("swin", "swinv2") if hasattr(model, name)), model)
    if type(inner).__name__ in ("SwinModel", "Swinv2Model"):
        return Backbone(HfSwin(inner, preprocessing.size), preprocessing, None, {})
    tower = whole_hf(model, f"a {kind} is none of {', '.join(FAMILIES)}", preprocessing.size)
    return Backbone(tower, preprocessing, None, {})


def _processed(found: Backbone, name: str, trust_remote_code: bool = False) -> Backbone:
    """With the preprocessing of the image processor that stands beside the weights; without one there is a doubt."""
    try:
        processor = processor_of(name, trust_remote_code) if name else None
        read = converted(processor, f"hf/{name}") if processor is not None else None
        if read is not None:
            _check_size(found.tower, read.size, f"hf/{name}")
    except VptError as error:
        return replace(found, doubt=str(error), unusable=True)
    if read is None:
        lacks = f"hf/{name} came without preprocessor_config.json" if name else "this model was not loaded by a name"
        facts = found.preprocessing
        usual = f"size {facts.size[0]}, mean {facts.mean} and deviation {facts.std}"
        return replace(
            found, doubt=f"{lacks}: {usual} are taken, as such models usually have; say otherwise by preprocessing=…."
        )
    return replace(found, preprocessing=read)


def _check_size(tower: ImageTower, size: tuple[int, int], where: str) -> None:
    if tower.image_size not in (None, size):
        pixels = ["×".join(map(str, each)) for each in (size, tower.image_size or ())]
        raise VptError(
            f"the image processor of {where} gives {pixels[0]} pixels, and the model takes {pixels[1]}: say "
            "preprocessing=…."
        )


def _of_size(found: Backbone, image_size: int, name: str) -> Backbone:
    """With images of another size, and as much of them left out as before."""
    side = found.preprocessing.size[0]
    if found.tower.image_size is not None:
        raise VptError(f"hf/{name} takes images of {side} pixels, not {image_size}: leave image_size out.")
    sizes.check_patches(found.tower.patch_size, (image_size, image_size), f"hf/{name}")
    return replace(found, preprocessing=replace(found.preprocessing, size=(image_size, image_size)))


def _image_model(model: Any) -> tuple[Any, nn.Module | None]:
    """The model of `FAMILIES` inside `model`, and CLIP's projection."""
    for name in ("vit", "dinov2", "vision_model"):
        inner = getattr(model, name, None)
        if isinstance(inner, nn.Module):
            return inner, getattr(model, "visual_projection", None)
    return model, None


def _sides(size: Any) -> tuple[int, int]:
    """Height and width, of a number or of both."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


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
