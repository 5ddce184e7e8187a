"""Adapters, Houlsby et al., ICML 2019, https://arxiv.org/abs/1902.00751, and Pfeiffer et al., EACL 2021.

The second, https://arxiv.org/abs/2005.00247, keeps one of the two adapters of a block.
"""

from __future__ import annotations

from typing import Literal

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, Part, TextEncoder
from vpt.methods.parts.bottleneck import Bottleneck


class Adapter(Method):
    """What attention and the MLP of every block add, h, becomes h + up(GELU(down(h))).

    Houlsby's section 2.1: behind both, before the sums with the tokens. Pfeiffer's: behind the MLP alone, which is what
    tables of vision transformers call "Adapter" (Jia et al., ECCV 2022, appendix A). Both matrices begin as N(0, 0.01),
    near to nothing added.

    Args:
        tower: the image encoder.
        text: the text encoder, which is left as it is.
        kind: "houlsby" or "pfeiffer".
        rank: numbers between down and up.
        dropout: of what `up` is applied to.

    Raises:
        VptError: an option out of its range, or an encoder with a block that cannot be added to.
    """

    name = "adapter"
    source = "Houlsby et al., ICML 2019"

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        kind: Literal["houlsby", "pfeiffer"] = "houlsby",
        rank: int = 8,
        dropout: float = 0.0,
    ) -> None:
        parts: dict[str, Part] = {}
        if kind == "houlsby":
            parts["attention"] = Bottleneck(
                tower, self.name, place="attention", rank=rank, dropout=dropout, init="normal"
            )
        parts["mlp"] = Bottleneck(tower, self.name, place="mlp", rank=rank, dropout=dropout, init="normal")
        super().__init__(**parts)
