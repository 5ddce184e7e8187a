"""Switches of speed and memory: they change what a run costs, and nothing that it comes to."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

import vpt
from tests.engine.test_fit import QUIET, pairs
from tests.few import few
from tests.text_models import CLASSES, image_text_model
from tests.zoo import EXAMPLES
from vpt import VptError
from vpt.engine import speed
from vpt.loops import encode_images, encode_texts

RUN = {**QUIET, "epochs": 2, "batch_size": 5, "lr": 0.02}
BOTH_SIDES = {
    "maple": {},
    "coop": {"num_tokens": 3},
    "cocoop": {"num_tokens": 3, "init": None},
    "clip-lora": {},
    "full": {"head": "text"},
}
MODELS = {"timm": "class token", "open_clip": "open_clip", "blocks that stay whole": "a block of one's own"}


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[CompileCounterWithBackend]:
    """torch.compile without its slow code generator, counting the graphs that it is given."""
    counter = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(speed, "COMPILER", {"backend": counter})
    yield counter
    torch.compiler.reset()


def visual(name: str = "class token", method: str = "vpt-deep", **options: object) -> vpt.Prompted:
    torch.manual_seed(0)
    return vpt.attach(EXAMPLES[name].make(), method, num_classes=3, **options).double()


def image_text(method: str) -> vpt.Prompted:
    torch.manual_seed(0)
    return vpt.attach(image_text_model(), method, classes=CLASSES, **BOTH_SIDES[method]).double()


def data(side: int = 32) -> list[tuple[Tensor, int]]:
    return [(image[:, :side, :side].double(), label) for image, label in pairs()]


def assert_same(found: vpt.Prompted, expected: vpt.Prompted) -> None:
    for name, tensor in expected.tuned_state().items():
        torch.testing.assert_close(found.tuned_state()[name], tensor, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("recompute", ["mlp", "block"])
@pytest.mark.parametrize("method", ["vpt-deep", "full"])
def test_a_run_that_computes_again_is_the_run_that_keeps(method: str, recompute: str) -> None:
    options = {"dropout": 0.3} if method == "vpt-deep" else {}
    kept, again = visual(method=method, **options), visual(method=method, **options)
    vpt.fit(kept, data(), **RUN)
    vpt.fit(again, data(), recompute=recompute, **RUN)
    assert_same(again, kept)


@pytest.mark.parametrize("recompute", ["mlp", "block"])
@pytest.mark.parametrize("method", few(BOTH_SIDES, {"maple", "cocoop", "full"}))
def test_so_it_is_with_texts(method: str, recompute: str) -> None:
    kept, again = image_text(method), image_text(method)
    vpt.fit(kept, data(16), **RUN)
    vpt.fit(again, data(16), recompute=recompute, **RUN)
    assert_same(again, kept)


def test_both_towers_compute_again_during_the_run_and_are_as_they_were_after_it() -> None:
    model = image_text("maple")
    model.text.tower.recompute = "mlp"
    with speed.switches(model, recompute="block"):
        assert (model.tower.recompute, model.text.tower.recompute) == ("block", "block")
    with speed.switches(model, recompute="none"):
        assert (model.tower.recompute, model.text.tower.recompute) == (None, "mlp")
    with pytest.raises(VptError, match="epochs=0"):
        vpt.fit(model, data(16), recompute="block", progress=False, epochs=0)
    assert (model.tower.recompute, model.text.tower.recompute) == (None, "mlp")


@pytest.mark.parametrize("name", MODELS)
def test_a_compiled_run_is_the_run_as_it_is(name: str, graphs: CompileCounterWithBackend) -> None:
    plain, compiled = visual(MODELS[name], dropout=0.3), visual(MODELS[name], dropout=0.3)
    expected = vpt.fit(plain, data(), data()[:7], **RUN)
    found = vpt.fit(compiled, data(), data()[:7], compile=True, **RUN)
    # One for training and one for evaluation at least, and none of them for each batch anew.
    assert 2 <= graphs.frame_count <= 8
    assert_same(compiled, plain)
    assert found.metrics["val/loss"] == pytest.approx(expected.metrics["val/loss"], rel=1e-5)


@pytest.mark.parametrize("method", few(BOTH_SIDES, {"maple", "cocoop"}))
def test_texts_are_compiled_too(method: str, graphs: CompileCounterWithBackend) -> None:
    plain, compiled = image_text(method), image_text(method)
    vpt.fit(plain, data(16), **RUN)
    vpt.fit(compiled, data(16), compile=True, **RUN)
    assert graphs.frame_count >= 2
    assert_same(compiled, plain)


def test_captions_of_every_length_are_few_graphs(graphs: CompileCounterWithBackend) -> None:
    model = image_text("full").train()
    texts = ["dog", "red car", "a tree", "a red tree", "a photo of a dog", "a photo of a tree and a car", "car"]
    with speed.switches(model, compile=True), torch.no_grad():
        for some in (texts[:2], texts[2:4], texts[4:6], texts[:3], texts[3:], texts[1:6], texts[:1]):
            ids = model.tokenize(some)
            expected = model.text.encode(model.method, ids, plain=True)
            torch.testing.assert_close(model.encode_text(ids), expected)
    assert graphs.frame_count <= 8


@pytest.mark.parametrize("recompute", ["mlp", "block"])
def test_both_switches_go_together(recompute: str, graphs: CompileCounterWithBackend) -> None:
    plain, switched = visual(), visual()
    vpt.fit(plain, data(), **RUN)
    vpt.fit(switched, data(), compile=True, recompute=recompute, **RUN)
    assert graphs.frame_count >= 1
    assert_same(switched, plain)


def test_measuring_is_compiled_on_its_own(graphs: CompileCounterWithBackend) -> None:
    model = visual()
    expected = vpt.evaluate(model, data(), batch_size=5, progress=False)
    assert graphs.frame_count == 0
    found = vpt.evaluate(model, data(), batch_size=5, compile=True, progress=False)
    assert graphs.frame_count >= 1
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)


def test_what_cannot_be_compiled_is_told_and_nothing_stays_compiled(graphs: CompileCounterWithBackend) -> None:
    def look(block: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return output * float(output.detach().abs().max() > 0)

    backbone = EXAMPLES["class token"].make()
    backbone.blocks[1].register_forward_hook(look)
    model = vpt.attach(backbone, num_classes=3).double()
    with pytest.raises(VptError, match=r"^torch cannot compile this backbone \(.+\): leave compile out\.$"):
        vpt.fit(model, data(), compile=True, **RUN)
    assert model.loop is encode_images


def test_after_a_run_the_loops_are_the_plain_ones(graphs: CompileCounterWithBackend) -> None:
    model = image_text("coop")
    vpt.fit(model, data(16), compile=True, **RUN)
    assert (model.loop, model.text.loop) == (encode_images, encode_texts)


@pytest.mark.slow
@pytest.mark.parametrize("recompute", ["none", "block"])
def test_torch_s_own_compiler_gives_the_same_run_dropout_included(recompute: str) -> None:
    plain, compiled = visual(dropout=0.3), visual(dropout=0.3)
    vpt.fit(plain, data(), data()[:7], **RUN)
    vpt.fit(compiled, data(), data()[:7], compile=True, recompute=recompute, **RUN)
    assert_same(compiled, plain)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["maple", "coop"])
def test_so_it_does_with_texts(method: str) -> None:
    plain, compiled = image_text(method), image_text(method)
    vpt.fit(plain, data(16), **RUN)
    vpt.fit(compiled, data(16), compile=True, **RUN)
    assert_same(compiled, plain)
