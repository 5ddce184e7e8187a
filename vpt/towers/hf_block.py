"""The blocks of transformers' Vision Transformers and CLIP models, image and text alike, taken apart.

They are known by the names of their classes, so that no module of transformers is imported that is not in use.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from torch import Tensor, nn

from vpt.errors import VptError
from vpt.towers import rotary
from vpt.towers.attention import heads_of, separate
from vpt.towers.base import why_hooked
from vpt.towers.hf_relative import bias_of, run_biased
from vpt.towers.opened import Opened
from vpt.towers.places import Places
from vpt.towers.scaling import scaled
from vpt.towers.stages import Function, Out, ending, mlp_of


@dataclass(frozen=True)
class Names:
    """What the parts of a layer are called.

    Attributes:
        kinds: the classes of its attention.
        attention: where that is.
        projections: of queries, keys and values, in it; one for all three, or one for each.
        output: the output projection.
        norm1: the norm before attention.
        norm2: the norm before the MLP.
        end1: what attention goes through before it is added, in this order: modules, factors, or None for nothing.
        end2: likewise the MLP.
        relative: scores get biases by where patches stand.
        rotary: queries and keys are turned by where patches stand.
        masked: the layer takes masks.
    """

    kinds: tuple[str, ...]
    attention: str = "attention"
    projections: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")
    output: str = "attention.o_proj"
    norm1: str = "layernorm_before"
    norm2: str = "layernorm_after"
    end1: tuple[str, ...] = ("dropout",)
    end2: tuple[str, ...] = ("dropout",)
    relative: bool = False
    rotary: bool = False
    masked: bool = True


def _clip(kind: str) -> Names:
    return Names(
        (kind,), "self_attn", output="self_attn.out_proj", norm1="layer_norm1", norm2="layer_norm2", end1=(), end2=()
    )


def _dinov2(kind: str) -> Names:
    ends = ("layer_scale1", "drop_path"), ("layer_scale2", "drop_path")
    return Names((kind,), norm1="norm1", norm2="norm2", end1=ends[0], end2=ends[1])


LAYERS: dict[str, Names] = {
    "ViTLayer": Names(("ViTAttention",)),
    "DeiTLayer": Names(("DeiTAttention",)),
    "ViTMAELayer": Names(("ViTMAEAttention",)),
    "ViTMSNLayer": Names(("ViTMSNAttention",)),
    "IJepaLayer": Names(("IJepaAttention",)),
    "BeitLayer": Names(
        ("BeitAttention",),
        end1=("dropout", "lambda_1", "drop_path"),
        end2=("dropout", "lambda_2", "drop_path"),
        relative=True,
    ),
    "Data2VecVisionLayer": Names(
        ("Data2VecVisionSelfAttention", "Data2VecVisionSdpaSelfAttention"),
        "attention.attention",
        ("query", "key", "value"),
        "attention.output.dense",
        end1=("attention.output.dropout", "lambda_1", "drop_path"),
        end2=("lambda_2", "drop_path"),
        relative=True,
    ),
    "Dinov2Layer": _dinov2("Dinov2Attention"),
    "Dinov2WithRegistersLayer": _dinov2("Dinov2WithRegistersAttention"),
    "DINOv3ViTLayer": replace(_dinov2("DINOv3ViTAttention"), rotary=True),
    "CLIPEncoderLayer": _clip("CLIPAttention"),
    "MetaClip2EncoderLayer": _clip("MetaClip2Attention"),
    "AltCLIPEncoderLayer": _clip("AltCLIPAttention"),
    "ChineseCLIPVisionLayer": _clip("ChineseCLIPVisionAttention"),
    "SiglipEncoderLayer": _clip("SiglipAttention"),
    "Siglip2EncoderLayer": _clip("Siglip2Attention"),
    "BlipEncoderLayer": replace(
        _clip("BlipAttention"), projections=("qkv",), output="self_attn.projection", masked=False
    ),
}

# Before transformers 5.18.
OLDER = {
    f"{kind}Layer": replace(
        LAYERS[f"{kind}Layer"],
        kinds=(f"{kind}SelfAttention",),
        attention="attention.attention",
        projections=("query", "key", "value"),
        output="attention.output.dense",
        end1=("attention.output.dropout", "layer_scale1", "drop_path"),
        masked=False,
    )
    for kind in ("Dinov2", "Dinov2WithRegisters")
}


def names_of(block: Any) -> Names | None:
    """What the parts of a layer are called in the transformers that is installed, or None of one that is not known."""
    kind = type(block).__name__
    nested = hasattr(getattr(block, "attention", None), "attention")
    return OLDER[kind] if nested and kind in OLDER else LAYERS.get(kind)


def run_layer(
    block: nn.Module, x: Tensor, mask: Tensor | None = None, places: Places | None = None, prefix: int = 0
) -> Tensor:
    """A layer on tokens (B, N, D); it takes masks, (N, N) or (B, N, N), with a place for batch and heads.

    Args:
        block: the layer.
        x: tokens.
        mask: added to scores.
        places: where tokens stand, of a layer that asks for it.
        prefix: tokens that stand before the patches.

    Raises:
        VptError: it takes no masks.
    """
    names = names_of(block)
    if mask is not None:
        mask = mask[None, None] if mask.ndim == 2 else mask[:, None]
        if names is not None and not names.masked:
            raise VptError(f"attention of a {type(block).__name__} takes no masks.")
    if names is not None and names.relative and places is not None:
        return run_biased(block, x, mask, places)
    given: dict[str, Any] = {} if names is not None and not names.masked else {"attention_mask": mask}
    if names is not None and names.rotary and places is not None and places.table is not None:
        # As many tokens as are not told of stay as they are, from the first on.
        sin, cos = rotary.rows(places.table, places, x.shape[1])[..., prefix:, :].chunk(2, dim=-1)
        given["position_embeddings"] = (cos, sin)
    found: Tensor = block(x, **given)
    return found


def why_not_layer(block: Any) -> str | None:
    """Why a block cannot be opened by `open_layer`: it is not known, or has hooks."""
    names = names_of(block)
    if names is None or not _of_transformers(block):
        return f"{type(block).__name__} is none of transformers' layers that are known"
    attn: nn.Module = attrgetter(names.attention)(block)
    if type(attn).__name__ not in names.kinds or not _of_transformers(attn):
        return f"{type(attn).__name__} is not transformers' {names.kinds[0]}"
    return why_hooked(block, attn)


def _of_transformers(module: nn.Module) -> bool:
    return type(module).__module__.startswith("transformers.")


def open_layer(block: Any) -> Opened:
    """The parts of transformers' pre-norm layers, which differ in names, layer scale, dropout and positions."""
    names = names_of(block)
    assert names is not None
    attn = attrgetter(names.attention)(block)
    norm1, norm2 = getattr(block, names.norm1), getattr(block, names.norm2)
    query_key_value, key_value = _projections(attn, names.projections)

    def turn(x: Tensor, places: Places) -> Tensor:
        assert places.table is not None
        return rotary.turned(x, rotary.rows(places.table, places, x.shape[1]), half=True)

    return Opened(
        norm=norm1,
        query_key_value=query_key_value,
        key_value=key_value,
        out=Out(attrgetter(names.output)(block), *_end(block, names.end1)),
        feed=_feed(block, norm2, *_end(block, names.end2)),
        dropout=_dropout(attn) if attn.training else 0.0,
        turn=turn if names.rotary else None,
        bias=(lambda places, length: bias_of(block, places, length)) if names.relative else None,
    )


def _projections(attn: Any, names: tuple[str, ...]) -> tuple[Any, Any]:
    """`query_key_value` and `key_value` of attention."""
    num_heads = getattr(attn, "num_attention_heads", None) or getattr(attn, "num_heads", None)
    heads: int = num_heads or attn.config.num_attention_heads

    def each(y: Tensor, which: tuple[str, ...]) -> tuple[Tensor, ...]:
        return tuple(heads_of(getattr(attn, name)(y), heads) for name in which)

    if len(names) > 1:
        return lambda y: each(y, names), lambda y: each(y, names[1:])

    def fused(y: Tensor) -> tuple[Tensor, ...]:
        return (getattr(attn, names[0])(y).unflatten(-1, (3, heads, -1)),)

    def key_value(y: Tensor) -> tuple[Tensor, Tensor]:
        _, k, v = separate(fused(y))
        return k, v

    return fused, key_value


def _end(block: Any, names: tuple[str, ...]) -> tuple[Function, Tensor | None]:
    """What the parts of these names make of a tensor, one after another, and the scale that comes last."""
    return ending(*(attrgetter(name)(block) for name in names))


def _feed(block: Any, norm: nn.Module, end: Function, scale: Tensor | None) -> Function:
    if hasattr(block, "mlp"):
        return mlp_of(block.mlp, norm, end, scale)
    return lambda x: scaled(scale, end(block.output(block.intermediate(norm(x)))))


def _dropout(attn: Any) -> float:
    if isinstance(getattr(attn, "dropout", None), nn.Dropout):
        return float(attn.dropout.p)
    config = attn.config
    found = getattr(config, "attention_dropout", None)
    return float(config.attention_probs_dropout_prob if found is None else found)
