"""A linear head, as training begins with it."""

from __future__ import annotations

import math
from typing import Literal

from torch import nn

# The probability of each class that the biases of VPT's head begin at.
PRIOR = 0.01


def new_head(num_features: int, num_classes: int, init: Literal["vpt"] | None = None) -> nn.Linear:
    """Features (B, F) to logits (B, C).

    Args:
        num_features: F.
        num_classes: C.
        init: "vpt" as in the code of Jia et al., ECCV 2022: weights by Kaiming's normal initialisation for the fan-out,
            N(0, 2 / C), and biases of log(p / (1 - p)) with p = 0.01; None for weights of N(0, 0.02) and no biases.
    """
    head = nn.Linear(num_features, num_classes)
    if init == "vpt":
        nn.init.kaiming_normal_(head.weight, mode="fan_out")
        nn.init.constant_(head.bias, math.log(PRIOR / (1 - PRIOR)))
    else:
        nn.init.trunc_normal_(head.weight, std=0.02)
        nn.init.zeros_(head.bias)
    return head
