"""Prompt-aligned Gradient (ProGrad), Zhu et al., ICCV 2023, https://arxiv.org/abs/2205.14865."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.base import Encoder, Outputs, TextEncoder
from vpt.methods.coop import LearnedContext, token_ids
from vpt.precision import full_precision


class ProGrad(LearnedContext):
    """CoOp that takes no step against what the hand-written templates say.

    G_d is the gradient of the cross entropy, G_g that of the divergence from the zero-shot probabilities. Where the
    two conflict (G_d · G_g < 0), what of G_d lies along G_g is taken away, `lambd` times; elsewhere G_d is left
    as it is (equation 4).

    Args:
        tower: the image encoder, which is left as it is.
        text: the text encoder.
        init: words that the context begins as; None for N(0, 0.02).
        num_tokens: tokens of context n; zeros stand before the words where it is more than those are.
        init_count: how many tokens of `init` are learned: all of them, or, with "words", as many as there are words
            between blanks, as in the paper's code. There a comma is a token and no word, so that the last tokens of "a
            type of pet, a photo of a" stay before the class name as they are.
        lambd: λ in equation 4; with 0 the gradient is that of CoOp.
    """

    name = "prograd"
    source = "Zhu et al., ICCV 2023"
    needs_frozen = True
    pads = True

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        init: str | None = "a photo of a",
        init_count: Literal["tokens", "words"] = "tokens",
        lambd: float = 1.0,
        **context: Any,
    ) -> None:
        rest = ""
        if init_count == "words" and init is not None and text is not None:
            init, rest = _cut(text, init)
        super().__init__(tower, text, init=init, **context)
        self.template = f"{rest} {{}}.".strip()
        if not 0 <= lambd <= 1:
            raise VptError(f"lambd={lambd} must lie between 0 (no correction) and 1 (nothing left of the conflict).")
        self.lambd = lambd
        # G_g of the batches of a step so far.
        self._guides: list[Tensor] = []

    def loss(self, outputs: Outputs, labels: Tensor, label_smoothing: float) -> Tensor:
        """The cross entropy, whose backward pass gives the corrected gradient, but where `correct` does later."""
        entropy = super().loss(outputs, labels, label_smoothing)
        learned = self._learned()
        if not (torch.is_grad_enabled() and entropy.requires_grad and learned):
            return entropy
        guide = torch.autograd.grad(_divergence(outputs), learned, retain_graph=True)
        if self.whole_steps:
            # In place, so that a captured step adds to the same tensors.
            if not self._guides or self._guides[0].device != guide[0].device:
                self._guides = [torch.zeros_like(part) for part in guide]
            for total, part in zip(self._guides, guide, strict=True):
                total.add_(part, alpha=self.share)
            return entropy
        down = torch.autograd.grad(entropy, learned)
        # A scale that is trained too is no matter of prompts: its gradient is the cross entropy's.
        logits = self.logits(outputs.image.detach(), outputs.text.detach(), outputs.scale)
        surrogate = super().loss(outputs._replace(logits=logits), labels, label_smoothing)
        for parameter, *pair in zip(learned, down, guide, strict=True):
            product = (parameter * self._corrected(*pair)).sum()
            surrogate = surrogate + product - product.detach()
        return entropy.detach() + surrogate - surrogate.detach()

    def correct(self, mean: Callable[[Tensor], Tensor]) -> None:
        """Take from the gradient of a whole step what lies against the templates."""
        for parameter, guide in zip(self._learned(), self._guides, strict=False):
            if parameter.grad is not None:
                parameter.grad.copy_(self._corrected(parameter.grad, mean(guide)))
            guide.zero_()

    def _learned(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def _corrected(self, down: Tensor, guide: Tensor) -> Tensor:
        """G_prograd of one tensor."""
        along = F.normalize(guide.flatten(), dim=0)
        conflict = (down.flatten() @ along).clamp(max=0)
        return down - self.lambd * conflict * along.view_as(down)


def _cut(text: TextEncoder, init: str) -> tuple[str, str]:
    """`init` behind as many tokens as it has words.

    Raises:
        VptError: that is within a word.
    """
    ids, count = token_ids(text, init), len(init.split())
    if len(ids) == count:
        return init, ""
    for place in range(1, len(init)):
        parts = init[:place], init[place:]
        if all(part.strip() for part in parts):
            found = [token_ids(text, part) for part in parts]
            if torch.equal(found[0], ids[:count]) and torch.equal(found[1], ids[count:]):
                return parts[0].strip(), parts[1].strip()
    raise VptError(
        f"init={init!r} has {count} words, and its first {count} tokens end within one: leave init_count out."
    )


def _divergence(outputs: Outputs) -> Tensor:
    """Cross entropy of the logits to the zero-shot probabilities, whose gradient is the divergence's."""
    assert outputs.frozen_image is not None
    assert outputs.frozen_text is not None
    zero_shot = full_precision((outputs.scale * outputs.frozen_image @ outputs.frozen_text.T).detach())
    return F.cross_entropy(full_precision(outputs.logits), zero_shot.softmax(dim=-1))
