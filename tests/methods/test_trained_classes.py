"""What is learned for classes: for those that were trained it holds, and others are judged by their texts."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import vpt
from tests.methods.test_adapters import CLASSES, LABELS, TRAIN, adapted, clip, features, images, train, zero_shot
from vpt import VptError

METHODS = ["linear-text", "taskres", "clap", "cross-modal", "lp++", "gda"]


def learned(method: str, **options: object) -> vpt.Prompted:
    model = adapted(method, **options)
    if model.num_tuned():
        train(model, 3)
    return model


@pytest.mark.parametrize("method", METHODS)
def test_new_classes_are_told_apart_by_their_texts(method: str) -> None:
    model = learned(method)
    model.set_classes(["cat", "dog"])
    expected = zero_shot(model, images())
    found = model(images())
    if method == "lp++":
        # Without CLIP's scale, as of all classes.
        found = found * model.text.scale() / model.method.probe.alpha.mean()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_trained_classes_keep_what_was_learned_among_others(method: str) -> None:
    model = learned(method)
    before = model(images())
    model.set_classes(["fly", "cat", "ant"])
    after = model(images())
    torch.testing.assert_close(after[:, [2, 0]], before[:, [0, 2]], rtol=0, atol=1e-10)
    model.set_classes(CLASSES)
    torch.testing.assert_close(model(images()), before, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_saved_with_other_classes_it_is_the_same_model(method: str, tmp_path: Path) -> None:
    model = learned(method)
    model.set_classes(["fly", "cat"])
    model.save_pretrained(tmp_path / "saved")
    again = vpt.load(tmp_path / "saved", backbone=clip()).double()
    assert again.classes == ("fly", "cat")
    torch.testing.assert_close(again(images()), model(images()), rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", [method for method in METHODS if method != "gda"])
def test_what_is_of_others_is_not_trained(method: str) -> None:
    model = learned(method)
    model.set_classes(["cat", "dog", "elk"])
    with pytest.raises(VptError, match=f"{method.replace('+', '.')} has learned for other classes"):
        model.train()(images())
    model.eval()
    # A run begins anew with the classes that it has.
    model.prepare(features(model, TRAIN)[0], LABELS)
    model.train()(images())
    assert model.learned_classes == ("cat", "dog", "elk")


def test_new_classes_have_gaussians_of_the_images_nearest_to_their_texts() -> None:
    model = learned("gda", neighbours=3, alpha=0.5)
    image, _, scale = features(model, images())
    seen = features(model, TRAIN)[0]
    model.set_classes(["cat", "dog"])
    text = model.class_features()
    inverse, means = torch.zeros(12, 12, dtype=torch.float64), []
    for one in text:
        near = seen[(seen @ one).argsort(descending=True)[:3]]
        means.append(torch.cat([near, one[None] * 0.75]).sum(0) / 3.75)
        scatter = (near - one).T @ (near - one)
        ridge = scatter.trace() / 2 * torch.eye(12, dtype=torch.float64)
        inverse += 12 * torch.linalg.inv(scatter + ridge) / 2
    weight = torch.stack(means) @ inverse
    bias = -torch.einsum("cd,cd->c", weight, torch.stack(means)) / 2
    expected = scale * image @ text.T + 0.5 * (image @ weight.T + bias)
    torch.testing.assert_close(model(images()), expected, rtol=1e-8, atol=1e-8)
    assert F.mse_loss(expected, zero_shot(model, images())) > 1e-4


@pytest.mark.parametrize("mixed", [False, True])
def test_dept_is_its_formula(mixed: bool) -> None:
    torch.manual_seed(3)
    model = vpt.attach(clip(), ["coop", "dept"], classes=CLASSES, coop={"num_tokens": 2}).double()
    part = model.method.classifier
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    assert set(model.parameter_groups()) == {"prompts", "head"}
    names = ["fly", "cat", "ant"] if mixed else CLASSES
    model.set_classes(names)
    raw, scale = model.features(images()), model.text.scale()
    text = model.class_features()
    known = scale * F.normalize(raw, dim=-1) @ text.T
    head = (raw * part.image_scale + part.image_shift) @ part.head.weight.T + part.head.bias
    expected = 0.3 * known + 0.7 * (torch.stack([head[:, 2], known[:, 1], head[:, 0]], dim=1) if mixed else head)
    torch.testing.assert_close(model(images()), expected, rtol=0, atol=1e-10)
    if mixed:
        return
    labels = LABELS[:4]
    model.train()
    outputs = model.outputs(images())
    torch.testing.assert_close(outputs.logits, known, rtol=0, atol=1e-10)
    own = outputs.raw_text[labels] * part.text_scale + part.text_shift
    examples = torch.cat([own, raw * part.image_scale + part.image_shift])
    of_head = F.cross_entropy(examples @ part.head.weight.T + part.head.bias, labels.repeat(2))
    value = 0.3 * F.cross_entropy(known, labels) + 0.7 * of_head
    torch.testing.assert_close(model.method.loss(outputs, labels, 0.0), value, rtol=0, atol=1e-10)
