"""How long rows of texts are: they hold the longest, and are of the lengths that were measured to be the fastest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpt.towers.packing import LONGEST, MULTIPLE, TILE, row_length

# Tokens of their own of some hundred class names, and of a thousand.
NAMES = {100: [4] * 85 + [5] * 15, 1000: [4] * 833 + [5] * 167}


@given(st.lists(st.integers(1, 77), min_size=1, max_size=300), st.integers(0, 40), st.booleans())
def test_a_row_holds_each_text_beside_what_all_begin_with(counts: list[int], shared: int, on_gpu: bool) -> None:
    length = row_length(counts, shared, 512, on_gpu=on_gpu)
    assert length >= shared + max(counts)
    assert length % MULTIPLE == 0
    assert length <= LONGEST
    assert length < shared + sum(counts) + MULTIPLE


@pytest.mark.parametrize(
    ("classes", "context", "on_cpu", "on_gpu"), [(100, 16, 160, 64), (100, 4, 144, 48), (1000, 16, 144, 128)]
)
def test_published_sizes_have_the_lengths_that_were_measured(
    classes: int, context: int, on_cpu: int, on_gpu: int
) -> None:
    assert row_length(NAMES[classes], context + 1, 512) == on_cpu
    assert row_length(NAMES[classes], context + 1, 512, on_gpu=True) == on_gpu


def test_on_a_gpu_rows_of_many_short_texts_fill_whole_tiles() -> None:
    assert row_length(NAMES[1000], 5, 512, on_gpu=True) % TILE == 0
