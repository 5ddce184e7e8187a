"""Evaluation leaves a model as it was, whatever comes between."""

import pytest
import torch

import vpt
from tests.zoo import vit


class Broken(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Whose last image cannot be had."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index == 3:
            raise LookupError("gone")
        return torch.randn(3, 32, 32), index % 2


@pytest.mark.parametrize("training", [True, False])
def test_an_evaluation_that_breaks_off_leaves_the_model_in_its_mode_and_free_to_learn(training: bool) -> None:
    model = vpt.attach(vit(), "vpt-deep", num_classes=2).train(training)
    with pytest.raises(LookupError):
        vpt.evaluate(model, Broken(), batch_size=2, progress=False)
    assert model.training is training
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameter_groups()["prompts"])
