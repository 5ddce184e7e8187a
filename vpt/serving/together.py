"""One pass of a batch in which each image has what its own task adds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vpt.loops import encode_images
from vpt.methods.base import Method
from vpt.precision import in_own
from vpt.serving.plan import STAGES, Plan, Step
from vpt.towers.attention import Attended, separate
from vpt.towers.base import Change, ImageTower
from vpt.towers.opened import Opened
from vpt.towers.picking import Neighbours
from vpt.towers.stages import same


def encode_together(tower: ImageTower, plans: Sequence[Plan], rows: Sequence[int], images: Tensor) -> Tensor:
    """Images (B, 3, H, W) to features (B, F), image b with what `plans[rows[b]]` adds.

    Where tasks have different numbers of prompts they are filled up to the largest, and a mask hides what was filled.
    A tower with blocks that cannot be opened, which may take no mask, goes once for each number of prompts.
    """
    with in_own(tower.kernel):
        if tower.closed is not None:
            return encode_images(tower, Method(), images)
        if all(tower.why_whole(layer) is None for layer in range(tower.depth)):
            return _encode(tower, plans, torch.tensor(rows, device=images.device), images)
        shapes = [tuple(step.shape for step in plans[row]) for row in rows]
        found: list[Tensor | None] = [None] * len(rows)
        for shape in dict.fromkeys(shapes):
            alike = [index for index, each in enumerate(shapes) if each == shape]
            used = list(dict.fromkeys(rows[index] for index in alike))
            own = torch.tensor([used.index(rows[index]) for index in alike], device=images.device)
            features = _encode(tower, [plans[row] for row in used], own, images[alike])
            for index, feature in zip(alike, features, strict=True):
                found[index] = feature
        return torch.stack([feature for feature in found if feature is not None])


def _encode(tower: ImageTower, plans: Sequence[Plan], rows: Tensor, images: Tensor) -> Tensor:
    x, places = tower.embedded(images.to(tower.dtype) if images.is_floating_point() else images)
    own, last = x.shape[1], tower.depth - 1
    # Which of the prompts that are advanced with each image are its own, (B, C).
    carried = torch.empty(len(x), 0, dtype=torch.bool, device=x.device)
    for layer in range(tower.depth):
        steps = [plan[layer] for plan in plans]
        x, carried = _entered(x, own, carried, steps, rows)
        context, seen = _attended(steps, rows)
        mask = _mask(x, own, seen, carried)
        wanted = own if layer < last or tower.read is None else tower.read
        read = Neighbours(0, wanted) if layer == last and wanted < x.shape[1] else None
        change = _change(steps, rows)
        x = tower.advance(layer, x, context, mask=mask, change=change, read=read, places=places)
    return tower.readout(x)


def _entered(x: Tensor, own: int, carried: Tensor, steps: Sequence[Step], rows: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens with the prompts that are advanced from here on, and which of those count."""
    if not any(step.keeps for step in steps):
        x, carried = x[:, :own], carried[:, :0]
    elif not all(step.keeps for step in steps):
        keeps = torch.tensor([step.keeps for step in steps], device=x.device)
        carried = carried & keeps[rows, None]
    if any(step.enters is not None for step in steps):
        new, counts = _stacked([step.enters for step in steps], rows)
        x, carried = torch.cat([x, new.to(x.dtype)], dim=1), torch.cat([carried, counts], dim=1)
    return x, carried


def _attended(steps: Sequence[Step], rows: Tensor) -> tuple[Tensor | Attended | None, Tensor | None]:
    """What each image attends to beside its tokens, and which of it counts, (B, M)."""
    found = [step.attended for step in steps]
    if all(each is None for each in found):
        return None, None
    if any(isinstance(each, Attended) for each in found):
        known = [each if isinstance(each, Attended) else None for each in found]
        keys, seen = _stacked([None if each is None else each.keys for each in known], rows)
        values, _ = _stacked([None if each is None else each.values for each in known], rows)
        return Attended(keys, values), seen
    return _stacked([each if isinstance(each, Tensor) else None for each in found], rows)


def _stacked(parts: Sequence[Tensor | None], rows: Tensor) -> tuple[Tensor, Tensor]:
    """Parts (1, M, …), of different M or missing, for the images: (B, M, …) filled up with zeros, and what counts."""
    counts = [0 if part is None else part.shape[1] for part in parts]
    most = max(counts)
    like = next(part for part in parts if part is not None)
    full = like.new_zeros(len(parts), most, *like.shape[2:])
    for index, part in enumerate(parts):
        if part is not None:
            full[index, : counts[index]] = part[0]
    there = torch.arange(most, device=rows.device) < torch.tensor(counts, device=rows.device)[:, None]
    return full[rows], there[rows]


def _mask(x: Tensor, own: int, seen: Tensor | None, carried: Tensor) -> Tensor | None:
    """Added to attention scores, (B, L, M + L), where something is filled up; None where nothing is."""
    parts = [carried] if seen is None else [seen, carried]
    if all(bool(part.all()) for part in parts):
        return None
    mine = torch.ones(len(x), own, dtype=torch.bool, device=x.device)
    columns = torch.cat([mine, carried] if seen is None else [seen, mine, carried], dim=1)
    added = torch.zeros(columns.shape, dtype=x.dtype, device=x.device).masked_fill(~columns, -torch.inf)
    return added[:, None].expand(-1, x.shape[1], -1)


def _change(steps: Sequence[Step], rows: Tensor) -> Change:
    """A block in which each image has its own task's part; None where no task has one."""
    changed = [index for index, step in enumerate(steps) if step.change is not None]
    if not changed:
        return None

    def change(layer: int, block: Opened) -> Opened:
        own = [(torch.nonzero(rows == index)[:, 0], steps[index].change) for index in changed]
        return _merged(layer, block, [(where, each) for where, each in own if each is not None and len(where)])

    return change


def _merged(layer: int, block: Opened, changes: Sequence[tuple[Tensor, Callable[[int, Opened], Opened]]]) -> Opened:
    """The block for a whole batch: its frozen products of all rows at once, and for some rows what a task adds to them.

    Args:
        layer: of the block.
        block: opened.
        changes: rows, and the part of a task in them.
    """
    others = [(rows, change(layer, block)) for rows, change in changes]

    def query_key_value(y: Tensor) -> tuple[Tensor, ...]:
        frozen = tuple(separate(block.query_key_value(y)))
        found = [each.clone() for each in frozen]
        for rows, change in changes:
            mine = y[rows]
            known = tuple(each[rows] for each in frozen)

            def projected(given: Tensor, mine: Tensor = mine, known: tuple[Tensor, ...] = known) -> tuple[Tensor, ...]:
                # What a task adds behind the frozen projections needs them no second time.
                return known if given is mine else block.query_key_value(given)

            changed = change(layer, replace(block, query_key_value=projected))
            for whole, part in zip(found, separate(changed.query_key_value(mine)), strict=True):
                whole[rows] = part
        return tuple(found)

    def merged(name: str) -> Callable[..., Tensor] | None:
        base = getattr(block, name)
        different = [(rows, getattr(other, name)) for rows, other in others if getattr(other, name) is not base]
        if not different:
            found: Callable[..., Tensor] | None = base
            return found
        # A norm behind a sum may be in a task's block alone.
        return _by_rows(same if base is None else base, different)

    parts: dict[str, Any] = {name: merged(name) for name in STAGES}
    linear = block.linear and all(other.linear for _, other in others)
    return replace(block, query_key_value=query_key_value, linear=linear, **parts)


def _by_rows(base: Callable[..., Tensor], different: Sequence[tuple[Tensor, Any]]) -> Callable[..., Tensor]:
    """A stage of which some rows go through one of their own; None is none."""

    def run(*given: Tensor) -> Tensor:
        # No row is computed twice: of those with a part of their own the frozen product is in it.
        rest = torch.ones(len(given[0]), dtype=torch.bool, device=given[0].device)
        for rows, _ in different:
            rest[rows] = False
        parts = [(rows, (function or same)(*(each[rows] for each in given))) for rows, function in different]
        found = torch.empty(len(rest), *parts[0][1].shape[1:], dtype=parts[0][1].dtype, device=rest.device)
        for rows, part in parts:
            found[rows] = part
        if bool(rest.any()):
            found[rest] = base(*(each[rest] for each in given))
        return found

    return run
