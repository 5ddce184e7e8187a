"""The backbone of a saved model, which may come from anywhere: what it brings is checked before a library sees it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from vpt.errors import VptError
from vpt.facts import BackboneFacts
from vpt.paths import resolve
from vpt.towers import load as towers
from vpt.towers.backbone import Backbone
from vpt.towers.located import located
from vpt.towers.memory import check_memory

ANY = "pretrained image_size preprocessing"
VIT = """img_size patch_size in_chans num_classes global_pool embed_dim depth num_heads mlp_ratio qkv_bias qk_norm
    scale_attn_norm scale_mlp_norm proj_bias init_values class_token pos_embed no_embed_class reg_tokens pre_norm
    final_norm fc_norm pool_include_prefix dynamic_img_size dynamic_img_pad drop_rate pos_drop_rate patch_drop_rate
    proj_drop_rate attn_drop_rate drop_path_rate weight_init fix_init norm_layer act_layer attn_layer"""
TOWER = """width layers mlp_ratio ls_init_value output_tokens act_kwargs norm_kwargs block_type qk_norm
    scaled_cosine_attn scale_heads scale_attn_inner scale_attn scale_fc final_ln_after_pool pool_type approximate eps"""
IMAGE = """head_width patch_size image_size patch_dropout attentional_pool attn_pooler_queries attn_pooler_heads
    no_ln_pre pos_embed_type timm_model_name timm_model_pretrained timm_pool timm_proj timm_proj_bias timm_drop
    timm_drop_path"""
TEXT = "context_length vocab_size heads embed_cls pad_id eos_id no_causal_mask proj_bias proj_type"
CLIP = "embed_dim vision_cfg text_cfg quick_gelu init_logit_scale init_logit_bias nonscalar_logit_scale"

# Options that change what a model is and nothing else: they name no file and no repository, and switch off no check.
HARMLESS = {
    "timm": f"{ANY} revision {VIT}",
    "vpt": f"{ANY} {VIT}",
    "open_clip": f"""{ANY} config force_quick_gelu force_custom_text force_patch_dropout force_image_size
        force_context_length precision""",
    "hf": f"{ANY} revision",
    "torchvision": f"""{ANY} patch_size num_layers num_heads hidden_dim mlp_dim dropout attention_dropout num_classes
        representation_size""",
}
NESTED = {
    "config": CLIP,
    "vision_cfg": f"{TOWER} {IMAGE}",
    "text_cfg": f"{TOWER} {TEXT}",
    "preprocessing": "size crop crop_pct crop_mode interpolation mean std",
    "act_kwargs": "approximate",
    "norm_kwargs": "eps",
}
WORD = re.compile(r"[\w.-]{0,64}")
COMMIT = re.compile(r"[0-9a-f]{40}")
LARGEST = 1_000_000


def load(facts: BackboneFacts, source: str, *, name: str | None = None, weights: str | Path | None = None) -> Backbone:
    """The backbone that a saved model was trained with.

    Args:
        facts: what the model says of it.
        source: of the model, for errors.
        name: of another backbone, in its place.
        weights: where the file of weights lies here.

    Raises:
        VptError: it has no name, brings an option that is not known to be harmless, or its weights are not here.
    """
    chosen = name or facts.name
    if not chosen:
        raise VptError(f"{source} was saved with a backbone that has no name: pass it as backbone=….")
    options = dict(facts.options)
    before = options.pop("weights", None)
    check_harmless(facts.name or chosen, options, source)
    if facts.traits == {} and facts.name and facts.name.startswith("open_clip/"):
        # Before tags were asked for their activation every model had that of its name.
        options.setdefault("force_quick_gelu", False)
    if name is not None:
        return towers.as_it_is(chosen, weights=weights, **options)
    file = _weights(facts, before, source) if weights is None else weights
    commit = _commit(facts, options) if file is None else None
    if commit is not None:
        with suppress(VptError):
            found = towers.as_it_is(chosen, revision=commit, **options)
            return replace(found, options={key: each for key, each in found.options.items() if key != "revision"})
        # It is there no more, or cannot be reached: the fingerprint says whether the newest weights are the same.
    return towers.as_it_is(chosen, weights=file, **options)


def _commit(facts: BackboneFacts, options: Mapping[str, Any]) -> str | None:
    """The commit of the hub that the weights came from, where the library's weights can be asked for by it."""
    pins = (facts.name or "").partition("/")[0] in ("timm", "hf") and options.get("pretrained", True)
    if not pins or "revision" in options or facts.revision is None or not COMMIT.fullmatch(facts.revision):
        return None
    return facts.revision


def check_harmless(name: str, options: Mapping[str, Any], source: str) -> None:
    """Nothing, if every option that a saved model brings for its backbone is known to be harmless.

    Raises:
        VptError: one is not, or asks for more memory than there is.
    """
    known = HARMLESS.get(name.partition("/")[0], ANY)
    _check(options, known, f"{source} brings the backbone option ")
    check_memory(options, f"the backbone of {source}")


def _check(options: Mapping[str, Any], known: str, where: str) -> None:
    for key, value in options.items():
        if key not in known.split():
            raise VptError(
                f"{where}{key}={value!r}, which is none that a saved model may bring: if you trust it, make the "
                "backbone with that option yourself and pass it as backbone=…."
            )
        if isinstance(value, Mapping) and key in NESTED:
            _check(value, NESTED[key], f"{where}{key}.")
        elif not _is_plain(value):
            raise VptError(f"{where}{key}={value!r}, which is no word or number of a sensible size.")


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= 16 and all(_is_plain(each) for each in value)
    if isinstance(value, str):
        return WORD.fullmatch(value) is not None
    return value is None or (isinstance(value, int | float) and math.isfinite(value) and abs(value) <= LARGEST)


def _weights(facts: BackboneFacts, before: Any, source: str) -> Path | None:
    """The file of weights that the model was trained with, by its digest, or in older models by its path."""
    if facts.weights is not None:
        found, title = located(facts.weights), f"{facts.weights.name!r} (SHA-256 {facts.weights.digest})"
    elif before is not None:
        title = repr(str(before))
        try:
            found = resolve(str(before))
        except VptError:
            found = None
    else:
        return None
    if found is None:
        raise VptError(
            f"{source} was trained with weights of the file {title}, which is not found here: say where it lies with "
            "weights=FILE, on the command line --weights FILE."
        )
    return found
