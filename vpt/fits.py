"""What methods need of an image encoder, compared in one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vpt.errors import VptError
from vpt.methods import available
from vpt.methods.base import Method
from vpt.methods.parts import Ends
from vpt.towers.base import ImageTower
from vpt.towers.hierarchical import HierarchicalTower, in_stages
from vpt.towers.text import TextTower

# What constructors of parts say of encoders that have no place for them, whatever the options.
OF_ENCODERS = (
    "which is not opened",
    "looks at tokens of one width",
    "takes the MLP apart",
    "need images of one size",
    "learns keys and values of one size",
    "a convolution, which this encoder has not",
)


def why_not(method: Method, tower: ImageTower) -> str | None:
    """The part of a method that an encoder has no place for, and why; None where it has all."""
    if tower.closed is None:
        return _of_stages(method, tower) if in_stages(tower) else None
    if method.side_network is not None:
        return f"it looks at what the blocks of the image encoder give, and {tower.closed}"
    if method.image_prompts.enters or method.keys_values is not None:
        return f"its prompts enter the blocks of the image encoder, and {tower.closed}"
    if method.image_change is not None or method.of_kind(Ends):
        return f"it changes the blocks of the image encoder, and {tower.closed}"
    return None


def _of_stages(method: Method, tower: HierarchicalTower) -> str | None:
    if method.image_change is not None:
        return f"it changes the blocks of the image encoder, and {tower.why_unchanged(0)}"
    if method.side_network is not None:
        return "it looks at tokens of one width, and this encoder has another in each stage"
    prompts = method.image_prompts
    if method.keys_values is not None or not prompts.fixed or prompts.read_out:
        return "in stages only prompts that are the same for all images are seen"
    for layer in range(tower.depth) if prompts.enters else ():
        if tower.why_whole(layer) is not None:
            return f"its prompts enter block {layer}, and {tower.why_whole(layer)}"
    for layer in sorted(prompts.enters):
        size = prompts.prompts(layer, 1).shape[-1]
        if size != tower.width_at(layer):
            return f"its prompts of block {layer} have {size} numbers, and the encoder {tower.width_at(layer)} there"
    return None


def made(
    kind: Any, tower: ImageTower, text: TextTower | None, values: Mapping[str, Any], *, head: str, name: str
) -> Method:
    """A method for these encoders.

    Args:
        kind: of method.
        tower: the image encoder.
        text: the text encoder, where there is one.
        values: the method's options.
        head: "linear" or "text".
        name: of the backbone.

    Raises:
        VptError: an option that will not do, or an encoder that has no place for it; what works on it is named.
    """
    try:
        method: Method = kind(tower, text, **values)
        reason = why_not(method, tower)
    except VptError as error:
        # A mistake in the options is told as it is.
        if not _of_the_tower(error, tower):
            raise
        reason = str(error).removesuffix(".")
    if reason is None:
        return method
    others = [each for each, other in sorted(available().items()) if works(other, tower, text, head)]
    raise VptError(f"{kind.name} cannot be used with {name}: {reason}. What works with it: {', '.join(others)}.")


def works(kind: Any, tower: ImageTower, text: TextTower | None, head: str) -> bool:
    """Whether a method has a place in these encoders, by its default options or, where they do not suit, by others."""
    if head not in kind.heads:
        return False
    try:
        return why_not(kind(tower, text), tower) is None
    except VptError as error:
        return not (_of_the_tower(error, tower) or any(why in str(error) for why in _reasons(tower)))


def _of_the_tower(error: VptError, tower: ImageTower) -> bool:
    """Whether a method's constructor found that it cannot enter an encoder."""
    return tower.closed is not None and tower.closed in str(error)


def _reasons(tower: ImageTower) -> set[str]:
    """Why nothing can be added to blocks of an encoder."""
    found = [why(layer) for layer in range(tower.depth) for why in (tower.why_whole, tower.why_unchanged)]
    return {reason for reason in found if reason is not None} | set(OF_ENCODERS)
