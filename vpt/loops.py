"""The only block loops: image and text, each in its fast form and in the plain one that it must equal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vpt.methods.base import Method
from vpt.towers.attention import Attended
from vpt.towers.base import Change, ImageTower
from vpt.towers.text import Texts, TextTower

Folded = Mapping[int, Tensor | Attended]
ImageLoop = Callable[[ImageTower, Method, Tensor, Folded | None], Tensor]
TextLoop = Callable[..., Tensor]


def fold(tower: ImageTower, method: Method) -> Folded:
    """Of each block whose prompts are only attended to, and are the same for every image: what it attends to.

    Nothing where the method has a part in the blocks: their keys and values are then not those of the tower alone.
    """
    if method.image_change is not None:
        return {}
    only_seen = [i for i in sorted(method.enters) if i + 1 in method.enters or i + 1 == tower.depth]
    prompts = {layer: _entering(tower, method, layer, 1, tower.dtype) for layer in only_seen}
    return {layer: tower.attended(layer, tokens) for layer, tokens in prompts.items()}


def _entering(tower: ImageTower, method: Method, layer: int, batch: int, dtype: torch.dtype) -> Tensor:
    """The prompts that enter before block `layer`, (1 or batch, P, D)."""
    prompts = method.prompts(layer, batch).to(dtype)
    return tower.pre_norm(prompts) if layer == 0 and method.enters_before_norm else prompts


def encode_images(tower: ImageTower, method: Method, images: Tensor, folded: Folded | None = None) -> Tensor:
    """Images (B, 3, H, W) to prompted features (B, F): advanced is what is read, all else is attended to.

    `folded` is what `fold` gave for the prompts as they are.
    """
    advance = partial(tower.advance, change=method.image_change)
    x = _embedded(tower, images)
    carried: Tensor | Attended | None = None
    for layer in range(tower.depth):
        if layer in method.enters:
            known = folded.get(layer) if folded else None
            carried = _entering(tower, method, layer, len(x), x.dtype) if known is None else known
        last = layer + 1 == tower.depth
        if isinstance(carried, Tensor) and not last and layer + 1 not in method.enters:
            # The next block reads what becomes of these prompts: they are advanced with the image.
            both = advance(layer, torch.cat([x, carried.expand(len(x), -1, -1)], dim=1))
            x, carried = both.split([x.shape[1], carried.shape[1]], dim=1)
            continue
        context = [] if carried is None else [carried]
        if last and tower.read is not None:
            context.append(x[:, tower.read :])
            x = x[:, : tower.read]
        x = advance(layer, x, context)
    return tower.readout(x)


def encode_images_plain(
    tower: ImageTower, images: Tensor, given: Callable[[int, Tensor], Tensor], change: Change = None
) -> Tensor:
    """Images to tokens after the last block, (B, N, D); block i advances all that `given(i, x)` puts before it."""
    x = _embedded(tower, images)
    for layer in range(tower.depth):
        x = tower.advance(layer, given(layer, x).to(x.dtype), change=change)
    return x


def encode_texts(
    tower: TextTower, method: Method, texts: Texts, *, chunk: int | None = None, recompute: bool = False
) -> Tensor:
    """Texts to prompted features (G · N, F): what they begin with is advanced once for all of them.

    Args:
        tower: the encoder.
        method: its text prompts are put in place before the blocks that they enter.
        texts: as `TextTower.arrange` gives them.
        chunk: texts that go through the blocks at once; all by default.
        recompute: keep nothing of a chunk for the backward pass, and compute it again there.
    """
    advance = partial(tower.advance, change=method.text_change)
    prefixes = []
    prefix = texts.prefix
    sees = torch.ones(prefix.shape[1], prefix.shape[1], dtype=torch.bool, device=prefix.device).tril()
    for layer in range(tower.depth):
        if prefix.shape[1]:
            prefix = _entered(tower, method, layer, prefix)
        prefixes.append(prefix)
        if prefix.shape[1] and layer + 1 < tower.depth:
            prefix = advance(layer, prefix, mask=sees)

    def features(rest: Tensor, seen: Tensor | None, read: Tensor, *prefixes: Tensor) -> Tensor:
        for layer, before in enumerate(prefixes):
            if not before.shape[1]:
                rest = _entered(tower, method, layer, rest)
            context = [before] if before.shape[1] else []
            if layer + 1 < tower.depth:
                rest = advance(layer, rest, context, seen)
                continue
            row = torch.arange(len(rest), device=rest.device)
            # The token that is read stands beside the others here, and is not to be seen twice.
            if seen is None:
                seen = torch.ones(1, before.shape[1] + rest.shape[1], dtype=torch.bool, device=rest.device)
            columns = seen.expand(len(rest), rest.shape[1], -1)[row, read]
            itself = columns.gather(1, before.shape[1] + read[:, None])
            columns = columns.scatter(1, before.shape[1] + read[:, None], False)
            mask = torch.cat([columns, itself], dim=1)[:, None]
            rest = advance(layer, rest[row, read][:, None], [*context, rest], mask)
        return tower.readout(rest[:, 0])

    parts, order = [], []
    for rows, groups, length in _parts(texts, chunk):
        seen = texts.seen
        if seen is not None:
            seen = seen[rows] if seen.ndim == 3 else seen[:length, : prefix.shape[1] + length]
        given: tuple[Any, ...] = (texts.rest[rows, :length], seen, texts.read[rows], *(p[groups] for p in prefixes))
        parts.append(checkpoint(features, *given, use_reentrant=False) if recompute else features(*given))
        order.append(rows)
    return torch.cat(parts)[torch.cat(order).argsort()] if len(parts) > 1 else parts[0]


def encode_texts_plain(
    tower: TextTower, texts: Texts, given: Callable[[int, Tensor], Tensor], change: Change = None
) -> Tensor:
    """Texts with nothing shared or left out to features (N, F); block i advances all of `given(i, x)`."""
    x = texts.rest
    for layer in range(tower.depth):
        x = tower.advance(layer, given(layer, x).to(x.dtype), mask=texts.seen, change=change)
    return tower.readout(x[torch.arange(len(x), device=x.device), texts.read])


def _embedded(tower: ImageTower, images: Tensor) -> Tensor:
    """Tokens before block 0. Not every library brings images to the precision of its weights."""
    return tower.embed(images.to(tower.dtype) if images.is_floating_point() else images)


def _entered(tower: TextTower, method: Method, layer: int, x: Tensor) -> Tensor:
    """Texts (N, L, D) with the method's prompts of `layer` in place of the context behind the start tokens."""
    if layer not in method.text_enters:
        return x
    prompts = method.text_prompts(layer).to(x.dtype).expand(len(x), -1, -1)
    return torch.cat([x[:, : tower.start], prompts, x[:, tower.start + prompts.shape[1] :]], dim=1)


def _parts(texts: Texts, chunk: int | None) -> Iterator[tuple[Tensor, slice, int]]:
    """Rows of texts that go together, the prefixes that they share, and the tokens that they need.

    With several prefixes `chunk` rows or fewer go together, but never less than a part of one prefix's texts.
    """
    groups, device = len(texts.prefix), texts.rest.device
    count = len(texts.rest) // groups
    for alike, length in texts.parts or [(torch.arange(count, device=device), texts.rest.shape[1])]:
        if groups == 1:
            yield from ((rows, slice(None), length) for rows in alike.split(chunk or count))
            continue
        step = groups if chunk is None else max(1, chunk // len(alike))
        for start in range(0, groups, step):
            some = torch.arange(start, min(start + step, groups), device=device)
            yield (some[:, None] * count + alike).flatten(), slice(start, start + step), length
