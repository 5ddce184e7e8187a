"""The only block loops: image and text, each in its fast form and in the plain one that it must equal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vpt.around import called, encode_beside, on_grid, read_out
from vpt.merge import merged
from vpt.methods.base import Method
from vpt.towers.attention import Attended
from vpt.towers.base import Change, ImageTower, Tower
from vpt.towers.hierarchical import HierarchicalTower, in_stages
from vpt.towers.packing import Texts
from vpt.towers.picking import Neighbours, Pick
from vpt.towers.putting import put
from vpt.towers.stages import same
from vpt.towers.text import TextTower

TextLoop = Callable[..., Tensor]


class Folded(NamedTuple):
    """What is the same for every image, computed once.

    Attributes:
        attended: of each block whose prompts are only attended to, what it attends to.
        change: a method's part in the blocks, what is linear merged with their weights; None without any.
        weights: what the encoder embeds and reads out with, in place of its own parameters of these names.
    """

    attended: Mapping[int, Tensor | Attended]
    change: Change
    weights: Mapping[str, Tensor]


def fold(tower: ImageTower, method: Method, *, merge: bool = True) -> Folded:
    """What images need of the method as it is, in evaluation mode.

    What is linear is merged with weights, of which copies are kept; without `merge` it stays as small as it is.
    """
    change = merged(tower, method) if merge else method.image_change
    prompts, enters = method.image_prompts, method.image_prompts.enters
    read = set() if not prompts.read_out else {tower.depth - 1}
    only_seen = [i for i in sorted(enters - read) if i + 1 in enters or i + 1 == tower.depth] if prompts.fixed else []
    none = torch.zeros(1, 0, tower.width, dtype=tower.dtype, device=tower.kernel.device)
    tokens = {layer: prompts.entering(layer, none, None) for layer in only_seen}
    attended = {layer: tower.attended(layer, seen, change) for layer, seen in tokens.items()}
    return Folded(attended, change, method.weights(tower))


def encode_images(tower: ImageTower, method: Method, images: Tensor, folded: Folded | None = None) -> Tensor:
    """Images (B, 3, H, W) to prompted features (B, F): advanced is what is read, all else is attended to.

    `folded` is what `fold` gave for the method as it is. An encoder that nothing enters is called as it is.
    """
    if tower.closed is not None:
        return tower.features(_cast(tower, images))
    if in_stages(tower):
        return encode_grid(tower, method, images, folded)
    weights = folded.weights if folded else method.weights(tower)
    if method.side_network is not None:
        return encode_beside(tower, method.side_network, _cast(tower, images))
    count = method.image_prompts.count() if method.image_prompts.read_out else 0
    x = _advanced(tower, method, images, tower.depth - 1, tower.read, folded, weights, count)
    found: Tensor = called(tower, "readout", weights, x[:, :-count] if count else x)
    return torch.cat([found, tower.final_norm()(x[:, -count:]).mean(1)], dim=1) if count else found


def encode_tokens(tower: ImageTower, method: Method, images: Tensor, last: int) -> Tensor:
    """Images (B, 3, H, W) to their own tokens after block `last`, (B, N, D), prompts left out."""
    if in_stages(tower):
        return encode_grid(tower, method, images, last=last)
    return _advanced(tower, method, images, last, None, None, method.weights(tower), 0)


def _advanced(
    tower: ImageTower,
    method: Method,
    images: Tensor,
    last: int,
    read: int | None,
    folded: Folded | None,
    weights: Mapping[str, Tensor],
    prompts_too: int,
) -> Tensor:
    """The first `read` of the image's own tokens, or all, after block `last`; and so many prompts behind them."""
    x, places = called(tower, "embedded", weights, _cast(tower, images))
    own, prompts = x.shape[1], method.image_prompts
    change = on_grid(tower, method, folded.change if folded else method.image_change, images, x)
    given: Tensor | None = None
    ready = prompts.for_blocks(x.dtype) if prompts.fixed and folded is None else {}
    learned = {} if method.keys_values is None else method.keys_values.for_blocks(x.dtype)
    for layer in range(last + 1):
        seen = [Attended(*learned[layer])] if layer in learned else keys_values(method, layer, x.dtype)
        if layer in prompts.enters:
            carried, x = (x[:, own:], x[:, :own]) if x.shape[1] > own else (None, x)
            if carried is not None and given is not None and prompts.looks_back:
                carried = prompts.made(layer, given, carried)
            context = folded.attended.get(layer) if folded else ready.get(layer)
            context = prompts.entering(layer, x, carried).to(x.dtype) if context is None else context
            is_read = prompts_too > 0 if layer == last else layer + 1 not in prompts.enters or prompts.looks_back
            given = context if isinstance(context, Tensor) else None
            if is_read and isinstance(context, Tensor):
                # What becomes of these prompts is looked at: they are advanced with the image.
                x = torch.cat([x, context.expand(x.shape[0], -1, -1)], dim=1)
            else:
                seen = [*seen, context]
        wanted = own if read is None else read
        fewer = layer == last and wanted + prompts_too < x.shape[1]
        every = _opened_if_leaner(tower, layer, x, prompted=x.shape[1] > own)
        first = _first(wanted, prompts_too) if fewer else every
        x = tower.advance(layer, x, seen, change=change, read=first, places=places)
    return x


def encode_grid(
    tower: HierarchicalTower,
    method: Method,
    images: Tensor,
    folded: Folded | None = None,
    *,
    plain: bool = False,
    look: Callable[[Tensor], None] | None = None,
    last: int | None = None,
) -> Tensor:
    """Images (B, 3, H, W) to features (B, F) by an encoder of stages, with prompts beside the tokens of each.

    Args:
        tower: the encoder.
        method: whose prompts enter; where a stage goes on without new ones they are carried on.
        images: preprocessed.
        folded: what `fold` gave for the prompts as they are.
        plain: every block advances its prompts, read or not: the definition.
        look: is shown what each block is given, (B, N, D), prompts before the image's tokens.
        last: a block whose tokens, (B, N, D), are to be had in place of features.
    """
    weights, part = folded.weights if folded else method.weights(tower), method.image_prompts
    x = called(tower, "embed", weights, _cast(tower, images))
    prompts: Tensor | Attended | None = None
    for layer in range(tower.depth):
        if layer in part.enters:
            prompts = folded.attended.get(layer) if folded else None
            prompts = part.entering(layer, x.flatten(1, 2), None).to(x.dtype) if prompts is None else prompts
        if look is not None:
            own = x.flatten(1, 2)
            look(torch.cat([prompts.expand(len(x), -1, -1), own], dim=1) if isinstance(prompts, Tensor) else own)
        goes_on = layer + 1 < tower.depth and layer + 1 not in part.enters and not tower.ends_stage(layer)
        x, prompts = tower.advance_grid(layer, x, prompts, both=plain or goes_on)
        if layer == last:
            return x.flatten(1, 2)
    found: Tensor = called(tower, "readout", weights, x)
    return found


def _opened_if_leaner(tower: Tower, layer: int, x: Tensor, *, prompted: bool = False) -> Pick | None:
    """All of `x`, said where a block is leaner opened than as it is: one that something is read of is opened.

    Libraries' own blocks copy queries, keys and values, and their gradients, several times. On a CPU they
    stay where there are no gradients, and give the library's numbers bit by bit.
    """
    trained = x.requires_grad and torch.is_grad_enabled()
    if not trained and x.device.type == "cpu":
        return None
    return same if tower.leaner_opened(layer, prompted=prompted, trained=trained) else None


def _first(count: int, behind: int) -> Pick:
    """Picks the first tokens of each row, and so many of the last."""
    if not behind:
        return Neighbours(0, count)
    return lambda x: torch.cat([x[:, :count], x[:, -behind:]], dim=1)


def keys_values(method: Method, layer: int, dtype: torch.dtype) -> list[Tensor | Attended]:
    """Learned keys and values that block `layer` attends to, in the precision of tokens, where the method has any."""
    part = method.keys_values
    if part is None or layer not in part.enters:
        return []
    return [Attended(*(each.to(dtype) for each in part.keys_values(layer)))]


def encode_images_plain(
    tower: ImageTower, method: Method, images: Tensor, look: Callable[[Tensor], None] | None = None
) -> Tensor:
    """Images to tokens after the last block, (B, N, D), prompts included: every block advances all that it is given.

    `look` is shown what each block is given. Of an encoder that nothing enters the tokens are its features (B, F),
    which its `readout` hands on.
    """
    if tower.closed is not None:
        return tower.features(_cast(tower, images))
    x, places = called(tower, "embedded", method.weights(tower), _cast(tower, images))
    prompts, own = method.image_prompts, x
    given = x
    for layer in range(tower.depth):
        given = x = prompts.plain(layer, x, given)
        if look is not None:
            look(x)
        here = None if places is None else places.plain(x.shape[1], prompts.strip)
        before = 0 if prompts.behind else x.shape[1] - own.shape[1]
        change = on_grid(tower, method, method.image_change, images, own, before)
        x = tower.advance(layer, x, keys_values(method, layer, x.dtype), change=change, places=here)
    return x


def features_plain(tower: ImageTower, method: Method, images: Tensor) -> Tensor:
    """The definition: images (B, 3, H, W) to features (B, F), with what prompts are read out as behind them."""
    if in_stages(tower):
        return encode_grid(tower, method, images, plain=True)
    given: list[Tensor] = []
    x = encode_images_plain(tower, method, images, given.append)
    found, prompts = read_out(tower, method, x, given), method.image_prompts
    if prompts.read_out:
        return torch.cat([found, tower.final_norm()(prompts.own(x)).mean(1)], dim=1)
    return found


def block_inputs(tower: ImageTower, method: Method, images: Tensor) -> list[Tensor]:
    """What each block is given of images (B, 3, H, W) in the plain form: all tokens, prompts included, (B, N, D)."""
    found: list[Tensor] = []
    if in_stages(tower):
        encode_grid(tower, method, images, plain=True, look=found.append)
    else:
        encode_images_plain(tower, method, images, found.append)
    return found


ImageLoop = Callable[[ImageTower, Method, Tensor, Folded | None], Tensor]


def encode_texts(
    tower: TextTower,
    method: Method,
    texts: Sequence[Texts],
    context: Tensor | None = None,
    *,
    precision: torch.dtype | None = None,
    recompute: bool = False,
    classes: Tensor | None = None,
) -> Tensor:
    """Texts to prompted features (G, N, F): what they begin with is advanced once for those of a row.

    Args:
        tower: the encoder.
        method: its text prompts are put in place before the blocks that they enter.
        texts: N of them, `scored`, in one part or several that go through the blocks one after another.
        context: learned vectors that stand in the texts before block 0, (G, K, D); texts are encoded with each of the
            G sets of them. Without any, G is 1.
        precision: that products come in, where not that of the words.
        recompute: keep nothing of a part for the backward pass, and compute it again there.
        classes: features of class names (C, F) without the method, where it looks at them.
    """

    def features(part: Texts) -> Tensor:
        if recompute:
            kept: Tensor = checkpoint(
                _encode_part, tower, method, part, context, precision, classes, use_reentrant=False
            )
            return kept
        return _encode_part(tower, method, part, context, precision, classes)

    found = [features(part) for part in texts]
    return torch.cat(found, dim=1) if len(found) > 1 else found[0]


def _encode_part(
    tower: TextTower,
    method: Method,
    texts: Texts,
    context: Tensor | None,
    precision: torch.dtype | None,
    classes: Tensor | None,
) -> Tensor:
    tokens = tower.tokens(texts)
    groups = 1 if context is None else len(context)
    x = tokens if groups == 1 else tokens.repeat(groups, 1, 1)
    if context is not None:
        x = _put(x, texts, context, tower.positions())
    mask = _mask(texts, groups, precision or x.dtype)

    def flat(x: Tensor) -> Tensor:
        return x.unflatten(0, (groups, -1)).flatten(1, 2)

    def picked(x: Tensor) -> Tensor:
        return flat(x).index_select(1, texts.picked).unflatten(1, (len(texts.codes), -1)).flatten(0, 1)

    ready = method.text_prompts.for_blocks(x.dtype)
    for layer in range(tower.depth):
        if texts.then is not None and layer == texts.then.layer:
            source, texts = texts.then.source, texts.then.texts
            x = flat(x).index_select(1, source).unflatten(1, (len(texts.codes), -1)).flatten(0, 1)
            mask = _mask(texts, groups, precision or x.dtype)
        if layer in method.text_prompts.enters:
            vectors = ready.get(layer)
            x = _put(x, texts, method.text_prompts.prompts(layer, classes) if vectors is None else vectors)
        # A mask for each row is copied for each head by torch's own attention, and kept for the backward pass: with
        # something to read a block is opened, which does without.
        last = texts.at_the_end() or picked
        every = _opened_if_leaner(tower, layer, x) if mask is None else same
        read = last if layer + 1 == tower.depth else every
        x = tower.advance(layer, x, mask=mask, change=method.text_change, read=read, rows=texts.rows)
    x = flat(x) if texts.order is None else flat(x).index_select(1, texts.order)
    return tower.readout(x.flatten(0, 1)).unflatten(0, (groups, -1))


def _mask(texts: Texts, groups: int, dtype: torch.dtype) -> Tensor | None:
    """What is added to the scores of G times the rows."""
    if texts.seen is None:
        return None
    mask = texts.seen.to(dtype)
    return mask.repeat(groups, 1, 1) if groups > 1 else mask


def encode_texts_plain(
    tower: TextTower, x: Tensor, texts: Texts, given: Callable[[int, Tensor], Tensor], change: Change = None
) -> Tensor:
    """Texts with nothing shared or left out to features (N, F); block i advances all of `given(i, x)`.

    Args:
        tower: the encoder.
        x: what block 0 is given of them, (N, S, D).
        texts: what sees what, and what is read out.
        given: all that block i is given, from what became of x in the blocks before.
        change: a method's part in the blocks.
    """
    for layer in range(tower.depth):
        if texts.then is not None and layer == texts.then.layer:
            texts = texts.then.texts
        seen = texts.seen
        mask = seen if seen is None or len(seen) == len(x) > 1 else seen[0]
        x = tower.advance(layer, given(layer, x).to(x.dtype), mask=mask, change=change)
    return tower.readout(x.flatten(0, 1)[texts.picked])


def _put(x: Tensor, texts: Texts, vectors: Tensor, positions: Tensor | None = None) -> Tensor:
    """Tokens (G · R, L, D) with learned vectors (1 or G, K, D), and their positions, in the places of context."""
    if texts.start is not None:
        vectors = vectors if positions is None else vectors + positions[texts.start : texts.start + vectors.shape[1]]
        return put(x, vectors.to(x.dtype), texts.start)
    vectors = vectors if texts.context is None else vectors.index_select(1, texts.context)
    if positions is not None:
        vectors = vectors + positions[texts.positions.flatten()[texts.learned]]
    rows = len(texts.codes)
    together = x.unflatten(0, (-1, rows)).flatten(1, 2)
    found = together.index_copy(1, texts.learned, vectors.to(x.dtype).expand(len(together), -1, -1))
    return found.unflatten(1, (rows, -1)).flatten(0, 1)


def _cast(tower: ImageTower, images: Tensor) -> Tensor:
    """Images in the precision of the weights, to which not every library brings them."""
    return images.to(tower.dtype) if images.is_floating_point() else images
