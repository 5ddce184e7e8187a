"""Where the tokens of a prompted image encoder look: attention, as numbers and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from vpt.errors import VptError
from vpt.images import open_image, picture
from vpt.modes import evaluating
from vpt.preprocessing import transformed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_IMAGES = 8


@dataclass(frozen=True)
class BlockAttention:
    """The attention of one block for B images, the mean of its heads.

    Attributes:
        layer: the block, 0 to depth - 1.
        weights: (B, N, N), all tokens attending to all, prompts included; a row for each that attends, of sum 1.
        read: places of the tokens that are read out: the class token, or all but the prompts where the model pools.
        patches: places of the patches, row by row, (rows · columns,).
        prompts: places of the prompts, (P,); none where this block has no prompts.
        grid: rows and columns of patches.
        advanced: whether the next block reads what becomes of the prompts here. Where it does not, prompts are keys
            and values only: what they attend to changes nothing.
    """

    layer: int
    weights: Tensor
    read: Tensor
    patches: Tensor
    prompts: Tensor
    grid: tuple[int, int]
    advanced: bool

    def read_to_patches(self) -> Tensor:
        """How much the read-out token attends to each patch, (B, rows, columns)."""
        return self._of(self.read, self.patches).mean(1).unflatten(-1, self.grid)

    def read_to_prompts(self) -> Tensor:
        """How much the read-out token attends to each prompt, (B, P)."""
        return self._of(self.read, self.prompts).mean(1)

    def patches_to_prompts(self) -> Tensor:
        """How much each patch attends to each prompt, (B, P, rows, columns)."""
        return self._of(self.patches, self.prompts).transpose(1, 2).unflatten(-1, self.grid)

    def prompts_to_patches(self) -> Tensor:
        """How much each prompt attends to each patch, (B, P, rows, columns).

        Raises:
            VptError: the prompts of this block are not advanced.
        """
        if not self.advanced:
            raise VptError(f"block {self.layer} advances no prompts: nothing reads what prompts attend to.")
        return self._of(self.prompts, self.patches).unflatten(-1, self.grid)

    def _of(self, queries: Tensor, keys: Tensor) -> Tensor:
        return self.weights[:, queries][:, :, keys]


def attention_weights(block: Any, x: Tensor, places: Any = None) -> Tensor:
    """Softmax of the scaled products of queries and keys of tokens (B, N, D) in an `Opened` block, (B, heads, N, N).

    `places` says where the tokens stand, as `Tower.advance` takes it.
    """
    queries, keys, _ = block.projected(block.norm(x))
    if places is not None and block.turn is not None:
        queries, keys = block.turn(queries, places), block.turn(keys, places)
    queries, keys = queries.transpose(1, 2), keys.transpose(1, 2)
    scores = queries @ keys.transpose(-2, -1) * queries.shape[-1] ** -0.5
    if places is not None and block.bias is not None:
        scores = scores + block.bias(places, x.shape[1])
    return scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32))


@torch.no_grad()
def attention(model: Any, images: Tensor, *, blocks: Sequence[int] | None = None) -> list[BlockAttention]:
    """The attention of some blocks of a prompted image encoder, in evaluation mode.

    Blocks are run in the plain form of the method, in which every token is advanced and so attends to something.

    Args:
        model: a `Prompted`.
        images: preprocessed (B, 3, H, W).
        blocks: 0 to depth - 1; all by default.

    Raises:
        VptError: there is no such block, its library's attention cannot be opened, it attends in windows, or tokens are
            no grid of patches.
    """
    tower, method = model.tower, model.method
    if tower.hierarchical:
        raise VptError(
            "the attention of an encoder of stages is one of windows, and cannot be laid over a whole image: "
            "choose a backbone whose tokens all attend to each other."
        )
    chosen = list(range(tower.depth)) if blocks is None else list(blocks)
    for layer in chosen:
        if not 0 <= layer < tower.depth:
            raise VptError(f"there is no block {layer}: the backbone has 0 to {tower.depth - 1}.")
        why = tower.why_whole(layer)
        if why is not None:
            raise VptError(f"the attention of block {layer} cannot be looked at ({why}): choose others by blocks.")
    with evaluating(model):
        given = model.block_inputs(images)
    grid = (images.shape[-2] // tower.patch_size, images.shape[-1] // tower.patch_size)
    found = []
    places = tower.embedded(images.to(tower.dtype))[1] if tower.placed else None
    for layer in chosen:
        x, opened = given[layer], tower.open(layer)
        here = None if places is None else places.plain(x.shape[1], method.image_prompts.strip)
        block = opened if method.image_change is None else method.image_change(layer, opened)
        kept, prompts = _places(method, x.shape[1], tower.prefix + grid[0] * grid[1])
        kept, prompts = kept.to(x.device), prompts.to(x.device)
        advanced = len(prompts) > 0 and layer + 1 < tower.depth and layer + 1 not in method.image_prompts.enters
        weights = attention_weights(block, x, here).mean(1)
        read, patches = kept[: tower.read], kept[tower.prefix :]
        found.append(BlockAttention(layer, weights, read, patches, prompts, grid, advanced))
    return found


def _places(method: Any, count: int, without: int) -> tuple[Tensor, Tensor]:
    """Which of `count` tokens are the image's, of which there are `without`, and which are prompts."""
    everything = torch.arange(count)
    # Where prompts stand in a sequence the method alone knows.
    kept = method.image_prompts.strip(everything[None, :, None])[0, :, 0] if count > without else everything
    if len(kept) != without:
        raise VptError(f"the {len(kept)} tokens of an image are no grid of patches here, and cannot be laid over it.")
    return kept, everything[~torch.isin(everything, kept)]


def attention_picture(
    model: Any,
    images: Sequence[str | Path | Image.Image],
    *,
    blocks: Sequence[int] | None = None,
    each_prompt: bool = False,
) -> Figure:
    """Attention laid over images as the model sees them, a column for each block.

    For each image a row shows how much the read-out token attends to each patch. With image prompts there is a row of
    how much each patch attends to them all, one of how much the read-out token attends to each, and, where prompts
    are advanced, one of what they attend to. The colours of a row have one scale. What patches attend to in the last
    block is shown too, and reaches no feature where a class token is read out.

    Args:
        model: a `Prompted`.
        images: files or PIL images, 1 to 8.
        blocks: as in `attention`.
        each_prompt: also a row for each prompt.

    Raises:
        VptError: as in `attention`; or a file that is no image, or too many of them.
    """
    from matplotlib.figure import Figure

    if not 1 <= len(images) <= MOST_IMAGES:
        raise VptError(f"{len(images)} images: one picture holds 1 to {MOST_IMAGES}, name fewer.")
    opened = [picture(image) if isinstance(image, Image.Image) else open_image(image) for image in images]
    names = [Path(image).name if isinstance(image, str | Path) else "" for image in images]
    transform = model.preprocessing.transform()
    named = zip(opened, names, strict=True)
    batch = torch.stack([transformed(transform, image, partial(str, name or "an image")) for image, name in named])
    found = attention(model, batch.to(next(model.parameters()).device), blocks=blocks)
    mean, std = (torch.tensor(values)[:, None, None] for values in (model.preprocessing.mean, model.preprocessing.std))
    seen = (batch * std + mean).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    rows = [(number, *row) for number in range(len(images)) for row in _rows(found, number, each_prompt)]
    size = (1.6 * (len(found) + 1) + 0.8, 1.7 * len(rows) + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    for number, (axes, (image, title, maps)) in enumerate(zip(_grid(figure, len(rows), len(found)), rows, strict=True)):
        first = number == 0 or rows[number - 1][0] != image
        _draw_row(figure, axes, seen[image], title, maps)
        if first:
            axes[0].imshow(seen[image])
            axes[0].set_title(names[image], fontsize=8, parse_math=False)
            for axis, block in zip(axes[1:], found, strict=True):
                axis.set_title(f"block {block.layer}", fontsize=8)
    return figure


def _rows(found: Sequence[BlockAttention], image: int, each_prompt: bool) -> list[tuple[str, list[Tensor | None]]]:
    """A title and what each block shows: a map of patches (rows, columns), bars (P,), or nothing."""
    read = "read-out token" if len(found[0].read) == 1 else "read-out tokens"
    rows: list[tuple[str, list[Tensor | None]]] = [
        (f"{read}\nto patches", [block.read_to_patches()[image] for block in found])
    ]
    most = max(len(block.prompts) for block in found)
    if not most:
        return rows
    onto = [block.patches_to_prompts()[image] if len(block.prompts) else None for block in found]
    rows.append(("patches\nto all prompts", [None if maps is None else maps.sum(0) for maps in onto]))
    for prompt in range(most if each_prompt else 0):
        shown = [None if maps is None or prompt >= len(maps) else maps[prompt] for maps in onto]
        rows.append((f"patches\nto prompt {prompt + 1}", shown))
    bars = [block.read_to_prompts()[image] if len(block.prompts) else None for block in found]
    rows.append((f"{read}\nto each prompt", bars))
    if any(block.advanced for block in found):
        shown = [block.prompts_to_patches()[image].mean(0) if block.advanced else None for block in found]
        rows.append(("prompts\nto patches", shown))
    return rows


def _grid(figure: Figure, rows: int, columns: int) -> Any:
    """Axes, (rows, columns + 1), of which the first column is for the image and for titles."""
    axes = figure.subplots(rows, columns + 1, squeeze=False)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_frame_on(False)
    return axes


def _draw_row(figure: Figure, axes: Any, picture: Any, title: str, maps: Sequence[Tensor | None]) -> None:
    """Maps over `picture`, or bars, in per cent of the attention of a token, with one scale."""
    axes[0].set_ylabel(title, fontsize=8)
    height, width = picture.shape[:2]
    top = max(float(values.max()) for values in maps if values is not None) * 100
    drawn = None
    for axis, values in zip(axes[1:], maps, strict=True):
        if values is None:
            continue
        shown = values.double().cpu().numpy() * 100
        if shown.ndim == 1:
            axis.bar(range(1, len(shown) + 1), shown, color="tab:orange")
            axis.set_ylim(0, top)
            drawn = None
            continue
        axis.imshow(picture, extent=(0, width, height, 0))
        # Where nothing looks the image is seen as it is.
        strength = 0.25 + 0.55 * shown / top
        drawn = axis.imshow(shown, cmap="inferno", alpha=strength, vmin=0, vmax=top, extent=(0, width, height, 0))
    if drawn is not None:
        bar = figure.colorbar(drawn, ax=list(axes), fraction=0.02, pad=0.01, format="%.3g%%")
        bar.ax.tick_params(labelsize=7)
    else:
        axes[-1].yaxis.tick_right()
        axes[-1].set_yticks([0, top], ["0%", f"{top:.3g}%"], fontsize=7)
