"""Retrieval metrics against sorting by hand, and the chance that random features have."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from vpt.tasks.retrieval import chance, retrieval_metrics


def features(count: int, seed: int) -> Tensor:
    return normalize(torch.randn(count, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def rank_by_sorting(similarities: list[float], own: set[int]) -> int:
    order = sorted(range(len(similarities)), key=lambda index: -similarities[index])
    return 1 + min(order.index(index) for index in own)


@settings(max_examples=25, deadline=None)
@given(texts=st.lists(st.integers(1, 4), min_size=2, max_size=9), seed=st.integers(0, 1000), chunk=st.integers(1, 12))
def test_recalls_and_medians_are_those_of_sorting(texts: list[int], seed: int, chunk: int) -> None:
    owners = torch.tensor([image for image, count in enumerate(texts) for _ in range(count)])
    image, text = features(len(texts), seed), features(len(owners), seed + 1)
    similarity = image @ text.T
    i2t = [
        rank_by_sorting(row.tolist(), set((owners == index).nonzero()[:, 0].tolist()))
        for index, row in enumerate(similarity)
    ]
    t2i = [rank_by_sorting(row.tolist(), {int(owners[index])}) for index, row in enumerate(similarity.T)]
    got = retrieval_metrics(image, text, owners, chunk=chunk)
    for name, ranks in (("i2t", i2t), ("t2i", t2i)):
        for k in (1, 5, 10):
            assert got[f"{name}_r{k}"] == pytest.approx(sum(rank <= k for rank in ranks) / len(ranks))
        assert got[f"{name}_median"] == pytest.approx(torch.tensor(ranks).double().quantile(0.5).item())
    assert got["rsum"] == pytest.approx(100 * sum(value for name, value in got.items() if "_r" in name))


class Largest(TorchDispatchMode):
    """The most numbers that any tensor computed meanwhile holds."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **kwargs or {})
        for tensor in found if isinstance(found, tuple | list) else [found]:
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.untyped_storage().nbytes() // tensor.element_size())
        return found


def test_coco_s_5000_images_and_25010_captions_are_never_compared_all_at_once() -> None:
    owners = torch.arange(5000).repeat_interleave(torch.tensor([6] * 10 + [5] * 4990))
    image = features(5000, 0).float()
    # The first 1,000 images and their 5,010 captions are as far from each other as can be.
    text = image[owners] * torch.where(owners < 1000, -1, 1)[:, None]
    with Largest() as seen:
        got = retrieval_metrics(image, text, owners, chunk=256)
    assert 256 * 5000 <= seen.numel <= 256 * 25010
    assert [got[f"i2t_r{k}"] for k in (1, 5, 10)] == pytest.approx([0.8] * 3)
    assert [got[f"t2i_r{k}"] for k in (1, 5, 10)] == pytest.approx([20000 / 25010] * 3)
    assert got["i2t_median"] == got["t2i_median"] == 1


def test_features_that_are_all_the_same_find_nothing() -> None:
    same = normalize(torch.ones(20, 4), dim=-1)
    values = retrieval_metrics(same, same, torch.arange(20))
    assert values["rsum"] == 0
    assert values["i2t_median"] == 20


def test_chance_is_what_random_features_come_to() -> None:
    texts = [3] * 40
    owners = torch.arange(40).repeat_interleave(3)
    draws = [retrieval_metrics(features(40, 2 * s), features(120, 2 * s + 1), owners) for s in range(60)]
    expected = chance(40, texts)
    for name in ("i2t_r1", "i2t_r10", "t2i_r5"):
        mean = sum(draw[name] for draw in draws) / len(draws)
        assert mean == pytest.approx(expected[name], abs=0.03)
