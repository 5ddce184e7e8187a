"""What methods add to the linear stages of blocks, merged into their weights: it then costs nothing."""

from __future__ import annotations

import torch

from vpt.merge import Merged, merged
from vpt.methods.base import Method
from vpt.towers.base import ImageTower


@torch.no_grad()
def merge(tower: ImageTower, method: Method) -> int:
    """Put one product in the place of each linear stage that a method adds to, for as long as values are as they are.

    Args:
        tower: whose blocks are changed; it stays as it is.
        method: its `image_change` is replaced.

    Returns:
        How many stages were merged; queries, keys and values are one.
    """
    change = merged(tower, method)
    if not isinstance(change, Merged):
        return 0
    method.image_change = change
    return sum(name != "key_value" for stages in change.stages for name in stages)
