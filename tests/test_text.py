"""Class names as classifier: what is computed, when it is computed anew, what can be changed."""

import copy
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

import vpt
from tests.text_models import CLASSES, image_text_model

IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def classifier(method: str = "vpt-deep", **options: object) -> vpt.Prompted:
    return vpt.attach(image_text_model(), method, classes=CLASSES, head="text", **options).double()


def test_logits_are_scaled_similarities_of_the_library_s_own_features() -> None:
    library, model = image_text_model().double(), classifier("bias")
    ids = model.tokenize([f"a photo of a {name}." for name in CLASSES])
    image, text = (normalize(x, dim=-1) for x in (library.encode_image(IMAGES), library.encode_text(ids)))
    torch.testing.assert_close(model(IMAGES), library.logit_scale.exp() * image @ text.T, rtol=1e-10, atol=1e-10)


def test_templates_are_averaged_after_normalisation() -> None:
    templates = ["a photo of a {}.", "{} texture.", "one {}"]
    model = classifier("bias", templates=templates)
    parts = [classifier("bias", templates=[template]).class_features() for template in templates]
    torch.testing.assert_close(model.class_features(), normalize(torch.stack(parts).mean(0), dim=-1))


def test_words_of_a_name_may_be_joined_by_underscores() -> None:
    joined, apart = ["golden_retriever", "cat"], ["golden retriever", "cat"]
    first, second = (vpt.attach(image_text_model(), "bias", classes=c, head="text") for c in (joined, apart))
    assert torch.equal(first.class_features(), second.class_features())
    assert first.classes == ("golden_retriever", "cat")


def test_only_the_place_of_the_name_in_a_template_is_filled() -> None:
    model = classifier("bias", templates=["a {x} {}"])
    expected = model.encode_text(model.tokenize([f"a {{x}} {name}" for name in CLASSES]))
    torch.testing.assert_close(model.class_features(), normalize(expected, dim=-1))


def test_class_features_are_computed_once_in_evaluation_and_anew_after_a_step() -> None:
    model = classifier("full")
    encoded = []
    encode = model.text.encode
    model.text.encode = lambda *args, **kwargs: encoded.append(1) or encode(*args, **kwargs)
    with torch.no_grad():
        first = model(IMAGES)
        model(IMAGES)
        assert len(encoded) == 1
        for parameter in model.parameter_groups()["backbone"]:
            parameter.mul_(1.01)
        assert not torch.equal(model(IMAGES), first)
    assert len(encoded) == 2


def test_class_names_are_tokenized_once_and_anew_when_they_change() -> None:
    model = vpt.attach(image_text_model(), "coop", classes=CLASSES, num_tokens=2).double().train()
    tower, read = model.text.tower, []
    tokenize = tower.tokenize
    tower.tokenize = lambda texts, reserve=0: read.append(list(texts)) or tokenize(texts, reserve)
    for names in (CLASSES, CLASSES, ["bird", "boat"], ["bird", "boat"], CLASSES):
        model.set_classes(names)
        assert model(IMAGES).shape == (4, len(names))
    assert [len(texts) for texts in read] == [3, 2, 3]


def test_a_frozen_text_side_is_read_once_in_training_too() -> None:
    model = classifier("vpt-deep").train()
    encoded = []
    encode = model.text.encode
    model.text.encode = lambda *args, **kwargs: encoded.append(1) or encode(*args, **kwargs)
    for _ in range(3):
        model(IMAGES).sum().backward()
    assert len(encoded) == 1


def test_predicting_leaves_training_possible() -> None:
    from PIL import Image

    model = classifier("vpt-deep").float()
    model.predict(Image.new("RGB", (16, 16)))
    model.train()
    model(IMAGES.float()).sum().backward()


def test_new_classes_are_chosen_among_and_a_linear_head_refuses_them() -> None:
    model = classifier("vpt-deep")
    before = model(IMAGES)
    model.set_classes(["cat", "dog", "boat", "hat"])
    assert model(IMAGES).shape == (4, 4)
    model.set_classes(CLASSES)
    torch.testing.assert_close(model(IMAGES), before)
    with pytest.raises(vpt.VptError, match="a linear head knows its own classes alone"):
        vpt.attach(image_text_model(), "linear", classes=CLASSES).set_classes(["cat"])


def test_a_text_head_needs_a_text_side_and_a_template_its_place() -> None:
    with pytest.raises(vpt.VptError, match="has no text side for head='text'"):
        vpt.attach(image_text_model().visual, "vpt-deep", classes=CLASSES, head="text")
    with pytest.raises(vpt.VptError, match=r"must hold one \{\} for the class name"):
        classifier("vpt-deep", templates=["a photo"])
    with pytest.raises(vpt.VptError, match=r"must hold one \{\} for the class name"):
        classifier("vpt-deep").set_classes(CLASSES, ["a photo"])
    with pytest.raises(vpt.VptError, match="head='text': linear takes linear"):
        classifier("linear")


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    model = classifier("vpt-deep", templates=["one {}"]).float()
    model.save_pretrained(tmp_path / "saved")
    loaded = vpt.load(tmp_path / "saved", backbone=image_text_model())
    assert loaded.templates == ("one {}",)
    assert torch.equal(loaded(IMAGES.float()), model(IMAGES.float()))
    with pytest.raises(vpt.VptError, match="was trained with"):
        vpt.load(tmp_path / "saved", backbone=image_text_model(seed=3))


def test_chunks_computed_again_give_the_same_values_and_gradients() -> None:
    values = []
    for chunk in (None, 2):
        model = classifier("full", templates=["a {}.", "one {} here"]).train()
        model.text.chunk = chunk
        logits = model(IMAGES)
        gradients = torch.autograd.grad(logits.square().sum(), model.text.tower.transformer.parameters())
        values.append([logits.detach(), *gradients])
    for one, other in zip(*values, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_what_is_written_to_the_data_of_parameters_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    model = classifier("coop")
    with torch.no_grad():
        before = model(IMAGES)
        for parameter in model.parameter_groups()["prompts"]:
            # As in an average of one's own: it raises no version.
            parameter.data.mul_(0.5)
        found = model(IMAGES)
        assert not torch.allclose(found, before)
        assert torch.equal(found, copy.deepcopy(model)(IMAGES))
    monkeypatch.setattr(model.text, "encode", lambda *_, **__: pytest.fail("computed again"))
    with torch.no_grad():
        assert torch.equal(model(IMAGES), found)


def test_a_device_is_waited_for_once_behind_each_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison of values reads them back."""
    model, compared = classifier("coop").to("meta").eval(), []
    monkeypatch.setattr("vpt.text._alike", lambda *given: compared.append(given) or True)
    with torch.no_grad():
        model.class_features()
        before = len(compared)
        for count in (1, 1, 2):
            if count == 2:
                model.eval()
            model.class_features()
            model.class_features()
            assert len(compared) == before + (count - 1) * len(list(model.method.parameters()))
