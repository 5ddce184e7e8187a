"""A scale and a shift of each channel, behind the operations of an encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.parts.base import Change, Ends
from vpt.methods.parts.encoders import Encoder
from vpt.methods.parts.inputs import before_attention, before_mlp, check_stages
from vpt.methods.parts.low_rank_stages import sizes_of, stage_of, with_stage
from vpt.methods.parts.outwards import behind_projections


class ScaleShift(Change):
    """Scale ⊙ h + shift behind both norms and every linear layer of each block.

    Args:
        encoder: the image encoder.
        name: of the method, for errors.

    Attributes:
        scale: by stage, (blocks, channels): "norm1", "qkv" (queries, then keys, then values), "o", "norm2", "up" and
            "down"; N(1, 0.02) at first.
        shift: likewise; N(0, 0.02) at first.

    Raises:
        VptError: an encoder with a block that does not show its layers.
    """

    linear = True
    claims = frozenset({"scale and shift of the image blocks"})

    def __init__(self, encoder: Encoder, name: str) -> None:
        super().__init__()
        check_stages(encoder, name, "o", "up", "down")
        sizes = {stage: sizes_of(encoder, 0, stage, "image", name) for stage in ("o", "up", "down")}
        width = encoder.width
        channels = {
            "norm1": width,
            "qkv": 3 * sizes["o"][0],
            "o": sizes["o"][1],
            "norm2": width,
            "up": sizes["up"][1],
            "down": sizes["down"][1],
        }
        self.scale, self.shift = drawn({stage: (encoder.depth, count) for stage, count in channels.items()})

    def change(self, layer: int, block: Any) -> Any:
        """The opened block, with every stage scaled and shifted."""

        def of(stage: str, h: Tensor) -> Tensor:
            scale, shift = (part[stage][layer].to(h.dtype) for part in (self.scale, self.shift))
            return torch.addcmul(shift, scale, h)

        def projections(projected: Sequence[Tensor], names: str) -> tuple[Tensor, ...]:
            first = "qkv".index(names[0])
            scale, shift = (
                part["qkv"][layer].unflatten(0, (3, -1))[first:].to(projected[0].dtype)
                for part in (self.scale, self.shift)
            )
            if len(projected) == 1:
                shape = projected[0].shape[2:]
                return (torch.addcmul(shift.view(shape), scale.view(shape), projected[0]),)
            return tuple(
                torch.addcmul(shift[row].view(part.shape[2:]), scale[row].view(part.shape[2:]), part)
                for row, part in enumerate(projected)
            )

        block = before_attention(behind_projections(block, projections), lambda y: of("norm1", y))
        for stage in ("o", "up", "down"):
            block = with_stage(block, stage, _scaled(stage_of(block, stage), stage, of))
        return before_mlp(block, lambda h: of("norm2", h))


def _scaled(function: Any, stage: str, of: Any) -> Any:
    return lambda h: of(stage, function(h))


class EndsScaleShift(Ends):
    """Scale ⊙ h + shift of the patch embedding, before positions are added, and of the norm behind the last block.

    An encoder without a norm there, which norms after pooling, has none. What is learned is in the weights that the
    encoder is called with.

    Args:
        encoder: the image encoder.
        name: of the method, for errors.

    Attributes:
        scale: "embed" and "norm", (channels,) each.
        shift: likewise.

    Raises:
        VptError: its patches are not embedded by a convolution.
    """

    claims = frozenset({"scale and shift around the image blocks"})

    def __init__(self, encoder: Encoder, name: str) -> None:
        super().__init__()
        own = dict(encoder.named_parameters())
        kernels = [key for key, weight in own.items() if weight.ndim == 4 and len(weight) == encoder.width]
        if not kernels or not kernels[0].endswith("weight"):
            raise VptError(f"{name} scales the patch embedding, a convolution, which this encoder has not.")
        self.places = {"embed": kernels[0].removesuffix("weight")}
        norm = getattr(encoder.final_norm(), "weight", None)
        for key, weight in own.items():
            if weight is norm:
                self.places["norm"] = key.removesuffix("weight")
        self.scale, self.shift = drawn({place: (len(own[f"{path}weight"]),) for place, path in self.places.items()})

    def weights(self, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Scale ⊙ W and scale ⊙ b + shift, of the patch embedding and of the norm."""
        found = {}
        for place, path in self.places.items():
            weight, bias = own[f"{path}weight"], own.get(f"{path}bias")
            scale, shift = (part[place].to(weight.dtype) for part in (self.scale, self.shift))
            found[f"{path}weight"] = weight * scale.view(-1, *[1] * (weight.ndim - 1))
            found[f"{path}bias"] = shift if bias is None else torch.addcmul(shift, scale, bias)
        return found


def drawn(shapes: Mapping[str, tuple[int, ...]]) -> tuple[nn.ParameterDict, nn.ParameterDict]:
    """Scales of N(1, 0.02) and shifts of N(0, 0.02), by name."""
    scale = {name: nn.Parameter(1 + 0.02 * torch.randn(shape)) for name, shape in shapes.items()}
    shift = {name: nn.Parameter(0.02 * torch.randn(shape)) for name, shape in shapes.items()}
    return nn.ParameterDict(scale), nn.ParameterDict(shift)
