"""What text methods save over whole texts, counted rather than timed."""

import pytest
import torch

import vpt
from benchmarks import text
from benchmarks.measure import Case, Setting, flops, measure, saved_bytes
from tests.text_models import image_text_model


def prompted(method: str, **options: object) -> vpt.Prompted:
    """A slim model that takes texts of the published length."""
    backbone = image_text_model(context_length=77)
    return vpt.attach(backbone, method, classes=["thing"], **options).train()


def case(model: vpt.Prompted, count: int) -> Case:
    return text.case(model, count, Setting(), {"model": "slim", "method": model.method.name})


@pytest.fixture(scope="module")
def coop() -> Case:
    return case(prompted("coop", num_tokens=16), 100)


def test_names_of_100_classes_cost_a_small_part_of_the_plain_forms_operations() -> None:
    from open_clip.model import CLIP

    # Of the published width, on which the length of rows depends; and of two blocks, as twelve are alike.
    vision = {"layers": 1, "width": 64, "head_width": 32, "patch_size": 16, "image_size": 32}
    words = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 2}
    model = vpt.attach(CLIP(512, vision, words), "coop", num_tokens=16, classes=text.class_names(100))
    model.train()

    def passes(*, plain: bool, backward: bool) -> int:
        return flops(lambda: model.class_features(plain=plain).sum().backward() if backward else model.class_features())

    step = passes(plain=False, backward=True)
    assert step <= passes(plain=True, backward=True) / 23
    with torch.no_grad():
        assert step <= 2.1 * passes(plain=False, backward=False)


def test_names_of_100_classes_keep_a_small_part_of_the_plain_forms_bytes(coop: Case) -> None:
    saved = {name: saved_bytes(run.forward, coop.constants) for name, run in coop.runs.items() if run.forward}
    # A slim model has shorter rows, and so its context more often, than one of the published width, where it is 0.05.
    assert saved["step"] <= 0.1 * saved["plain step"]


@pytest.mark.slow
def test_a_compiled_step_stands_beside_the_others_and_leaves_the_loop_as_it_was() -> None:
    model = prompted("coop", num_tokens=4)
    made = text.case(model, 5, Setting(compiled=True), {"model": "slim", "method": "coop"})
    assert "compiled step / step" in {ratio.name for ratio in made.ratios}
    loop = model.text.loop
    made.runs["compiled step"].call()
    assert model.text.loop is loop
    assert "compiled step" not in case(prompted("coop", num_tokens=4), 5).runs


@pytest.mark.parametrize("method", ["maple", "ivlp"])
def test_only_the_text_side_is_in_the_step(method: str) -> None:
    model = prompted(method)
    made = case(model, 5)
    made.runs["step"].forward().backward()
    assert model.method.context.values.grad.abs().sum() > 0
    assert all(p.grad is None for name, p in model.method.named_parameters() if name != "context.values")


def test_a_plain_form_that_does_not_fit_is_left_out_and_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MEMORY", 1e3)
    made = case(prompted("coop", num_tokens=4), 10)
    assert made.runs.keys() == {"forward", "step"}
    assert {ratio.name for ratio in made.ratios} == {"step / limit", "FLOPs: step / limit"}
    assert "With 10 classes the plain form keeps" in made.note


def test_what_the_plain_form_keeps_is_told_from_few_classes() -> None:
    model = prompted("coop", num_tokens=4)
    features, _ = text.images(model, 2, 6, Setting())
    estimate = text.plain_bytes(model, 6, features)
    model.set_classes(text.class_names(6))
    constants = [*model.parameters(), *model.buffers()]
    assert saved_bytes(lambda: text.plain(model)(features).sum(), constants) == pytest.approx(estimate, rel=0.02)


def test_a_batch_is_held_against_as_many_steps_of_one_image() -> None:
    model = prompted("cocoop")
    made = text.case_by_image(model, 4, (1, 3), Setting(), {"model": "slim", "method": "cocoop"})
    row = measure(made, Setting(repeats=1))
    seconds = {name: value["median"] for name, value in row["seconds"].items()}
    ratio = row["ratios"]["one at a time / step of 3"]["median"]
    assert ratio == pytest.approx(3 * seconds["plain step of one image"] / seconds["step of 3"])
    assert row["items_per_second"]["step of 3"] == pytest.approx(3 / seconds["step of 3"])
    assert row["items_per_second"]["plain step of one image"] == pytest.approx(1 / seconds["plain step of one image"])
    assert row["ratios"]["saved bytes: step of 3 / one at a time"]["median"] < 0.5


def test_targets_are_those_of_100_classes_in_float32_on_a_cpu() -> None:
    facts = {"model": "open_clip/ViT-B-32", "method": "coop", "classes": 100, "context": 16}

    def aims(setting: Setting = Setting(), **others: object) -> dict[str, tuple[float | None, float | None]]:  # noqa: B008
        found = {ratio.name: (ratio.at_least, ratio.at_most) for ratio in text.ratios(facts | others, setting)}
        return {name: pair for name, pair in found.items() if pair != (None, None)}

    assert aims() == {"plain step / step": (18.0, None), "saved bytes: step / plain step": (None, 0.1)}
    assert aims(method="maple", context=2) == {"plain step / step": (10.0, None)}
    assert aims(context=4) == aims(classes=1000) == aims(Setting(dtype="bfloat16")) == {}


@pytest.mark.parametrize("count", [3, 10, 100, 1000])
def test_names_are_as_many_as_asked_for_and_differ(count: int) -> None:
    assert len(set(text.class_names(count))) == len(text.class_names(count)) == count
