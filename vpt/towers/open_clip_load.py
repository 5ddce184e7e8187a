"""Models of open_clip by name: what their tags, configs and files say is read, and nothing in them is run."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
from open_clip import convert, factory
from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed, resize_text_pos_embed
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.options import annotated
from vpt.report.notes import tell
from vpt.towers.memory import check_memory
from vpt.towers.text import Tokenizer
from vpt.towers.weights import UNREADABLE, fitted, read_weights, reason_of, without_prefix
from vpt.trust import HOW, remedy

# What a tag says of images.
SEEN = ("mean", "std", "interpolation", "resize_mode")

# Of a tokenizer, what a config from elsewhere may say.
TOKENIZER_OPTIONS = frozenset({"clean", "strip_sep_token", "language", "additional_special_tokens", "reduction_mask"})

# In which open_clip makes a model; any other word it takes for fp32.
PRECISIONS = ("fp32", "fp16", "bf16", "pure_fp16", "pure_bf16")

# OpenAI's files hold these numbers beside the weights.
SPARE = ("input_resolution", "context_length", "vocab_size")

# What open_clip's constructors raise of options and configs that make no sense.
SENSELESS = (ArithmeticError, AssertionError, AttributeError, KeyError, TypeError)


def create(
    name: str,
    *,
    pretrained: bool,
    weights: str | None,
    image_size: int | None,
    force_quick_gelu: bool | None,
    trust_remote_code: bool,
    **options: Any,
) -> nn.Module:
    """A model of open_clip; arguments as `vpt.towers.open_clip.load` takes them.

    Raises:
        VptError: no such model, a config that cannot be trusted, or weights that cannot be had.
    """
    model_name, tag = divided(name)
    said = facts_of(model_name, tag)
    if ":" in name:
        check_config(model_name, trust_remote_code)
    else:
        _check_name(model_name, tag, wanted=pretrained and not weights)
    if force_quick_gelu is None:
        force_quick_gelu = bool(said.get("quick_gelu"))
        if weights and "quick_gelu" not in said and not tag:
            _tell_activation(name, model_name)
    given = options.pop("force_preprocess_cfg", None) or {}
    if not isinstance(given, Mapping):
        raise VptError(f"force_preprocess_cfg={given!r} is no mapping: say preprocessing=… instead.")
    seen = {key: said[key] for key in SEEN if key in said} | dict(given)
    options = annotated(open_clip.create_model, options, "backbone")
    if options.get("precision", "fp32") not in PRECISIONS:
        raise VptError(f"backbone.precision={options['precision']!r} is none of {', '.join(PRECISIONS)}.")
    state = read_weights(Path(weights)) if weights else {}
    download = pretrained and not weights
    if not download:
        options.setdefault("pretrained_text", False)
    try:
        with _quietly():
            model: nn.Module = open_clip.create_model(
                model_name,
                pretrained=tag if download and tag else None,
                load_weights=download,
                force_image_size=image_size,
                force_quick_gelu=force_quick_gelu,
                force_preprocess_cfg=seen,
                **options,
            )
    except SENSELESS as error:
        raise VptError(f"open_clip/{name} does not take these backbone options: {reason_of(error)}.") from error
    except UNREADABLE as error:
        raise VptError(
            f"the weights of open_clip/{name} could not be had ({reason_of(error)}): check the network, name a local "
            "file with weights=…, or ask for pretrained=False."
        ) from error
    if weights:
        _fill(model, state, weights, name)
    return model


def divided(name: str) -> tuple[str, str]:
    """Model and tag of "ViT-B-32/openai"; "hf-hub:…" and "local-dir:…" have no tag."""
    if ":" in name:
        return name, ""
    model, _, tag = name.partition("/")
    return model, tag


def facts_of(model: str, tag: str) -> Mapping[str, Any]:
    """What open_clip says of weights: of a tag, or what all tags of a model agree on."""
    if tag:
        found: Mapping[str, Any] = open_clip.get_pretrained_cfg(model, tag)
        return {"quick_gelu": False, **found} if found else {}
    tags = [facts_of(model, each) for each in open_clip.list_pretrained_tags_by_model(model)]
    return {key: tags[0][key] for key in tags[0] if all(each.get(key) == tags[0][key] for each in tags)} if tags else {}


def check_config(name: str, trust_remote_code: bool) -> None:
    """Nothing, if the config of a model in a folder or on the hub asks for no code, and for memory that there is.

    Raises:
        VptError: it does, or it cannot be read.
    """
    config = _config(name)
    text = config.get("text_cfg", {}) if isinstance(config, Mapping) else None
    kwargs = text.get("tokenizer_kwargs") or {} if isinstance(text, Mapping) else None
    if text is None or not isinstance(kwargs, Mapping):
        raise VptError(f"open_clip/{name} has no model config of open_clip: correct open_clip_config.json.")
    for key in kwargs:
        if key not in TOKENIZER_OPTIONS and not trust_remote_code:
            raise VptError(
                f"the config of open_clip/{name} gives its tokenizer {key}={kwargs[key]!r}, which is not known to be "
                f"harmless: take it out of open_clip_config.json, or, {HOW}."
            )
    check_memory(config, f"the config of open_clip/{name}")
    if isinstance(text.get("hf_model_name"), str):
        _check_text_model(text["hf_model_name"], name, trust_remote_code)


@dataclass(frozen=True)
class NamedTokenizer:
    """The tokenizer of a model, which is loaded when it is first needed: some come from the hub."""

    name: str
    trust_remote_code: bool = False

    def __call__(self, texts: list[str], context_length: int) -> Tensor:
        """Texts to ids (N, L)."""
        return self.loaded()(texts, context_length=context_length)

    def loaded(self) -> Tokenizer:
        """open_clip's own.

        Raises:
            VptError: it could not be had.
        """
        try:
            return _tokenizer(self.name, self.trust_remote_code)
        except (ImportError, OSError, ValueError, *SENSELESS) as error:
            raise VptError(
                f"the tokenizer of open_clip/{self.name} could not be had ({reason_of(error)}): "
                f"{remedy(error, f'check the network, or {_by_hand(_config(self.name))}')}."
            ) from error


def _by_hand(config: Any) -> str:
    """What gives a model the tokenizer that its config names, from files that are there."""
    text = config.get("text_cfg", {})
    if not text.get("hf_tokenizer_name"):
        return "pass tokenizer=…"
    options = {"context_length": text.get("context_length", 77), **text.get("tokenizer_kwargs", {})}
    given = ", ".join(f"{key}={value!r}" for key, value in options.items())
    return (
        f"take the tokenizer's files of {text['hf_tokenizer_name']} from the Hugging Face hub into a folder, and pass "
        f"tokenizer=open_clip.tokenizer.HFTokenizer(folder, {given})"
    )


@cache
def _tokenizer(name: str, trust_remote_code: bool) -> Tokenizer:
    config = _config(name)
    # Said even where it is not asked for: without a word transformers asks in the terminal.
    given = {"trust_remote_code": trust_remote_code} if config.get("text_cfg", {}).get("hf_tokenizer_name") else {}
    with _quietly():
        tokenizer: Tokenizer = open_clip.get_tokenizer(name, **given)
    return tokenizer


def _config(name: str) -> Any:
    try:
        return factory.get_model_config(name) or {}
    except (OSError, RuntimeError, ValueError, *SENSELESS) as error:
        raise VptError(
            f"open_clip/{name} could not be had ({reason_of(error)}): check the folder, or the name and the network."
        ) from error


def _check_text_model(text_model: str, name: str, trust_remote_code: bool) -> None:
    """Nothing, if transformers makes the text tower without code of its repository, about which it would ask."""
    from transformers import AutoConfig

    try:
        check_memory(AutoConfig.from_pretrained(text_model, trust_remote_code=trust_remote_code).to_dict(), text_model)
    except (OSError, ValueError, *SENSELESS) as error:
        raise VptError(
            f"the text tower {text_model!r} of open_clip/{name} could not be had ({reason_of(error)}): "
            f"{remedy(error, 'check the network')}."
        ) from error


def _check_name(model: str, tag: str, wanted: bool) -> None:
    if model not in open_clip.list_models():
        near = get_close_matches(model, open_clip.list_models(), n=3, cutoff=0.5)
        raise VptError(f"open_clip has no model {model!r}: did you mean {' or '.join(near) or 'ViT-B-32'}?")
    tags = open_clip.list_pretrained_tags_by_model(model)
    if wanted and tag not in tags:
        known = f"open_clip/{model}/{{{', '.join(tags)}}}" if tags else "weights=… or pretrained=False; it has no tags"
        raise VptError(f"open_clip/{model} has no weights {tag!r}: say {known}.")


def _tell_activation(name: str, model: str) -> None:
    """Say which activation a file of weights without a tag is given, where those of this model differ."""
    if _config(model).get("quick_gelu"):
        return
    quick = [tag for tag in open_clip.list_pretrained_tags_by_model(model) if facts_of(model, tag).get("quick_gelu")]
    if quick:
        tell(
            f"the weights are taken to be of a model with GELU; {', '.join(quick)} were trained with QuickGELU: "
            f"say open_clip/{name}/{quick[0]} for those, or force_quick_gelu=False for others."
        )


def _fill(model: Any, state: dict[str, Tensor], path: str, name: str) -> None:
    """Fill a model from a file, as open_clip's `load_checkpoint` does for files that it reads itself.

    Raises:
        VptError: the file does not hold weights of this model.
    """
    where = f"{path} does not hold weights for open_clip/{name}"
    try:
        if not state:
            convert.load_big_vision_weights(model, path)
            return
        state = without_prefix(state, model.state_dict(), path)
        state = convert.convert_state_dict(model, state)
        own = model.state_dict()
        if "positional_embedding" in state and "positional_embedding" not in own:
            state = convert_to_custom_text_state_dict(state)
        for scalar in ("logit_scale", "logit_bias"):
            if scalar in state and scalar in own:
                state[scalar] = state[scalar].reshape(own[scalar].shape)
        # Of a model that was trained without it.
        if "logit_bias" in own:
            state.setdefault("logit_bias", own["logit_bias"].new_zeros(own["logit_bias"].shape))
        resize_pos_embed(state, model)
        resize_text_pos_embed(state, model)
    except (*SENSELESS, IndexError, RuntimeError, ValueError) as error:
        raise VptError(f"{where}: {reason_of(error)}.") from error
    model.load_state_dict(fitted(state, own, where, spare=SPARE), strict=False)


@contextmanager
def _quietly() -> Iterator[None]:
    """open_clip tells the root logger, which prints it, that a model has no weights when that was asked for."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
