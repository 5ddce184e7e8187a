"""Captured steps: replayed from static buffers they are the steps that run as they are, for every method."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import vpt
from tests.engine.test_fit import QUIET
from tests.few import few
from tests.tape import TapeRecorder
from tests.taught import taught
from tests.text_models import CLASSES, image_text_model
from vpt.capture import Graphs
from vpt.data.base import Samples
from vpt.engine import prepare
from vpt.engine.evaluate import make_accelerator
from vpt.methods import available

RUN: dict[str, Any] = {**QUIET, "epochs": 3, "batch_size": 5, "lr": 0.02, "views": 0}
VARIANTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    # A frame of 30 pixels leaves nothing of small images.
    **{name: (name, {"size": 4} if name == "pixel" else {}, {}) for name in available()},
    # A norm over a batch needs two images, and the last of eleven would be alone.
    "promptkd": ("promptkd", {}, {"drop_last": True}),
    # Each of its stages is captured by itself.
    "2sfs": ("2sfs", {}, {"epochs": 8}),
    "class-specific context": ("coop", {"csc": True}, {}),
    "accumulated and clipped": ("maple", {}, {"accumulate": 2, "clip_norm": 0.1}),
    "accumulated, corrected": ("prograd", {}, {"accumulate": 2}),
    "averaged over steps": ("vpt-deep", {"head": "text"}, {"ema": 0.9}),
    "smoothed labels": ("coop", {}, {"label_smoothing": 0.1}),
    "prompt dropout": ("vpt-deep", {"dropout": 0.4}, {}),
    "prompts of patches": ("vpt-deep", {"init": "patches"}, {}),
    "features computed once": ("coop", {}, {"views": 1}),
    "blocks computed again": ("maple", {}, {"recompute": "block"}),
    "MLPs computed again": ("vpt-deep", {"dropout": 0.4}, {"recompute": "mlp"}),
}


class Drawn(Samples):
    """Random pictures."""

    def __init__(self, indices: Sequence[int] = range(11)) -> None:
        self.indices = list(indices)
        self.labels = [index % len(CLASSES) for index in indices]
        self.classes = tuple(CLASSES)

    def image(self, index: int) -> Image.Image:
        pixels = torch.randint(
            0, 256, (16, 16, 3), generator=torch.Generator().manual_seed(self.indices[index]), dtype=torch.uint8
        )
        return Image.fromarray(pixels.numpy())

    def name(self, index: int) -> str:
        return f"picture {index}"

    def subset(self, indices: Sequence[int]) -> Samples:
        return Drawn([self.indices[index] for index in indices])


def fitted(
    name: str,
    options: dict[str, Any],
    run: dict[str, Any],
    recorder: TapeRecorder | None,
    patch: pytest.MonkeyPatch,
    scaler: Callable[[], torch.amp.GradScaler] | None = None,
) -> vpt.Prompted:
    def accelerator(*args: Any) -> Any:
        found = make_accelerator(*args)
        found.scaler = scaler() if scaler else None
        return found

    patch.setattr(prepare, "make_accelerator", accelerator)
    patch.setattr(prepare, "recorder_of", lambda *_, **__: recorder)
    torch.manual_seed(0)
    model = taught(vpt.attach(image_text_model(), name, classes=CLASSES, **options).double())
    vpt.fit(model, Drawn(), **{**RUN, **run})
    return model


# One of each way in which steps differ: of images, of texts, of both, with a loss or gradients of its own, of
# features, with numbers drawn at random, and of several passes.
BY_DEFAULT = {"vpt-deep", "coop", "cocoop", "promptsrc", "prograd", "tip-adapter-f", "clip-lora", "prompt dropout"}
BY_DEFAULT |= {"accumulated and clipped", "averaged over steps", "features computed once", "blocks computed again"}


@pytest.mark.parametrize("variant", few(VARIANTS, BY_DEFAULT))
def test_a_captured_run_is_the_run_as_it_is(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, options, run = VARIANTS[variant]
    recorder = TapeRecorder()
    expected = fitted(name, options, run, None, monkeypatch)
    found = fitted(name, options, run, recorder, monkeypatch)
    for key, tensor in expected.tuned_state().items():
        torch.testing.assert_close(found.tuned_state()[key], tensor, rtol=1e-10, atol=1e-10)
    if expected.parameter_groups():
        assert recorder.captured >= 1
        assert recorder.replayed > recorder.captured


@pytest.mark.parametrize("variant", ["coop", "vpt-deep", "accumulated and clipped", "accumulated, corrected"])
def test_a_captured_run_reads_the_scale_of_fp16_anew(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, options, run = VARIANTS[variant]
    scalers: list[torch.amp.GradScaler] = []

    def scaler() -> torch.amp.GradScaler:
        # It grows with each step, as long as float32 holds it.
        scalers.append(torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_factor=2.0**20, growth_interval=1))
        return scalers[-1]

    recorder = TapeRecorder()
    runs = [fitted(name, options, run, at, monkeypatch, of) for at, of in ((None, scaler), (recorder, scaler))]
    expected = fitted(name, options, run, None, monkeypatch)
    assert recorder.replayed > recorder.captured >= 1
    assert [scaler.get_scale() for scaler in scalers] == [2.0**110] * 2
    for found, (key, tensor) in product(runs, expected.tuned_state().items()):
        torch.testing.assert_close(found.tuned_state()[key], tensor, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("again", "eager"), [(0, [6, 6, 6]), (1, [6, 6, 6, 5]), (3, [6, 6, 6, 5, 5, 5])])
def test_further_shapes_are_captured_sooner(again: int, eager: list[int]) -> None:
    """What runs as it is takes memory of its own, beside that of the graphs."""
    recorder, calls, as_it_is = TapeRecorder(), [], []

    def function(batch: Tensor) -> Tensor:
        calls.append(len(batch))
        return batch.cumsum(0)

    def warm(call: Callable[[], Any]) -> Any:
        found = call()
        as_it_is.append(calls[-1])
        return found

    recorder.warm = warm  # type: ignore[method-assign]
    graphs = Graphs(function, recorder, failed=pytest.fail, again=again)
    for size in (6, 6, 5, 6, 6, 6, 5, 5, 5, 5) if again > 1 else (6, 6, 6, 6, 6, 5, 5, 6, 5):
        batch = torch.randn(size)
        assert torch.equal(graphs(batch), batch.cumsum(0))
    assert sorted(as_it_is, reverse=True) == eager
    assert recorder.captured == len(graphs.graphs) == 2
