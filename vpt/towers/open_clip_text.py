"""Text towers of open_clip, in the layouts of its `CLIP` and `CustomTextCLIP`."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.towers.open_clip_block import open_residual, why_not_residual
from vpt.towers.opened import Opened
from vpt.towers.packing import CLASS_TOKEN, Layout
from vpt.towers.places import Places
from vpt.towers.text import TextTower, Tokenizer

POOLING = ("argmax", "eos", "first", "last")


@cache
def clip_tokenizer() -> open_clip.SimpleTokenizer:
    """CLIP's own, which takes some tenths of a second to make."""
    return open_clip.SimpleTokenizer()


class OpenClipTextTower(TextTower):
    """open_clip's text transformer; `CLIP` keeps its parts beside the image tower's, `CustomTextCLIP` in `text`.

    Args:
        model: the whole model, or its `TextTransformer`.
        tokenizer: of the model.
    """

    multihead = True

    def __init__(self, model: Any, tokenizer: Tokenizer | None) -> None:
        super().__init__()
        text = getattr(model, "text", model)
        reason = why_no_text(text)
        if reason:
            raise VptError(f"this text tower cannot be prompted: {reason}.")
        # The modules themselves, not the model: it also holds the image tower.
        self.transformer = text.transformer
        self.token_embedding = text.token_embedding
        self.positional_embedding = text.positional_embedding
        self.ln_final = text.ln_final
        self.text_projection = text.text_projection
        self.cls_emb = getattr(text, "cls_emb", None)
        self.tokenizer = tokenizer
        self.context_length = text.context_length
        self.width = text.transformer.width
        self.depth = len(text.transformer.resblocks)
        projection = text.text_projection
        if isinstance(projection, nn.Linear):
            self.num_features = projection.out_features
        else:
            self.num_features = self.width if projection is None else projection.shape[1]
        self.causal = text.attn_mask is not None
        self.pool = "class" if self.cls_emb is not None else getattr(text, "pool_type", None) or text.text_pool_type
        self.pad_id = getattr(text, "pad_id", 0)
        self.eos_id: int = getattr(text, "eos_id", getattr(text, "text_eos_id", 0))
        self.masks_padding = getattr(text, "use_pad_mask", False)
        # CoCa's published weights hide the class token from itself, and show it the first padding instead.
        self.legacy = self.pool == "class" and not text.correct_cls_mask
        if self.causal and self.pool in ("first", "last"):
            self._refuse()

    def words(self, ids: Tensor) -> Tensor:
        """`token_embedding`."""
        ids = ids.to(self.token_embedding.weight.device, non_blocking=True)
        if self.cls_emb is None:
            return self.token_embedding(ids).to(self.transformer.get_cast_dtype())
        found = torch.where((ids == CLASS_TOKEN)[..., None], self.cls_emb, self.token_embedding(ids.clamp(min=0)))
        return found.to(self.transformer.get_cast_dtype())

    def vocabulary(self) -> list[str]:
        """By open_clip's own tokenizer, or the one of transformers that it wraps."""
        tokenizer: Any = self.tokenizer
        if tokenizer is open_clip.tokenize:
            tokenizer = clip_tokenizer()
        if hasattr(tokenizer, "loaded"):
            tokenizer = tokenizer.loaded()
        count = self.token_embedding.num_embeddings
        if isinstance(tokenizer, open_clip.SimpleTokenizer):
            return [_spelled(tokenizer, i) for i in range(min(count, tokenizer.vocab_size))]
        if hasattr(tokenizer, "tokenizer"):
            inner = tokenizer.tokenizer
            return list(map(str, inner.convert_ids_to_tokens(range(min(count, len(inner))))))
        return super().vocabulary()

    def positions(self) -> Tensor:
        """`positional_embedding`."""
        return self.positional_embedding

    def lengths(self, ids: Tensor) -> Tensor:
        """Up to the end token as the model's pooling finds it, or the last token that is no padding."""
        if self.pool == "argmax":
            return ids.argmax(dim=-1) + 1
        if self.pool == "eos":
            return ids.eq(self.eos_id).int().argmax(dim=-1) + 1
        if self.pool == "last":
            return torch.full_like(ids[:, 0], ids.shape[1])
        return (ids != self.pad_id).sum(dim=-1)

    def layout(self, codes: Tensor, lengths: Tensor) -> Layout:
        """As every encoder does; then padding is hidden, or the class token set last, where the model does so."""
        layout = super().layout(codes, lengths)
        columns = torch.arange(codes.shape[1])
        if self.cls_emb is not None:
            return self._with_class_token(layout, columns < (lengths + self.legacy)[:, None], lengths)
        if self.pool == "first":
            layout = replace(layout, read=torch.zeros_like(layout.read))
        if self.masks_padding and not self.causal:
            layout = replace(layout, seen=(columns < lengths[:, None])[:, None].expand(-1, codes.shape[1], -1))
        return layout

    def _with_class_token(self, layout: Layout, words: Tensor, lengths: Tensor) -> Layout:
        """The class token at the last position; of a text nothing sees more than `words`, (N, S) booleans."""
        count, size = words.shape
        itself = lengths >= self.context_length if self.legacy else torch.ones(count, dtype=torch.bool)
        columns = torch.cat([words, itself[:, None]], dim=1)[:, None].expand(-1, size + 1, -1)
        if layout.seen is not None:
            seen = F.pad(layout.seen, (0, 1, 0, 1), value=True)
            seen[:, :-1, -1] = False
            columns = columns & seen
        return Layout(
            codes=F.pad(layout.codes, (0, 1), value=CLASS_TOKEN),
            positions=F.pad(layout.positions, (0, 1), value=len(self.positional_embedding) - 1),
            needed=F.pad(words if self.causal else layout.needed, (0, 1), value=True),
            seen=columns,
            read=torch.full_like(layout.read, size),
            causal=layout.causal,
        )

    def complete(self, words: Tensor) -> Tensor:
        """With the class token behind them, where there is one."""
        found = super().complete(words)
        if self.cls_emb is None:
            return found
        token = (self.cls_emb + self.positional_embedding[-1]).to(found.dtype)
        return torch.cat([found, token.expand(len(found), 1, -1)], dim=1)

    def block(self, layer: int) -> nn.Module:
        """open_clip's residual block."""
        return self.transformer.resblocks[layer]

    def run(self, layer: int, x: Tensor, mask: Tensor | None = None, places: Places | None = None) -> Tensor:
        """open_clip's block, which takes a mask for each head."""
        block: Any = self.block(layer)
        if mask is not None and mask.ndim == 3:
            mask = mask.repeat_interleave(block.attn.num_heads, dim=0)
        return block(x, attn_mask=mask)

    def readout(self, x: Tensor) -> Tensor:
        """`ln_final` and `text_projection`, a matrix or a linear layer."""
        x = self.ln_final(x)
        if self.text_projection is None:
            return x
        return self.text_projection(x) if isinstance(self.text_projection, nn.Linear) else x @ self.text_projection

    def why_whole(self, layer: int) -> str | None:
        """A block other than open_clip's default one, or one with hooks."""
        return why_not_residual(self.block(layer))

    def open(self, layer: int) -> Opened:
        """The parts of `ResidualAttentionBlock`."""
        return open_residual(self.block(layer))

    def _refuse(self) -> None:
        what = "its first token, which sees no other" if self.pool == "first" else "its last place, padding or not"
        raise VptError(f"this causal text tower reads {what}: there is nothing to prompt.")


def why_no_text(text: Any) -> str | None:
    """Why a text tower of open_clip cannot be an `OpenClipTextTower`, or None where it can."""
    if not (isinstance(text, TextTransformer) or hasattr(text, "token_embedding")):
        return f"a {type(text).__name__} is not open_clip's own text transformer"
    if not text.transformer.batch_first:
        return "it was built with batch_first=False"
    pool = getattr(text, "pool_type", getattr(text, "text_pool_type", None))
    if getattr(text, "cls_emb", None) is None and pool not in POOLING:
        return f"it pools by {pool!r}"
    return None


def _spelled(tokenizer: Any, token: int) -> str:
    text: str = tokenizer.decode([token])
    if text.endswith(" ") or token in tokenizer.all_special_ids:
        return text.rstrip()
    return text + "-"
