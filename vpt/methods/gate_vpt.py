"""Gated prompt tuning, Yoo et al., ICML 2023, https://arxiv.org/abs/2306.05067."""

from __future__ import annotations

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.gated import Gated, Temperature


class GateVPT(Method):
    """Prompts before block 0 only, of which a gate for each block says how far they are changed by it (section 3.2).

    Before block i + 1 they are g_i · block(p) + (1 - g_i) · p. Scores of attention are divided by a temperature of each
    block, from 0.01 to 10 (section 3.3). The paper is about backbones of self-supervised training.

    Args:
        tower: the encoder that is prompted.
        text: the text encoder, which is left as it is.
        num_tokens: prompts P.
        gate: logit of each gate at first; the code takes -10 by default, so that prompts begin as they were.
        temperature: learn the temperatures.
        dropout: of prompt values, a mask for each image.

    Raises:
        VptError: an option out of its range, or, for temperatures, an encoder with a block that is not opened.
    """

    name = "gate-vpt"
    source = "Yoo et al., ICML 2023"

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        num_tokens: int = 100,
        gate: float = -10.0,
        temperature: bool = True,
        dropout: float = 0.0,
    ) -> None:
        prompts = Gated(tower, gate=gate, num_tokens=num_tokens, dropout=dropout)
        if temperature:
            super().__init__(prompts=prompts, temperature=Temperature(tower, self.name))
        else:
            super().__init__(prompts=prompts)
