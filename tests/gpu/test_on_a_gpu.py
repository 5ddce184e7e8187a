"""What a GPU alone can show: captured, compiled and eager steps are the same; half precision; memory; devices."""

import gc
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import vpt
from benchmarks.text import class_names
from tests.engine.test_capture import RUN, VARIANTS, Drawn, Moves
from tests.few import few
from tests.taught import taught
from tests.text_models import CLASSES, image_text_model
from vpt import use
from vpt.capture import CudaRecorder, Graphs
from vpt.engine import prepare

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here, or VPT_TEST_GPU is not set"),
]


def fitted(
    variant: str, monkeypatch: pytest.MonkeyPatch | None = None, **more: Any
) -> tuple[vpt.Prompted, list[Graphs]]:
    name, options, run = VARIANTS[variant]
    made: list[Graphs] = []
    torch.manual_seed(0)
    model = taught(vpt.attach(image_text_model(), name, classes=CLASSES, **options).double())
    preparation = prepare.Preparation
    if monkeypatch is not None:

        class Watched(preparation):
            def steps(self) -> Any:
                found = super().steps()
                if found.graphs is not None:
                    found.graphs.failed = refuse
                    made.append(found.graphs)
                return found

        monkeypatch.setattr("vpt.engine.fit.Preparation", Watched)
    vpt.fit(model, Drawn(), **{**RUN, **run, **more})
    return model, made


def assert_same(found: vpt.Prompted, expected: vpt.Prompted, tolerance: float) -> None:
    for key, tensor in expected.tuned_state().items():

        def told(why: str, key: str = key) -> str:
            return f"{key}: {why}"

        torch.testing.assert_close(found.tuned_state()[key], tensor, rtol=tolerance, atol=tolerance, msg=told)


def refuse(reason: str) -> None:
    """Within the handling of what was raised, so that it is told whole."""
    raise AssertionError(f"it was not captured: {reason}")


def assert_captured(graphs: list[Graphs]) -> None:
    assert graphs, "the run made no graphs at all"
    assert graphs[0].graphs, f"no shape of batch was captured: {graphs[0].seen}"


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_captured_run_is_the_eager_one(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = fitted(variant, graph=False)
    found, graphs = fitted(variant, monkeypatch, graph=True)
    assert_same(found, expected, 1e-8)
    if expected.parameter_groups():
        assert_captured(graphs)


@pytest.mark.parametrize("variant", few(VARIANTS, ["vpt-deep", "coop", "maple"]))
def test_so_is_a_compiled_and_captured_one(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = fitted(variant, graph=False)
    compiled, _ = fitted(variant, graph=False, compile=True)
    assert_same(compiled, expected, 1e-8)
    found, graphs = fitted(variant, monkeypatch, graph=True, compile=True)
    if expected.parameter_groups():
        assert_captured(graphs)
    assert_same(found, expected, 1e-8)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", ["vpt-deep", "maple"])
def test_half_precision_learns_captured_as_eager(name: str, precision: str, capsys: pytest.CaptureFixture[str]) -> None:
    def losses(graph: bool) -> list[float]:
        torch.manual_seed(0)
        model = vpt.attach(image_text_model(), name, classes=CLASSES)
        result = vpt.fit(model, Drawn(), **{**RUN, "epochs": 6, "precision": precision, "graph": graph})
        return [row["train/loss"] for row in result.history]

    eager, captured = losses(False), losses(True)
    assert captured[-1] < captured[0]
    assert captured == pytest.approx(eager, rel=1e-2)
    assert "not captured" not in capsys.readouterr().err


class Curious(vpt.Callback):
    """Asks the model for other classes after each epoch, and fills the memory that is free then."""

    def on_epoch(self, training: vpt.Training) -> None:
        model, classes = training.model, training.model.classes
        model.set_classes([f"{name} in the rain" for name in classes])
        model.predict([Drawn().image(0)])
        model.set_classes(classes)
        model.train()
        for size in (2**10, 2**14, 2**18):
            _ = [torch.full((size,), 1e9, device="cuda") for _ in range(64)]


@pytest.mark.parametrize("variant", ["averaged over steps", "coop", "promptsrc"])
def test_what_a_callback_asks_meanwhile_changes_no_step(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run: dict[str, Any] = {"callbacks": [Curious(), Moves()], "epochs": 6}
    expected, _ = fitted(variant, graph=False, **run)
    found, graphs = fitted(variant, monkeypatch, graph=True, **run)
    assert_captured(graphs)
    assert_same(found, expected, 1e-8)


def test_all_shapes_work_in_the_same_memory() -> None:
    """So that what `fit-batch` found to fit is not too much once an epoch has a last batch."""
    megabytes, device = 2**20, torch.device("cuda")

    def wide(batch: torch.Tensor) -> torch.Tensor:
        # A view would keep all of it.
        return batch.repeat(1, 16 * megabytes).cumsum(1)[:, -1].clone()

    def reserved() -> int:
        torch.cuda.empty_cache()
        return torch.cuda.memory_reserved() // megabytes

    graphs = Graphs(wide, CudaRecorder(device), failed=pytest.fail, warm=1, again=0)
    for _ in range(3):
        graphs(torch.ones(8, 1, device=device))
    alone = reserved()
    for size in (4, 8, 7, 4, 8):
        found = graphs(torch.ones(size, 1, device=device))
        assert found.tolist() == [16 * megabytes] * size
    assert len(graphs.graphs) == 3
    assert reserved() <= alone + 64


def test_another_thread_may_pin_memory_during_a_capture() -> None:
    """As a loader's does, whose next batch may be ready at any time."""
    ended, failures, pinned = threading.Event(), [], []

    def pin() -> None:
        size = 1
        while not ended.is_set():
            try:
                pinned.append(torch.zeros(size).pin_memory().numel())
            except RuntimeError as error:
                failures.append(error)
            size = size % 2**20 * 2 + 1

    def slow(batch: torch.Tensor) -> torch.Tensor:
        before = len(pinned)
        for _ in range(1000):
            batch = batch + 1
            if len(pinned) > before + 10:
                break
            time.sleep(0.001)
        return batch

    thread = threading.Thread(target=pin)
    thread.start()
    try:
        graphs = Graphs(slow, CudaRecorder(torch.device("cuda")), failed=pytest.fail, warm=1)
        for _ in range(3):
            graphs(torch.zeros(1, device="cuda"))
    finally:
        ended.set()
        thread.join()
    assert not failures
    assert len(graphs.graphs) == 1


def test_captions_are_captured_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from vpt.tasks.image_text import ImageText

    torch.manual_seed(0)
    model = vpt.attach(image_text_model(), "ivlp", classes=(), head="text").cuda().train()
    task, texts = ImageText(), ["a dog", "a red car on a road", "two trees", "a tree and a dog and a car"]
    images = torch.randn(4, 3, 16, 16, device="cuda")
    tuned = [p for group in model.parameter_groups().values() for p in group]
    for parameter in tuned:
        parameter.grad = torch.zeros_like(parameter)

    def passes(batch: Any) -> torch.Tensor:
        loss, _, _ = task.loss(model, batch)
        loss.backward()
        return loss.detach()

    graphs = Graphs(passes, CudaRecorder(torch.device("cuda")), failed=pytest.fail, warm=1)
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [2, 2, 1, 3], [1, 0, 3, 3]):
        ids = model.tokenize([texts[index] for index in order])
        expected = task.loss(model, (images, ids))[0].detach()
        found = graphs((images, task.planned(model, ids)))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert len(graphs.graphs) == 1


def test_evaluation_is_captured_and_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = vpt.attach(image_text_model(), "maple", classes=CLASSES).double()
    found = vpt.evaluate(model, Drawn(range(63)), batch_size=4, progress=False)
    monkeypatch.setattr("vpt.capture.WORTH", 10**6)
    expected = vpt.evaluate(model, Drawn(range(63)), batch_size=4, progress=False)
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-6)
    assert found["confusion"] == expected["confusion"]


def test_hooks_are_called_for_each_batch_of_an_evaluation(capsys: pytest.CaptureFixture[str]) -> None:
    model, seen = vpt.attach(image_text_model(), "maple", classes=CLASSES), []
    model.tower.final_norm().register_forward_hook(lambda *given: seen.append(len(given[2])))
    vpt.evaluate(model, Drawn(range(63)), batch_size=4, progress=False)
    assert sum(seen) == 63
    assert "hooks, which a graph would not call" in capsys.readouterr().err


def test_a_second_run_leaves_no_more_memory_taken_than_the_first() -> None:
    def taken() -> int:
        fitted("maple", graph=True)
        gc.collect()
        return torch.cuda.memory_allocated()

    first = taken()
    assert taken() <= first + 2**20


@pytest.mark.parametrize("name", ["coop", "cocoop", "maple"])
def test_the_text_forms_at_a_thousand_classes(name: str) -> None:
    torch.manual_seed(0)
    model = vpt.create("open_clip/ViT-B-32", name, classes=class_names(1000), pretrained=False).cuda().train()
    images = torch.randn(1, model.tower.num_features, device="cuda")
    with torch.no_grad():
        context = F.normalize(images, dim=-1) if model.method.conditional else None
        fast, plain = (model.class_features(context, plain=form) for form in (False, True))
    assert (F.cosine_similarity(fast, plain, dim=-1) > 0.9999).all()


def test_the_largest_batch_is_found_in_the_memory_that_there_is() -> None:
    from vpt.engine.batch import largest_batch

    model = vpt.attach(image_text_model(), "vpt-deep", classes=CLASSES)
    assert largest_batch(model, Drawn(range(40)), batch_size=16, accumulate=2, progress=False) == (32, 1)


def test_a_loaded_model_is_where_the_gpu_is(tmp_path: Path) -> None:
    model = vpt.create("vpt/vit-nano", "vpt-deep", classes=["a", "b"])
    model.save_pretrained(tmp_path)
    loaded = vpt.load(tmp_path)
    assert next(loaded.parameters()).device.type == "cuda"
    assert next(vpt.load(tmp_path, device="cpu").parameters()).device.type == "cpu"


def test_files_are_predicted_and_searched_as_on_a_cpu(tmp_path: Path) -> None:
    """More of them than are worth a capture."""
    vpt.create("vpt/clip-nano", "zero-shot", classes=["a dog", "a car"]).save_pretrained(tmp_path / "model")
    (tmp_path / "images").mkdir()
    for number in range(40):
        Drawn().image(number % 11).save(tmp_path / "images" / f"{number:02}.png")
    scores, hits = [], []
    for device in (None, "cpu"):
        found = use.predict(tmp_path / "model", [tmp_path / "images"], workers=0, device=device)
        scores.append([list(each.scores.values()) for _, each in found])
        hits.append(
            dict(use.search(tmp_path / "model", "a dog", tmp_path / "images", top=40, workers=0, device=device)[0])
        )
    torch.testing.assert_close(torch.tensor(scores[0]), torch.tensor(scores[1]), rtol=1e-3, atol=1e-3)
    assert hits[0] == pytest.approx(hits[1], abs=1e-3)


def test_random_numbers_go_on_where_they_were_behind_a_run() -> None:
    model = vpt.attach(image_text_model(), "vpt-deep", classes=CLASSES, dropout=0.4)
    torch.manual_seed(3)
    torch.rand(1, device="cuda")
    before = torch.cuda.get_rng_state()
    vpt.fit(model, Drawn(), **{**RUN, "graph": True})
    assert torch.equal(torch.cuda.get_rng_state(), before)
