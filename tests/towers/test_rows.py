"""Rows of texts: they hold the longest, are of the lengths that were measured to be the fastest, and lose nothing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.text_zoo import clip
from tests.towers.test_picking import layout
from vpt.errors import VptError
from vpt.towers import packing
from vpt.towers.load import wrap
from vpt.towers.packing import Placed, packed
from vpt.towers.rows import LONGEST, MULTIPLE, TILE, Rows, rows_for

# Tokens of their own of some hundred class names, and of a thousand.
NAMES = {100: [4] * 85 + [5] * 15, 1000: [4] * 833 + [5] * 167}


@given(st.lists(st.integers(1, 77), min_size=1, max_size=300), st.integers(0, 40), st.booleans(), st.booleans())
def test_a_row_holds_each_text_beside_what_all_begin_with(
    counts: list[int], shared: int, on_gpu: bool, alike: bool
) -> None:
    length, _ = rows_for(counts, shared, 512, on_gpu=on_gpu, alike=alike)
    assert length >= shared + max(counts)
    assert length % MULTIPLE == 0
    assert length <= LONGEST
    assert length < shared + sum(counts) + MULTIPLE


@pytest.mark.parametrize(
    ("classes", "context", "on_cpu", "on_gpu"), [(100, 16, 80, 64), (100, 4, 48, 48), (1000, 16, 64, 128)]
)
def test_published_sizes_have_the_lengths_that_were_measured(
    classes: int, context: int, on_cpu: int, on_gpu: int
) -> None:
    assert rows_for(NAMES[classes], context + 1, 512) == (on_cpu, True)
    assert rows_for(NAMES[classes], context + 1, 512, on_gpu=True) == (on_gpu, False)


def test_on_a_gpu_rows_of_many_short_texts_fill_whole_tiles() -> None:
    assert rows_for(NAMES[1000], 5, 512, on_gpu=True)[0] % TILE == 0


def test_what_is_to_have_one_shape_and_what_fits_in_a_row_is_not_laid_out_for_attention_alone() -> None:
    assert not rows_for(NAMES[100], 17, 512, alike=True)[1]
    assert not rows_for([5, 6], 20, 512)[1]


def test_rows_are_laid_out_and_gathered_with_their_gradients() -> None:
    """Two rows of four places, of which the first two are shared and the last one of the second is padding."""
    rows = Rows(2, torch.tensor([0, 1, 2, 3, 0, 1, 4, 0]), torch.tensor([0, 1, 2, 3, 6]))
    x = torch.randn(3, 5, 2, 4, dtype=torch.float64, requires_grad=True)
    laid = rows.spread(x)
    assert laid.shape == (6, 4, 2, 4)
    assert torch.equal(laid[3], x[1, [0, 1, 4, 0]])
    assert torch.equal(rows.gathered(laid), x)
    assert torch.autograd.gradcheck(rows.spread, x)
    assert torch.autograd.gradcheck(rows.gathered, laid.detach().requires_grad_())


def test_rows_beside_a_context_are_refused() -> None:
    tower = wrap(clip().model()).pair.text
    rows = Rows(1, torch.arange(2), torch.arange(2))
    with pytest.raises(VptError, match="in rows have neither context nor places: leave out rows="):
        tower.advance(0, torch.zeros(1, 2, tower.width), torch.zeros(1, 1, tower.width), rows=rows)


def of_form(monkeypatch: pytest.MonkeyPatch, length: int, *, once: bool, context: int) -> tuple[Placed, Tensor]:
    monkeypatch.setattr(packing, "rows_for", lambda *_, **__: (length, once))
    texts = layout([9, 5, 6, 7, 9, 5, 8], 10, causal=True, context=context)
    return packed(texts, 8), texts.codes


@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("length", [10, 16, 64])
def test_of_one_sequence_nothing_stands_twice_and_all_is_seen(
    length: int, context: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (texts, places), codes = of_form(monkeypatch, length, once=True, context=context)
    (anew, _), _ = of_form(monkeypatch, length, once=False, context=context)
    shared = 1 + context
    lengths = (places >= 0).sum(1)
    assert texts.codes.shape == texts.positions.shape == (1, shared + int((lengths - shared).sum()))
    found = texts.codes[0].clone()
    found[texts.learned] = -2 - (torch.arange(len(texts.learned)) if texts.context is None else texts.context)
    for text, size in enumerate(lengths):
        assert torch.equal(found[places[text, :size]], codes[text, :size])
        assert torch.equal(texts.positions[0, places[text, :size]], torch.arange(size))
        assert texts.picked[text] == places[text, size - 1]
    assert len(texts.learned) == context
    assert texts.start == (1 if context else None)
    # Rows of attention are those that there would be otherwise.
    assert torch.equal(texts.seen, anew.seen)
    assert texts.rows is not None
    at_places = texts.positions[0][texts.rows.tokens].view(anew.positions.shape)
    stands = anew.seen.sum(-1) > 1
    assert torch.equal(at_places[stands], anew.positions[stands])
