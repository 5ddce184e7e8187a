"""Models of transformers: their image towers, and what is to be had by name (https://github.com/huggingface/transformers)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import transformers
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from vpt.errors import VptError
from vpt.towers import rotary, sizes
from vpt.towers.backbone import Backbone
from vpt.towers.base import ImageTower, without
from vpt.towers.commits import commit_of
from vpt.towers.hf_block import open_layer, run_layer, why_not_layer
from vpt.towers.hf_families import FAMILIES, image_size, sides
from vpt.towers.hf_processor import converted, processor_of, published, squashed
from vpt.towers.hf_text import pair_of
from vpt.towers.hf_tokenizer import adapted, by_name
from vpt.towers.memory import check_memory
from vpt.towers.opened import Opened
from vpt.towers.places import Places
from vpt.towers.swin_hf import HfSwin
from vpt.towers.text import Tokenizer
from vpt.towers.weights import UNREADABLE, reason_of
from vpt.towers.whole import with_classifier
from vpt.towers.whole_models import whole_hf
from vpt.trust import remedy

INSTEAD_OF_WEIGHTS = "name the folder that holds them together with their config.json, as hf/FOLDER"

# Text encoders without images, and the models that they are of.
TEXT_ALONE = {
    "CLIPTextModel": "CLIPModel",
    "CLIPTextModelWithProjection": "CLIPModel",
    "MetaClip2TextModel": "MetaClip2Model",
    "MetaClip2TextModelWithProjection": "MetaClip2Model",
    "SiglipTextModel": "SiglipModel",
    "Siglip2TextModel": "Siglip2Model",
    "ChineseCLIPTextModel": "ChineseCLIPModel",
    "AltCLIPTextModel": "AltCLIPModel",
}


class HfTower(ImageTower):
    """An image model of transformers, and the projection to CLIP's shared space where there is one.

    Args:
        model: a model of one of `FAMILIES`.
        projection: applied to its features.
    """

    def __init__(self, model: Any, projection: nn.Module | None = None) -> None:
        super().__init__()
        self.channels = sizes.channels_of(model)
        self.family = FAMILIES[type(model).__name__]
        self.model = model if self.family.keeps_pooler else without(model, "pooler")
        self.projection = projection if projection is not None else nn.Identity()
        config = model.config
        self.width = config.hidden_size
        self.depth = len(self.family.layers(model))
        self.num_features = projection.out_features if isinstance(projection, nn.Linear) else self.width
        self.prefix = self.family.prefix(model)
        self.read = self.family.read(model)
        self.patch_size = max(sides(config.patch_size))
        self.image_size = None if self.family.any_size else image_size(config)
        self.placed = self.family.told is not None

    def embed(self, images: Tensor) -> Tensor:
        """Patches, class token, positions, and CLIP's norm before block 0."""
        images = sizes.fitted(images, self)
        return self.family.embed(self.model, images)

    def embedded(self, images: Tensor) -> tuple[Tensor, Places | None]:
        """The same, and rotary positions or biases that all blocks are told, where there are any."""
        x = self.embed(images)
        if self.family.told is None:
            return x, None
        told = self.family.told(self.model, images)
        if isinstance(told, tuple):
            cos, sin = told
            told = rotary.table_of(sin, cos, self.prefix)
        return x, Places(x.shape[1], told)

    def block(self, layer: int) -> nn.Module:
        """transformers' layer."""
        return self.family.layers(self.model)[layer]

    def run(self, layer: int, x: Tensor, mask: Tensor | None = None, places: Places | None = None) -> Tensor:
        """transformers' layer."""
        return run_layer(self.block(layer), x, mask, places, self.prefix)

    def readout(self, x: Tensor) -> Tensor:
        """Norm, pooling and projection."""
        pooled = self.family.readout(self.model, x)
        return self.project(pooled) if self.projects else pooled

    def projection_weight(self) -> nn.Parameter | None:
        """CLIP's `visual_projection`."""
        projection = self.projection
        return projection.weight if isinstance(projection, nn.Linear) and projection.bias is None else None

    def project(self, pooled: Tensor) -> Tensor:
        """To the space shared with text."""
        return self.projection(pooled)

    def final_norm(self) -> nn.Module:
        """The norm before pooling, or after it in CLIP and in BEiT's models that pool."""
        if self.family.keeps_pooler and getattr(self.model.pooler, "layernorm", None) is not None:
            return self.model.pooler.layernorm
        return self.model.get_submodule(self.family.norm)

    def pre_norm(self, tokens: Tensor) -> Tensor:
        """CLIP's `pre_layrnorm`."""
        return self.model.pre_layrnorm(tokens) if hasattr(self.model, "pre_layrnorm") else tokens

    def why_whole(self, layer: int) -> str | None:
        """A block that is not known, or one with hooks."""
        return why_not_layer(self.block(layer))

    def open(self, layer: int) -> Opened:
        """The parts of transformers' layers."""
        return open_layer(self.block(layer))


def load(
    name: str,
    *,
    pretrained: bool = True,
    image_size: int | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Backbone:
    """The towers of a model by its name on the Hugging Face hub, or in a local folder.

    Args:
        name: e.g. "google/vit-base-patch16-224-in21k", "facebook/dinov2-base", "openai/clip-vit-base-patch32".
        pretrained: load weights; otherwise only the model's config is needed.
        image_size: transformers resizes positions only inside its own forward pass, so only the model's own; DINOv2,
            DINOv3 and SigLIP 2 take any that their patches divide.
        revision: a branch, tag or commit of the hub's repository; by default the newest.
        trust_remote_code: run Python code that a repository brings; nothing that is loaded here asks for it otherwise.

    Raises:
        VptError: no such model, a model of another family, or one that cannot be had.
    """
    try:
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
        check_memory(config.to_dict(), f"the config of hf/{name}")
        given = {"config": config, "trust_remote_code": trust_remote_code}
        if pretrained:
            model = AutoModel.from_pretrained(name, revision=revision, **given)
        else:
            model = AutoModel.from_config(**given)
        found = _towers(model, by_name(name, trust_remote_code, revision))
    # A config with senseless numbers fails wherever they are first used.
    except (ArithmeticError, AttributeError, KeyError, TypeError, *UNREADABLE) as error:
        otherwise = remedy(error, "check the name and the network")
        raise VptError(f"hf/{name} could not be had ({reason_of(error)}): {otherwise}.") from error
    if found is None:
        raise VptError(f"hf/{name} is a {type(model).__name__}, which has no image encoder: name an image model.")
    found = _processed(found, name, trust_remote_code, revision)
    if image_size is not None and (image_size, image_size) != found.preprocessing.size:
        found = _of_size(found, image_size, name)
    options: dict[str, Any] = {} if pretrained else {"pretrained": False}
    given_options = {"image_size": image_size, "revision": revision}
    options |= {key: value for key, value in given_options.items() if value is not None}
    return replace(found, name=f"hf/{name}", options=options, revision=commit_of(name, revision))


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
        whole = TEXT_ALONE[type(model).__name__]
        raise VptError(f"a {type(model).__name__} is a text encoder without images: give the whole {whole}.")
    inner, projection = _image_model(model)
    if type(inner).__name__ not in FAMILIES or not isinstance(inner, transformers.PreTrainedModel):
        return _whole(model)
    preprocessing = published(type(inner).__name__, image_size(inner.config))
    tower = with_classifier(HfTower(inner, projection), getattr(model, "classifier", None))
    found = Backbone(tower, preprocessing, None, {})
    pair = pair_of(model, adapted(tokenizer) if tokenizer is not None else None)
    return _with_texts(found, model) if pair is None else replace(found, pair=pair)


def _with_texts(found: Backbone, model: Any) -> Backbone:
    """With what is to be said where a model has texts and they are not opened."""
    has = hasattr(model.config, "text_config")
    return replace(found, pair=f"the texts of a {type(model).__name__} are not opened") if has else found


def _whole(model: Any) -> Backbone | None:
    """An image model of another family, which is not opened; None of a model without images."""
    if not isinstance(model, transformers.PreTrainedModel):
        return None
    if getattr(model, "main_input_name", None) != "pixel_values" and not hasattr(model, "get_image_features"):
        return None
    config = getattr(model.config, "vision_config", model.config)
    preprocessing = published(type(model).__name__, sides(getattr(config, "image_size", 224)))
    kind = type(model).__name__
    inner = next((getattr(model, name) for name in ("swin", "swinv2") if hasattr(model, name)), model)
    if type(inner).__name__ in ("SwinModel", "Swinv2Model"):
        tower: ImageTower = HfSwin(inner, preprocessing.size)
    else:
        tower = whole_hf(model, f"{kind} is no family of transformers that is opened", preprocessing.size)
    found = Backbone(with_classifier(tower, getattr(model, "classifier", None)), preprocessing, None, {})
    return _with_texts(found, model)


def _processed(found: Backbone, name: str, trust_remote_code: bool = False, revision: str | None = None) -> Backbone:
    """With the preprocessing of the image processor that stands beside the weights; without one there is a doubt."""
    try:
        processor = processor_of(name, trust_remote_code, revision) if name else None
        if hasattr(processor, "max_num_patches"):
            square, told = squashed(processor, f"hf/{name}")
            return replace(found, preprocessing=square, doubt=told)
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
    if type(model).__name__ in FAMILIES:
        return model, None
    inner = getattr(model, "vision_model", None)
    if isinstance(inner, nn.Module):
        return inner, getattr(model, "visual_projection", None)
    # Of a model for a task the part that all tasks share.
    return getattr(model, "base_model", model), None


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
