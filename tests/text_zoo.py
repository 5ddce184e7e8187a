"""Small random text towers, one for each feature of the text encoders that are supported."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import open_clip
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP
from torch import Tensor

from tests.zoo import shaken

LENGTH, START, END = 12, 38, 39
VISION = {"layers": 1, "width": 24, "head_width": 8, "patch_size": 8, "image_size": 16}


@dataclass(frozen=True)
class TextExample:
    """A text encoder: how the model around it is made, its library's own features, the id of its end token.

    `attributes` are those of the text transformer that no config sets.
    """

    make: Callable[[], Any]
    features: Callable[[Any, Tensor], Tensor] = lambda model, ids: model.encode_text(ids)
    end: int = END
    length: int = LENGTH
    attributes: dict[str, bool] = field(default_factory=dict)
    whole: bool = False

    def model(self) -> Any:
        model = shaken(self.make)
        for name, value in self.attributes.items():
            setattr(model.text, name, value)
        return model

    def ids(self) -> Tensor:
        """Five texts of several lengths, with a common beginning; the longest fills the context."""
        generator = torch.Generator().manual_seed(2)
        ids = torch.zeros(5, self.length, dtype=torch.long)
        for row, count in enumerate((4, 6, 5, 7, self.length)):
            ids[row, :count] = torch.randint(2, 34, (count,), generator=generator)
            ids[row, :3] = torch.tensor([START, 7, 9])
            ids[row, count - 1] = self.end
        return ids


def clip(kind: type = CustomTextCLIP, *, length: int = LENGTH, whole: bool = False, end: int = END, **options: Any):
    attributes = {name: options.pop(name) for name in ("correct_cls_mask", "use_pad_mask") if name in options}
    top = {name: options.pop(name) for name in ("quick_gelu", "init_logit_bias") if name in options}
    text = {"context_length": length, "vocab_size": 40, "width": 16, "heads": 2, "layers": 3, **options}
    make = partial(kind, 12, CLIPVisionCfg(**VISION), CLIPTextCfg(**text), **top)
    return TextExample(make, end=end, length=length, attributes=attributes, whole=whole)


def published(name: str) -> TextExample:
    make = partial(open_clip.create_model, name, pretrained=None, load_weights=False)
    return TextExample(make, end=49407, length=77)


def coca() -> TextExample:
    from open_clip.coca_model import CoCa, MultimodalCfg

    config = {"context_length": LENGTH, "vocab_size": 40, "width": 16, "heads": 2, "layers": 3}
    decoder = MultimodalCfg(width=16, heads=2, layers=1, attn_pooler_heads=2, context_length=LENGTH)
    vision = CLIPVisionCfg(**VISION, attentional_pool=True, attn_pooler_heads=2)
    make = partial(CoCa, 12, decoder, CLIPTextCfg(**config, embed_cls=True, output_tokens=True), vision)
    return TextExample(make, lambda model, ids: model.encode_text(ids, normalize=False))


def transformers_model(kind: str = "CLIP", attention: str = "sdpa", **text: Any):
    """A `CLIPModel`, `SiglipModel` or another of transformers."""
    import transformers

    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    places = {"vocab_size": 40, "max_position_embeddings": LENGTH, "bos_token_id": START, "pad_token_id": 0}
    own = {"projection_size": 24} if kind.startswith("Siglip") else {}
    own |= {"project_dim": 20} if kind == "AltCLIP" else {}
    vision = {**sizes, "hidden_size": 24, "num_attention_heads": 3, "patch_size": 8}
    vision |= {"num_patches": 4} if kind == "Siglip2" else {"image_size": 16}
    config = getattr(transformers, f"{kind}Config")(
        text_config={**sizes, **places, "eos_token_id": END, **own, **text}, vision_config=vision, projection_dim=12
    )
    model = getattr(transformers, f"{kind}Model")(config)
    model.set_attn_implementation(attention)
    return model


def from_transformers(kind: str, *, end: int = END, **options: Any) -> TextExample:
    make = partial(transformers_model, kind, **options)
    hides = kind in ("ChineseCLIP", "AltCLIP")

    def features(model: Any, ids: Tensor) -> Tensor:
        given = {"attention_mask": (ids != 0).long()} if hides else {}
        return model.get_text_features(input_ids=ids, **given).pooler_output

    return TextExample(make, features, end=end)


TEXT_EXAMPLES = {
    "clip": clip(CLIP),
    "clip, end token by id": clip(CLIP, pool_type="eos", eos_id=35, end=35),
    "clip, quick gelu": clip(CLIP, quick_gelu=True),
    "text apart": clip(),
    "linear projection": clip(proj_type="linear", proj_bias=True),
    "no projection": clip(proj_type="none"),
    "layer scale": clip(ls_init_value=0.5),
    "custom blocks": clip(block_type="custom", qk_norm=True, whole=True),
    "both ways, last place": clip(pool_type="last", no_causal_mask=True),
    "both ways, first place": clip(pool_type="first", no_causal_mask=True),
    "both ways, end token": clip(no_causal_mask=True),
    "both ways, padding hidden": clip(no_causal_mask=True, use_pad_mask=True),
    "siglip": clip(pool_type="last", no_causal_mask=True, proj_type="linear", proj_bias=True, init_logit_bias=-10.0),
    "class token, as published": clip(embed_cls=True),
    "class token": clip(embed_cls=True, correct_cls_mask=True),
    "class token, both ways": clip(embed_cls=True, no_causal_mask=True, correct_cls_mask=True),
    "class token as published, both ways": clip(embed_cls=True, no_causal_mask=True),
    "coca": coca(),
    "hf clip": from_transformers("CLIP", eos_token_id=35, end=35),
    "hf clip, end token of the highest id": from_transformers("CLIP", eos_token_id=2),
    "hf clip, gelu": from_transformers("CLIP", hidden_act="gelu"),
    "hf siglip": from_transformers("Siglip"),
    "hf siglip 2": from_transformers("Siglip2"),
    "hf metaclip 2": from_transformers("MetaClip2", eos_token_id=2, end=2),
    "hf chinese-clip": from_transformers("ChineseCLIP"),
    "hf altclip": from_transformers("AltCLIP", max_position_embeddings=LENGTH + 1),
    "ViT-B-32": published("ViT-B-32"),
    "ViT-B-16": published("ViT-B-16"),
}
