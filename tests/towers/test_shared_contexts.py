"""Contexts that rows share: each row's keys and values with theirs, one gradient for all that share them."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vpt.towers.attention import Attended, attend, shared
from vpt.towers.picking import Neighbours
from vpt.towers.spread import Packing, copy

B, HEADS, D = 6, 2, 16


def tensors(queries: int, contexts: dict[int, int], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """q, k, v, and keys and values of contexts {M: G}."""
    random = torch.Generator().manual_seed(0)
    own = [(B, queries, HEADS, D)] * 3
    others = [(groups, tokens, HEADS, D) for tokens, groups in contexts.items() for _ in range(2)]
    made = [torch.randn(*size, generator=random, dtype=torch.float64).to(dtype) for size in (*own, *others)]
    return [tensor.requires_grad_() for tensor in made]


def given(made: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, list[Attended]]:
    q, k, v, *others = made
    return q, k, v, [Attended(*pair) for pair in zip(others[::2], others[1::2], strict=True)]


def by_definition(made: list[Tensor], mask: Tensor | None = None) -> Tensor:
    q, k, v, contexts = given(made)
    k = torch.cat([*(shared(context.keys, B) for context in contexts), k], dim=1)
    v = torch.cat([*(shared(context.values, B) for context in contexts), v], dim=1)
    found = F.scaled_dot_product_attention(*(each.transpose(1, 2) for each in (q, k, v)), attn_mask=mask)
    return found.transpose(1, 2).flatten(2)


@pytest.mark.parametrize("queries", [1, 3, 40])
@pytest.mark.parametrize("contexts", [{}, {4: 1}, {4: 3}, {4: 6}, {4: 1, 2: 6, 5: 3}], ids=str)
@pytest.mark.parametrize("masked", ["none", "for all", "each", "additive"])
def test_values_and_gradients_are_those_of_copies(queries: int, contexts: dict[int, int], masked: str) -> None:
    made = tensors(queries, contexts)
    columns = queries + sum(contexts)
    seen = torch.rand(B, queries, columns, generator=torch.Generator().manual_seed(1)) < 0.7
    seen[..., -1] = True
    mask = {
        "none": None,
        "for all": seen[0],
        "each": seen,
        "additive": torch.zeros(queries, columns, dtype=torch.float64).masked_fill(~seen[0], -torch.inf),
    }[masked]
    expected = by_definition(made, mask.unsqueeze(1) if masked == "each" else mask)
    found = attend(*given(made), mask)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert_same_gradients(found, expected, made)


def assert_same_gradients(found: Tensor, expected: Tensor, of: list[Tensor]) -> None:
    for got, wanted in zip(
        torch.autograd.grad(found.square().sum(), of), torch.autograd.grad(expected.square().sum(), of), strict=True
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("fused", [True, False], ids=["one product", "three products"])
@pytest.mark.parametrize("sizes", [((1, 4),), ((3, 4),), ((2, 4), (1, 2))], ids=str)
@pytest.mark.parametrize(
    "asks", [None, Neighbours(0, 1), Neighbours(3, 2)], ids=["all ask", "the first", "the last two"]
)
@pytest.mark.parametrize("apart", [False, True], ids=["", "keys apart"])
def test_one_backward_pass_is_that_of_copies_and_sums(
    fused: bool, sizes: tuple[tuple[int, int], ...], asks: Neighbours | None, apart: bool
) -> None:
    packing = Packing(torch.Size((B, 5)), tuple(map(torch.Size, sizes)))
    total = 5 * B + sum(groups * tokens for groups, tokens in sizes)
    shape = (total, 3, HEADS, D) if fused else (total, HEADS, D)
    made = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in range(1 if fused else 3)]
    found, expected = packing.spread(*made, asks=asks, apart=apart), packing.plain(asks, *made)
    assert found[0].shape[1] == (5 if asks is None else asks.count)
    _, key, value = (each.untyped_storage().data_ptr() for each in found)
    assert (key == value) == (fused and not apart)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    weights = [torch.randn_like(each) for each in expected]
    sums = (sum((w * each).sum() for w, each in zip(weights, parts, strict=True)) for parts in (found, expected))
    got, wanted = (torch.autograd.grad(total, made) for total in sums)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.bool])
@pytest.mark.parametrize("width", [16, 6, 5], ids=["in eights", "not of two bytes", "odd"])
@pytest.mark.parametrize("gaps", ["none", "in rows", "in numbers", "none at all"])
def test_a_copy_is_the_same_however_the_numbers_lie(dtype: torch.dtype, width: int, gaps: str) -> None:
    numbers = torch.randn(4, 3, 2 * width).to(dtype)
    of = {
        "none": numbers[..., :width].contiguous(),
        "in rows": numbers[:, 1:, 1 : 1 + width],
        "in numbers": numbers[..., ::2],
        "none at all": numbers[:1, :, :1].expand(4, 3, width),
    }[gaps]
    place = torch.zeros(4, of.shape[1], 3 * width, dtype=dtype)
    assert copy(place[..., width : 2 * width], of).shape == of.shape
    assert torch.equal(place[..., width : 2 * width], of)
    assert not place[..., :width].any()
    assert not place[..., 2 * width :].any()


def test_dropped_weights_are_scaled_up() -> None:
    made = tensors(1, {30: 1})
    torch.manual_seed(0)
    mean = torch.stack([attend(*given(made), dropout=0.5) for _ in range(2000)]).mean(0)
    torch.testing.assert_close(mean, by_definition(made), rtol=0, atol=0.05)
