"""Captured steps: replayed from static buffers they are the steps that run as they are, for every method."""

import gc
import random
import weakref
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

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
from vpt.methods.parts.distances import NearTexts
from vpt.text import TextSide

RUN: dict[str, Any] = {**QUIET, "epochs": 3, "batch_size": 5, "lr": 0.02, "views": 0}
VARIANTS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    # A frame of 30 pixels leaves nothing of small images.
    **{name: (name, {"size": 4} if name == "pixel" else {}, {}) for name in available()},
    # A norm over a batch needs two images, and the last of eleven would be alone.
    "promptkd": ("promptkd", {}, {"drop_last": True}),
    # Each of its stages is captured by itself.
    "2sfs": ("2sfs", {}, {"epochs": 8}),
    "class-specific context": ("coop", {"csc": True}, {}),
    "accumulated and clipped": ("maple", {}, {"accumulate": 2, "clip_norm": 0.1}),
    "accumulated, corrected": ("prograd", {}, {"accumulate": 2}),
    "accumulated, frozen features change": (["kgcoop", "bias"], {}, {"accumulate": 2, "batch_size": 2}),
    "accumulated, sentences": (["coprompt", "bias"], {}, {"accumulate": 2, "batch_size": 2}),
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
    name: str | list[str],
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
BY_DEFAULT |= {
    "accumulated, frozen features change",
    "accumulated and clipped",
    "averaged over steps",
    "features computed once",
    "blocks computed again",
}


@pytest.mark.parametrize("variant", few(VARIANTS, BY_DEFAULT))
def test_a_captured_run_is_the_run_as_it_is(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, options, run = VARIANTS[variant]
    recorder = TapeRecorder()
    expected = fitted(name, options, run, None, monkeypatch)
    found = fitted(name, options, run, recorder, monkeypatch)
    for key, tensor in expected.tuned_state().items():
        torch.testing.assert_close(found.tuned_state()[key], tensor, rtol=1e-10, atol=1e-10)
    if expected.parameter_groups():
        # A full and a last batch, of each stage.
        assert 1 <= recorder.captured <= (4 if variant == "2sfs" else 2)
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


def test_losses_that_a_callback_keeps_are_those_of_their_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    class Keeps(vpt.Callback):
        def __init__(self) -> None:
            self.losses: list[Any] = []

        def on_step(self, training: vpt.Training) -> None:
            self.losses.append(training.loss)

    eager, captured = Keeps(), Keeps()
    fitted("coop", {}, {"callbacks": [eager]}, None, monkeypatch)
    fitted("coop", {}, {"callbacks": [captured]}, TapeRecorder(), monkeypatch)
    assert len({float(loss) for loss in eager.losses}) == len(eager.losses) == 9
    assert [float(loss) for loss in captured.losses] == pytest.approx([float(loss) for loss in eager.losses])


class Moves(vpt.Callback):
    """Moves the model away and back, as some do to save it: each tensor lies elsewhere then."""

    def on_epoch(self, training: vpt.Training) -> None:
        if training.epoch == 2:
            training.model._apply(lambda tensor: tensor.clone())


class Anneals(vpt.Callback):
    """Takes a term of the loss down, in the middle of an epoch."""

    def on_step(self, training: vpt.Training) -> None:
        if training.step == 7:
            training.model.method.near.weight /= 10


class Freezes(vpt.Callback):
    """Trains only the context from an epoch on."""

    def on_epoch(self, training: vpt.Training) -> None:
        if training.epoch == 2:
            for name, parameter in training.model.method.named_parameters():
                parameter.requires_grad_(name.startswith("context"))


CHANGES: dict[str, tuple[str, vpt.Callback, dict[str, Any]]] = {
    "moved": ("coop", Moves(), {}),
    "annealed": ("kgcoop", Anneals(), {}),
    "frozen in part": ("maple", Freezes(), {}),
    "frozen in part, accumulated": ("maple", Freezes(), {"accumulate": 2}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_callback_changes_is_captured_anew(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, callback, more = CHANGES[change]
    recorder, run = TapeRecorder(), {"callbacks": [callback], "epochs": 6, **more}
    expected = fitted(name, {}, run, None, monkeypatch)
    found = fitted(name, {}, run, recorder, monkeypatch)
    for key, tensor in expected.tuned_state().items():
        torch.testing.assert_close(found.tuned_state()[key], tensor, rtol=1e-10, atol=1e-10)
    # Both shapes of batch, before and after.
    assert recorder.captured == 4


def counting(self: NearTexts, outputs: Any, labels: Tensor) -> Tensor:
    """A weight that grows from step to step."""
    self.steps = getattr(self, "steps", 0) + 1
    return self.steps * (1 - (outputs.text * outputs.frozen_text).sum(dim=-1)).mean()


def drawing(self: NearTexts, outputs: Any, labels: Tensor) -> Tensor:
    """A weight that is drawn for each step."""
    weight = random.random() + float(np.random.rand())
    return weight * (1 - (outputs.text * outputs.frozen_text).sum(dim=-1)).mean()


@pytest.mark.parametrize(
    ("term", "reason"), [(counting, "changes plain attributes of the method"), (drawing, "drawn on the CPU")]
)
def test_a_step_that_is_another_each_time_runs_as_it_is(
    term: Any, reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And goes on where it was before it was looked at, with the reason said once."""
    monkeypatch.setattr(NearTexts, "term", term)
    expected = fitted("kgcoop", {}, {"batch_size": 2}, None, monkeypatch)
    assert reason not in capsys.readouterr().err
    recorder = TapeRecorder()
    found = fitted("kgcoop", {}, {"batch_size": 2}, recorder, monkeypatch)
    assert (recorder.captured, recorder.replayed) == (1, 0)
    assert capsys.readouterr().err.count(reason) == 1
    for key, tensor in expected.tuned_state().items():
        torch.testing.assert_close(found.tuned_state()[key], tensor, rtol=0, atol=0)


def test_a_step_that_hooks_look_at_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[int] = []

    class Looks(vpt.Callback):
        def on_epoch(self, training: vpt.Training) -> None:
            if training.epoch == 2:
                training.model.method.register_forward_pre_hook(lambda *_: None)
                training.model.text.tower.ln_final.register_forward_hook(lambda *_: seen.append(training.step))

    recorder, run = TapeRecorder(), {"callbacks": [Looks()], "epochs": 5}
    fitted("coop", {}, run, recorder, monkeypatch)
    assert recorder.captured == 2
    # Three steps an epoch, each of which has the hook called.
    assert set(range(6, 15)) <= set(seen)
    assert capsys.readouterr().err.count("hooks, which a graph would not call") == 1


class Counting(nn.Linear):
    """A head that gives more and more from call to call."""

    calls = 0

    def forward(self, input: Tensor) -> Tensor:
        self.calls += self.training
        return super().forward(input) * (1 + self.calls)


def test_a_head_of_ones_own_that_counts_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder, found = TapeRecorder(), []
    for at in (None, recorder):
        monkeypatch.setattr(prepare, "recorder_of", lambda *_, at=at, **__: at)
        torch.manual_seed(0)
        head = Counting(12, len(CLASSES))
        model = vpt.attach(image_text_model(), "vpt-deep", classes=CLASSES, head=head).double()
        vpt.fit(model, Drawn(), **{**RUN, "batch_size": 2})
        found.append(model.tuned_state())
    assert recorder.replayed == 0
    assert capsys.readouterr().err.count("changes plain attributes of the method") == 1
    for key, tensor in found[0].items():
        torch.testing.assert_close(found[1][key], tensor, rtol=0, atol=0)


class Fails(TapeRecorder):
    """A capture that fails at its end, of which nothing has been computed, as on a GPU."""

    def capture(self, call: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        made: list[Tensor] = []
        once = TextSide._once

        def noted(side: TextSide, name: str, key: Any, compute: Callable[[], Any]) -> Any:
            def of() -> Any:
                made.append(compute())
                return made[-1]

            return once(side, name, key, of)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(TextSide, "_once", noted)
            super().capture(call)
        for tensor in made:
            tensor.fill_(torch.nan)
        raise RuntimeError("not permitted while a stream is captured")


def test_a_capture_that_fails_leaves_nothing_that_was_never_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = fitted(["kgcoop", "bias"], {}, {}, None, monkeypatch)
    found = fitted(["kgcoop", "bias"], {}, {}, Fails(), monkeypatch)
    for key, tensor in expected.tuned_state().items():
        torch.testing.assert_close(found.tuned_state()[key], tensor, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("variant", ["coop", "accumulated, corrected"])
def test_a_captured_run_that_was_interrupted_goes_on_as_one_that_was_not(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, options, run = VARIANTS[variant]
    expected = fitted(name, options, {**run, "epochs": 4}, None, monkeypatch)

    class Interrupts(vpt.Callback):
        def on_epoch(self, training: vpt.Training) -> None:
            if training.epoch == 3:
                raise KeyboardInterrupt

    run = {**run, "epochs": 4, "run_dir": tmp_path / "run"}
    with pytest.raises(KeyboardInterrupt):
        fitted(name, options, {**run, "callbacks": [Interrupts()]}, TapeRecorder(), monkeypatch)
    recorder = TapeRecorder()
    found = fitted(name, options, {**run, "resume": True}, recorder, monkeypatch)
    for key, tensor in expected.tuned_state().items():
        torch.testing.assert_close(found.tuned_state()[key], tensor, rtol=1e-10, atol=1e-10)


class Forgetful:
    """A recorder that holds nothing, as a CUDA graph."""

    def warm(self, call: Callable[[], Any]) -> Any:
        return call()

    def capture(self, call: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        return call(), lambda: None


@pytest.mark.parametrize("name", ["vpt-deep", "kgcoop"])
def test_a_graph_holds_what_it_reads(name: str) -> None:
    """Features of class names and plans of their texts, which others replace when a callback asks for other classes."""
    model = vpt.attach(image_text_model(), name, classes=CLASSES, head="text").train()
    images, labels = torch.randn(2, 3, 16, 16), torch.tensor([0, 1])
    graphs = Graphs(model.loss, Forgetful(), failed=pytest.fail)
    for _ in range(5):
        graphs((images, labels))
    assert model.text is not None
    tensors = [leaf for leaf in tree_leaves(list(model.text._remembered.values())) if isinstance(leaf, Tensor)]
    read = {id(tensor) for graph in graphs.graphs.values() for tensor in tree_leaves(graph.held)}
    before = [weakref.ref(tensor) for tensor in tensors if id(tensor) in read]
    assert before
    del tensors
    model.set_classes(["a road", "two trees", "rain"])
    model.loss((images, labels))
    assert all(reference() is not None for reference in before)
    del graphs
    gc.collect()
    assert all(reference() is None for reference in before)
