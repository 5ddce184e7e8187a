"""What the fast form saves, counted rather than timed."""

import pytest

import vpt
from benchmarks.image import STEP_TARGETS, case, ratios
from benchmarks.measure import Setting, flops, saved_bytes
from tests.zoo import vit

# The sequence of ViT-B/16 at 224 pixels, 197 tokens in heads of 64, at two of its twelve heads and four of its blocks.
SLIM = {"img_size": 224, "patch_size": 16, "embed_dim": 128, "num_heads": 2, "depth": 4}


def counts(prompts: int, method: str = "vpt-deep") -> tuple[dict[str, int], dict[str, int]]:
    """Operations and saved bytes of each run."""
    model = vpt.attach(vit(**SLIM), method, num_tokens=prompts, num_classes=100)
    made = case(model, 2, Setting(), {"model": "slim", "method": method, "prompts": prompts})
    operations = {name: flops(run.eager) for name, run in made.runs.items()}
    saved = {name: saved_bytes(run.forward, made.constants) for name, run in made.runs.items() if run.forward}
    return operations, saved


@pytest.fixture(scope="module")
def deep_200() -> tuple[dict[str, int], dict[str, int]]:
    return counts(200)


def test_200_deep_prompts_cost_half_of_the_plain_forms_operations(deep_200) -> None:
    operations, _ = deep_200
    assert operations["step"] <= operations["plain step"] / 1.9
    assert operations["evaluation"] <= operations["plain evaluation"] / 1.9


def test_200_deep_prompts_keep_half_of_the_plain_forms_bytes(deep_200) -> None:
    _, saved = deep_200
    assert saved["step"] <= 0.51 * saved["plain step"]


def test_few_deep_prompts_cost_no_more_than_the_frozen_model() -> None:
    operations, saved = counts(10)
    assert operations["step"] <= 2 * operations["frozen forward"]
    assert operations["evaluation"] <= operations["frozen forward"]
    assert saved["step"] <= 0.75 * saved["plain step"]


@pytest.mark.parametrize(
    ("family", "most"),
    [("eva02_tiny_patch14_224", 0.71), ("vit_small_patch16_dinov3", 0.69), ("beit_base_patch16_224", 0.77)],
)
def test_nor_do_encoders_that_look_at_places_keep_more(family: str, most: float) -> None:
    model = vpt.attach(vit(family, **SLIM), "vpt-deep", num_tokens=50, num_classes=100)
    made = case(model, 2, Setting(), {"model": family, "method": "vpt-deep", "prompts": 50})
    step, plain = (saved_bytes(made.runs[name].forward, made.constants) for name in ("step", "plain step"))
    assert step <= most * plain


def test_targets_are_those_of_float32_on_a_cpu() -> None:
    facts = {"model": "timm/vit_base_patch16_224", "method": "vpt-deep", "prompts": 200}
    named = {ratio.name: ratio for ratio in ratios(facts, Setting())}
    assert named["step / limit"].at_most == STEP_TARGETS[facts["model"]][200] == 1.15
    assert named["plain step / step"].at_least == 2.0
    assert all(ratio.at_most is None for ratio in ratios(facts, Setting(dtype="bfloat16")))
    assert all(ratio.at_most is None for ratio in ratios(facts | {"method": "vpt-shallow"}, Setting()))
