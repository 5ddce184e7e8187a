"""Text towers of transformers: CLIP, MetaCLIP 2 and SigLIP (https://github.com/huggingface/transformers)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.towers.backbone import Pair
from vpt.towers.hf_bert import HfBertTextTower
from vpt.towers.hf_block import open_layer, run_layer, why_not_layer
from vpt.towers.opened import Opened
from vpt.towers.places import Places
from vpt.towers.text import TextTower, Tokenizer

# A text that shares its beginning with others has a mask that kernels for whole sequences know nothing of.
TAKES_MASKS = ("sdpa", "eager")

# The end token that the configs of CLIP's first published models name, and which is not theirs.
WRONG_END = 2

# Models of images and texts, by the names of their classes.
CLIP_LIKE = ("CLIPModel", "MetaClip2Model")
SIGLIP_LIKE = ("SiglipModel", "Siglip2Model")
BERT_LIKE = ("ChineseCLIPModel", "AltCLIPModel")


class HfTextTower(TextTower):
    """A text encoder of transformers and its projection to the space shared with images.

    CLIP's is causal and reads the end token (Radford et al., 2021), and so is MetaCLIP 2's (Chuang et al., 2025);
    SigLIP's sees all places, padding included, and reads the last one (Zhai et al., 2023).

    Args:
        model: a text model of CLIP, MetaCLIP 2, SigLIP or SigLIP 2.
        projection: of what is read.
        tokenizer: of the model.
    """

    def __init__(self, model: Any, projection: nn.Linear, tokenizer: Tokenizer | None) -> None:
        super().__init__()
        # The modules themselves, not the model: SigLIP keeps its projection there, and it would be met twice.
        self.embeddings = model.embeddings
        self.layers = model.encoder.layers
        self.norm = model.final_layer_norm
        self.projection = projection
        self.tokenizer = tokenizer
        self.context_length = model.config.max_position_embeddings
        self.width = model.config.hidden_size
        self.depth = len(self.layers)
        self.num_features = projection.out_features
        self.causal = "Siglip" not in type(model).__name__
        self.start = 1 if self.causal else 0
        self.eos_id: int = model.config.eos_token_id
        # MetaCLIP 2's end token is 2 indeed.
        self.highest = type(model).__name__ == "CLIPTextModel" and self.eos_id == WRONG_END

    def words(self, ids: Tensor) -> Tensor:
        """`token_embedding`."""
        table = self.embeddings.token_embedding
        found: Tensor = table(ids.to(table.weight.device, non_blocking=True))
        return found

    def positions(self) -> Tensor:
        """`position_embedding`."""
        weight: Tensor = self.embeddings.position_embedding.weight
        return weight

    def lengths(self, ids: Tensor) -> Tensor:
        """Up to CLIP's end token as the model's pooling finds it; all places of SigLIP's texts."""
        if not self.causal:
            return torch.full_like(ids[:, 0], ids.shape[1])
        if self.highest:
            return ids.argmax(dim=-1) + 1
        return ids.eq(self.eos_id).int().argmax(dim=-1) + 1

    def tokenize(self, texts: Sequence[str], reserve: int = 0) -> Tensor:
        """As of every encoder; that the tokenizer is the model's is looked at too.

        Raises:
            VptError: as for every encoder, or the tokenizer has other words or another end token than the model.
        """
        ids = super().tokenize(texts, reserve)
        size = self.embeddings.token_embedding.num_embeddings
        if ids.numel() and int(ids.max()) >= size:
            raise VptError(
                f"the tokenizer gave the id {int(ids.max())}, and this text encoder has {size} tokens: "
                "pass the tokenizer that it was trained with."
            )
        if self.causal and not self.highest and not ids.eq(self.eos_id).any(dim=-1).all():
            raise VptError(
                f"the tokenizer gave a text without the end token {self.eos_id} that this text encoder reads: "
                "pass the tokenizer that it was trained with."
            )
        return ids

    def block(self, layer: int) -> nn.Module:
        """transformers' layer."""
        return self.layers[layer]

    def run(self, layer: int, x: Tensor, mask: Tensor | None = None, places: Places | None = None) -> Tensor:
        """transformers' layer."""
        return run_layer(self.block(layer), x, mask)

    def readout(self, x: Tensor) -> Tensor:
        """`final_layer_norm`, and CLIP's `text_projection` or SigLIP's `head`."""
        found: Tensor = self.projection(self.norm(x))
        return found

    def why_whole(self, layer: int) -> str | None:
        """A block that is not known, or one with hooks."""
        return why_not_layer(self.block(layer))

    def open(self, layer: int) -> Opened:
        """The parts of transformers' pre-norm layers."""
        return open_layer(self.block(layer))


def pair_of(model: Any, tokenizer: Tokenizer | None) -> Pair | str | None:
    """The text half of a model of images and texts, or why there is none; None of any other model.

    transformers' "sdpa", its default and the faster one, and "eager" take masks; flash and flex attention do not.
    """
    kinds = {kind.__name__ for kind in type(model).__mro__}
    if not kinds & {*CLIP_LIKE, *SIGLIP_LIKE, *BERT_LIKE}:
        return None
    attention = model.text_model.config._attn_implementation
    if attention not in (None, *TAKES_MASKS):
        return f"its texts need masks, which attn_implementation={attention!r} does not take: load it with 'sdpa'"
    if kinds & {*BERT_LIKE}:
        return Pair(HfBertTextTower(model, tokenizer), model.logit_scale)
    if kinds & {*CLIP_LIKE}:
        return Pair(HfTextTower(model.text_model, model.text_projection, tokenizer), model.logit_scale)
    text = HfTextTower(model.text_model, model.text_model.head, tokenizer)
    return Pair(text, model.logit_scale.reshape(()), model.logit_bias.reshape(()))
