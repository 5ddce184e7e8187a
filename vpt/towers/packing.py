"""Many short texts as a few rows of tokens, planned once: each holds what all begin with, and hardly any padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vpt.towers.picking import Neighbours
from vpt.towers.rows import Rows, rows_for

# The code of a class token, which is no word.
CLASS_TOKEN = -1


@dataclass(frozen=True)
class Layout:
    """What stands where in N texts of S places, and what sees what, on the CPU.

    Attributes:
        codes: of the token at each place, (N, S): an id of the vocabulary; or -1 for a class token, or below that
            for token j of a learned context, -2 - j.
        positions: which position embedding each place has, (S,).
        needed: places without which a text's feature would be another, (N, S).
        seen: places that each place sees, (1 or N, S, S); None where each sees all.
        read: place that is read out, (N,).
        causal: a token sees none behind it, so that what texts begin with is the same in all of them.
    """

    codes: Tensor
    positions: Tensor
    needed: Tensor
    seen: Tensor | None
    read: Tensor
    causal: bool

    def rows(self, some: slice) -> Layout:
        """Some of the texts."""
        seen = self.seen if self.seen is None or len(self.seen) < len(self.codes) else self.seen[some]
        return replace(self, codes=self.codes[some], needed=self.needed[some], seen=seen, read=self.read[some])


class Texts(NamedTuple):
    """N texts in R rows of L tokens, as block 0 is given them.

    Attributes:
        codes: of all tokens as in `Layout`, (R, L), with an id of the vocabulary where context is learned, or padding.
        positions: of all tokens, (R, L).
        start: where the vectors of the context stand one after another in every row; None where they do not.
        learned: places, of R · L, at which learned context stands, (K,).
        context: which of the context vectors stands there, (K,); None where they are all of them, in order.
        seen: what each token sees of its row, (1 or R, L, L), booleans or as `scored` has it; None where it sees all.
            Where there are `rows`, it is of those.
        picked: places of R · L whose tokens are read out, n of each row, (R · n,).
        order: which of R · n is each text's, (N,); None where they are all of them, in order.
        last: what is picked are the last n tokens of each row, in order.
        rows: in which attention alone takes these texts, which otherwise are one row; None where it takes them as they
            are.
        then: how the same texts go on from a block on, where what stands in them is another there.
    """

    codes: Tensor
    positions: Tensor
    start: int | None
    learned: Tensor
    context: Tensor | None
    seen: Tensor | None
    picked: Tensor
    order: Tensor | None
    last: bool = False
    rows: Rows | None = None
    then: Then | None = None

    def at_the_end(self) -> Neighbours | None:
        """What picks the tokens that are read out where they are the last of each row."""
        rows, length = self.codes.shape
        count = len(self.picked) // rows
        return Neighbours(length - count, count) if self.last else None

    def to(self, device: torch.device) -> Texts:
        """The same on `device`."""
        moved: Any = {
            name: x.to(device, non_blocking=True) for name, x in self._asdict().items() if isinstance(x, Tensor)
        }
        then = self.then and Then(self.then.layer, self.then.source.to(device), self.then.texts.to(device))
        return self._replace(**moved, rows=self.rows and self.rows.to(device), then=then)

    def scored(self, dtype: torch.dtype) -> Texts:
        """The same with `seen` as what is added to scores, 0 or -inf, which every attention would make of booleans."""
        then = self.then and self.then._replace(texts=self.then.texts.scored(dtype))
        if self.seen is None:
            return self._replace(then=then)
        seen = torch.zeros(self.seen.shape, dtype=dtype, device=self.seen.device).masked_fill(~self.seen, -torch.inf)
        return self._replace(seen=seen, then=then)


class Then(NamedTuple):
    """How texts go on from a block on.

    Attributes:
        layer: the block.
        source: which of the tokens before stands at each place of the rows then, (R · L,); of what enters any.
        texts: the rows then.
    """

    layer: int
    source: Tensor
    texts: Texts


def joined(first: Placed, layer: int, second: Placed, origin: Tensor) -> Texts:
    """Texts that go on in other rows from a block on.

    Args:
        first: their rows until then.
        layer: the block.
        second: their rows from then on.
        origin: where in a text stood before what stands at each of its places then, (N, S); -1 where it enters.
    """
    text, place = ((origin >= 0) & (second.places >= 0)).nonzero(as_tuple=True)
    source = torch.zeros(second.texts.codes.numel(), dtype=torch.long)
    source[second.places[text, place]] = first.places[text, origin[text, place]]
    return first.texts._replace(then=Then(layer, source, second.texts))


class Placed(NamedTuple):
    """Texts in rows, and where in those each of their tokens went: (N, S), -1 for what was left out."""

    texts: Texts
    places: Tensor


def in_rows(layout: Layout) -> Placed:
    """Each text a row of its own, all of whose places are taken."""
    count, size = layout.codes.shape
    places = torch.arange(count)
    learned = (layout.codes < -1).flatten().nonzero()[:, 0]
    texts = Texts(
        codes=layout.codes.masked_fill(layout.codes < -1, 0),
        positions=layout.positions.expand(count, -1),
        start=_start(layout.codes),
        learned=learned,
        context=_in_order(-2 - layout.codes.flatten()[learned]),
        seen=layout.seen,
        picked=places * size + layout.read,
        order=None,
    )
    return Placed(texts, torch.arange(count * size).view(count, size))


def packed(layout: Layout, width: int, *, grid: int = 1, longest: int | None = None, on_gpu: bool = False) -> Placed:
    """Texts of a causal encoder one behind another in rows, and what all of them begin with at the head of each row.

    Args:
        layout: of the texts.
        width: size of a token, by which is judged what attention within longer rows costs.
        grid: rows, and texts read out of a row, are multiples of this, so that batches of texts differ less in shape.
        longest: tokens of the longest text that there can be, from which the length of rows follows; by default that
            of these texts.
        on_gpu: rows are as long as suits a GPU.
    """
    shared = _shared(layout)
    needed = layout.needed.clone()
    needed[:, :shared] = False
    counts = needed.sum(1)
    sizes = counts.tolist() if longest is None else [longest - shared] * len(counts)
    length, once = rows_for(sizes, shared, width, on_gpu=on_gpu, alike=longest is not None)
    row, offset, used = _placed(counts.tolist(), length - shared)
    rows = -(-used // grid) * grid
    # Texts and places of all tokens that are kept, and where each goes.
    text, place = needed.nonzero(as_tuple=True)
    target = row[text] * length + shared + offset[text] + needed.cumsum(1)[text, place] - 1
    codes = torch.zeros(rows * length, dtype=torch.long)
    positions = torch.zeros(rows * length, dtype=torch.long)
    codes[target], positions[target] = layout.codes[text, place], layout.positions[place]
    codes.view(rows, length)[:, :shared] = layout.codes[0, :shared]
    positions.view(rows, length)[:, :shared] = layout.positions[:shared]
    learned, start = (codes < -1).nonzero()[:, 0], _start(codes.view(rows, length))
    context = -2 - codes[learned]
    codes[learned] = 0
    picked, order = _picked(row, target, text, place, layout.read, rows, length, grid)
    places = torch.full_like(layout.codes, -1)
    places[text, place] = target
    places[:, :shared] = row[:, None] * length + torch.arange(shared)
    texts = Texts(
        codes=codes.view(rows, length),
        positions=positions.view(rows, length),
        start=start,
        learned=learned,
        context=_in_order(context),
        seen=_seen(layout, needed, shared, row, offset + shared, rows, length),
        picked=picked,
        # Plans of one grid are to be alike, whatever the order.
        order=order if grid > 1 or len(picked) > len(order) else _in_order(order),
    )
    return _shared_once(Placed(texts, places), shared) if once else Placed(texts, places)


def _shared_once(placed: Placed, shared: int) -> Placed:
    """The same texts as one sequence, in which what all begin with stands once: attention alone takes them in rows."""
    texts, places = placed
    rows, length = texts.codes.shape
    column = torch.arange(length).expand(rows, -1).flatten()
    first = torch.arange(rows * length) < length
    taken = torch.zeros(rows * length, dtype=torch.bool).index_fill(0, places[places >= 0], True)
    stands = taken & (first | (column >= shared))
    # Which token of the sequence stands at each place of the rows.
    tokens = torch.where(column < shared, column, stands.cumsum(0) - 1).clamp(min=0)
    kept = stands[texts.learned]
    of_text = texts.picked if texts.order is None else texts.picked[texts.order]
    one = texts._replace(
        codes=texts.codes.flatten()[stands][None],
        positions=texts.positions.flatten()[stands][None],
        start=texts.start if int(kept.sum()) * rows == len(kept) else None,
        learned=tokens[texts.learned[kept]],
        context=texts.context if texts.context is None else _in_order(texts.context[kept]),
        picked=tokens[of_text],
        order=None,
        rows=Rows(rows, tokens, stands.nonzero()[:, 0]),
    )
    return Placed(one, torch.where(places < 0, -1, tokens[places]))


def read_last(placed: Placed, *, grid: int = 1) -> Placed:
    """The same texts, with the tokens that are read out at the end of their rows, where a slice picks them.

    What a token sees does not hang on where in its row it stands. Rows that share one `seen` stay as they are, unless
    the last tokens are read anyhow; so do those in which a context would be moved, and those of attention alone.
    `grid` as `packed` takes it.
    """
    texts, places = placed
    if texts.rows is not None:
        return placed
    rows, length = texts.codes.shape
    count = len(texts.picked) // rows
    of_text = texts.picked if texts.order is None else texts.picked[texts.order]
    is_read = torch.zeros(rows * length, dtype=torch.bool).index_fill(0, of_text, True).view(rows, length)
    # Where each token of a row stood before, and where it stands now.
    before = is_read.long().argsort(dim=1, stable=True)
    kept = torch.equal(before, torch.arange(length).expand(rows, -1))
    shared = texts.seen is not None and len(texts.seen) < rows
    if (shared and not kept) or (texts.start is not None and is_read[:, : texts.start].any()):
        return placed
    source = (before + torch.arange(rows)[:, None] * length).flatten()
    now = torch.empty_like(source).index_copy(0, source, torch.arange(len(source)))
    learned, by_place = now[texts.learned].sort()
    context = by_place if texts.context is None else texts.context[by_place]
    of_text = now[of_text]
    order = of_text // length * count + of_text % length - (length - count)
    moved = texts._replace(
        codes=texts.codes.flatten()[source].view(rows, length),
        positions=texts.positions.flatten()[source].view(rows, length),
        learned=learned,
        context=_in_order(context),
        seen=texts.seen if texts.seen is None or kept else _moved(texts.seen, before),
        picked=(torch.arange(length - count, length) + torch.arange(rows)[:, None] * length).flatten(),
        # Plans of one grid are to be alike, whatever the order.
        order=order if grid > 1 or rows * count > len(order) else _in_order(order),
        last=True,
    )
    return Placed(moved, torch.where(places < 0, -1, now[places]))


def _moved(seen: Tensor, before: Tensor) -> Tensor:
    """What tokens see (R, L, L) once token i of a row is the one that was `before[i]`."""
    rows = seen.gather(1, before[:, :, None].expand_as(seen))
    return rows.gather(2, before[:, None].expand_as(seen))


def _start(codes: Tensor) -> int | None:
    """Where the same vectors, from the first on, stand in each row of codes (R, L)."""
    learned = codes < -1
    if not learned.any() or not (learned == learned[:1]).all():
        return None
    first, count = int(learned[0].nonzero()[0]), int(learned[0].sum())
    there = torch.equal(codes[:, first : first + count], (-2 - torch.arange(count)).expand(len(codes), -1))
    return first if there else None


def _in_order(index: Tensor) -> Tensor | None:
    return None if torch.equal(index, torch.arange(len(index))) else index


def _shared(layout: Layout) -> int:
    """How many tokens all texts begin with, each keeping the one that is read for itself."""
    if not layout.causal:
        return 0
    same = (layout.codes == layout.codes[:1]).all(0) & layout.needed.all(0)
    return min(int(same.long().cumprod(0).sum()), int(layout.read.min()))


def _placed(counts: Sequence[int], length: int) -> tuple[Tensor, Tensor, int]:
    """Row and offset of each text, and how many rows there are: the longest first, each where it fits best."""
    room: list[list[int]] = [[] for _ in range(length + 1)]
    rows, placed = 0, [(0, 0)] * len(counts)
    for text in sorted(range(len(counts)), key=lambda text: -counts[text]):
        need = counts[text]
        left = next((left for left in range(need, length + 1) if room[left]), None)
        if left is None:
            row, left, rows = rows, length, rows + 1
        else:
            row = room[left].pop()
        placed[text] = (row, length - left)
        room[left - need].append(row)
    row, offset = torch.tensor(placed).T
    return row, offset, rows


def _picked(
    row: Tensor, target: Tensor, text: Tensor, place: Tensor, read: Tensor, rows: int, length: int, grid: int
) -> tuple[Tensor, Tensor]:
    """Which places are read out, as many of each row, and which of them is each text's."""
    is_read = place == read[text]
    of_text = torch.zeros(len(row), dtype=torch.long)
    of_text[text[is_read]] = target[is_read]
    by_row = row.argsort(stable=True)
    first = torch.searchsorted(row[by_row], torch.arange(rows))
    number = torch.empty_like(row)
    number[by_row] = torch.arange(len(row)) - first[row[by_row]]
    most = -(-(int(number.max()) + 1) // grid) * grid
    # Where a row has fewer, its first token is picked too, and looked at by nobody.
    picked = (torch.arange(rows) * length)[:, None].repeat(1, most)
    picked[row, number] = of_text
    return picked.flatten(), row * most + number


def _seen(layout: Layout, needed: Tensor, shared: int, row: Tensor, offset: Tensor, rows: int, length: int) -> Tensor:
    """(R, L, L): each text sees the beginning and itself, and padding itself alone."""
    assert layout.seen is not None
    own = layout.seen.expand(len(needed), -1, -1)
    seen = torch.eye(length, dtype=torch.bool).repeat(rows, 1, 1)
    seen[:, :shared, :shared] = own[0, :shared, :shared]
    text, place = needed.nonzero(as_tuple=True)
    within = needed.cumsum(1) - 1 + offset[:, None]
    at = within[text, place]
    seen[row[text], at, at] = False
    seen[row[text], at, :shared] = own[text, place, :shared]
    token, other = (own[text, place] & needed[text]).nonzero(as_tuple=True)
    seen[row[text[token]], at[token], within[text[token], other]] = True
    return seen
