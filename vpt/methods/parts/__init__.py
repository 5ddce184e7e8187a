"""What methods are put together from: each part exists once, and answers one question.

Prompts of an encoder: what enters, before which blocks, made of what. A change: what is added inside a block.
Tuned: which parameters of the backbone are trained. Pixels: what becomes
of images before it. A classifier: features to logits. An objective: logits and
features to a loss.
"""

from vpt.methods.parts.base import (
    Change,
    Classifier,
    Head,
    ImagePrompts,
    KeysValues,
    Objective,
    Part,
    Pixels,
    TextPrompts,
    Tuned,
)
from vpt.methods.parts.encoders import Encoder, TextEncoder
from vpt.methods.parts.outputs import Outputs

__all__ = [
    "Change",
    "Classifier",
    "Encoder",
    "Head",
    "ImagePrompts",
    "KeysValues",
    "Objective",
    "Outputs",
    "Part",
    "Pixels",
    "TextEncoder",
    "TextPrompts",
    "Tuned",
]
