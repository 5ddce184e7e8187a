"""Models of open_clip (https://github.com/mlfoundations/open_clip): image towers, and what is to be had by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import open_clip
from open_clip.model import CLIPTextCfg, CLIPVisionCfg, get_model_preprocess_cfg
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.options import annotated
from vpt.preprocessing import Preprocessing
from vpt.towers import sizes, timm
from vpt.towers.backbone import Backbone, Pair
from vpt.towers.base import ImageTower
from vpt.towers.hf_tokenizer import adapted
from vpt.towers.open_clip_block import open_residual, why_not_residual
from vpt.towers.open_clip_load import SENSELESS, NamedTokenizer, create, divided
from vpt.towers.open_clip_text import OpenClipTextTower, clip_tokenizer, why_no_text
from vpt.towers.opened import Opened
from vpt.towers.picking import first_token
from vpt.towers.text import Tokenizer
from vpt.towers.weights import UNREADABLE, reason_of
from vpt.towers.whole_models import whole_open_clip


class OpenClipTower(ImageTower):
    """open_clip's own `VisionTransformer`: pooled by class token, average or attention, then projected."""

    multihead = True

    def __init__(self, visual: VisionTransformer) -> None:
        super().__init__()
        if not visual.transformer.batch_first:
            raise VptError("this open_clip model was built with batch_first=False: build it with batch_first=True.")
        self.channels = sizes.channels_of(visual)
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
        images = sizes.fitted(images, self)
        return self.model._embeds(images)

    def block(self, layer: int) -> nn.Module:
        """open_clip's residual block."""
        return self.model.transformer.resblocks[layer]

    def readout(self, x: Tensor) -> Tensor:
        """Norm and pooling, in the model's order, and the projection to the space shared with text."""
        if self.read == 1 and x.shape[1] == 1:
            # The order of norm and pooling makes no difference to one token.
            pooled = self.model.ln_post(first_token(x))
        else:
            pooled, _ = self.model._pool(x)
        return self.project(pooled) if self.projects else pooled

    def projection_weight(self) -> nn.Parameter | None:
        """`proj`."""
        return self.model.proj

    def project(self, pooled: Tensor) -> Tensor:
        """To the space shared with text."""
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


def load(
    name: str,
    *,
    pretrained: bool = True,
    weights: str | None = None,
    image_size: int | None = None,
    config: dict[str, Any] | None = None,
    force_quick_gelu: bool | None = None,
    trust_remote_code: bool = False,
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
        force_quick_gelu: which activation the weights were trained with; by default as their tag says.
        trust_remote_code: run Python code that a tokenizer from elsewhere brings.
        options: further arguments of `open_clip.create_model`.

    Raises:
        VptError: no such model or tag, an image tower that cannot be prompted, or weights that cannot be had.
    """
    if config is not None:
        return _from_config(name, config, pretrained)
    model: Any = create(
        name,
        pretrained=pretrained,
        weights=weights,
        image_size=image_size,
        force_quick_gelu=force_quick_gelu,
        trust_remote_code=trust_remote_code,
        **options,
    )
    given = {"image_size": image_size, "force_quick_gelu": force_quick_gelu} | options
    kept = {key: value for key, value in given.items() if value is not None}
    kept |= {} if pretrained else {"pretrained": False}
    pair = pair_of(model, NamedTokenizer(divided(name)[0], trust_remote_code))
    preprocessing = preprocessing_of(model)
    tower = tower_of(model.visual, preprocessing.size)
    return Backbone(tower, preprocessing, f"open_clip/{name}", kept, pair=pair)


def _from_config(name: str, config: dict[str, Any], pretrained: bool) -> Backbone:
    if pretrained:
        raise VptError(f"open_clip/{name} is made from backbone.config and has no weights: say pretrained=false.")
    try:
        model = open_clip.model.CLIP(**_checked(config))
    except (*SENSELESS, *UNREADABLE) as error:
        raise VptError(f"backbone.config is no model config of open_clip: {reason_of(error)}.") from error
    found = wrap(model)
    assert found is not None
    return replace(found, name=f"open_clip/{name}", options={"config": config, "pretrained": False}, doubt=None)


def _checked(config: dict[str, Any]) -> dict[str, Any]:
    """A config whose values are of the types that open_clip's own are; errors as `vpt.options.annotated`'s."""
    sections = {"vision_cfg": CLIPVisionCfg, "text_cfg": CLIPTextCfg}
    whole = {key: value for key, value in config.items() if key not in sections}
    read = annotated(open_clip.model.CLIP, whole, "backbone.config")
    for key, kind in sections.items():
        if isinstance(config.get(key), dict):
            read[key] = annotated(kind, config[key], f"backbone.config.{key}")
    return {**config, **read}


def wrap(model: nn.Module, tokenizer: Tokenizer | None = None) -> Backbone | None:
    """The towers of a live model of open_clip, or of its `visual`; None for a model of another library.

    Args:
        model: or its image half.
        tokenizer: by default CLIP's, where the model has as many words as that; a live model does not tell its own.
    """
    visual = getattr(model, "visual", model)
    if not isinstance(visual, VisionTransformer | TimmModel | ModifiedResNet):
        return None
    if tokenizer is None and _num_words(model) == clip_tokenizer().vocab_size:
        tokenizer = open_clip.tokenize
    pair = pair_of(model, adapted(tokenizer) if tokenizer is not None else None)
    preprocessing = preprocessing_of(model)
    tower = tower_of(visual, preprocessing.size)
    return Backbone(tower, preprocessing, None, {}, pair=pair, doubt=_doubt(model, preprocessing))


def _num_words(model: Any) -> int | None:
    """Size of the vocabulary of a model that has a text half of open_clip's own."""
    text = getattr(model, "text", model)
    table = getattr(text, "token_embedding", None)
    return table.num_embeddings if isinstance(table, nn.Embedding) else None


def _doubt(model: Any, taken: Preprocessing) -> str | None:
    """What is not known of a model that was put together by hand."""
    if get_model_preprocess_cfg(model).get("mean"):
        return None
    kind = type(model).__name__
    return (
        f"this {kind} of open_clip does not say what images it was trained on: mean {taken.mean} and deviation "
        f"{taken.std} are taken; say otherwise by preprocessing=…."
    )


def pair_of(model: Any, tokenizer: Tokenizer | None) -> Pair | str:
    """The text half of a model, or why it has none."""
    if not hasattr(model, "encode_text"):
        return "it is the image half alone"
    text = getattr(model, "text", model)
    reason = why_no_text(text)
    if reason is not None:
        return reason
    return Pair(OpenClipTextTower(text, tokenizer), model.logit_scale, model.logit_bias)


def tower_of(visual: Any, size: tuple[int, int]) -> ImageTower:
    """open_clip's `visual` opened, or whole where it cannot be; `size` of its images in pixels."""
    if isinstance(visual, VisionTransformer):
        return OpenClipTower(visual)
    reason = timm.why_not(visual.trunk) if isinstance(visual, TimmModel) else f"a {type(visual).__name__} has no tokens"
    if reason:
        return whole_open_clip(visual, reason, size)
    # SigLIP, EVA and others: a timm model, and what open_clip adds after it.
    trunk = visual.trunk
    return timm.tower_of(trunk, nn.Sequential(trunk.head, visual.head))


def preprocessing_of(model: nn.Module) -> Preprocessing:
    """What open_clip's config of the model says; of one put together by hand its timm trunk, or what OpenAI's CLIP has.

    Without a word open_clip's own transform resizes the short side and cuts the middle.
    """
    config = get_model_preprocess_cfg(model)
    visual = getattr(model, "visual", model)
    trunk = resolve_model_data_config(visual.trunk) if isinstance(visual, TimmModel) else {}
    size = config["size"]
    return Preprocessing(
        size=(size, size) if isinstance(size, int) else tuple(size),
        crop_mode={"squash": "squash", "longest": "border"}.get(config.get("resize_mode") or "shortest", "center"),
        interpolation=config.get("interpolation", "bicubic"),
        mean=tuple(config.get("mean") or trunk.get("mean") or open_clip.OPENAI_DATASET_MEAN),
        std=tuple(config.get("std") or trunk.get("std") or open_clip.OPENAI_DATASET_STD),
    )


def every_name() -> list[str]:
    """Models of open_clip, and their tags."""
    return [*open_clip.list_models(), *names()]


def names() -> list[str]:
    """Models and tags of open_clip, those with its own Vision Transformers first."""
    found = [f"{model}/{tag}" for model, tag in open_clip.list_pretrained()]
    return sorted(found, key=lambda name: not ("ViT" in name or "coca" in name))
