"""Cross-modal adaptation, Lin et al., CVPR 2023, https://arxiv.org/abs/2301.06267."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, Objective, Outputs, TextEncoder
from vpt.methods.parts.objective import Around
from vpt.methods.parts.rows import Rows
from vpt.precision import full_precision


class CrossModal(Method):
    """A linear probe that starts from text features, and is trained on texts of the classes beside their images.

    Loss: half the cross entropy of the images of a batch, and half that of the text features of all classes, each of
    which is an example of its class (section 3; the code draws as many texts as images, of which this is the mean).
    Other classes than those of training are judged by their texts.

    Args:
        tower: the image encoder, which is left as it is.
        text: the text encoder, likewise.
    """

    name = "cross-modal"
    source = "Lin et al., CVPR 2023"
    head = "text"
    heads = ("text",)

    def __init__(self, tower: Encoder, text: TextEncoder | None = None) -> None:
        rows = Rows(tower.num_features, self.name)
        super().__init__(rows=rows, texts=TextExamples(rows))


class TextExamples(Objective):
    """Half the loss of images, and half the cross entropy of texts, each an example of its class.

    Args:
        rows: the classifier of both.
    """

    wants_frozen = False

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        # They are a part of their own.
        self._rows = (rows,)

    def loss(self, so_far: Tensor, outputs: Outputs, labels: Tensor, around: Around) -> Tensor:
        """The mean of both."""
        (rows,) = self._rows
        logits = rows.logits(outputs.text, outputs.text, outputs.scale)
        classes = torch.arange(len(outputs.text), device=outputs.text.device)
        return (so_far + F.cross_entropy(full_precision(logits), classes)) / 2
