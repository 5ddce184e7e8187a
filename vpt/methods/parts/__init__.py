"""What methods are put together from: each part exists once, and answers one question.

Prompts of an encoder: what enters, before which blocks, made of what. A change: what is added inside a block.
Ends: other weights for what stands around the blocks. Side: a network beside them. Pixels: what becomes of images
before the encoder. Tuned: which parameters of the backbone are trained. A classifier: features to logits. An
objective: logits and features to a loss.
"""

from vpt.methods.parts.base import (
    Change,
    Ends,
    Head,
    ImagePrompts,
    KeysValues,
    Part,
    Pixels,
    Side,
    TextPrompts,
    Tuned,
)
from vpt.methods.parts.classifier import Classifier
from vpt.methods.parts.encoders import Encoder, TextEncoder
from vpt.methods.parts.objective import Objective
from vpt.methods.parts.outputs import Outputs

__all__ = [
    "Change",
    "Classifier",
    "Encoder",
    "Ends",
    "Head",
    "ImagePrompts",
    "KeysValues",
    "Objective",
    "Outputs",
    "Part",
    "Pixels",
    "Side",
    "TextEncoder",
    "TextPrompts",
    "Tuned",
]
