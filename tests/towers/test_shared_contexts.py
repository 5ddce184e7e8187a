"""Contexts that rows share: the same numbers whether keys and values are copied for each row or not."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import saved_bytes
from vpt.towers import attention
from vpt.towers.attention import Attended, attend, shared

B, HEADS, D = 6, 2, 16


def tensors(queries: int, contexts: dict[int, int], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """q, k, v, and keys and values of contexts {M: G}."""
    random = torch.Generator().manual_seed(0)
    own = [(B, HEADS, queries, D)] * 3
    others = [(groups, HEADS, tokens, D) for tokens, groups in contexts.items() for _ in range(2)]
    made = [torch.randn(*size, generator=random, dtype=torch.float64).to(dtype) for size in (*own, *others)]
    return [tensor.requires_grad_() for tensor in made]


def given(made: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, list[Attended]]:
    q, k, v, *others = made
    return q, k, v, [Attended(*pair) for pair in zip(others[::2], others[1::2], strict=True)]


def by_definition(made: list[Tensor], mask: Tensor | None = None) -> Tensor:
    q, k, v, contexts = given(made)
    k = torch.cat([*(shared(context.keys, B) for context in contexts), k], dim=2)
    v = torch.cat([*(shared(context.values, B) for context in contexts), v], dim=2)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


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
    for of_found, of_expected in zip(
        torch.autograd.grad(found.square().sum(), made), torch.autograd.grad(expected.square().sum(), made), strict=True
    ):
        torch.testing.assert_close(of_found, of_expected, rtol=1e-11, atol=1e-11)


def test_few_queries_keep_no_copies_for_the_backward_pass() -> None:
    made = tensors(2, {20: 1}, torch.float32)
    kept = saved_bytes(lambda: attend(*given(made)).sum())
    assert kept < saved_bytes(lambda: by_definition(made).sum()) / 2


def test_many_queries_take_the_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_attend_shared", None)
    attend(*given(tensors(40, {4: 1})))


def test_half_precision_sums_up_weights_in_single_precision() -> None:
    made = tensors(2, {20: 1}, torch.bfloat16)
    expected = by_definition([tensor.double() for tensor in made])
    found = attend(*given(made))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected, rtol=0.02, atol=0.02)


def test_dropped_weights_are_scaled_up() -> None:
    made = tensors(1, {30: 1})
    torch.manual_seed(0)
    mean = torch.stack([attend(*given(made), dropout=0.5) for _ in range(2000)]).mean(0)
    torch.testing.assert_close(mean, by_definition(made), rtol=0, atol=0.05)
