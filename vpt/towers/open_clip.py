"""Models of open_clip (https://github.com/mlfoundations/open_clip): image towers, and what is to be had by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from typing import Any

import open_clip
import torch
from open_clip.model import get_model_preprocess_cfg
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.preprocessing import Preprocessing
from vpt.towers.backbone import Backbone, Pair
from vpt.towers.base import ImageTower, Opened, check_size
from vpt.towers.hf_tokenizer import adapted
from vpt.towers.open_clip_block import open_residual, why_not_residual
from vpt.towers.open_clip_text import OpenClipTextTower, why_no_text
from vpt.towers.text import Tokenizer
from vpt.towers.timm import TimmTower, why_not


class OpenClipTower(ImageTower):
    """open_clip's own `VisionTransformer`: pooled by class token, average or attention, then projected."""

    def __init__(self, visual: VisionTransformer) -> None:
        super().__init__()
        if not visual.transformer.batch_first:
            raise VptError("this open_clip model was built with batch_first=False: build it with batch_first=True.")
        self.model = visual
        self.width = visual.transformer.width
        self.depth = len(visual.transformer.resblocks)
        self.num_features = visual.output_dim
        self.prefix = 1
        self.read = 1 if visual.pool_type == "tok" and visual.attn_pool is None else None
        self.patch_size = max(visual.patch_size)
        self.image_size = tuple(visual.image_size)

    def embed(self, images: Tensor) -> Tensor:
        """Patches, class token, positions and the norm before block 0."""
        check_size(images, self.image_size)
        return self.model._embeds(images)

    def block(self, layer: int) -> nn.Module:
        """open_clip's residual block."""
        return self.model.transformer.resblocks[layer]

    def readout(self, x: Tensor) -> Tensor:
        """Norm and pooling, in the model's order, and the projection to the space shared with text."""
        pooled, _ = self.model._pool(x)
        return pooled if self.model.proj is None else pooled @ self.model.proj

    def final_norm(self) -> nn.Module:
        """`ln_post`."""
        return self.model.ln_post

    def pre_norm(self, tokens: Tensor) -> Tensor:
        """`ln_pre`."""
        return self.model.ln_pre(tokens)

    def why_whole(self, layer: int) -> str | None:
        """A block other than open_clip's default one, or one with hooks."""
        return why_not_residual(self.block(layer))

    def open(self, layer: int) -> Opened:
        """The parts of `ResidualAttentionBlock`."""
        return open_residual(self.block(layer))


class TrunkTower(TimmTower):
    """A timm model as open_clip's image tower, as in SigLIP, with what open_clip adds after it."""

    def __init__(self, visual: TimmModel) -> None:
        super().__init__(visual.trunk)
        self.projection = nn.Sequential(visual.trunk.head, visual.head)
        with torch.no_grad():
            token = next(visual.parameters()).new_zeros(1, self.prefix + 1, self.width)
            self.num_features = self.readout(token).shape[-1]

    def readout(self, x: Tensor) -> Tensor:
        """timm's readout and the projection."""
        return self.projection(super().readout(x))


def load(
    name: str,
    *,
    pretrained: bool = True,
    weights: str | None = None,
    image_size: int | None = None,
    config: dict[str, Any] | None = None,
    **options: Any,
) -> Backbone:
    """The towers of a model by open_clip's name and tag, e.g. "ViT-B-32/laion2b_s34b_b79k".

    Args:
        name: model and tag with a slash between; "hf-hub:…" and "local-dir:…" without a tag.
        pretrained: load weights, from the Hugging Face hub where `weights` does not name a file.
        weights: a local file of weights.
        image_size: side in pixels, where it is to be another than the model's own.
        config: open_clip's model config (embed_dim, vision_cfg, text_cfg) of a model to be trained from scratch;
            the name is then free.
        options: further arguments of `open_clip.create_model`, e.g. force_quick_gelu.

    Raises:
        VptError: no such model or tag, an image tower that cannot be prompted, or weights that cannot be had.
    """
    if config is not None:
        return _from_config(name, config, pretrained)
    model_name, tag = (name, "") if ":" in name else (name.partition("/")[0], name.partition("/")[2])
    if ":" not in name:
        _check_name(model_name, tag, wanted=pretrained and not weights)
    source = weights or tag
    try:
        model = open_clip.create_model(
            model_name,
            pretrained=source if pretrained and source else None,
            load_weights=pretrained,
            force_image_size=image_size,
            **options,
        )
    except TypeError as error:
        raise VptError(f"open_clip/{name} does not take these backbone options: {error}.") from error
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise VptError(
            f"the weights of open_clip/{name} could not be had ({reason}): check the network, name a local file "
            "with weights=…, or ask for pretrained=False."
        ) from error
    given = {"image_size": image_size} | options | ({} if pretrained else {"pretrained": False})
    kept = {key: value for key, value in given.items() if value is not None}
    pair = pair_of(model, NamedTokenizer(model_name))
    return Backbone(tower_of(model.visual), preprocessing_of(model), f"open_clip/{name}", kept, pair=pair)


def _from_config(name: str, config: dict[str, Any], pretrained: bool) -> Backbone:
    if pretrained:
        raise VptError(f"open_clip/{name} is made from backbone.config and has no weights: say pretrained=false.")
    try:
        model = open_clip.model.CLIP(**config)
    except (TypeError, KeyError) as error:
        raise VptError(f"backbone.config is no model config of open_clip: {error}.") from error
    found = wrap(model)
    assert found is not None
    return replace(found, name=f"open_clip/{name}", options={"config": config, "pretrained": False})


def wrap(model: nn.Module, tokenizer: Tokenizer = open_clip.tokenize) -> Backbone | None:
    """The towers of a live model of open_clip, or of its `visual`; None for a model of another library."""
    visual = getattr(model, "visual", model)
    if not isinstance(visual, VisionTransformer | TimmModel):
        return None
    return Backbone(tower_of(visual), preprocessing_of(model), None, {}, pair=pair_of(model, adapted(tokenizer)))


def pair_of(model: Any, tokenizer: Tokenizer) -> Pair | str:
    """The text half of a model, or why it has none."""
    if not hasattr(model, "encode_text"):
        return "it is the image half alone"
    text = getattr(model, "text", model)
    reason = why_no_text(text)
    if reason is not None:
        return reason
    return Pair(OpenClipTextTower(text, tokenizer), model.logit_scale, model.logit_bias)


@dataclass(frozen=True)
class NamedTokenizer:
    """The tokenizer of a model, which is loaded when it is first needed: some come from the hub."""

    name: str

    def __call__(self, texts: list[str], context_length: int) -> Tensor:
        """Texts to ids (N, L)."""
        return self.loaded()(texts, context_length=context_length)

    def loaded(self) -> Tokenizer:
        """open_clip's own.

        Raises:
            VptError: it could not be had.
        """
        try:
            return _tokenizer(self.name)
        except (ImportError, OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise VptError(
                f"the tokenizer of open_clip/{self.name} could not be had ({reason}): check the network."
            ) from error


@cache
def _tokenizer(name: str) -> Tokenizer:
    tokenizer: Tokenizer = open_clip.get_tokenizer(name)
    return tokenizer


def tower_of(visual: nn.Module) -> ImageTower:
    """A tower around open_clip's `visual`.

    Raises:
        VptError: a ResNet, or a timm model that cannot be prompted.
    """
    if isinstance(visual, VisionTransformer):
        return OpenClipTower(visual)
    reason = why_not(visual.trunk) if isinstance(visual, TimmModel) else f"a {type(visual).__name__} has no tokens"
    if reason:
        raise VptError(f"the image tower of this open_clip model cannot be prompted: {reason}.")
    return TrunkTower(visual)


def preprocessing_of(model: nn.Module) -> Preprocessing:
    """What open_clip's config of the model says."""
    config = get_model_preprocess_cfg(model)
    size = config["size"]
    return Preprocessing(
        size=(size, size) if isinstance(size, int) else tuple(size),
        crop_mode={"shortest": "center", "longest": "border"}.get(config.get("resize_mode"), "squash"),
        interpolation=config.get("interpolation", "bicubic"),
        mean=tuple(config.get("mean") or open_clip.OPENAI_DATASET_MEAN),
        std=tuple(config.get("std") or open_clip.OPENAI_DATASET_STD),
    )


def names() -> list[str]:
    """Models and tags of open_clip with a transformer as image tower."""
    return [f"{model}/{tag}" for model, tag in open_clip.list_pretrained() if "ViT" in model or "coca" in model]


def _check_name(model: str, tag: str, wanted: bool) -> None:
    if model not in open_clip.list_models():
        near = get_close_matches(model, open_clip.list_models(), n=3, cutoff=0.5)
        raise VptError(f"open_clip has no model {model!r}: did you mean {' or '.join(near) or 'ViT-B-32'}?")
    tags = open_clip.list_pretrained_tags_by_model(model)
    if wanted and tag not in tags:
        known = f"open_clip/{model}/{{{', '.join(tags)}}}" if tags else "weights=… or pretrained=False; it has no tags"
        raise VptError(f"open_clip/{model} has no weights {tag!r}: say {known}.")
