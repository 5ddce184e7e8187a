"""Text towers of transformers that are BERT's: Chinese-CLIP (Yang et al., 2022) and AltCLIP (Chen et al., ACL 2023).

All places see each other, padding is hidden, the first token is read, and norms stand behind the sums (Devlin et al.,
NAACL 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from vpt.towers.attention import Attended, heads_of
from vpt.towers.base import Change, why_hooked
from vpt.towers.hf_block import run_layer
from vpt.towers.hf_families import blocks_of
from vpt.towers.opened import Context, Opened
from vpt.towers.packing import Layout
from vpt.towers.picking import Pick
from vpt.towers.places import Places
from vpt.towers.rows import Rows
from vpt.towers.stages import Mlp, Out, same
from vpt.towers.text import TextTower, Tokenizer

# Both were trained on texts of no more tokens than CLIP's, and have positions for 512.
LONGEST = 77

LAYERS = {"ChineseCLIPTextLayer": "ChineseCLIPTextSelfAttention", "AltRobertaLayer": "AltRobertaSelfAttention"}


class HfBertTextTower(TextTower):
    """The text encoder of a `ChineseCLIPModel` or an `AltCLIPModel`, and its projection to the space of images.

    Args:
        model: the whole model.
        tokenizer: of the model.
    """

    causal = False

    def __init__(self, model: Any, tokenizer: Tokenizer | None) -> None:
        super().__init__()
        text = model.text_model
        roberta = hasattr(text, "roberta")
        encoder = text.roberta if roberta else text
        # The modules themselves, not the model: it also holds the image tower.
        self.embeddings = encoder.embeddings
        self.layers = blocks_of(encoder.encoder)
        self.after = nn.Sequential(text.pre_LN, text.transformation) if roberta else nn.Identity()
        self.projection = model.text_projection
        self.tokenizer = tokenizer
        self.pad_id: int = text.config.pad_token_id or 0
        # RoBERTa's positions begin behind that of padding.
        self.first = self.pad_id + 1 if roberta else 0
        self.context_length = min(LONGEST, text.config.max_position_embeddings - self.first)
        self.width = text.config.hidden_size
        self.depth = len(self.layers)
        self.num_features = model.text_projection.out_features

    def words(self, ids: Tensor) -> Tensor:
        """Word embeddings, and that of the one type of tokens there is."""
        table = self.embeddings.word_embeddings
        found: Tensor = table(ids.to(table.weight.device, non_blocking=True))
        return found + self.embeddings.token_type_embeddings.weight[0]

    def positions(self) -> Tensor:
        """`position_embeddings`."""
        weight: Tensor = self.embeddings.position_embeddings.weight
        return weight[self.first : self.first + self.context_length]

    def lengths(self, ids: Tensor) -> Tensor:
        """All that is no padding."""
        return (ids != self.pad_id).sum(dim=-1)

    def layout(self, codes: Tensor, lengths: Tensor) -> Layout:
        """The first token is read, and nothing sees padding."""
        layout = super().layout(codes, lengths)
        seen = torch.arange(codes.shape[1]) < lengths[:, None]
        seen = seen[:, None].expand(-1, codes.shape[1], -1)
        return replace(layout, seen=seen, read=torch.zeros_like(layout.read))

    def advance(
        self,
        layer: int,
        x: Tensor,
        context: Context | Sequence[Context] | None = None,
        mask: Tensor | None = None,
        change: Change = None,
        read: Pick | None = None,
        places: Places | None = None,
        rows: Rows | None = None,
    ) -> Tensor:
        """As of every tower; before block 0 words and positions are normed together, learned context among them."""
        if layer == 0:
            contexts = list(context) if isinstance(context, Sequence) else [] if context is None else [context]
            norm = self.embeddings.LayerNorm
            x, context = norm(x), [each if isinstance(each, Attended) else norm(each) for each in contexts]
        return super().advance(layer, x, context, mask, change, read, places, rows)

    def block(self, layer: int) -> nn.Module:
        """transformers' layer."""
        return self.layers[layer]

    def run(self, layer: int, x: Tensor, mask: Tensor | None = None, places: Places | None = None) -> Tensor:
        """transformers' layer."""
        return run_layer(self.block(layer), x, mask)

    def readout(self, x: Tensor) -> Tensor:
        """AltCLIP's norm and `transformation`, and `text_projection`."""
        found: Tensor = self.projection(self.after(x))
        return found

    def why_whole(self, layer: int) -> str | None:
        """A layer that is not known, or one with hooks."""
        block: Any = self.block(layer)
        kind = type(block).__name__
        if LAYERS.get(kind) is None or type(block.attention.self).__name__ != LAYERS[kind]:
            return f"{kind} is no layer of Chinese-CLIP's or AltCLIP's text encoder"
        return why_hooked(block, block.attention, block.attention.self)

    def open(self, layer: int) -> Opened:
        """The parts of BERT's layers, whose norms stand behind the sums."""
        block: Any = self.block(layer)
        attn, first = block.attention.self, block.attention.output
        middle, second = block.intermediate, block.output
        heads = attn.num_attention_heads

        def key_value(y: Tensor) -> tuple[Tensor, Tensor]:
            return heads_of(attn.key(y), heads), heads_of(attn.value(y), heads)

        return Opened(
            norm=same,
            query_key_value=lambda y: (heads_of(attn.query(y), heads), *key_value(y)),
            key_value=key_value,
            out=Out(first.dense, first.dropout),
            feed=Mlp(same, middle.dense, middle.intermediate_act_fn, second.dense, second.dropout),
            dropout=attn.attention_dropout if attn.training else 0.0,
            post1=first.LayerNorm,
            post2=second.LayerNorm,
        )
